"""Catalog files for imports: short to write, in the documented shape."""

import json
from typing import Any

from tests.support.mipos import SYSTEM

UNITS = {"kg": ("Kilogram", "kg"), "g": ("Gram", "g"), "box": ("Box", "box")}


def item(item_id: str, *, stock: str = "10", unit: str = "kg", bought_in: str = "kg", **changes: str) -> dict[str, str]:
    return {
        "name": f"Item {item_id}",
        "external_id": item_id,
        "purchase_unit_external_id": bought_in,
        "consumption_unit_external_id": unit,
        "supplier_external_id": "s1",
        "cost": "1",
        "stock": stock,
        **changes,
    }


def catalog(
    *items: dict[str, str],
    system: str = SYSTEM,
    user: str = "30",
    units: dict[str, tuple[str, str]] = UNITS,
    suppliers: dict[str, str] | None = None,
) -> bytes:
    document: dict[str, Any] = {
        "items": list(items),
        "user_id_tps": user,
        "inventory_system_id": system,
        "units": [{"name": name, "short_name": short, "external_id": unit_id} for unit_id, (name, short) in units.items()],
        "suppliers": [{"name": name, "external_id": one} for one, name in (suppliers or {"s1": "Sup"}).items()],
    }
    return json.dumps(document).encode()
