"""Words that stand in tables and not in templates: names of problems, of kinds of ledger rows, of reasons."""

import re
from collections.abc import Iterator

from app.page.rendering import SOURCES
from app.problems.kinds import KINDS


def named_words() -> Iterator[str]:
    """All of them, for the translation."""
    yield from SOURCES.values()
    yield from (kind.title for kind in KINDS)
    # A command alone is the same in every language.
    yield from (kind.remedy for kind in KINDS if not re.fullmatch(r"pos-sync [a-zA-Z0-9 -]+", kind.remedy))
