"""Stock levels, for looking; and the invariants that tie them to their ledger."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.tables import item, stock_level

INVARIANTS = {
    "a level differs from the sum of its ledger": """
        SELECT count(*) FROM stock_level AS level
        LEFT JOIN LATERAL (
          SELECT coalesce(sum(delta), 0) AS total FROM stock_movement AS m
          WHERE m.store_id = level.store_id AND m.item_id = level.item_id
        ) AS ledger ON true
        WHERE level.quantity <> ledger.total
    """,
    "a balance does not follow from the one before it": """
        SELECT count(*) FROM (
          SELECT balance_after - delta AS before,
            coalesce(lag(balance_after) OVER (PARTITION BY store_id, item_id ORDER BY level_version), 0) AS expected
          FROM stock_movement
        ) AS chain WHERE before <> expected
    """,
    "a ledger row has no level": """
        SELECT count(*) FROM (SELECT DISTINCT store_id, item_id FROM stock_movement) AS moved
        WHERE NOT EXISTS (
          SELECT FROM stock_level AS level WHERE level.store_id = moved.store_id AND level.item_id = moved.item_id
        )
    """,
    "a ledger has a gap, or a level another version than its last row": """
        SELECT count(*) FROM stock_level AS level
        LEFT JOIN LATERAL (
          SELECT count(*) AS rows, coalesce(max(level_version), 0) AS newest FROM stock_movement AS m
          WHERE m.store_id = level.store_id AND m.item_id = level.item_id
        ) AS ledger ON true
        WHERE level.version <> ledger.rows OR level.version <> ledger.newest
    """,
}
"""What must never be: each a sentence, and a count of where it is so."""


@dataclass(frozen=True, slots=True)
class StockedItem:
    """An item's stock in one store."""

    store_id: str
    item_id: str
    name: str
    quantity: Decimal
    version: int
    updated_at: datetime


async def list_levels(
    connection: AsyncConnection,
    *,
    store_id: str | None = None,
    item_id: str | None = None,
    after: str | None = None,
    limit: int | None = None,
) -> list[StockedItem]:
    """The levels, of one store or item where named, in order of store and item; from behind the item `after` on."""
    query = (
        select(
            stock_level.c.store_id,
            stock_level.c.item_id,
            item.c.name,
            stock_level.c.quantity,
            stock_level.c.version,
            stock_level.c.updated_at,
        )
        .join(item, item.c.item_id == stock_level.c.item_id)
        .order_by(stock_level.c.store_id, stock_level.c.item_id)
    )
    if store_id is not None:
        query = query.where(stock_level.c.store_id == store_id)
    if item_id is not None:
        query = query.where(stock_level.c.item_id == item_id)
    if after is not None:
        query = query.where(stock_level.c.item_id > after)
    if limit is not None:
        query = query.limit(limit)
    return [StockedItem(*row) for row in await connection.execute(query)]


async def lock_level(connection: AsyncConnection, store_id: str, item_id: str) -> Decimal:
    """Lock a level until the caller's transaction ends, and return its quantity; 0 where nothing was ever stocked."""
    query = select(stock_level.c.quantity).where(stock_level.c.store_id == store_id, stock_level.c.item_id == item_id)
    return await connection.scalar(query.with_for_update(key_share=True)) or Decimal(0)


async def broken_invariants(connection: AsyncConnection) -> dict[str, int]:
    """The invariants that do not hold, and in how many places; empty when all is well."""
    counts = {name: await connection.scalar(text(query)) for name, query in INVARIANTS.items()}
    return {name: count for name, count in counts.items() if count}
