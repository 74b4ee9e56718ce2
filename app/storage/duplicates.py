"""Suspected duplicates: what the ledger holds of an identity, and the deliveries that may be movements of their own."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import asyncpg
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.stock.duplicates import LaterReport, Trace
from app.stock.movement import Movement
from app.stock.quantity import ZERO, to_plain
from app.stock.rules import ReportedStock
from app.storage.delivery_tables import suspected_duplicate
from app.storage.filters import is_among, matching

# Cost: one probe by identity and one walk of the level's newest rows, which ends at the system's first row or at the original;
# and the same among the suspected duplicates, of which there are few. One that waits is a report too: what comes after it
# continues from it, and it counts as an occurrence.
_READ_TRACES = """
SELECT (SELECT reported_stock FROM pos_sync.service_rule) AS reading, original.occurrences + coalesce(waiting.occurrences, 0),
  original.sent_at_texts || waiting.sent_at_texts,
  CASE WHEN last.after_version >= coalesce(later.level_version, 0) THEN last.after_version ELSE later.level_version END,
  CASE WHEN last.after_version >= coalesce(later.level_version, 0) THEN last.reported_stock ELSE later.reported_stock END,
  CASE WHEN last.after_version >= coalesce(later.level_version, 0) THEN last.delta ELSE later.delta END,
  CASE WHEN last.after_version >= coalesce(later.level_version, 0) THEN last.suspected_duplicate_id END,
  CASE WHEN last.after_version >= coalesce(later.level_version, 0) THEN last.same_occurrence END,
  waiting.dismissed_versions, waiting.dismissed_ids, coalesce(connected.repeated_dates = 'apply', false)
FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[])
  WITH ORDINALITY AS asked (store_id, item_id, inventory_system_id, dedupe_key, position)
LEFT JOIN pos_sync.integration AS connected
  ON connected.store_id = asked.store_id AND connected.inventory_system_id = asked.inventory_system_id
CROSS JOIN LATERAL (
  SELECT count(*) AS occurrences, array_agg(sent_at_text) AS sent_at_texts, max(level_version) AS newest
  FROM pos_sync.stock_movement AS m WHERE m.store_id = asked.store_id AND m.dedupe_key = asked.dedupe_key
) AS original
LEFT JOIN LATERAL (
  SELECT m.level_version, m.reported_stock, m.delta FROM pos_sync.stock_movement AS m
  WHERE m.store_id = asked.store_id AND m.item_id = asked.item_id AND m.level_version > original.newest
    AND m.inventory_system_id = asked.inventory_system_id AND m.reported_stock IS NOT NULL
  ORDER BY m.level_version DESC LIMIT 1
) AS later ON true
CROSS JOIN LATERAL (
  SELECT count(*) FILTER (WHERE s.state <> 'applied') AS occurrences, array_agg(s.sent_at_text) AS sent_at_texts,
    array_agg(s.after_version) FILTER (WHERE s.state = 'dismissed') AS dismissed_versions,
    array_agg(s.follows_id) FILTER (WHERE s.state = 'dismissed') AS dismissed_ids
  FROM pos_sync.suspected_duplicate AS s
  WHERE s.store_id = asked.store_id AND s.dedupe_key = asked.dedupe_key AND s.reason = 'repeated'
) AS waiting
LEFT JOIN LATERAL (
  SELECT s.after_version, s.reported_stock, s.delta, s.suspected_duplicate_id,
    CASE WHEN s.dedupe_key = asked.dedupe_key THEN s.occurrence END AS same_occurrence
  FROM pos_sync.suspected_duplicate AS s
  WHERE s.store_id = asked.store_id AND s.item_id = asked.item_id AND s.inventory_system_id = asked.inventory_system_id
    AND s.reason = 'repeated' AND s.state = 'open' AND s.after_version >= original.newest
  ORDER BY s.suspected_duplicate_id DESC LIMIT 1
) AS last ON true
ORDER BY asked.position
"""

_RECORD = """
INSERT INTO pos_sync.suspected_duplicate AS suspected (
  store_id, dedupe_key, occurrence, item_id, inventory_system_id, reason, after_version, reported_stock, delta, follows_id,
  sent_at_text, raw_body, attempts, request_id
)
SELECT * FROM unnest(
  $1::text[], $2::bytea[], $3::smallint[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::text[]::numeric[],
  $9::text[]::numeric[], $10::bigint[], $11::text[], $12::bytea[], $13::integer[], $14::text[]
)
ON CONFLICT (store_id, dedupe_key, occurrence) DO UPDATE SET
  attempts = suspected.attempts + excluded.attempts,
  sent_at_text = excluded.sent_at_text,
  raw_body = excluded.raw_body,
  pruned_at = NULL,
  request_id = excluded.request_id,
  last_seen_at = excluded.last_seen_at
"""


class Suspicion(StrEnum):
    """Why a person should look at a delivery."""

    REPEATED = "repeated"
    """Not applied: it equals an applied movement, and its stock follows from the last report."""
    ECHO = "echo"
    """Not applied: it equals a stock update that we sent to this system."""
    BEFORE_COUNT = "before_count"
    """Applied: its date lies before the newest count, which may have held it."""


class State(StrEnum):
    """What became of a suspected duplicate."""

    OPEN = "open"
    APPLIED = "applied"
    DISMISSED = "dismissed"


@dataclass(frozen=True, slots=True)
class Suspect:
    """A delivery that may be a movement of its own; `occurrence` is what it would be in the ledger."""

    movement: Movement
    raw_body: bytes
    occurrence: int
    after_version: int
    """The place in the ledger of the system's last report before it; of an applied one, its own"""
    reason: Suspicion = Suspicion.REPEATED
    follows_id: int | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class SuspectedDuplicate:
    """One as it is kept. Where its body was deleted, `pruned_at` is when, and `raw_body` is empty."""

    suspected_duplicate_id: int
    store_id: str
    item_id: str
    inventory_system_id: str
    reason: Suspicion
    occurrence: int
    after_version: int
    sent_at_text: str
    raw_body: bytes
    attempts: int
    state: State
    actor: str | None
    note: str | None
    first_seen_at: datetime
    last_seen_at: datetime
    closed_at: datetime | None
    request_id: str | None
    pruned_at: datetime | None


_COLUMNS = [suspected_duplicate.c[name] for name in SuspectedDuplicate.__slots__]


async def read_traces(connection: asyncpg.Connection, movements: Sequence[Movement]) -> tuple[ReportedStock, list[Trace]]:
    """Return how reported stock is read, and what the ledger holds of the identity of each of `movements`, in order."""
    rows = await connection.fetch(
        _READ_TRACES,
        [movement.store_id for movement in movements],
        [movement.item_id for movement in movements],
        [movement.inventory_system_id for movement in movements],
        [movement.dedupe_key for movement in movements],
    )
    traces = [
        Trace(
            occurrences,
            sent_at_texts or (),
            None if version is None else LaterReport(version, reported, delta, suspect_id, same_occurrence),
            list(zip(dismissed_versions or (), dismissed_ids or (), strict=True)),
            applies,
        )
        for (
            _,
            occurrences,
            sent_at_texts,
            version,
            reported,
            delta,
            suspect_id,
            same_occurrence,
            dismissed_versions,
            dismissed_ids,
            applies,
        ) in rows
    ]
    return ReportedStock(rows[0]["reading"]), traces


async def record(connection: asyncpg.Connection, suspects: Sequence[Suspect]) -> None:
    """Keep `suspects`; a further copy of a row raises its `attempts`. In the caller's transaction."""
    # One statement cannot change a row twice; in key order, so that two transactions cannot deadlock.
    latest: dict[tuple[str, bytes, int], Suspect] = {}
    attempts: Counter[tuple[str, bytes, int]] = Counter()
    for suspect in suspects:
        key = (suspect.movement.store_id, suspect.movement.dedupe_key or b"", suspect.occurrence)
        latest[key] = suspect
        attempts[key] += 1
    keys = sorted(latest)
    rows = [latest[key] for key in keys]
    await connection.execute(
        _RECORD,
        [store_id for store_id, _, _ in keys],
        [dedupe_key for _, dedupe_key, _ in keys],
        [occurrence for _, _, occurrence in keys],
        [row.movement.item_id for row in rows],
        [row.movement.inventory_system_id for row in rows],
        [row.reason.value for row in rows],
        [row.after_version for row in rows],
        [to_plain(row.movement.reported_stock or ZERO) for row in rows],
        [to_plain(row.movement.delta) for row in rows],
        [row.follows_id for row in rows],
        [row.movement.sent_at_text for row in rows],
        [row.raw_body for row in rows],
        [attempts[key] for key in keys],
        [row.request_id for row in rows],
    )


async def list_suspected(
    connection: AsyncConnection, *, state: State | None = State.OPEN, store_id: str | None = None, item_id: str | None = None
) -> list[SuspectedDuplicate]:
    """The oldest first, which is the order in which to apply them."""
    wanted = matching(suspected_duplicate, state=state, store_id=store_id, item_id=item_id)
    query = select(*_COLUMNS).where(*wanted).order_by(suspected_duplicate.c.suspected_duplicate_id)
    return [_suspected(row) for row in await connection.execute(query)]


async def read(connection: AsyncConnection, suspected_duplicate_id: int) -> SuspectedDuplicate | None:
    """Return one, or None."""
    query = select(*_COLUMNS).where(is_among(suspected_duplicate.c.suspected_duplicate_id, [suspected_duplicate_id]))
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else _suspected(row)


async def close(
    connection: AsyncConnection, suspected_duplicate_id: int, *, state: State, actor: str, note: str | None = None
) -> bool:
    """Close an open one; False if it was not open."""
    statement = (
        update(suspected_duplicate)
        .where(is_among(suspected_duplicate.c.suspected_duplicate_id, [suspected_duplicate_id]))
        .where(suspected_duplicate.c.state == State.OPEN)
        .values(state=state, actor=actor, note=note, closed_at=func.now())
        .returning(suspected_duplicate.c.suspected_duplicate_id)
    )
    return (await connection.scalar(statement)) is not None


def _suspected(row: Any) -> SuspectedDuplicate:  # noqa: ANN401 - a row of `_COLUMNS`
    values: dict[str, Any] = row._asdict()
    values["state"] = State(values["state"])
    values["reason"] = Suspicion(values["reason"])
    return SuspectedDuplicate(**values)
