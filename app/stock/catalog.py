"""The catalogue of a store, and its shape in the documented body of the sync call; `app.catalog_body` reads it."""

import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from app.stock.quantity import to_plain
from app.visible_text import shown

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


def look_alikes(catalog: Catalog) -> list[str]:
    """A warning for all ids of one list that differ only in case, or in how an accent is encoded: one thing, perhaps, twice."""
    ids = {
        "items": [item.item_id for item in catalog.items],
        "units": [unit.unit_id for unit in catalog.units],
        "suppliers": [supplier.supplier_id for supplier in catalog.suppliers],
    }
    warnings = []
    for name in LISTS:
        alike: defaultdict[str, list[str]] = defaultdict(list)
        for one in ids[name]:
            alike[_folded(one)].append(one)
        warnings += [
            f"The {name} {' and '.join(map(shown, group))} look alike, and are {len(group)} {name}."
            for group in alike.values()
            if len(group) > 1
        ]
    return warnings


def _folded(external_id: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", external_id).casefold())
