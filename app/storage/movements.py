"""The ledger and the levels: what a batch has to know before it is decided, and the rows that it comes to.

Both run on the driver's own connection, in the caller's transaction where there is one: this is the hot path, so each is one
statement for a whole batch. What a delivery that is alone needs is in `storage.lone`.
"""

from collections.abc import Mapping, Sequence
from enum import Enum, auto

import asyncpg

from app.stock.applying import Knowledge, LedgerEntry, Level, LevelKey, NegativeStock
from app.stock.movement import Movement, MovementType
from app.stock.quantity import to_plain

# Locks are taken in key order (that of Python's texts, in which `write` sorts), so that two batches never wait for each other
# in a circle. The look-up of identities is one index probe a row (LATERAL with LIMIT): joined in bulk, the planner may turn it
# into a scan of the whole ledger.
#
# Hazard: having waited for a lock, Postgres reads that level anew, but identities as they were when the statement began. So
# a copy that waited for its original sees the new level and not the identity. Applied, it collides with the ledger's unique
# keys, and the batch is run again; refused, it has to be looked up once more (receiving.writing does).
_READ_KNOWLEDGE = """
{with_level}
SELECT
  asked.position,
  store.store_id IS NOT NULL AS has_store,
  store.negative_stock,
  item.item_id IS NOT NULL AS has_item,
  integration.enabled,
  level.quantity,
  level.version,
  known.found IS NOT NULL AS is_known,
  refused.found IS NOT NULL AS is_refused,
  {is_busy} AS is_busy
FROM {asked}
LEFT JOIN store ON store.store_id = asked.store_id
LEFT JOIN item ON item.item_id = asked.item_id
LEFT JOIN integration ON integration.store_id = asked.store_id AND integration.inventory_system_id = asked.inventory_system_id
LEFT JOIN {level} AS level ON level.store_id = asked.store_id AND level.item_id = asked.item_id
LEFT JOIN LATERAL (
  SELECT 1 AS found FROM stock_movement
  WHERE stock_movement.store_id = asked.store_id AND stock_movement.dedupe_key = asked.dedupe_key
  LIMIT 1
) AS known ON true
LEFT JOIN LATERAL (
  SELECT 1 AS found FROM refused_delivery
  WHERE refused_delivery.fingerprint = asked.dedupe_key AND refused_delivery.state = 'open'
  LIMIT 1
) AS refused ON true
"""
_ASKED = """unnest($1::text[], $2::text[], $3::text[], $4::bytea[])
  WITH ORDINALITY AS asked (store_id, item_id, inventory_system_id, dedupe_key, position)"""
_WITH_LOCKED_LEVEL = """
WITH asked AS (
  SELECT * FROM {asked}
), locked AS MATERIALIZED (
  SELECT level.store_id, level.item_id, level.quantity, level.version
  FROM stock_level AS level
  JOIN (SELECT DISTINCT store_id, item_id FROM asked) AS wanted USING (store_id, item_id)
  ORDER BY level.store_id COLLATE "C", level.item_id COLLATE "C"
  {lock}
)
"""


class Locking(Enum):
    """What reading does to the levels that it reads."""

    NONE = auto()
    """Nothing: they may change at once. What is written then has to be refused by the ledger's keys."""
    WAIT = auto()
    """Lock them, and wait for those that others hold."""
    SKIP = auto()
    """Lock them, but for those that others hold."""


def _read_under(lock: str, *, is_busy: str = "false") -> str:
    with_level = _WITH_LOCKED_LEVEL.format(asked=_ASKED, lock=lock)
    return _READ_KNOWLEDGE.format(with_level=with_level, asked="asked", level="locked", is_busy=is_busy)


_READ = {
    Locking.NONE: _READ_KNOWLEDGE.format(with_level="", asked=_ASKED, level="stock_level", is_busy="false"),
    Locking.WAIT: _read_under("FOR NO KEY UPDATE OF level"),
    Locking.SKIP: _read_under(
        "FOR NO KEY UPDATE OF level SKIP LOCKED",
        is_busy="level.version IS NULL AND EXISTS (SELECT FROM stock_level AS held"
        " WHERE held.store_id = asked.store_id AND held.item_id = asked.item_id)",
    ),
}

# Numbers travel as text, which the driver writes much faster than arrays of numbers. The levels are written before the ledger
# (the last line sees to it): whoever writes takes the locks of the levels first, so that one who has read without locks waits
# there, and not in a circle with one who holds them.
_WRITE = """
WITH level AS (
  INSERT INTO stock_level (store_id, item_id, quantity, version)
  SELECT store_id, item_id, quantity::numeric, version::bigint
  FROM unnest($13::text[], $14::text[], $15::text[], $16::text[]) AS changed (store_id, item_id, quantity, version)
  ON CONFLICT (store_id, item_id) DO UPDATE
  SET quantity = excluded.quantity, version = excluded.version, updated_at = now()
  RETURNING version
)
INSERT INTO stock_movement (
  store_id, item_id, level_version, source, inventory_system_id, movement_type, quantity, balance_after,
  reported_stock, date_text, sent_text, dedupe_key
)
SELECT
  entry.store_id, entry.item_id, entry.level_version::bigint, entry.source, entry.inventory_system_id,
  entry.movement_type::smallint, entry.quantity::numeric, entry.balance_after::numeric, entry.reported_stock::numeric,
  entry.date_text, entry.sent_text, entry.dedupe_key
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
  $9::text[], $10::text[], $11::text[], $12::bytea[]) AS entry (
  store_id, item_id, level_version, source, inventory_system_id, movement_type, quantity, balance_after,
  reported_stock, date_text, sent_text, dedupe_key
)
WHERE (SELECT count(*) FROM level) > 0
"""

_TYPES = {movement_type: str(int(movement_type)) for movement_type in MovementType}


async def read_knowledge(
    connection: asyncpg.Connection,
    movements: Sequence[Movement],
    *,
    default_negative_stock: NegativeStock,
    locking: Locking = Locking.WAIT,
) -> Knowledge:
    """Lock the levels that `movements` touch and read all that deciding them needs.

    The locks last until the caller's transaction ends. A level that does not exist yet cannot be locked: two transactions
    that start it at once collide on the ledger's keys, and one of them fails with a unique violation. With `Locking.SKIP`
    it does not wait for levels that others hold, and names them in `busy`.

    Raises:
        asyncpg.LockNotAvailableError: another session holds a level for longer than the lock timeout.
    """
    columns = [
        [movement.store_id for movement in movements],
        [movement.item_id for movement in movements],
        [movement.inventory_system_id for movement in movements],
        [movement.dedupe_key for movement in movements],
    ]
    rows = await connection.fetch(_READ[locking], *columns)
    stores: dict[str, NegativeStock] = {}
    items: set[str] = set()
    integrations: dict[tuple[str, str], bool] = {}
    levels: dict[LevelKey, Level] = {}
    identities: set[tuple[str, bytes]] = set()
    refused: set[bytes] = set()
    busy: set[LevelKey] = set()
    for position, has_store, negative_stock, has_item, enabled, quantity, version, is_known, is_refused, is_busy in rows:
        movement = movements[position - 1]
        store_id = movement.store_id
        if has_store:
            stores[store_id] = default_negative_stock if negative_stock is None else NegativeStock(negative_stock)
        if has_item:
            items.add(movement.item_id)
        if enabled is not None and movement.inventory_system_id is not None:
            integrations[store_id, movement.inventory_system_id] = enabled
        if version is not None:
            levels[movement.key] = Level(quantity, version)
        if is_known and movement.dedupe_key is not None:
            identities.add((store_id, movement.dedupe_key))
        if is_refused and movement.dedupe_key is not None:
            refused.add(movement.dedupe_key)
        if is_busy:
            busy.add(movement.key)
    return Knowledge(
        stores=stores,
        items=items,
        integrations=integrations,
        levels=levels,
        identities=identities,
        refused=refused,
        busy=busy,
    )


async def write(connection: asyncpg.Connection, entries: Sequence[LedgerEntry], levels: Mapping[LevelKey, Level]) -> None:
    """Write ledger rows and levels.

    Raises:
        asyncpg.UniqueViolationError: another transaction took a place or an identity first; decide the batch again.
    """
    # Both in key order: two sessions that write the same keys without locks must not wait for each other in a circle.
    entries = sorted(entries, key=_place)
    movements = [entry.movement for entry in entries]
    changed = sorted(levels.items())
    columns = [
        [movement.store_id for movement in movements],
        [movement.item_id for movement in movements],
        [str(entry.level_version) for entry in entries],
        [movement.source.value for movement in movements],
        [movement.inventory_system_id for movement in movements],
        [_TYPES[movement.movement_type] for movement in movements],
        [to_plain(movement.quantity) for movement in movements],
        [to_plain(entry.balance_after) for entry in entries],
        [None if m.reported_stock is None else to_plain(m.reported_stock) for m in movements],
        [movement.date_text for movement in movements],
        [movement.sent_text for movement in movements],
        [movement.dedupe_key for movement in movements],
        [store_id for (store_id, _), _ in changed],
        [item_id for (_, item_id), _ in changed],
        [to_plain(level.quantity) for _, level in changed],
        [str(level.version) for _, level in changed],
    ]
    await connection.execute(_WRITE, *columns)


def _place(entry: LedgerEntry) -> tuple[str, str, int]:
    return entry.movement.store_id, entry.movement.item_id, entry.level_version
