"""The texts that come from outside: ids, names, dates, the times and idempotency keys of the POS. One rule for each."""

import re
from datetime import UTC, datetime

MAX_TEXT_LENGTH = 255
"""Of an id, a name or a key, in characters."""
DATE_FORMAT = "%Y-%m-%d %H:%M:%S"
"""How mipOS writes a time, and how times are shown."""

_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters (Postgres takes no NUL), line separators, and halves of characters, which are not UTF-8."""


def fault_in(text: str, *, max_length: int) -> str | None:
    """What is wrong with `text`, to complete "The field name ..."; None where nothing is. `max_length` is in characters."""
    if len(text) > max_length:
        return f"is longer than {max_length} characters"
    if text.isprintable() and text and not text.isspace():
        return None
    if not text.strip():
        return "must not be blank"
    if _UNSEEN.search(text):
        return "holds control characters or broken characters"
    return None


MIN_MOMENT, MAX_MOMENT = datetime(1970, 1, 2, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
"""Within these bounds every timezone can show a time. `MAX_MOMENT` itself is out of them."""
_KEY = re.compile(r"[!-~](?:[ -~]{0,253}[!-~])?")
_OFFSET = 'must be a time with its offset, such as "2026-05-30T12:45:03-05:00"'


def parse_moment(text: str) -> datetime:
    """The time in `text`, in UTC.

    Raises:
        ValueError: it is none, has no offset, or is out of bounds. The message completes "The field name ...".
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(_OFFSET) from None
    if moment.tzinfo is None:
        raise ValueError(_OFFSET)
    # Compared before the conversion, which overflows at the edges of the calendar.
    if not MIN_MOMENT <= moment < MAX_MOMENT:
        raise ValueError("must be after 1970 and before 9999")
    return moment.astimezone(UTC)


def parse_idempotency_key(text: str) -> str:
    """`text`, which has to be a key: 1 to 255 visible ASCII characters, with blanks between them.

    Raises:
        ValueError: it is none. The message completes "The key ...".
    """
    if not _KEY.fullmatch(text):
        raise ValueError(f"must be 1 to {MAX_TEXT_LENGTH} visible ASCII characters; blanks may stand between them")
    return text
