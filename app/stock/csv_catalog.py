"""The catalogue as three CSV tables, for a POS that exports spreadsheets: the same fields and rules as the JSON (`catalog`).

Cells are written and read by `csv_cells`: an export may come back through a spreadsheet, and names in it were chosen by
others.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.stock.catalog import LISTS, Catalog, to_document
from app.stock.csv_cells import from_cell, row_of
from app.stock.damage import WrongEncoding, decode
from app.visible_text import shown

COLUMNS: Mapping[str, Sequence[str]] = {
    "items": (
        "external_id",
        "name",
        "purchase_unit_external_id",
        "consumption_unit_external_id",
        "supplier_external_id",
        "cost",
        "stock",
    ),
    "units": ("external_id", "name", "short_name"),
    "suppliers": ("external_id", "name"),
}
"""The columns of each table, by the names of the JSON's fields; all are needed, in any order."""
FILES: Mapping[str, str] = {name: f"{name}.csv" for name in LISTS}
NUMBERS = {"cost", "stock"}
DELIMITERS = (",", ";", "\t")
"""A comma, what spreadsheets write where the comma stands in numbers, or a tab."""
BYTE_ORDER_MARK = "\ufeff"
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[,;\t]*(?:\r\n|\r|\n|$)', re.IGNORECASE)
"""How a spreadsheet is told of the separator."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a document comes from, for the words of its problems."""

    subject: str = "The file"
    """Names the whole."""
    places: Mapping[str, Sequence[str]] | None = None
    """For each entry of each list, in which line of which file it stands; then a problem speaks of the column."""
    problems: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Of each list, what was found already. Such a list may lack entries, so whether it has one is not asked."""
    is_file: bool = True
    """Whether it may come from a spreadsheet. What the database holds are ids already, whatever they look like."""
    decimal_comma: bool | None = None
    """Whether numbers have a decimal comma; None where nobody may choose."""


@dataclass(frozen=True, slots=True)
class CsvCatalog:
    """What was read, and what was left unread."""

    catalog: Catalog
    ignored: Sequence[str]
    """Columns that are none of ours, each as "items.csv: price"."""


def split_tables(
    files: Mapping[str, bytes], *, inventory_system_id: str, user_id_tps: str, decimal_comma: bool
) -> tuple[dict[str, Any], Origin, list[str]]:
    """The document in `files`, where each of its entries stands, and the ignored columns.

    `files` is by the names of `FILES`'s keys: UTF-8 with or without a byte order mark; comma, semicolon or tab.
    """
    tables = {name: _Table(FILES[name], COLUMNS[name], files[name]) for name in LISTS}
    origin = Origin(
        subject="The options --system and --user",
        places={name: [place for place, _ in table.rows] for name, table in tables.items()},
        problems={name: table.problems for name, table in tables.items()},
        decimal_comma=decimal_comma,
    )
    document: dict[str, Any] = {name: [entry for _, entry in table.rows] for name, table in tables.items()}
    document |= {"inventory_system_id": inventory_system_id, "user_id_tps": user_id_tps}
    return document, origin, [column for table in tables.values() for column in table.ignored]


def to_tables(catalog: Catalog) -> dict[str, str]:
    """The three tables of `catalog`, as `split_tables` takes them: commas, CRLF at line ends (RFC 4180), every digit kept.

    Each begins with a byte order mark, without which spreadsheets do not take it for UTF-8.
    """
    document = to_document(catalog)
    return {name: _write(COLUMNS[name], document[name]) for name in LISTS}


def _write(columns: Sequence[str], entries: Sequence[Mapping[str, str]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(row_of(entry, columns, numbers=NUMBERS) for entry in entries)
    return BYTE_ORDER_MARK + text.getvalue()


class _Table:
    """One file: its rows with their places, and what is wrong with it as a table."""

    def __init__(self, file: str, columns: Sequence[str], content: bytes) -> None:
        self._file = file
        self._columns = columns
        self.problems: list[str] = []
        self.ignored: list[str] = []
        self.rows: list[tuple[str, dict[str, str]]] = []
        try:
            text = decode(content)
        except WrongEncoding as error:
            place = file if error.line is None else f"{file}, line {error.line}"
            self.problems.append(f'{place}: {error}. Save it as "CSV UTF-8".')
            return
        self._read(text)

    def _read(self, text: str) -> None:
        rows = self._split(text)
        first = next(rows, None)
        if first is None:
            if not self.problems:
                self.problems.append(f"{self._file}: is empty. Its first line must name the columns: {','.join(self._columns)}.")
            return
        line, names = first[0], [name.strip() for name in first[1]]
        header = [name.casefold() for name in names]
        missing = [name for name in self._columns if name not in header]
        repeated = [name for name in self._columns if header.count(name) > 1]
        if missing or repeated:
            self.problems += [f"{self._file}, line {line}: the column {name} is missing." for name in missing]
            self.problems += [f"{self._file}, line {line}: the column {name} is there more than once." for name in repeated]
            return
        self.ignored = [f"{self._file}: {name}" for name in names if name and name.casefold() not in self._columns]
        for line, row in rows:
            place = f"{self._file}, line {line}"
            if fault := _fault_in_row(row, header):
                self.problems.append(f"{place}: {fault}.")
                continue
            cells = dict(zip(header, row, strict=False))
            entry = {name: cells[name].strip() if name in NUMBERS else from_cell(cells[name]) for name in self._columns}
            if blank := self._blank_keys(entry):
                of = f" ({shown(entry['external_id'])})" if entry["external_id"].strip() else ""
                self.problems.append(
                    f"{place}{of}: is a row without its {', '.join(blank)}, perhaps a total. Fill it in, or delete the row."
                )
                continue
            self.rows.append((place, entry))

    def _blank_keys(self, entry: Mapping[str, str]) -> Sequence[str]:
        """The ids that a row lacks, where it lacks its own or all that it refers to."""
        blank = [name for name in self._columns if name.endswith("external_id") and not entry[name].strip()]
        references = sum(name.endswith("_external_id") for name in self._columns)
        return blank if "external_id" in blank or (references and len(blank) == references) else ()

    def _split(self, text: str) -> Iterator[tuple[int, list[str]]]:
        """Each row with the number of its first line; rows that hold nothing are left out."""
        line = 1
        named = _SEPARATOR_LINE.match(text)
        if named is not None:
            text, line = text[named.end() :], 2
            if named[1] not in DELIMITERS:
                self.problems.append(
                    f"{self._file}, line 1: names the separator {shown(named[1])}. Save it with commas, semicolons or tabs."
                )
                return
        # A quoted field may hold line breaks, so that a row can be longer than a line.
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=named[1] if named else _delimiter(text), strict=True)
        before = line
        try:
            for row in reader:
                if any(cell.strip() for cell in row):
                    yield line, row
                line = before + reader.line_num
        except csv.Error as error:
            self.problems.append(f"{self._file}, line {line}: cannot be read as CSV ({error}). Nothing after it was looked at.")


def _fault_in_row(row: Sequence[str], header: Sequence[str]) -> str | None:
    """What is wrong with a row as a row of this header. Empty columns without a name, at the end too, are none."""
    named = max(number for number, name in enumerate(header, 1) if name)
    filled = max(number for number, cell in enumerate(row, 1) if cell.strip())
    if len(row) < named or filled > len(header):
        return f"has {len(row)} cells, and the header has {named}. A text that holds the separator must be in quotes"
    for number, (cell, name) in enumerate(zip(row, header, strict=False), 1):
        if cell.strip() and not name:
            return (
                f"has {shown(cell)} in column {number}, which has no name in the header. Name the column, or empty it. "
                "A text that holds the separator must be in quotes"
            )
    return None


def _delimiter(text: str) -> str:
    """The one that the header has most of: no name of ours holds any."""
    header = re.split(r"[\r\n]", text.lstrip("\r\n"), maxsplit=1)[0]
    return max(DELIMITERS, key=header.count)
