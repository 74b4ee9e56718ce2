"""What programs make of ids, numbers and files before they reach us: recognised, and said with its likely cause.

A spreadsheet shows a long id as 7.70205E+12, and writes numbers as people of its country do. What it has lost cannot be
guessed, so nothing here repairs: a message says how to write it.
"""

import codecs
import re
from decimal import Decimal

from app.stock.quantity import NotAQuantity, parse_quantity
from app.visible_text import shown

DECIMAL_COMMA_OPTION = "--decimal-comma"

# A sign in the exponent or a fraction before it: 12E5 is an id that somebody may have chosen.
_SCIENTIFIC = re.compile(r"[+-]?[0-9]{1,3}(?:[.,][0-9]+[eE][+-]?|[eE][+-])[0-9]{1,3}")
_QUOTED = re.compile(r'=\s*"(.*)"\s*', re.DOTALL)
_ERROR = re.compile(
    r"#(?:N/[AD]|[\u00a1\u00bf]?(?:REF|VALUE|VALOR|NAME|NOMBRE|NOME|DIV/0|NULL|NULO|N[U\u00da]M|SPILL|CALC|ERROR|FIELD)[!?])|Err:5[0-9]{2}",
    re.IGNORECASE,
)
"""In the words of English, Spanish and Portuguese."""
_MISSING = {"NULL", "N/A"}
# Also their full-width forms, which spreadsheets of some languages take for the same.
FORMULA = re.compile("'*[=+@\t\r\n\uff1d\uff0b\uff0d\uff20-]")
"""How a text begins that a spreadsheet would run."""

_CURRENCY = re.compile(
    "[A-Za-z]{0,3}[$\u00a2-\u00a5\u20a0-\u20cf\ufdfc\ufe69\uff04\uffe0\uffe1\uffe5\uffe6]"
    "|^(?:[A-Z]{3}|S/|Bs)\\.?(?=[\\s0-9])|(?<=[\\s0-9])[A-Z]{3}$"
)
_GROUPED = re.compile(r"[+-]?[0-9]{1,3}(?P<group>[.,'\u2019\s])(?:[0-9]{2,3}(?P=group))*[0-9]{3}(?:(?!(?P=group))[.,][0-9]+)?")
"""With separators of thousands, and in India of hundreds too."""
_SWAPPED = str.maketrans(".,", ",.")
_UNGROUPED = re.compile(r"[+-]?(?:[0-9]+[.,]?[0-9]*|[.,][0-9]+)(?:[eE][+-]?[0-9]{1,3})?")


class WrongEncoding(ValueError):
    """The file is not UTF-8; the message completes "The file ...". `line` is that of its first byte that is not."""

    def __init__(self, guess: str, *, line: int | None = None) -> None:
        super().__init__(f"is not UTF-8{guess and f' ({guess})'}")
        self.line = line


def decode(content: bytes) -> str:
    """The text of a file in UTF-8, without a byte order mark.

    Raises:
        WrongEncoding: it is in another encoding.
    """
    start = content[:4]
    # Without its mark, UTF-16 of plain letters is UTF-8 of the same letters with NULs between them.
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or (b"\0" in start and start.strip(b"\0")):
        wide = "UTF-32" if b"\0\0" in start else "UTF-16"
        raise WrongEncoding(f"it looks like {wide}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        if error.reason == "unexpected end of data":
            raise WrongEncoding("it ends within a character", line=line) from None
        raise WrongEncoding("it looks like Latin-1/Windows-1252", line=line) from None


def damage_in(external_id: str) -> str | None:
    """What a program has made of an id, to complete "The field external_id ..."; None where nothing is seen of it."""
    if _SCIENTIFIC.fullmatch(external_id):
        return (
            "is in scientific notation: a spreadsheet has made a number of the id, and may have lost digits of it. "
            "Format the column as text, fill it again, and export again"
        )
    if _ERROR.fullmatch(external_id):
        return "is the error of a formula in a spreadsheet. Correct the formula, and export again"
    if external_id.upper() in _MISSING:
        return "stands for a value that is missing. Write the id itself"
    if quoted := _QUOTED.fullmatch(external_id):
        return f"is a formula by which a spreadsheet keeps a text. Write {quoted.group(1)} alone"
    # The export writes an apostrophe before a formula, and nowhere else.
    if external_id.startswith("'") and not FORMULA.match(external_id):
        return f"begins with the apostrophe by which a spreadsheet marks a text. Write {external_id[1:]} alone"
    return None


def parse_number(text: str, *, decimal_comma: bool | None = None) -> Decimal:
    """The number in `text`: with a decimal point, or with a decimal comma where `decimal_comma` says so.

    `decimal_comma` is None where there is no such option.

    Raises:
        NotAQuantity: it is none. Where people write amounts so, the message shows it, and how to write it.
    """
    # With the option, a point is no decimal point: 1.250 would be 1250 to who writes decimal commas.
    pointed = text.translate(_SWAPPED) if decimal_comma else text
    try:
        return parse_quantity(pointed)
    except NotAQuantity as problem:
        advice = _advice(text, decimal_comma=decimal_comma)
        raise NotAQuantity(advice or str(problem).translate(_SWAPPED if decimal_comma else {})) from None


def _advice(text: str, *, decimal_comma: bool | None) -> str | None:
    """What is wrong with an amount that people can read, and how to write it; None where it is no such amount."""
    bare = _CURRENCY.sub("", text).strip()
    grouped, ungrouped = _GROUPED.fullmatch(bare), _UNGROUPED.fullmatch(bare)
    if not grouped and not ungrouped:
        return None
    mark = "," if decimal_comma else "."
    # Of the ungrouped, a point or a comma is the decimal one, whichever it is.
    meant = (bare.replace(grouped["group"], "") if grouped else bare).replace(",", mark).replace(".", mark)
    option = f", or import with {DECIMAL_COMMA_OPTION}" if decimal_comma is False and "," in bare else ""
    what = f"is {shown(text)}"
    if grouped and ungrouped:
        fraction = bare.replace(",", mark).replace(".", mark)
        if bare != text:
            return f"{what}, with a currency sign. Write the number alone"
        return f"{what}, which can mean {meant} or {fraction}. Write the one that is meant{option}"
    if bare != text:
        return f"{what}, with a currency sign. Write {meant}"
    if grouped:
        return f"{what}, with a thousands separator. Write {meant}"
    if meant == bare:
        # It is written as it should be, and wrong in another way.
        return None
    if decimal_comma:
        return f"{what}, with a decimal point, and {DECIMAL_COMMA_OPTION} was given. Write {meant}"
    return f"{what}, with a decimal comma. Write {meant}{option}"
