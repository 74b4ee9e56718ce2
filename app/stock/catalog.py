"""The catalogue that a POS exports: the documented body of the sync call, read as a whole or refused as a whole.

The rules are the documented ones of `.../system/sync` (docs/reference/pos-sync-inventory.md, answers 409 and 422), so that what
is imported here can be sent there.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from app.errors import shown
from app.stock.quantity import ZERO, NotAQuantity, parse_quantity, to_plain
from app.stock.text import fault_in

LONGEST_TEXT = 255


class CatalogRefused(Exception):
    """The catalogue cannot be taken; `problems` names each bad entry, one sentence each."""

    def __init__(self, problems: list[str]) -> None:
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
    return _Reader(document).read()


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

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._problems: list[str] = []

    def read(self) -> Catalog:
        system_id = self._text(self._document, "inventory_system_id", "The file")
        user_id = self._text(self._document, "user_id_tps", "The file")
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
            for where, entry in self._entries("items", "Item")
        )
        self._refuse_repeated("Unit", [unit.unit_id for unit in units])
        self._refuse_repeated("Supplier", [supplier.supplier_id for supplier in suppliers])
        self._refuse_repeated("Item", [item.item_id for item in items])
        if self._problems:
            raise CatalogRefused(self._problems)
        return Catalog(system_id, user_id, items, units, suppliers)

    def _entries(self, name: str, noun: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Each entry of the list `name`, with the words by which a problem names it."""
        entries = self._document.get(name)
        if not isinstance(entries, list):
            self._problems.append(f"The file must have a list {name}.")
            return
        for number, entry in enumerate(entries, start=1):
            where = f"{noun} {number}"
            if not isinstance(entry, dict):
                self._problems.append(f"{where} must be an object.")
                continue
            external_id = entry.get("external_id")
            yield f"{where} ({shown(external_id)})" if isinstance(external_id, str) and external_id else where, entry

    def _text(self, entry: Mapping[str, Any], name: str, where: str) -> str:
        value = entry.get(name)
        if not isinstance(value, str) or isinstance(value, _Number):
            self._problems.append(f"{where}: {name} must be a string{', and is missing' if value is None else ''}.")
        elif fault := fault_in(value, longest=LONGEST_TEXT):
            self._problems.append(f"{where}: {name} {fault}.")
        else:
            return value
        return ""

    def _listed(self, entry: Mapping[str, Any], name: str, where: str, *, known: set[str], among: str) -> str:
        value = self._text(entry, name, where)
        if value and value not in known:
            self._problems.append(f"{where}: {name} {shown(value)} is not in the list {among}.")
        return value

    def _number(self, entry: Mapping[str, Any], name: str, where: str, *, is_signed: bool) -> Decimal:
        value = entry.get(name)
        if not isinstance(value, str) or isinstance(value, _Number):
            self._problems.append(
                f'{where}: {name} must be a string such as "12.50"{", and is missing" if value is None else ""}.'
            )
            return ZERO
        try:
            number = parse_quantity(value)
        except NotAQuantity as problem:
            self._problems.append(f"{where}: {name} {problem}.")
            return ZERO
        if number < ZERO and not is_signed:
            self._problems.append(f"{where}: {name} must not be negative.")
        return number

    def _refuse_repeated(self, noun: str, external_ids: list[str]) -> None:
        seen: set[str] = set()
        for external_id in external_ids:
            if external_id and external_id in seen:
                self._problems.append(f"{noun} {shown(external_id)} occurs more than once.")
            seen.add(external_id)
