"""The bytes of a delivery, so that a person sees each of them: as text where they are text, else in hexadecimal."""

from typing import NamedTuple

from markupsafe import Markup, escape

from app.visible_text import as_seen

MAX_SHOWN_BYTES = 16384
_ROW = 16


class ShownBody(NamedTuple):
    """`content` is escaped. `left` bytes are not shown."""

    content: Markup
    is_text: bool
    size: int
    left: int


def show_body(raw: bytes) -> ShownBody:
    """The beginning of `raw`, with what cannot be seen as code points, and as bytes with their offsets where it is not UTF-8."""
    part = raw[:MAX_SHOWN_BYTES]
    left = len(raw) - len(part)
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return ShownBody(escape("\n".join(_hexadecimal(part))), False, len(raw), left)
    # A character that was cut through at the end is left out.
    text = part.decode("utf-8", "ignore")
    return ShownBody(Markup("").join(_visible(one) for one in text.splitlines(keepends=True)), True, len(raw), left)


def _visible(line: str) -> Markup:
    """A line whose end is seen, and ends the line that is shown."""
    if line.isprintable():
        return escape(line)
    marked = [escape(one) if one.isprintable() else Markup('<b class="unseen">{}</b>').format(as_seen(one)) for one in line]
    return Markup("").join(marked) + ("\n" if line[-1] in "\r\n" else "")


def _hexadecimal(raw: bytes) -> list[str]:
    rows = []
    for start in range(0, len(raw), _ROW):
        row = raw[start : start + _ROW]
        seen = "".join(chr(one) if chr(one).isascii() and chr(one).isprintable() else "." for one in row)
        rows.append(f"{start:08x}  {row.hex(' '):<{3 * _ROW - 1}}  {seen}")
    return rows
