"""What the pages of operators show: each statement reads a page of rows by an index, and counts up to a limit."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.stock.text import zone_of

PAGE_ROWS = 50
MAX_COUNTED = 10_000
"""Counts go no further, and are shown as "more than"."""

_NUMBERS = text(f"""
SELECT (SELECT count(*) FROM (SELECT FROM pos_sync.stock_level LIMIT {MAX_COUNTED + 1}) AS one),
  (SELECT count(*) FROM (SELECT FROM pos_sync.stock_level WHERE quantity < 0 LIMIT {MAX_COUNTED + 1}) AS one),
  (SELECT count(*) FROM (SELECT FROM pos_sync.refused_delivery WHERE state = 'open' LIMIT {MAX_COUNTED + 1}) AS one),
  (SELECT count(*) FROM (SELECT FROM pos_sync.suspected_duplicate WHERE state = 'open' LIMIT {MAX_COUNTED + 1}) AS one),
  (SELECT count(*) FROM (SELECT FROM pos_sync.outbox_message WHERE state = 'pending' LIMIT {MAX_COUNTED + 1}) AS one),
  (SELECT count(*) FROM (SELECT FROM pos_sync.outbox_message WHERE state = 'dead' LIMIT {MAX_COUNTED + 1}) AS one)
""")  # noqa: S608 - our own numbers only
_PAIRS = text("""
SELECT integration.store_id, integration.inventory_system_id, integration.enabled,
  coalesce(store.timezone, (SELECT timezone FROM pos_sync.service_rule)), known.last_at
FROM pos_sync.integration JOIN pos_sync.store USING (store_id)
LEFT JOIN pos_sync.pair_delivery AS known USING (store_id, inventory_system_id)
ORDER BY 1, 2
""")


@dataclass(frozen=True, slots=True)
class PairStanding:
    """A store and an inventory system, and when it last delivered; None before its first delivery."""

    store_id: str
    inventory_system_id: str
    is_enabled: bool
    timezone: tzinfo
    last_at: datetime | None


@dataclass(frozen=True, slots=True)
class Overview:
    """How much there is of what people look for, each counted up to one more than `MAX_COUNTED`."""

    levels: int
    below_zero: int
    open_refusals: int
    suspected: int
    pending: int
    dead: int
    pairs: Sequence[PairStanding]


async def read_overview(connection: AsyncConnection) -> Overview:
    """The numbers now."""
    pairs = [
        PairStanding(store_id, system, enabled, zone_of(zone), last_at)
        for store_id, system, enabled, zone, last_at in await connection.execute(_PAIRS)
    ]
    return Overview(*(await connection.execute(_NUMBERS)).one(), pairs=pairs)


_SYNCS = text("""
SELECT sync_run_id, store_id, inventory_system_id, state, items, covered, words, actor, started_at, ended_at
FROM pos_sync.sync_run
WHERE (CAST(:store_id AS text) IS NULL OR store_id = :store_id)
  AND (CAST(:system_id AS text) IS NULL OR inventory_system_id = :system_id)
  AND (CAST(:before AS bigint) IS NULL OR sync_run_id < :before)
ORDER BY sync_run_id DESC LIMIT :limit
""")


@dataclass(frozen=True, slots=True)
class ListedSync:
    """A full synchronisation."""

    sync_run_id: int
    store_id: str
    inventory_system_id: str
    state: str
    items: int
    covered: int
    words: str
    actor: str
    started_at: datetime
    ended_at: datetime | None


async def list_syncs(
    connection: AsyncConnection, *, store_id: str | None, system_id: str | None = None, before: int | None, limit: int
) -> list[ListedSync]:
    """The newest first; those before the number `before`."""
    asked = {"store_id": store_id, "system_id": system_id, "before": before, "limit": limit}
    return [ListedSync(*row) for row in await connection.execute(_SYNCS, asked)]


async def count_kept_items(connection: AsyncConnection, store_id: str) -> int:
    """How many items of a store a full synchronisation sends: all that have a level and are not retired."""
    query = text("""
SELECT count(*) FROM pos_sync.item JOIN pos_sync.stock_level USING (store_id, item_id)
WHERE store_id = :store_id AND retired_at IS NULL
""")
    return await connection.scalar(query, {"store_id": store_id}) or 0


_REPLICAS = text("SELECT host, version, head, seen_at FROM pos_sync.replica ORDER BY host, replica_id LIMIT 100")
_LAST_PING = text("SELECT state, words, sent_at FROM pos_sync.ping WHERE state <> 'sent' ORDER BY sent_at DESC LIMIT 1")
_SEALS = text("""
SELECT store_id, number, sealed_at, digest, signature IS NOT NULL FROM (
  SELECT DISTINCT store_id FROM pos_sync.seal_checkpoint
) AS sealed CROSS JOIN LATERAL (
  SELECT number, sealed_at, digest, signature FROM pos_sync.seal_checkpoint AS newest
  WHERE newest.store_id = sealed.store_id ORDER BY number DESC LIMIT 1
) AS newest ORDER BY 1 LIMIT 100
""")
_DATABASE = text("""
SELECT current_setting('server_version'), pg_database_size(current_database()), inet_server_addr()::text, clock_timestamp()
""")


@dataclass(frozen=True, slots=True)
class SystemFacts:
    """How the service and its database stand, as rows of the tables say it."""

    replicas: Sequence[tuple[str, str, str, datetime]]
    """(host, version, schema revision, last seen)"""
    ping: tuple[str, str, datetime] | None
    """(state, words, sent at) of the newest that has ended"""
    seals: Sequence[tuple[str, int, datetime, bytes, bool]]
    """(store, checkpoint, sealed at, digest, is signed)"""
    server: tuple[str, int, str | None, datetime]
    """(version, bytes, address, clock)"""


async def read_system(connection: AsyncConnection) -> SystemFacts:
    """The facts now."""
    ping = (await connection.execute(_LAST_PING)).one_or_none()
    return SystemFacts(
        replicas=[tuple(row) for row in await connection.execute(_REPLICAS)],
        ping=None if ping is None else tuple(ping),
        seals=[tuple(row) for row in await connection.execute(_SEALS)],
        server=tuple((await connection.execute(_DATABASE)).one()),
    )


_BY_REQUEST_ID = text("""
SELECT 'refused', refused_delivery_id FROM pos_sync.refused_delivery WHERE request_id = :text
UNION ALL SELECT 'suspected', suspected_duplicate_id FROM pos_sync.suspected_duplicate WHERE request_id = :text
ORDER BY 1, 2 LIMIT :limit
""")
_BY_NUMBER = text("""
SELECT 'refused', refused_delivery_id FROM pos_sync.refused_delivery WHERE refused_delivery_id = :number
UNION ALL SELECT 'suspected', suspected_duplicate_id FROM pos_sync.suspected_duplicate WHERE suspected_duplicate_id = :number
UNION ALL SELECT 'captured', captured_delivery_id FROM pos_sync.captured_delivery WHERE captured_delivery_id = :number
""")
_BY_KEY = text("""
SELECT m.store_id, m.item_id, m.level_version
FROM unnest(CAST(:stores AS text[]), CAST(:keys AS bytea[])) AS asked (store_id, key)
JOIN pos_sync.stock_movement AS m ON m.store_id = asked.store_id AND m.dedupe_key = asked.key LIMIT :limit
""")


async def find_deliveries(connection: AsyncConnection, words: str, *, limit: int) -> list[tuple[str, int]]:
    """(kind, number) of kept deliveries that came with this request id, or have this number."""
    asked = {"text": words, "limit": limit}
    found = [(row[0], row[1]) for row in await connection.execute(_BY_REQUEST_ID, asked)]
    number = words.removeprefix("#")
    if number.isascii() and number.isdecimal() and len(number) <= len(str(2**63)) - 1:
        found += [(row[0], row[1]) for row in await connection.execute(_BY_NUMBER, {"number": int(number)})]
    return list(dict.fromkeys(found))


async def find_movements(
    connection: AsyncConnection, identities: Sequence[tuple[str, bytes]], *, limit: int
) -> list[tuple[str, str, int]]:
    """(store, item, row) of the ledger rows with one of these (store, identity)."""
    asked = {"stores": [one[0] for one in identities], "keys": [one[1] for one in identities], "limit": limit}
    return [(row[0], row[1], row[2]) for row in await connection.execute(_BY_KEY, asked)]
