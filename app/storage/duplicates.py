"""Suspected duplicates: what the ledger holds of an identity, and the deliveries that may be movements of their own."""

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
from app.stock.rules import ReportedStock
from app.storage.tables import matching, suspected_duplicate

# Cost: one probe by identity and one walk of the level's newest rows, which ends at the system's first row or at the original.
_READ_TRACES = """
SELECT (SELECT reported_stock FROM service_rule) AS reading, original.occurrences,
  original.sent_at_texts, later.level_version, later.reported_stock, later.delta
FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[])
  WITH ORDINALITY AS asked (store_id, item_id, inventory_system_id, dedupe_key, position)
CROSS JOIN LATERAL (
  SELECT count(*) AS occurrences, array_agg(sent_at_text) AS sent_at_texts, max(level_version) AS newest
  FROM stock_movement AS m WHERE m.store_id = asked.store_id AND m.dedupe_key = asked.dedupe_key
) AS original
LEFT JOIN LATERAL (
  SELECT m.level_version, m.reported_stock, m.delta FROM stock_movement AS m
  WHERE m.store_id = asked.store_id AND m.item_id = asked.item_id AND m.level_version > original.newest
    AND m.inventory_system_id = asked.inventory_system_id AND m.reported_stock IS NOT NULL
  ORDER BY m.level_version DESC LIMIT 1
) AS later ON true
ORDER BY asked.position
"""

_RECORD = """
INSERT INTO suspected_duplicate AS suspected (
  store_id, dedupe_key, occurrence, item_id, inventory_system_id, after_version, sent_at_text, raw_body, attempts
)
SELECT * FROM unnest(
  $1::text[], $2::bytea[], $3::smallint[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::bytea[], $9::integer[]
)
ON CONFLICT (store_id, dedupe_key, occurrence) DO UPDATE SET
  attempts = suspected.attempts + excluded.attempts,
  sent_at_text = excluded.sent_at_text,
  raw_body = excluded.raw_body,
  last_seen_at = excluded.last_seen_at,
  -- What an operator dismissed stays dismissed, until the system has reported something else in between.
  state = CASE WHEN suspected.state = 'dismissed' AND suspected.after_version < excluded.after_version
    THEN 'open' ELSE suspected.state END,
  closed_at = CASE WHEN suspected.state = 'dismissed' AND suspected.after_version < excluded.after_version
    THEN NULL ELSE suspected.closed_at END,
  after_version = CASE WHEN suspected.state = 'dismissed'
    THEN greatest(suspected.after_version, excluded.after_version) ELSE suspected.after_version END
"""


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
    """The place in the ledger of the system's last report before it"""


@dataclass(frozen=True, slots=True)
class SuspectedDuplicate:
    """One as it is kept."""

    suspected_duplicate_id: int
    store_id: str
    item_id: str
    inventory_system_id: str
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
        Trace(occurrences, sent_at_texts or (), None if version is None else LaterReport(version, reported, delta))
        for _, occurrences, sent_at_texts, version, reported, delta in rows
    ]
    return ReportedStock(rows[0]["reading"]), traces


async def record(connection: asyncpg.Connection, suspects: Sequence[Suspect]) -> None:
    """Keep `suspects`, one row per identity and occurrence; a further copy raises `attempts`. In the caller's transaction."""
    attempts: dict[tuple[str, bytes, int], int] = {}
    latest: dict[tuple[str, bytes, int], Suspect] = {}
    for suspect in suspects:
        assert suspect.movement.dedupe_key is not None
        key = (suspect.movement.store_id, suspect.movement.dedupe_key, suspect.occurrence)
        attempts[key] = attempts.get(key, 0) + 1
        latest[key] = suspect
    # In key order, so that two transactions cannot deadlock.
    keys = sorted(latest)
    rows = [latest[key] for key in keys]
    await connection.execute(
        _RECORD,
        [store_id for store_id, _, _ in keys],
        [dedupe_key for _, dedupe_key, _ in keys],
        [occurrence for _, _, occurrence in keys],
        [row.movement.item_id for row in rows],
        [row.movement.inventory_system_id for row in rows],
        [row.after_version for row in rows],
        [row.movement.sent_at_text for row in rows],
        [row.raw_body for row in rows],
        [attempts[key] for key in keys],
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
    query = select(*_COLUMNS).where(suspected_duplicate.c.suspected_duplicate_id == suspected_duplicate_id)
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else _suspected(row)


async def close(
    connection: AsyncConnection, suspected_duplicate_id: int, *, state: State, actor: str, note: str | None = None
) -> bool:
    """Close an open one; False if it was not open."""
    statement = (
        update(suspected_duplicate)
        .where(suspected_duplicate.c.suspected_duplicate_id == suspected_duplicate_id)
        .where(suspected_duplicate.c.state == State.OPEN)
        .values(state=state, actor=actor, note=note, closed_at=func.now())
        .returning(suspected_duplicate.c.suspected_duplicate_id)
    )
    return (await connection.scalar(statement)) is not None


def _suspected(row: Any) -> SuspectedDuplicate:  # noqa: ANN401 - a row of `_COLUMNS`
    values: dict[str, Any] = row._asdict()
    values["state"] = State(values["state"])
    return SuspectedDuplicate(**values)
