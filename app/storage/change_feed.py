"""The change feed: every committed row of the ledger gets a place in the order in which it is told, once.

A place is given after the commit, by one process at a time, level by level along the versions, which have no gap. So a reader
that goes on from the last place that it has seen misses nothing and sees nothing twice, whatever transactions were open.
"""

from dataclasses import dataclass

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.ledger_rows import LISTED, LedgerRow
from app.storage.mipos_tables import change_feed, change_feed_state
from app.storage.transactions import database_now

MAX_NUMBERED = 10_000
"""Rows in a transaction"""
MAX_SWEPT = 100
"""Levels in a transaction of the sweep, and rows of each: where very much has no place, each row is read once."""
MAX_LOCK_WAIT = "3s"

# Rows are looked for among the newest. One whose transaction stayed open for longer is found by the sweep, which compares
# every level with what has a place.
_RECENT = """
SELECT DISTINCT store_id, item_id FROM pos_sync.stock_movement
WHERE received_at > (SELECT numbered_at FROM pos_sync.change_feed_state) - interval '10 seconds'
"""
_ALL = """
SELECT level.store_id, level.item_id FROM pos_sync.stock_level AS level
LEFT JOIN pos_sync.change_feed_level AS told USING (store_id, item_id) WHERE level.version > coalesce(told.level_version, 0)
ORDER BY level.store_id, level.item_id LIMIT :levels
"""
# Read and written by a statement each, since Citus refuses to write in a WITH, and to read a table where it inserts.
_READ_FRESH = """
SELECT untold.store_id, untold.item_id, untold.level_version
FROM (
  -- A version never comes before a lower one, also where an old row has an older time.
  SELECT untold.*,
    max(untold.received_at) OVER (PARTITION BY untold.store_id, untold.item_id ORDER BY untold.level_version) AS told_by
  FROM ({levels}) AS level
  LEFT JOIN pos_sync.change_feed_level AS told USING (store_id, item_id)
  CROSS JOIN LATERAL (
    SELECT m.store_id, m.item_id, m.level_version, m.received_at FROM pos_sync.stock_movement AS m
    WHERE m.store_id = level.store_id AND m.item_id = level.item_id AND m.level_version > coalesce(told.level_version, 0)
    ORDER BY m.level_version LIMIT :of_level
  ) AS untold
) AS untold
ORDER BY untold.told_by, untold.store_id, untold.item_id, untold.level_version LIMIT :limit
"""
_ROWS = "unnest(CAST(:stores AS text[]), CAST(:items AS text[]), CAST(:versions AS bigint[]))"
_GIVE = f"""
INSERT INTO pos_sync.change_feed (store_id, position, item_id, level_version)
SELECT store_id, CAST(:position AS bigint) + place, item_id, level_version
FROM {_ROWS} WITH ORDINALITY AS fresh (store_id, item_id, level_version, place)
"""  # noqa: S608
_NOTE_LEVELS = f"""
INSERT INTO pos_sync.change_feed_level (store_id, item_id, level_version)
SELECT store_id, item_id, max(level_version)
FROM {_ROWS} AS fresh (store_id, item_id, level_version) GROUP BY store_id, item_id ORDER BY store_id, item_id
ON CONFLICT (store_id, item_id) DO UPDATE SET level_version = excluded.level_version
"""  # noqa: S608
SWEEP = "interval '1 minute'"


async def switch_on(connection: AsyncConnection) -> None:
    """Let places be given from now on, also to all rows that are there. Without effect where it is on."""
    await connection.execute(insert(change_feed_state).values(is_only=True).on_conflict_do_nothing())


async def number(connection: AsyncConnection, *, waits: bool = False) -> bool:
    """Give places to rows that have none; True where there may be more. Effective with the caller's commit.

    What the sweep finds, such as all rows from before the feed was first read, gets its places level by level. Nothing is done
    where the feed is not switched on, or another process is at it; with `waits`, that one's batch is waited for.
    """
    # The row is locked by who gives places. No advisory lock, which any role that may connect could hold.
    due = f"SELECT swept_at IS NULL OR swept_at < now() - {SWEEP}, position FROM pos_sync.change_feed_state FOR UPDATE"  # noqa: S608
    if waits:
        await connection.execute(text(f"SET LOCAL lock_timeout = '{MAX_LOCK_WAIT}'"))
    state = (await connection.execute(text(due if waits else f"{due} SKIP LOCKED"))).one_or_none()
    if state is None:
        return False
    is_sweep, position = state
    full = 1 if is_sweep else MAX_NUMBERED
    # The time before what is looked at. As a parameter: Citus takes no function of the clock beside columns.
    now = await database_now(connection)
    asked = {"limit": MAX_NUMBERED, "of_level": MAX_SWEPT if is_sweep else MAX_NUMBERED}
    if is_sweep:
        asked["levels"] = MAX_SWEPT
    levels = _ALL if is_sweep else _RECENT
    fresh = (await connection.execute(text(_READ_FRESH.replace("{levels}", levels)), asked)).all()
    if fresh:
        stores, items, versions = (list(column) for column in zip(*fresh, strict=True))
        rows = {"stores": stores, "items": items, "versions": versions}
        await connection.execute(text(_GIVE), {**rows, "position": position})
        await connection.execute(text(_NOTE_LEVELS), rows)
    changed: dict[str, object] = {"position": position + len(fresh)}
    if len(fresh) < full:
        changed["numbered_at"] = now
        if is_sweep:
            changed["swept_at"] = now
    await connection.execute(update(change_feed_state).values(changed))
    return len(fresh) >= full


@dataclass(frozen=True, slots=True)
class FeedState:
    """The last place that was given, and how far behind the ledger it may be."""

    position: int
    lag_seconds: float | None


async def read_state(connection: AsyncConnection) -> FeedState | None:
    """None where it is not switched on."""
    lag = func.extract("epoch", func.clock_timestamp() - change_feed_state.c.numbered_at)
    row = (await connection.execute(select(change_feed_state.c.position, lag))).one_or_none()
    return None if row is None else FeedState(row[0], None if row[1] is None else max(0.0, float(row[1])))


async def last_position(connection: AsyncConnection, store_id: str) -> int:
    """The newest place of a store's rows; 0 where none has one."""
    newest = select(func.max(change_feed.c.position)).where(change_feed.c.store_id == store_id)
    return await connection.scalar(newest) or 0


async def first_position(connection: AsyncConnection, store_id: str) -> int:
    """The oldest place of a store's rows; 0 where none has one. A cursor that is lower is of an epoch before a restore."""
    oldest = select(func.min(change_feed.c.position)).where(change_feed.c.store_id == store_id)
    return await connection.scalar(oldest) or 0


_READ = f"""
SELECT feed.position, row.*
FROM (
  SELECT position, item_id, level_version FROM pos_sync.change_feed WHERE store_id = :store_id AND position > :after
  ORDER BY position LIMIT :limit
) AS feed
CROSS JOIN LATERAL (
  SELECT {LISTED} FROM pos_sync.stock_movement AS m
  WHERE m.store_id = :store_id AND m.item_id = feed.item_id AND m.level_version = feed.level_version
) AS row
ORDER BY feed.position
"""  # noqa: S608


async def read_changes(connection: AsyncConnection, store_id: str, *, after: int, limit: int) -> list[tuple[int, LedgerRow]]:
    """Up to `limit` rows of a store behind the place `after`, with their places, in their order."""
    asked = {"store_id": store_id, "after": after, "limit": limit}
    return [(row[0], LedgerRow(*row[1:])) for row in await connection.execute(text(_READ), asked)]
