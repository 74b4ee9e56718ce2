"""What comparing with the inventory systems' reports needs: the newest ledger rows of each level, and what waits.

Cost: for each level that is looked at, one walk of the ledger's primary key over at most `window` rows, in one statement that
is read through a cursor; so the size of the ledger does not matter, the number of levels does. Nothing is locked.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.stock.drift import LevelHistory
from app.stock.reports import LedgerRow
from app.storage.engine import driver_of
from app.storage.tables import integration, matching, refused_delivery, stock_level, suspected_duplicate

PREFETCH = 5000

# LATERAL with LIMIT, so that no plan can join the whole ledger.
_WINDOWS = """
SELECT level.store_id, level.item_id, level.quantity AS level_quantity, newest.*
FROM stock_level AS level
LEFT JOIN LATERAL (
  SELECT level_version, source, inventory_system_id, movement_type, quantity, balance_after, reported_stock, date_text,
    sent_at_text, received_at, note
  FROM stock_movement AS m WHERE m.store_id = level.store_id AND m.item_id = level.item_id
  ORDER BY level_version DESC LIMIT $1
) AS newest ON true
WHERE ($2::text IS NULL OR level.store_id = $2) AND ($3::text IS NULL OR level.item_id = $3)
ORDER BY level.store_id, level.item_id, newest.level_version
"""


@dataclass(frozen=True, slots=True)
class WaitingDelivery:
    """A kept body of a delivery that waits for somebody; `after_version` where its place in the ledger is known."""

    number: int
    store_id: str
    item_id: str
    raw_body: bytes
    seen_at: datetime
    after_version: int | None = None


async def windows(
    connection: AsyncConnection, *, store_id: str | None, item_id: str | None, window: int
) -> AsyncIterator[LevelHistory]:
    """Each level with its newest `window` rows, in order of store and item. Runs in the caller's transaction."""
    await connection.execute(text("SELECT 1"))
    driver = await driver_of(connection)
    key: tuple[str, str] | None = None
    found: LevelHistory | None = None
    async for row in driver.cursor(_WINDOWS, window, store_id, item_id, prefetch=PREFETCH):
        if found is None or key != (row[0], row[1]):
            if found is not None:
                yield found
            key, found = (row[0], row[1]), LevelHistory(row[0], row[1], row[2])
        if row[3] is not None:
            found.rows.append(LedgerRow(*row[3:]))
    if found is not None:
        yield found


async def waiting_refused(connection: AsyncConnection, *, store_id: str | None, item_id: str | None) -> list[WaitingDelivery]:
    """Open refused deliveries about a level that exists, the first of each movement; not what was meant for another POS."""
    kept = refused_delivery.c
    level = (stock_level.c.store_id == kept.store_id) & (stock_level.c.item_id == kept.item_id)
    query = (
        select(kept.refused_delivery_id, kept.store_id, kept.item_id, kept.raw_body, kept.first_seen_at, kept.delivery_key)
        .join(stock_level, level)
        .where(kept.state == "open", kept.reason != "other_pos", *matching(refused_delivery, store_id=store_id, item_id=item_id))
        .order_by(kept.delivery_key, kept.first_seen_at)
    )
    rows = await connection.execute(query)
    return [WaitingDelivery(*next(same)[:5]) for _, same in groupby(rows, key=lambda row: row.delivery_key)]


async def waiting_suspected(connection: AsyncConnection, *, store_id: str | None, item_id: str | None) -> list[WaitingDelivery]:
    """Open suspected duplicates."""
    kept = suspected_duplicate.c
    query = select(
        kept.suspected_duplicate_id, kept.store_id, kept.item_id, kept.raw_body, kept.first_seen_at, kept.after_version
    ).where(*matching(suspected_duplicate, state="open", store_id=store_id, item_id=item_id))
    return [WaitingDelivery(*row) for row in await connection.execute(query)]


async def integrated_systems(connection: AsyncConnection) -> dict[str, list[str]]:
    """store_id -> the inventory systems that it is connected to, switched off ones too."""
    found: dict[str, list[str]] = {}
    for row in await connection.execute(select(integration.c.store_id, integration.c.inventory_system_id)):
        found.setdefault(row.store_id, []).append(row.inventory_system_id)
    return found
