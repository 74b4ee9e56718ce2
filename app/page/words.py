"""Words that stand in tables and not in templates: names of problems and of kinds of ledger rows, faults of what was typed."""

import re
from collections.abc import Iterator
from functools import cache

from app.page.faults import English, Ours
from app.page.rendering import SOURCES, later
from app.problems.kinds import KINDS

FAULTS = (
    later("is longer than %(count)s characters"),
    later("must not be blank"),
    later('must be a number such as "1.25"'),
    later("must have an exponent of at most %(count)s digits"),
    later("must be below 10^%(count)s"),
    later("must not be negative"),
    later("holds the control character %(code)s"),
    later("holds the half character %(code)s"),
    later("holds the line separator %(code)s"),
    later("holds the invisible character %(code)s"),
    later("holds U+FFFD, which stands for a character that was lost in a wrong encoding: take the text from its source again"),
)
"""As `app.stock.quantity` and `app.stock.text` say it"""
_PLACE = re.compile(r"%\((\w+)\)s")


def named_words() -> Iterator[str]:
    """All of them, for the translation."""
    yield from SOURCES.values()
    yield from (kind.title for kind in KINDS)
    # A command alone is the same in every language.
    yield from (kind.remedy for kind in KINDS if not re.fullmatch(r"pos-sync [a-zA-Z0-9 -]+", kind.remedy))


def of_fault(fault: object) -> Ours | English:
    """`fault`, which completes "The field name ..."."""
    said = str(fault)
    for words, pattern in _patterns():
        if found := pattern.fullmatch(said):
            return Ours(words, **found.groupdict())
    return English(said)


@cache
def _patterns() -> list[tuple[str, re.Pattern[str]]]:
    return [(words, _pattern_of(words)) for words in FAULTS]


def _pattern_of(words: str) -> re.Pattern[str]:
    parts = _PLACE.split(words)
    return re.compile("".join(rf"(?P<{part}>\S+)" if at % 2 else re.escape(part) for at, part in enumerate(parts)))
