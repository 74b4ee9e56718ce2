"""The catalogue that a POS exports: the documented body of the sync call, read as a whole or refused as a whole.

The rules are the documented ones of `.../system/sync` (docs/reference/pos-sync-inventory.md, answers 409 and 422), so that what
is imported here can be sent there. They stand here once, for JSON, for CSV, and for what a synchronisation is about to send.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from app.errors import shown
from app.stock.quantity import ZERO, NotAQuantity, parse_quantity, to_plain
from app.stock.text import fault_in

LONGEST_TEXT = 255
LISTS = ("items", "units", "suppliers")


class CatalogRefused(Exception):
    """The catalogue cannot be taken; `problems` names each bad entry, one sentence each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of measurement."""

    unit_id: str
    name: str
    short_name: str


@dataclass(frozen=True, slots=True)
class Supplier:
    """Who delivers items."""

    supplier_id: str
    name: str


@dataclass(frozen=True, slots=True)
class Item:
    """An item of the POS; `stock` is that of one store."""

    item_id: str
    name: str
    purchase_unit_id: str
    consumption_unit_id: str
    supplier_id: str
    cost: Decimal
    stock: Decimal


@dataclass(frozen=True, slots=True)
class Catalog:
    """What one store shares with one inventory system."""

    inventory_system_id: str
    user_id_tps: str
    items: tuple[Item, ...]
    units: tuple[Unit, ...]
    suppliers: tuple[Supplier, ...]


def read_catalog(text: str) -> Catalog:
    """The catalogue in `text`: JSON in the shape of the documented sync body.

    Raises:
        CatalogRefused: with every problem of the whole file.
    """
    try:
        document = json.loads(text, parse_float=_Number, parse_int=_Number, parse_constant=_Number)
    except (json.JSONDecodeError, RecursionError) as error:
        where = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise CatalogRefused([f"The file is not JSON{where}."]) from None
    if not isinstance(document, dict):
        raise CatalogRefused(["The file must hold one JSON object, in the shape of the sync call's body."])
    return read_document(document, Origin())


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a document comes from, for the words of its problems."""

    subject: str = "The file"
    """Names the whole."""
    places: Mapping[str, Sequence[str]] | None = None
    """For each entry of each list, in which line of which file it stands; then a problem speaks of the column."""
    problems: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Of each list, what was found already. Such a list may lack entries, so whether it has one is not asked."""


def read_document(
    document: Mapping[str, Any], origin: Origin, *, on_item: Callable[[int], None] = lambda _number: None
) -> Catalog:
    """The catalogue in `document`, which has the shape of the sync body; `on_item` is told the number of each item.

    Raises:
        CatalogRefused: with every problem.
    """
    return _Reader(document, origin, on_item).read()


def check_for_sync(catalog: Catalog, *, on_item: Callable[[int], None] = lambda _number: None) -> dict[str, Any]:
    """The body of the sync call for `catalog`, held against every documented rule of the call.

    What the database holds need not have come through an import: a POS that shares it writes as it likes. mipOS requires
    that no list is empty (422), which an import may be.

    Raises:
        CatalogRefused: with every problem, in our words; sent, mipOS would refuse it without naming the entry.
    """
    body = to_document(catalog)
    problems = [f"The catalogue has no {name}, and mipOS asks for one at least." for name in LISTS if not body[name]]
    try:
        read_document(body, Origin(subject="The catalogue"), on_item=on_item)
    except CatalogRefused as refused:
        problems += refused.problems
    if problems:
        raise CatalogRefused(problems)
    return body


def to_document(catalog: Catalog) -> dict[str, Any]:
    """`catalog` in the shape of the documented sync body: every number a string."""
    return {
        "items": [
            {
                "name": item.name,
                "external_id": item.item_id,
                "purchase_unit_external_id": item.purchase_unit_id,
                "consumption_unit_external_id": item.consumption_unit_id,
                "supplier_external_id": item.supplier_id,
                "cost": to_plain(item.cost),
                "stock": to_plain(item.stock),
            }
            for item in catalog.items
        ],
        "user_id_tps": catalog.user_id_tps,
        "inventory_system_id": catalog.inventory_system_id,
        "units": [{"name": unit.name, "short_name": unit.short_name, "external_id": unit.unit_id} for unit in catalog.units],
        "suppliers": [{"name": supplier.name, "external_id": supplier.supplier_id} for supplier in catalog.suppliers],
    }


class _Number(str):
    """A JSON number, told from a string."""

    __slots__ = ()


class _Reader:
    """Reads one document and gathers every problem on the way."""

    def __init__(self, document: Mapping[str, Any], origin: Origin, on_item: Callable[[int], None]) -> None:
        self._document = document
        self._origin = origin
        self._on_item = on_item
        self._problems = [problem for problems in origin.problems.values() for problem in problems]

    def read(self) -> Catalog:
        system_id = self._text(self._document, "inventory_system_id", self._origin.subject)
        user_id = self._text(self._document, "user_id_tps", self._origin.subject)
        units = tuple(
            Unit(
                unit_id=self._text(entry, "external_id", where),
                name=self._text(entry, "name", where),
                short_name=self._text(entry, "short_name", where),
            )
            for where, entry in self._entries("units", "Unit")
        )
        suppliers = tuple(
            Supplier(supplier_id=self._text(entry, "external_id", where), name=self._text(entry, "name", where))
            for where, entry in self._entries("suppliers", "Supplier")
        )
        unit_ids = {unit.unit_id for unit in units}
        supplier_ids = {supplier.supplier_id for supplier in suppliers}
        items = tuple(
            Item(
                item_id=self._text(entry, "external_id", where),
                name=self._text(entry, "name", where),
                purchase_unit_id=self._listed(entry, "purchase_unit_external_id", where, known=unit_ids, among="units"),
                consumption_unit_id=self._listed(entry, "consumption_unit_external_id", where, known=unit_ids, among="units"),
                supplier_id=self._listed(entry, "supplier_external_id", where, known=supplier_ids, among="suppliers"),
                cost=self._number(entry, "cost", where, is_signed=False),
                stock=self._number(entry, "stock", where, is_signed=True),
            )
            for where, entry in self._entries("items", "Item", self._on_item)
        )
        self._refuse_repeated("units", "Unit", [unit.unit_id for unit in units])
        self._refuse_repeated("suppliers", "Supplier", [supplier.supplier_id for supplier in suppliers])
        self._refuse_repeated("items", "Item", [item.item_id for item in items])
        if self._problems:
            raise CatalogRefused(self._problems)
        return Catalog(system_id, user_id, items, units, suppliers)

    def _entries(
        self, name: str, noun: str, on_entry: Callable[[int], None] = lambda _number: None
    ) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Each entry of the list `name`, with the words by which a problem names it."""
        entries = self._document.get(name)
        if not isinstance(entries, list):
            self._problems.append(f"{self._origin.subject} must have a list {name}.")
            return
        for number, entry in enumerate(entries, start=1):
            on_entry(number)
            where = f"{noun} {number}" if self._origin.places is None else self._origin.places[name][number - 1]
            if not isinstance(entry, dict):
                self._problems.append(f"{where} must be an object.")
                continue
            external_id = entry.get("external_id")
            yield f"{where} ({shown(external_id)})" if isinstance(external_id, str) and external_id else where, entry

    def _at(self, where: str, name: str) -> str:
        is_column = self._origin.places is not None and where != self._origin.subject
        return f"{where}: {'column ' if is_column else ''}{name}"

    def _text(self, entry: Mapping[str, Any], name: str, where: str) -> str:
        value = entry.get(name)
        if not isinstance(value, str) or isinstance(value, _Number):
            self._problems.append(f"{self._at(where, name)} must be a string{', and is missing' if value is None else ''}.")
        elif fault := fault_in(value, longest=LONGEST_TEXT):
            self._problems.append(f"{self._at(where, name)} {fault}.")
        else:
            return value
        return ""

    def _listed(self, entry: Mapping[str, Any], name: str, where: str, *, known: set[str], among: str) -> str:
        value = self._text(entry, name, where)
        if value and value not in known and not self._origin.problems.get(among):
            self._problems.append(f"{self._at(where, name)} {shown(value)} is not in the list {among}.")
        return value

    def _number(self, entry: Mapping[str, Any], name: str, where: str, *, is_signed: bool) -> Decimal:
        value = entry.get(name)
        if not isinstance(value, str) or isinstance(value, _Number):
            self._problems.append(
                f'{self._at(where, name)} must be a string such as "12.50"{", and is missing" if value is None else ""}.'
            )
            return ZERO
        try:
            number = parse_quantity(value)
        except NotAQuantity as problem:
            self._problems.append(f"{self._at(where, name)} {problem}.")
            return ZERO
        if number < ZERO and not is_signed:
            self._problems.append(f"{self._at(where, name)} must not be negative.")
        return number

    def _refuse_repeated(self, name: str, noun: str, external_ids: list[str]) -> None:
        seen: set[str] = set()
        for number, external_id in enumerate(external_ids):
            if external_id and external_id in seen:
                places = self._origin.places
                what = f"{noun} {shown(external_id)}"
                if places is not None:
                    what = f"{self._at(places[name][number], 'external_id')} {shown(external_id)}"
                self._problems.append(f"{what} occurs more than once.")
            seen.add(external_id)
