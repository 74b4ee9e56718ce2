"""One ledger row that a person made: with an occurrence, or with actor and note.

Deliveries go through `storage.movements` and `storage.lone`.
"""

import asyncpg

from app.stock.applying import LedgerEntry

# The level is written before the ledger, as storage.movements does it.
_APPEND = """
WITH level AS (
  INSERT INTO stock_level (store_id, item_id, quantity, version) VALUES ($1, $2, $8, $3)
  ON CONFLICT (store_id, item_id) DO UPDATE
  SET quantity = excluded.quantity, version = excluded.version, updated_at = now()
  RETURNING version
)
INSERT INTO stock_movement (
  store_id, item_id, level_version, source, inventory_system_id, movement_type, quantity, balance_after,
  reported_stock, date_text, sent_text, dedupe_key, occurrence, actor, note
)
SELECT $1, $2, $3, $4, $5, $6, $7::numeric, $8, $9::numeric, $10, $11, $12::bytea, $13::smallint, $14, $15
WHERE (SELECT count(*) FROM level) > 0
"""


async def append(
    connection: asyncpg.Connection,
    entry: LedgerEntry,
    *,
    occurrence: int = 1,
    actor: str | None = None,
    note: str | None = None,
) -> None:
    """Write `entry` and its level. The caller holds the level's lock in its transaction.

    Raises:
        asyncpg.UniqueViolationError: another transaction took the place or the identity first; decide again.
    """
    movement = entry.movement
    await connection.execute(
        _APPEND,
        movement.store_id,
        movement.item_id,
        entry.level_version,
        movement.source.value,
        movement.inventory_system_id,
        int(movement.movement_type),
        movement.quantity,
        entry.balance_after,
        movement.reported_stock,
        movement.date_text,
        movement.sent_text,
        movement.dedupe_key,
        occurrence,
        actor,
        note,
    )
