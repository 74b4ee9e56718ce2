"""What text may be an id, a name or a date here: short, not blank, and nothing that a person cannot see."""

import re

MAX_TEXT_LENGTH = 255
"""Of an id, a name or a key, in characters."""
DATE_FORMAT = "%Y-%m-%d %H:%M:%S"
"""How mipOS writes a time, and how times are shown."""

_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters (Postgres takes no NUL), line separators, and halves of characters, which are not UTF-8."""


def fault_in(text: str, *, longest: int) -> str | None:
    """What is wrong with `text`, to complete "The field name ..."; None where nothing is. `longest` is in characters."""
    if len(text) > longest:
        return f"is longer than {longest} characters"
    if text.isprintable() and text and not text.isspace():
        return None
    if not text.strip():
        return "must not be blank"
    if _UNSEEN.search(text):
        return "holds control characters or broken characters"
    return None
