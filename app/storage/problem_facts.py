"""Reads the facts from which problems are judged, every 15 seconds: each statement reads small tables or partial indexes."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.problems.facts import Differing, Facts, LastPing, LastSync, Low, Pair, Queue, Registered, Waiting
from app.problems.silence import LEARNT_WEEKS, Profile, learn
from app.stock.text import zone_of
from app.storage import delivery_counts, syncs
from app.storage.delivery_counts import UNSETTLED
from app.storage.durability import read_standbys
from app.storage.engine import schema_of
from app.storage.mipos_account import STOCK_WEBHOOK, read_registration
from app.storage.transactions import database_now

MAX_LOW = 20
MAX_PINGS, MIN_PING_AGE = 3, timedelta(minutes=15)
"""A ping that is older than so many times its pause, and than this, says nothing any more."""
MIN_ANCHOR_AGE = timedelta(seconds=30)
"""A difference that is younger may be a report and a stock update that crossed."""
HISTORY = timedelta(weeks=2 * LEARNT_WEEKS)

Profiles = Mapping[tuple[str, str], Profile]

_PAIRS = text("""
SELECT integration.store_id, integration.inventory_system_id,
  coalesce(store.timezone, (SELECT timezone FROM pos_sync.service_rule)), store.closed_until, known.first_at, known.last_at,
  coalesce(known.unsigned, 0), known.unsigned_at, known.settled_at
FROM pos_sync.integration JOIN pos_sync.store USING (store_id)
LEFT JOIN pos_sync.pair_delivery AS known USING (store_id, inventory_system_id)
WHERE integration.enabled ORDER BY 1, 2
""")
_REFUSALS = text(
    "SELECT reason, count(*), min(first_seen_at) FROM pos_sync.refused_delivery WHERE state = 'open' GROUP BY reason ORDER BY 1"
)
_FOLDED = text("SELECT reason, count(*) FROM pos_sync.refused_delivery WHERE state = 'folded' GROUP BY reason")
_DUPLICATES = text("SELECT count(*) FROM pos_sync.suspected_duplicate WHERE state = 'open'")
_QUEUES = text("""
SELECT queue.store_id, queue.inventory_system_id, sum(pending)::bigint, min(oldest_at),
  CASE WHEN sum(pending) = 0 THEN NULL WHEN NOT bool_and(coalesce(integration.enabled, false)) THEN 'the integration is disabled'
    WHEN bool_or(store.mipos_store_id IS NULL) THEN 'the store has no mipOS id' ELSE max(why) END,
  sum(dead)::bigint, max(dead_words)
FROM (
  SELECT store_id, inventory_system_id, count(*) AS pending, min(created_at) AS oldest_at,
    (array_agg(words ORDER BY created_at))[1] AS why, 0 AS dead, NULL AS dead_words
  FROM pos_sync.outbox_message WHERE state = 'pending' GROUP BY 1, 2
  UNION ALL
  SELECT store_id, inventory_system_id, 0, NULL, NULL, count(*), (array_agg(words ORDER BY outbox_message_id DESC))[1]
  FROM pos_sync.outbox_message WHERE state = 'dead' GROUP BY 1, 2
) AS queue
LEFT JOIN pos_sync.integration USING (store_id, inventory_system_id)
LEFT JOIN pos_sync.store ON store.store_id = queue.store_id
GROUP BY 1, 2 ORDER BY 1, 2
""")
_DRIFT = text("""
SELECT store_id, cause.key, count(*), sum(abs(cause.value::numeric)) FROM pos_sync.system_level
CROSS JOIN LATERAL jsonb_each_text(causes) AS cause
WHERE drift <> 0 AND cause.value::numeric <> 0 AND NOT is_unsettled
  AND (anchored_at IS NULL OR anchored_at < now() - CAST(:min_age AS interval))
GROUP BY store_id, cause.key ORDER BY 1, 2
""")
_PING = text("""
SELECT state, words, coalesce(answered_at, sent_at), EXISTS (SELECT FROM pos_sync.ping WHERE state = 'returned' AND url = :url)
FROM pos_sync.ping WHERE state <> 'sent' AND url = :url AND sent_at > now() - CAST(:max_age AS interval)
ORDER BY sent_at DESC LIMIT 1
""")
_LOW = text("""
SELECT item.store_id, item.item_id, level.quantity, item.low_stock, unit.short_name, count(*) OVER ()
FROM pos_sync.item JOIN pos_sync.stock_level AS level USING (store_id, item_id)
JOIN pos_sync.unit ON unit.store_id = item.store_id AND unit.unit_id = item.consumption_unit_id
WHERE item.low_stock IS NOT NULL AND item.retired_at IS NULL AND level.quantity < item.low_stock
ORDER BY 1, 2 LIMIT :limit
""")
_UNSETTLED = text(
    "SELECT coalesce(sum(deliveries), 0)::bigint FROM pos_sync.delivery_count"
    " WHERE outcome = :unsettled AND at >= now() - interval '5 minutes'"
)
_TABLES = text(
    "SELECT c.relname::text, pg_total_relation_size(c.oid) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
    " WHERE n.nspname = :schema AND c.relkind IN ('r', 'p')"
)
_SIZE = text("SELECT pg_database_size(current_database())")
_SLOTS = text(
    "SELECT slot_name::text FROM pg_replication_slots WHERE NOT active AND (database IS NULL OR database = current_database())"
)


async def learn_profiles(connection: AsyncConnection) -> Profiles:
    """What each pair usually sends, by its store's time zone. Costs more than the rest, and changes slowly."""
    now = await database_now(connection)
    hours = await delivery_counts.read_hours(connection, since=now - HISTORY)
    zones = {(row[0], row[1]): zone_of(row[2]) for row in await connection.execute(_PAIRS)}
    return {pair: learn(hours.get(pair, {}), zone=zone, now=now) for pair, zone in zones.items()}


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the settings of the one who looks say."""

    is_registering: bool
    """Whether this service has what it needs to register itself"""
    public_url: str | None
    ping_every: timedelta
    disk_bytes: int | None


async def read_facts(connection: AsyncConnection, profiles: Profiles, own: Circumstances) -> Facts:
    """All facts now."""
    low = (await connection.execute(_LOW, {"limit": MAX_LOW})).all()
    asked = {"url": own.public_url, "max_age": max(MAX_PINGS * own.ping_every, MIN_PING_AGE)}
    ping = (await connection.execute(_PING, asked)).one_or_none()
    registration = await read_registration(connection, STOCK_WEBHOOK)
    folded = {row[0]: int(row[1]) for row in await connection.execute(_FOLDED)}
    unknown = Profile((0.0,) * 168, 0.0, 0)
    return Facts(
        now=await database_now(connection),
        pairs=[
            Pair(
                store_id,
                system,
                zone_of(zone),
                closed_until,
                first_at,
                last_at,
                profiles.get((store_id, system), unknown),
                *wrong,
            )
            for store_id, system, zone, closed_until, first_at, last_at, *wrong in await connection.execute(_PAIRS)
        ],
        unsettled=await connection.scalar(_UNSETTLED, {"unsettled": UNSETTLED}) or 0,
        refusals=[Waiting(*row, folded=folded.get(row[0], 0)) for row in await connection.execute(_REFUSALS)],
        duplicates=await connection.scalar(_DUPLICATES) or 0,
        queues=[Queue(*row) for row in await connection.execute(_QUEUES)],
        drift=[Differing(*row) for row in await connection.execute(_DRIFT, {"min_age": MIN_ANCHOR_AGE})],
        syncs=[
            LastSync(
                run.store_id, run.inventory_system_id, run.state is syncs.State.DONE, run.started_at, run.ended_at, run.words
            )
            for run in await syncs.list_last_runs(connection, enabled_only=True)
            if not run.is_held
        ],
        registration=Registered(
            is_wanted=own.is_registering,
            state=None if registration is None else registration.state.value,
            words="" if registration is None else registration.words,
            attempted_at=None if registration is None else registration.attempted_at,
            registered_at=None if registration is None else registration.registered_at,
            renewals=0 if registration is None else registration.renewals,
            attempts=0 if registration is None else registration.attempts,
        ),
        ping=None if ping is None else LastPing(*ping),
        database_bytes=await connection.scalar(_SIZE) or 0,
        disk_bytes=own.disk_bytes,
        idle_slots=list(await connection.scalars(_SLOTS)),
        durability=(await read_standbys(connection)).fault,
        low=[Low(*row[:5]) for row in low],
        low_number=low[0][5] if low else 0,
        folded=sum(folded.values()),
    )


@dataclass(frozen=True, slots=True)
class Numbers:
    """What the metrics show beside problems; the same for every replica."""

    last_delivery_at: datetime | None
    registered_at: datetime | None
    refusals: int
    duplicates: int
    database_bytes: int
    table_bytes: Mapping[str, int]
    """Each of our tables with its indexes"""


async def read_numbers(connection: AsyncConnection) -> Numbers:
    """Read them now."""
    registration = await read_registration(connection, STOCK_WEBHOOK)
    sizes = await connection.execute(_TABLES, {"schema": schema_of(connection)})
    return Numbers(
        last_delivery_at=await delivery_counts.last_delivery(connection),
        registered_at=None if registration is None else registration.registered_at,
        refusals=sum(row[1] for row in await connection.execute(_REFUSALS)),
        duplicates=await connection.scalar(_DUPLICATES) or 0,
        database_bytes=await connection.scalar(_SIZE) or 0,
        table_bytes={str(name): int(size) for name, size in sizes},
    )
