"""What was last computed of each inventory system's level: its newest anchor, and the drift. For metrics, and for old ledgers."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.stock.anchors import Anchor
from app.stock.drift import Drift
from app.stock.quantity import to_canonical

LevelKey = tuple[str, str]
"""(store_id, item_id)"""

# Levels that moved, that were never compared, or whose last result can change without a movement: a message was on its way,
# something differed, was not known, or was made of causes; or a delivery is kept about the level and was not compared, whether
# or not its store is connected to the system. One that cannot be read (422) is no part of a comparison. A delivery is committed
# later than the time that it has: within CROSSED.
_DUE = """
WITH waiting AS (
  SELECT store_id, item_id, max(first_seen_at) AS seen_at FROM (
    SELECT store_id, item_id, first_seen_at FROM pos_sync.refused_delivery
    WHERE state = 'open' AND status_code = 409 AND reason <> 'other_pos'
    UNION ALL
    SELECT store_id, item_id, first_seen_at FROM pos_sync.suspected_duplicate
    WHERE state = 'open' AND reason <> 'before_count'
  ) AS kept GROUP BY store_id, item_id
)
SELECT level.store_id, level.item_id FROM pos_sync.stock_level AS level
LEFT JOIN waiting USING (store_id, item_id)
LEFT JOIN LATERAL (
  SELECT min(compared_at) AS compared_at, min(compared_version) AS version,
    bool_or(drift <> 0 OR uncertain <> 0 OR is_unsettled OR causes <> '{}') AS is_open
  FROM pos_sync.system_level AS known WHERE known.store_id = level.store_id AND known.item_id = level.item_id
    AND known.compared_at IS NOT NULL
) AS known ON true
WHERE known.is_open OR known.version < level.version
  OR waiting.seen_at > coalesce(known.compared_at - CAST(:crossed AS interval), '-infinity')
  OR (known.version IS NULL AND level.version > 0
    AND EXISTS (SELECT FROM pos_sync.integration WHERE integration.store_id = level.store_id))
ORDER BY known.compared_at NULLS FIRST, level.store_id, level.item_id LIMIT :limit
"""
CROSSED = timedelta(minutes=1)
_PUT = """
INSERT INTO pos_sync.system_level AS known (
  inventory_system_id, store_id, item_id, anchor_kind, anchor_stock, anchor_version, anchored_at, anchor_date, told_since,
  told_until, anchor_uncertain, drift, uncertain, causes, is_unsettled, compared_version, compared_at
) VALUES (
  :system_id, :store_id, :item_id, :kind, :stock, :version, :at, :date, :told_since, :told_until, :anchor_uncertain, :drift,
  :uncertain, CAST(:causes AS jsonb), :is_unsettled, :compared_version, now()
) ON CONFLICT (inventory_system_id, store_id, item_id) DO UPDATE SET
  anchor_kind = excluded.anchor_kind, anchor_stock = excluded.anchor_stock, anchor_version = excluded.anchor_version,
  anchored_at = excluded.anchored_at, anchor_date = excluded.anchor_date, told_since = excluded.told_since,
  told_until = excluded.told_until, anchor_uncertain = excluded.anchor_uncertain, drift = excluded.drift,
  uncertain = excluded.uncertain, causes = excluded.causes, is_unsettled = excluded.is_unsettled,
  compared_version = excluded.compared_version, compared_at = excluded.compared_at
"""
# What was compared once, and is not any more: the store is not connected to the system, and nothing of it waits or was looked at.
_SETTLE = text("""
UPDATE pos_sync.system_level AS known
SET drift = 0, uncertain = 0, causes = '{}', is_unsettled = false, compared_version = asked.version, compared_at = now()
FROM unnest(CAST(:stores AS text[]), CAST(:items AS text[]), CAST(:versions AS bigint[])) AS asked (store_id, item_id, version)
WHERE known.store_id = asked.store_id AND known.item_id = asked.item_id AND known.compared_at IS NOT NULL
  AND NOT EXISTS (
    SELECT FROM unnest(CAST(:of_stores AS text[]), CAST(:of_items AS text[]), CAST(:of_systems AS text[]))
      AS compared (store_id, item_id, inventory_system_id)
    WHERE compared.store_id = known.store_id AND compared.item_id = known.item_id
      AND compared.inventory_system_id = known.inventory_system_id
  )
""")


@dataclass(frozen=True, slots=True)
class Compared:
    """What came of comparing one level with one system. `anchor` is None where nothing is known of its stock."""

    drift: Drift
    anchor: Anchor | None
    compared_version: int


async def list_due(connection: AsyncConnection, *, limit: int) -> list[LevelKey]:
    """The levels to compare now, those that waited longest first."""
    return [(row[0], row[1]) for row in await connection.execute(text(_DUE), {"limit": limit, "crossed": CROSSED})]


async def put(connection: AsyncConnection, levels: Mapping[LevelKey, int], compared: Sequence[Compared]) -> None:
    """Keep what came of comparing `levels`, each with its version; what was known of other systems there is settled."""
    rows = []
    for one in sorted(compared, key=lambda c: (c.drift.inventory_system_id, c.drift.store_id, c.drift.item_id)):
        found, anchor = one.drift, one.anchor
        causes: dict[str, str] = {}
        for cause in found.causes:
            causes[cause.kind.value] = to_canonical(Decimal(causes.get(cause.kind.value, 0)) + cause.amount)
        rows.append(
            {
                "system_id": found.inventory_system_id,
                "store_id": found.store_id,
                "item_id": found.item_id,
                "kind": None if anchor is None else anchor.kind.value,
                "stock": None if anchor is None else anchor.stock,
                "version": None if anchor is None else anchor.level_version,
                "at": None if anchor is None else anchor.at,
                "date": None if anchor is None else anchor.as_of,
                "told_since": None if anchor is None else anchor.told_since,
                "told_until": None if anchor is None else anchor.until,
                "anchor_uncertain": None if anchor is None else anchor.uncertain,
                "drift": found.drift,
                "uncertain": found.uncertain,
                "causes": json.dumps(causes),
                "is_unsettled": bool(found.pending),
                "compared_version": one.compared_version,
            }
        )
    if rows:
        await connection.execute(text(_PUT), rows)
    asked = sorted(levels)
    await connection.execute(
        _SETTLE,
        {
            "stores": [store for store, _ in asked],
            "items": [item for _, item in asked],
            "versions": [levels[key] for key in asked],
            "of_stores": [row["store_id"] for row in rows],
            "of_items": [row["item_id"] for row in rows],
            "of_systems": [row["system_id"] for row in rows],
        },
    )


@dataclass(frozen=True, slots=True)
class DriftSummary:
    """How many items of a store differ for one cause, and by how much together, without regard to sign."""

    store_id: str
    cause: str
    items: int
    amount: Decimal


async def summarise(connection: AsyncConnection) -> list[DriftSummary]:
    """What was last computed, for each store and cause."""
    query = text(
        "SELECT store_id, cause.key, count(*), sum(abs(cause.value::numeric)) FROM pos_sync.system_level"
        " CROSS JOIN LATERAL jsonb_each_text(causes) AS cause WHERE drift <> 0 GROUP BY store_id, cause.key ORDER BY 1, 2"
    )
    return [DriftSummary(*row) for row in await connection.execute(query)]


async def oldest_comparison(connection: AsyncConnection) -> datetime | None:
    """When the level was compared that was compared longest ago; None before the first."""
    return await connection.scalar(text("SELECT min(compared_at) FROM pos_sync.system_level WHERE compared_at IS NOT NULL"))
