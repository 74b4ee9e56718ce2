"""The cells of every CSV that we write: no spreadsheet runs one as a formula, and nothing in one is hidden.

A file that we export may come back through a spreadsheet, so each change can be read back: `from_cell` undoes `to_cell`.
"""

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence

from app.stock.damage import FORMULA
from app.visible_text import as_seen

# A spreadsheet of another language splits the file at another character, quotes or not: each of these may begin a cell.
_BEGINNING = "(^|[;,\t\r\n|])"
_TO_GUARD = re.compile(f"{_BEGINNING}({FORMULA.pattern})")
_GUARDED = re.compile(f"{_BEGINNING}'({FORMULA.pattern})")
_CODE_POINT = re.compile("<U\\+((?:10|[0-9A-F])?[0-9A-F]{4})>")
"""As `as_seen` writes a character that cannot be seen"""
_LITERAL = re.compile(f"<(?={_CODE_POINT.pattern[1:]})")
_ESCAPED = "<U+003C>"
"""The first character of a text that looks like a code point, and is none"""


def to_cell(value: str) -> str:
    """`value` as no spreadsheet runs it as a formula, and with what cannot be seen as code points (<U+202E>)."""
    return _TO_GUARD.sub(r"\1'\2", as_seen(_LITERAL.sub(_ESCAPED, value)))


def from_cell(cell: str) -> str:
    """What `to_cell` was given.

    An apostrophe goes only where it stands before what would be a formula, and a code point only where it is that of a
    character that cannot be seen.
    """
    return _CODE_POINT.sub(_character, _GUARDED.sub(r"\1\2", cell))


def _character(found: re.Match[str]) -> str:
    character = chr(int(found[1], 16))
    # Half a character is no text.
    is_unseen = not character.isprintable() and unicodedata.category(character) != "Cs"
    return character if is_unseen or found.group() == _ESCAPED else found.group()


def row_of(document: Mapping[str, object], columns: Sequence[str], *, numbers: Collection[str]) -> list[str]:
    """The cells of `document` in `columns`. Of `numbers` none is guarded: a minus is no formula there."""
    cells = {name: "" if document[name] is None else str(document[name]) for name in columns}
    return [text if name in numbers else to_cell(text) for name, text in cells.items()]
