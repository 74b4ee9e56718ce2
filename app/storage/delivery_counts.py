"""How many deliveries came, by hour, store, system and outcome; and when each pair delivered last.

Workers count in memory and add here every few seconds, so that the hot path pays for none of it.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

UNVERIFIED = ("missing", "wrong")
"""Outcomes of deliveries that no key of ours has signed; these are counted by the minute."""
UNSETTLED = "unsettled"
MINUTELY = [*UNVERIFIED, UNSETTLED]
KEPT_HOURS = timedelta(days=60)
KEPT_MINUTES = timedelta(days=7)

_ADD = text("""
WITH given AS (
  SELECT date_trunc(CASE WHEN outcome = ANY (CAST(:minutely AS text[])) THEN 'minute' ELSE 'hour' END, now(), 'UTC') AS at,
    store_id, system_id, outcome, deliveries
  FROM unnest(CAST(:stores AS text[]), CAST(:systems AS text[]), CAST(:outcomes AS text[]), CAST(:numbers AS bigint[]))
    AS given (store_id, system_id, outcome, deliveries)
)
INSERT INTO pos_sync.delivery_count AS known (at, store_id, inventory_system_id, outcome, deliveries)
SELECT at, store_id, system_id, outcome, deliveries FROM given ORDER BY store_id, system_id, outcome
ON CONFLICT (at, store_id, inventory_system_id, outcome) DO UPDATE SET deliveries = known.deliveries + excluded.deliveries
""")
_NOTE = text("""
INSERT INTO pos_sync.pair_delivery AS known (store_id, inventory_system_id, first_at, last_at, unsigned, unsigned_at, settled_at)
SELECT store_id, system_id, CASE WHEN is_verified THEN now() END, CASE WHEN is_verified THEN now() END, unsigned,
  CASE WHEN unsigned > 0 THEN now() END, CASE WHEN is_settled THEN now() END
FROM unnest(CAST(:stores AS text[]), CAST(:systems AS text[]), CAST(:verified AS boolean[]), CAST(:unsigned AS bigint[]),
  CAST(:settled AS boolean[])) AS given (store_id, system_id, is_verified, unsigned, is_settled)
ORDER BY store_id, system_id
ON CONFLICT (store_id, inventory_system_id) DO UPDATE SET
  first_at = coalesce(known.first_at, excluded.first_at), last_at = coalesce(excluded.last_at, known.last_at),
  unsigned = CASE WHEN excluded.last_at IS NULL THEN known.unsigned ELSE 0 END + excluded.unsigned,
  unsigned_at = coalesce(excluded.unsigned_at, known.unsigned_at),
  settled_at = coalesce(excluded.settled_at, known.settled_at)
""")

# A statement of its own, since Citus refuses to read a table where it inserts.
_CONNECTED = text("""
SELECT store_id, inventory_system_id FROM pos_sync.integration
JOIN unnest(CAST(:stores AS text[]), CAST(:systems AS text[])) AS given (store_id, inventory_system_id)
  USING (store_id, inventory_system_id)
WHERE enabled
""")


@dataclass(frozen=True, slots=True)
class Key:
    """What is counted together. Both ids are empty where the pair is not known."""

    store_id: str
    inventory_system_id: str
    outcome: str


@dataclass(slots=True)
class Signs:
    """What one worker saw of a store and a system since it last told."""

    is_verified: bool = False
    unsigned: int = 0
    """Wrong signatures, or none, after the last verified delivery"""
    is_settled: bool = False
    """Whether one was answered otherwise than "send it again" """


async def add(connection: AsyncConnection, counts: Mapping[Key, int], signs: Mapping[tuple[str, str], Signs]) -> None:
    """Add what was counted since the last call. Two workers add in the same order, so they cannot deadlock."""
    if counts:
        keys = sorted(counts, key=lambda key: (key.store_id, key.inventory_system_id, key.outcome))
        parameters = {
            "minutely": MINUTELY,
            "stores": [key.store_id for key in keys],
            "systems": [key.inventory_system_id for key in keys],
            "outcomes": [key.outcome for key in keys],
            "numbers": [counts[key] for key in keys],
        }
        await connection.execute(_ADD, parameters)
    if signs:
        asked = {"stores": [store_id for store_id, _ in signs], "systems": [system_id for _, system_id in signs]}
        connected = {(store_id, system_id) for store_id, system_id in await connection.execute(_CONNECTED, asked)}
        # A delivery with a wrong signature may name anything.
        seen = sorted((pair, sign) for pair, sign in signs.items() if sign.is_verified or pair in connected)
        parameters = {
            "stores": [store_id for (store_id, _), _ in seen],
            "systems": [system_id for (_, system_id), _ in seen],
            "verified": [sign.is_verified for _, sign in seen],
            "unsigned": [sign.unsigned for _, sign in seen],
            "settled": [sign.is_settled for _, sign in seen],
        }
        await connection.execute(_NOTE, parameters)


async def read_hours(connection: AsyncConnection, *, since: datetime) -> dict[tuple[str, str], dict[datetime, int]]:
    """Verified deliveries of each (store, system) by hour."""
    query = text(
        "SELECT store_id, inventory_system_id, at, sum(deliveries) FROM pos_sync.delivery_count"
        " WHERE at >= :since AND store_id <> '' AND NOT outcome = ANY (CAST(:minutely AS text[])) GROUP BY 1, 2, 3"
    )
    hours: dict[tuple[str, str], dict[datetime, int]] = defaultdict(dict)
    for store_id, system_id, at, deliveries in await connection.execute(query, {"since": since, "minutely": MINUTELY}):
        hours[store_id, system_id][at] = int(deliveries)
    return hours


async def last_delivery(connection: AsyncConnection) -> datetime | None:
    """When any store and system last sent a verified delivery."""
    return await connection.scalar(text("SELECT max(last_at) FROM pos_sync.pair_delivery"))


@dataclass(frozen=True, slots=True)
class Total:
    """Deliveries of one outcome in a period."""

    outcome: str
    deliveries: int


async def read_totals(connection: AsyncConnection, *, past: timedelta) -> list[Total]:
    """By outcome, the most frequent first; those counted by the hour from the beginning of their hour."""
    query = text(
        "SELECT outcome, sum(deliveries)::bigint FROM pos_sync.delivery_count"
        " WHERE at >= date_trunc('hour', now() - CAST(:past AS interval), 'UTC') GROUP BY outcome ORDER BY 2 DESC, 1"
    )
    return [Total(*row) for row in await connection.execute(query, {"past": past})]


async def forget(connection: AsyncConnection) -> None:
    """Delete what nothing is learnt from any more."""
    query = text(
        "DELETE FROM pos_sync.delivery_count WHERE at < now() - CAST(:hours AS interval)"
        " OR (at < now() - CAST(:minutes AS interval) AND outcome = ANY (CAST(:minutely AS text[])))"
    )
    await connection.execute(query, {"hours": KEPT_HOURS, "minutes": KEPT_MINUTES, "minutely": MINUTELY})
