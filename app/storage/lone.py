"""One movement by one statement: the shortest way for what is plainly right, and no way for anything else.

A delivery that comes alone waits for each message to the database. So this one statement looks, changes the level under its
row's lock, and writes the ledger row, in a transaction of its own. It only ever **applies**. What `stock.applying.decide`
does not apply, and what takes more to decide (the first of a level, one that was refused before, below zero in a store that
refuses that), leaves everything as it was, and is for the caller to decide on what it reads.
"""

import asyncpg

from app.stock.applying import LedgerEntry, NegativeStock
from app.stock.movement import Movement, Source
from app.stock.quantity import to_plain

# A level refers to its store and its item, so where there is one, there are both. Everything but the level is looked at as it
# was when the statement began: a copy that waited here for its original collides with it in the ledger's unique keys, and a
# refusal that another session is just recording stays open until the movement is sent, or replayed, once more.
_APPLY = """
WITH level AS (
  UPDATE stock_level
  SET quantity = quantity + $5::text::numeric, version = version + 1, updated_at = now()
  WHERE store_id = $1 AND item_id = $2
    AND abs(quantity + $5::text::numeric) < 1e15
    AND (
      quantity + $5::text::numeric >= 0
      OR EXISTS (SELECT FROM store WHERE store.store_id = $1 AND coalesce(store.negative_stock, $6) = 'allow')
    )
    AND (
      $3::text IS NULL
      OR EXISTS (SELECT FROM integration AS i WHERE i.store_id = $1 AND i.inventory_system_id = $3 AND i.enabled)
    )
    AND NOT EXISTS (SELECT FROM stock_movement AS known WHERE known.store_id = $1 AND known.dedupe_key = $4)
    AND NOT EXISTS (SELECT FROM refused_delivery AS refused WHERE refused.fingerprint = $4 AND refused.state = 'open')
  RETURNING quantity, version
)
INSERT INTO stock_movement (
  store_id, item_id, level_version, source, inventory_system_id, movement_type, quantity, balance_after,
  reported_stock, date_text, sent_text, dedupe_key
)
SELECT $1, $2, level.version, $7, $3, $8::text::smallint, $9::text::numeric, level.quantity, $10::text::numeric, $11, $12, $4
FROM level
RETURNING level_version, balance_after
"""


async def apply_plain(
    connection: asyncpg.Connection, movement: Movement, *, default_negative_stock: NegativeStock
) -> LedgerEntry | None:
    """Apply `movement` if that is plainly right, and commit; its entry, or None: nothing was changed, and nothing decided.

    Raises:
        asyncpg.UniqueViolationError: a copy of it was applied meanwhile; decide it anew.
        asyncpg.LockNotAvailableError: another session holds the level for longer than the lock timeout.
    """
    assert movement.dedupe_key is not None, "what cannot arrive twice does not come this way"
    assert movement.source is not Source.POS_COUNT, "what a count comes to depends on the level"
    rows = await connection.fetch(
        _APPLY,
        movement.store_id,
        movement.item_id,
        movement.inventory_system_id,
        movement.dedupe_key,
        to_plain(movement.delta),
        default_negative_stock.value,
        movement.source.value,
        str(int(movement.movement_type)),
        to_plain(movement.quantity),
        None if movement.reported_stock is None else to_plain(movement.reported_stock),
        movement.date_text,
        movement.sent_text,
    )
    if not rows:
        return None
    (level_version, balance_after) = rows[0]
    return LedgerEntry(movement, level_version, balance_after)
