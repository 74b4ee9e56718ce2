"""What the page of one item shows: its ledger by pages, and its level over time."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.ledger_rows import LISTED, LedgerRow
from app.storage.tables import HAPPENED_AT, IS_COUNT, stock_level

MAX_BUCKETS = 500
MAX_CHARTED = 20_000
"""Rows that a chart looks at: the newest. Of an item with more, it begins later."""

_NEWEST = text(f"""
SELECT {LISTED} FROM pos_sync.stock_movement
WHERE store_id = :store_id AND item_id = :item_id AND (CAST(:before AS bigint) IS NULL OR level_version < :before)
ORDER BY level_version DESC LIMIT :limit
""")  # noqa: S608 - our own names only
_CHANGES = text(f"""
WITH seen AS MATERIALIZED (
  SELECT {HAPPENED_AT} AS at, delta, source, inventory_system_id, reported_stock, level_version, {IS_COUNT} AS is_count
  FROM pos_sync.stock_movement
  WHERE store_id = :store_id AND item_id = :item_id AND level_version > CAST(:version AS bigint) - CAST(:most AS bigint)
)
SELECT least(
  greatest(floor(EXTRACT(epoch FROM at - CAST(:since AS timestamptz)) / CAST(:step AS float8)), -1), CAST(:buckets AS int)
)::int AS bucket,
  coalesce(sum(delta), 0), bool_or(is_count)
FROM seen GROUP BY 1 ORDER BY 1
""")  # noqa: S608
_REPORTS = text(f"""
SELECT DISTINCT ON (bucket, inventory_system_id) bucket, inventory_system_id, reported_stock FROM (
  SELECT floor(EXTRACT(epoch FROM {HAPPENED_AT} - CAST(:since AS timestamptz)) / CAST(:step AS float8))::int AS bucket,
    inventory_system_id, reported_stock, {HAPPENED_AT} AS at, level_version
  FROM pos_sync.stock_movement
  WHERE store_id = :store_id AND item_id = :item_id AND level_version > CAST(:version AS bigint) - CAST(:most AS bigint)
    AND source = 'inventory_system' AND {HAPPENED_AT} >= :since
) AS reported WHERE bucket < :buckets ORDER BY bucket, inventory_system_id, at DESC, level_version DESC
""")  # noqa: S608
_OLDEST = text(f"""
SELECT min({HAPPENED_AT}) FROM pos_sync.stock_movement
WHERE store_id = :store_id AND item_id = :item_id AND level_version > CAST(:version AS bigint) - CAST(:most AS bigint)
""")  # noqa: S608


async def list_newest(
    connection: AsyncConnection, store_id: str, item_id: str, *, before: int | None, limit: int
) -> list[LedgerRow]:
    """The rows of an item's ledger, the last written first; those before the version `before`."""
    asked = {"store_id": store_id, "item_id": item_id, "before": before, "limit": limit}
    return [LedgerRow(*row) for row in await connection.execute(_NEWEST, asked)]


async def lock(connection: AsyncConnection, store_id: str, item_id: str) -> tuple[Decimal, int]:
    """Lock a level until the caller's transaction ends: its quantity and version, 0 of both where nothing was ever stocked."""
    level = stock_level.c
    query = select(level.quantity, level.version).where(level.store_id == store_id, level.item_id == item_id)
    row = (await connection.execute(query.with_for_update(key_share=True))).one_or_none()
    return (Decimal(0), 0) if row is None else (row[0], row[1])


_COMPARED = text("""
SELECT asked.inventory_system_id, known.anchor_stock + coalesce(known.told_since, 0), known.anchored_at, known.drift,
  coalesce(known.uncertain, 0), known.causes, known.is_unsettled, coalesce(known.is_held, false), known.compared_at,
  known.compared_version
FROM (
  SELECT inventory_system_id FROM pos_sync.integration WHERE store_id = :store_id
  UNION SELECT inventory_system_id FROM pos_sync.system_level
  WHERE store_id = :store_id AND item_id = :item_id AND (drift <> 0 OR uncertain <> 0)
) AS asked
LEFT JOIN pos_sync.system_level AS known ON known.store_id = :store_id AND known.item_id = :item_id
  AND known.inventory_system_id = asked.inventory_system_id
ORDER BY 1
""")


@dataclass(frozen=True, slots=True)
class LastCompared:
    """What came of the last comparison of a level with an inventory system; None where it was not compared yet."""

    inventory_system_id: str
    theirs: Decimal | None
    received_at: datetime | None
    drift: Decimal | None
    uncertain: Decimal
    causes: Mapping[str, str] | None
    """Kind of cause -> its part of the drift"""
    is_unsettled: bool | None
    """Stock updates were on their way."""
    is_held: bool
    compared_at: datetime | None
    compared_version: int | None


async def read_compared(connection: AsyncConnection, store_id: str, item_id: str) -> list[LastCompared]:
    """Of each system that the store is connected to, and of each other one whose stock differed."""
    asked = {"store_id": store_id, "item_id": item_id}
    rows: Any = await connection.execute(_COMPARED, asked)
    found = [LastCompared(*row) for row in rows]
    # As the driver gives it: text.
    return [replace(one, causes=json.loads(one.causes)) if isinstance(one.causes, str) else one for one in found]


@dataclass(frozen=True, slots=True)
class Course:
    """A level over time, in buckets of equal length."""

    since: datetime
    step: float
    """Seconds of a bucket"""
    levels: Sequence[Decimal]
    """At the end of each bucket; the last one is the level now"""
    before: Decimal
    """Before the first"""
    counted: Sequence[int]
    """Buckets in which it was counted"""
    reports: Sequence[tuple[int, str, Decimal]]
    """(bucket, inventory system, the stock that it reported last in it)"""


async def oldest(connection: AsyncConnection, store_id: str, item_id: str, version: int) -> datetime | None:
    """When the oldest row happened that a chart looks at."""
    asked = {"store_id": store_id, "item_id": item_id, "version": version, "most": MAX_CHARTED}
    return await connection.scalar(_OLDEST, asked)


async def read_course(  # noqa: PLR0913 - which level, and how finely
    connection: AsyncConnection,
    store_id: str,
    item_id: str,
    *,
    level: Decimal,
    version: int,
    since: datetime,
    until: datetime,
    buckets: int = MAX_BUCKETS,
) -> Course:
    """The course of a level that is `level` now, after `version` rows, in at most so many buckets.

    Rows are placed where they happened.
    """
    # None is shorter than a second, and the last one ends now.
    length = max((until - since).total_seconds(), 1.0)
    buckets = min(buckets, int(length))
    step = length / buckets
    asked = {
        "store_id": store_id,
        "item_id": item_id,
        "version": version,
        "most": MAX_CHARTED,
        "since": since,
        "step": step,
        "buckets": buckets,
    }
    changes: dict[int, Decimal] = {}
    counted: list[int] = []
    for bucket, change, is_count in await connection.execute(_CHANGES, asked):
        changes[bucket] = change
        if is_count and 0 <= bucket < buckets:
            counted.append(bucket)
    # Backwards from what there is now: what lies after the end has not happened by then.
    level -= changes.get(buckets, Decimal(0))
    levels: list[Decimal] = []
    for bucket in reversed(range(buckets)):
        levels.append(level)
        level -= changes.get(bucket, Decimal(0))
    reports = [(row[0], row[1], row[2]) for row in await connection.execute(_REPORTS, asked)]
    return Course(since, step, levels[::-1], level, counted, reports)
