"""The texts that come from outside: ids, names, dates, the times and idempotency keys of the POS. One rule for each."""

import re
import unicodedata
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

MAX_TEXT_LENGTH = 255
"""Of an id, a name or a key, in characters."""
MAX_ID_BYTES = 512
"""Of an id, in UTF-8. Postgres takes no more than 2704 bytes in a row of an index, and some indexes hold three ids."""
DATE_FORMAT = "%Y-%m-%d %H:%M:%S"
"""How mipOS writes a time, and how times are shown."""

_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffd]")
"""Control characters (Postgres takes no NUL), line separators, halves of characters, which are not UTF-8, and lost ones."""
# Python calls them printable, and they show nothing: joiners, fillers of syllables, selectors of variants, an empty Braille cell.
_DRAWN_AS_NOTHING = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_KINDS = {
    "Cc": "control character",
    "Cs": "half character",
    "Co": "private character",
    "Cn": "unassigned character",
    "Zl": "line separator",
    "Zp": "line separator",
    "Zs": "blank",
}


def fault_in(text: str, *, max_length: int) -> str | None:
    """What is wrong with `text`, to complete "The field name ..."; None where nothing is. `max_length` is in characters.

    For names, notes and dates; `fault_in_id` is for ids.
    """
    if len(text) > max_length:
        return f"is longer than {max_length} characters"
    if text.isprintable() and text and not text.isspace() and "\ufffd" not in text:
        return None
    if not text.strip():
        return "must not be blank"
    unseen = _UNSEEN.search(text)
    return None if unseen is None else _holding(unseen.group())


def fault_in_id(text: str) -> str | None:
    """What is wrong with `text` as an id, to complete "The field external_id ..."; None where nothing is.

    Two ids that are seen alike would be two items. So an id holds nothing that a person cannot see, but for plain blanks
    inside.
    """
    if text.isascii() and text.isprintable() and 0 < len(text) <= MAX_TEXT_LENGTH and text[0] != " " and text[-1] != " ":
        return None
    if fault := fault_in(text, max_length=MAX_TEXT_LENGTH):
        return fault
    if len(text.encode()) > MAX_ID_BYTES:
        return f"is longer than {MAX_ID_BYTES} bytes"
    for end, place in ((text[0], "start"), (text[-1], "end")):
        if end.isspace():
            return f"has a blank at its {place} ({code_point(end)})"
    if text.isprintable() and _DRAWN_AS_NOTHING.search(text) is None:
        return None
    return _holding(next(one for one in text if not one.isprintable() or _DRAWN_AS_NOTHING.match(one)))


def number_of(number: int, one: str, many: str | None = None) -> str:
    """Such as "1 row" and "2 rows"; `many` where the plural is not `one` with an s."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def code_point(character: str) -> str:
    """How a character that cannot be seen is named: U+00A0."""
    return f"U+{ord(character):04X}"


def _holding(character: str) -> str:
    if character == "\ufffd":
        return "holds U+FFFD, which stands for a character that was lost in a wrong encoding: take the text from its source again"
    return f"holds the {_KINDS.get(unicodedata.category(character), 'invisible character')} {code_point(character)}"


MIN_MOMENT, MAX_MOMENT = datetime(1970, 1, 2, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
"""Within these bounds every timezone can show a time. `MAX_MOMENT` itself is out of them."""
_KEY = re.compile(r"[!-~](?:[ -~]{0,253}[!-~])?")
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
"""A string of structured fields (RFC 9651)."""
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


def zone_of(name: str | None) -> ZoneInfo:
    """The time zone with this name; UTC where there is none, or this machine does not know it."""
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def parse_idempotency_key(text: str) -> str:
    """`text`, which has to be a key: 1 to 255 visible ASCII characters, with blanks between them.

    Raises:
        ValueError: it is none. The message completes "The key ...".
    """
    if not _KEY.fullmatch(text):
        raise ValueError(f"must be 1 to {MAX_TEXT_LENGTH} visible ASCII characters; blanks may stand between them")
    return text


def parse_idempotency_header(text: str) -> str:
    """The key in a header. It may be a string of structured fields, as the IETF's draft has it: "k1" is the key k1.

    Raises:
        ValueError: there is none. The message completes "The header Idempotency-Key ...".
    """
    if text.startswith('"'):
        quoted = _QUOTED.fullmatch(text)
        if quoted is None:
            raise ValueError(r"begins with a double quote: end it with one, and write \" and \\ for these characters inside")
        text = re.sub(r'\\(["\\])', r"\1", quoted[1])
    return parse_idempotency_key(text)
