"""What mipOS does with a movement before it calls us: adds `now`, serialises as PHP's json_encode does, signs.

For `pos-sync send`, the demonstration and tests. Bytes that differ from the real sender's prove nothing.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from app.receiving.signature import HEADER, sign
from app.stock.text import DATE_FORMAT

DOCUMENTED_MOVEMENT: Mapping[str, Any] = {
    "pos_id": "1",
    "inventory_system_id": "4344be8c-c6b9-4c51-88a6-d620144ab406",
    "current_stock": "12.44",
    "quantity": "1.25",
    "date": "2020-05-30 12:45:03",
    "movement_type": 2,
    "external_id": "avcc123",
    "now": "2020-06-01 02:55:18",
    "store_id": 1,
}
"""The type-3 example of docs/reference/pos-sync-inventory.md."""


def php_json(document: Mapping[str, Any]) -> bytes:
    r"""`document` as PHP's json_encode writes it by default: compact, non-ASCII as \u00xx, `/` as `\/`."""
    return json.dumps(document, separators=(",", ":")).replace("/", "\\/").encode("ascii")


def signed_headers(body: bytes, secret: bytes) -> dict[str, str]:
    """The headers of a delivery of `body`."""
    return {"Content-Type": "application/json", HEADER: sign(body, secret)}


def now_text() -> str:
    """The current time as mipOS writes it (UTC is our reading; the zone is not documented)."""
    return datetime.now(UTC).strftime(DATE_FORMAT)
