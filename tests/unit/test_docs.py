"""The documents as a reader's browser shows them."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/*.md"), *ROOT.glob("proof/*.md")])
_ROW = re.compile(r"\s*\|.*\|\s*")
_DELIMITER = re.compile(r"\s*\|[\s:|-]+\|\s*")


def cut_tables(text: str) -> list[str]:
    """The first row of each group of rows that is no table, since it has no header and delimiter of its own."""
    lines = ["", *text.splitlines(), ""]
    starts = [n for n in range(1, len(lines)) if _ROW.fullmatch(lines[n]) and not _ROW.fullmatch(lines[n - 1])]
    return [lines[n] for n in starts if not _DELIMITER.fullmatch(lines[n + 1])]


def test_rows_behind_an_empty_line_are_found() -> None:
    assert [] == cut_tables("| a | b |\n|---|--:|\n| 1 | 2 |")
    assert ["| 3 | 4 |"] == cut_tables("| a | b |\n|---|--:|\n| 1 | 2 |\n\n| 3 | 4 |")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_table_is_cut(page: Path) -> None:
    assert [] == cut_tables(page.read_text(encoding="utf-8"))
