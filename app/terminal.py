"""What a terminal shows: colours where it can, and text in columns, in which a wide character takes two."""

import os
import unicodedata
from collections.abc import Collection, Sequence
from typing import TextIO

MIN_COLUMN_WIDTH = 8
"""Narrower, a column of text cannot be read."""
_INVISIBLE = {"Mn", "Me", "Cf"}
_WIDE = {"W", "F"}


def is_plain() -> bool:
    """Whether the terminal can do nothing but show one line after another (TERM=dumb)."""
    return os.environ.get("TERM") == "dumb"


def shows_colours(file: TextIO) -> bool:
    """Whether colours are wanted in what is written to `file`: on a terminal, but not with NO_COLOR (no-color.org)."""
    return file.isatty() and not is_plain() and not os.environ.get("NO_COLOR")


def width_of(text: str) -> int:
    """How many columns `text` takes."""
    if text.isascii():
        return len(text)
    return sum(_width_of_character(character) for character in text)


def _width_of_character(character: str) -> int:
    if unicodedata.category(character) in _INVISIBLE:
        return 0
    return 2 if unicodedata.east_asian_width(character) in _WIDE else 1


def padded(text: str, width: int, *, is_right: bool = False) -> str:
    """`text` with blanks up to `width` columns, at its end, or before it where it `is_right`."""
    blanks = " " * (width - width_of(text))
    return blanks + text if is_right else text + blanks


def wrapped(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` columns, ended at blanks where there are some. At least one line; nothing is lost."""
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if width_of(longer) <= width:
            line = longer
            continue
        if line:
            lines.append(line)
        *full, line = _broken(word, width)
        lines += full
    return [*lines, line]


def _broken(word: str, width: int) -> list[str]:
    parts, part, taken = [], "", 0
    for character in word:
        wide = _width_of_character(character)
        if part and taken + wide > width:
            parts.append(part)
            part, taken = "", 0
        part, taken = part + character, taken + wide
    return [*parts, part]


def column_widths(natural: Sequence[int], room: int, *, fixed: Collection[int] = (), gap: int = 2) -> list[int] | None:
    """The widths of columns that are to fit into `room`, with a `gap` between two: the widest of text are made narrower.

    `natural` is how wide each would be; those in `fixed` stay. None where they cannot fit.
    """
    widths = list(natural)
    over = sum(widths) + gap * (len(widths) - 1) - room
    while over > 0:
        able = [index for index, width in enumerate(widths) if index not in fixed and width > MIN_COLUMN_WIDTH]
        if not able:
            return None
        widest = max(able, key=lambda index: widths[index])
        widths[widest] -= 1
        over -= 1
    return widths
