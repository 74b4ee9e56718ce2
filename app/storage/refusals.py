"""Signed deliveries that were refused: kept by the engine on its own connection, and handled by people through SQLAlchemy."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import asyncpg
from sqlalchemy import ColumnElement, case, func, literal, null, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.errors import PutAside
from app.storage.delivery_tables import refused_delivery
from app.storage.filters import is_among, matching


class State(StrEnum):
    """What became of a refused delivery."""

    OPEN = "open"
    RESOLVED = "resolved"
    """The same movement was applied later by itself."""
    REPLAYED = "replayed"
    DISMISSED = "dismissed"
    FOLDED = "folded"
    """One too many of its reason: it is counted, and its body is deleted. If it comes again, it is judged then."""


MAX_OPEN = 10_000
"""Open refusals of one reason. The oldest beyond are folded."""

# The ledger may hold the movement by now: another replica has applied a copy of it. Then nothing is open. A statement
# of its own, since Citus refuses to read a table where it inserts.
_READ_KNOWN = """
SELECT kept.position, EXISTS (
  SELECT FROM pos_sync.stock_movement
  WHERE stock_movement.store_id = kept.store_id AND stock_movement.dedupe_key = kept.delivery_key
) AS is_known
FROM unnest($1::text[], $2::bytea[]) WITH ORDINALITY AS kept (store_id, delivery_key, position) ORDER BY kept.position
"""
_RECORD = """
INSERT INTO pos_sync.refused_delivery (
  delivery_key, reason, status_code, message, raw_body, store_id, item_id, inventory_system_id, attempts, request_id, state,
  closed_at
)
SELECT delivery_key, reason, status_code, message, raw_body, store_id, item_id, inventory_system_id, attempts, request_id,
  CASE WHEN moved.is_known THEN 'resolved' ELSE 'open' END, CASE WHEN moved.is_known THEN now() END
FROM (
  -- As a number, which the driver knows from deliveries: a new type of array would be one more question to the server.
  SELECT *, known = 1 AS is_known FROM unnest(
    $1::bytea[], $2::text[], $3::smallint[], $4::text[], $5::bytea[], $6::text[], $7::text[], $8::text[], $9::integer[],
    $10::integer[], $11::text[]
  ) AS kept (
    delivery_key, reason, status_code, message, raw_body, store_id, item_id, inventory_system_id, attempts, known, request_id
  )
) AS moved
ON CONFLICT (delivery_key, reason) DO UPDATE SET
  attempts = refused_delivery.attempts + excluded.attempts,
  status_code = excluded.status_code,
  message = excluded.message,
  raw_body = excluded.raw_body,
  pruned_at = NULL,
  request_id = excluded.request_id,
  last_seen_at = excluded.last_seen_at,
  -- What an operator dismissed stays dismissed; what was applied once and is refused again needs a look.
  state = CASE WHEN refused_delivery.state = 'dismissed' THEN 'dismissed' ELSE excluded.state END,
  closed_at = CASE WHEN refused_delivery.state = 'dismissed' THEN refused_delivery.closed_at ELSE excluded.closed_at END
"""

_SEEN_AGAIN = """
UPDATE pos_sync.refused_delivery SET attempts = attempts + seen.times, last_seen_at = now()
FROM (SELECT delivery_key, count(*) AS times FROM unnest($1::bytea[]) AS a (delivery_key) GROUP BY delivery_key) AS seen
WHERE refused_delivery.delivery_key = seen.delivery_key AND refused_delivery.state = 'dismissed'
"""


@dataclass(frozen=True, slots=True)
class RefusedDelivery:
    """One to keep. `delivery_key` is its movement's identity, or the SHA-256 of a body that could not be read."""

    delivery_key: bytes
    reason: str
    status_code: int
    message: str
    raw_body: bytes
    store_id: str | None = None
    item_id: str | None = None
    inventory_system_id: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class KeptDelivery:
    """One refused delivery as it is kept; `replay_message` says why it was refused again when it was last replayed.

    Where its body was deleted, `pruned_at` is when, and `raw_body` is empty.
    """

    refused_delivery_id: int
    delivery_key: bytes
    reason: str
    status_code: int
    message: str
    raw_body: bytes
    store_id: str | None
    item_id: str | None
    inventory_system_id: str | None
    attempts: int
    state: State
    first_seen_at: datetime
    last_seen_at: datetime
    closed_at: datetime | None
    replay_message: str | None
    replayed_at: datetime | None
    actor: str | None
    note: str | None
    request_id: str | None
    pruned_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which refused deliveries; None is any."""

    state: State | None = State.OPEN
    reason: str | None = None
    store_id: str | None = None
    item_id: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """As SQL."""
        return matching(refused_delivery, **{name: getattr(self, name) for name in self.__slots__})


_COLUMNS = [refused_delivery.c[name] for name in KeptDelivery.__slots__]


async def record(connection: asyncpg.Connection, refused: Sequence[RefusedDelivery]) -> None:
    """Keep `refused`, one row per delivery key and reason; a repeated one raises `attempts`.

    What an operator has put aside is kept already: its rows are seen once more.
    """
    aside = [delivery for delivery in refused if delivery.reason == PutAside.reason]
    if aside:
        await connection.execute(_SEEN_AGAIN, [delivery.delivery_key for delivery in aside])
    attempts: dict[tuple[bytes, str], int] = {}
    latest: dict[tuple[bytes, str], RefusedDelivery] = {}
    for delivery in refused:
        if delivery.reason == PutAside.reason:
            continue
        key = (delivery.delivery_key, delivery.reason)
        attempts[key] = attempts.get(key, 0) + 1
        latest[key] = delivery
    # In key order, so that two transactions cannot deadlock.
    rows = [latest[key] for key in sorted(latest)]
    if not rows:
        return
    known = await connection.fetch(_READ_KNOWN, [row.store_id for row in rows], [row.delivery_key for row in rows])
    await connection.execute(
        _RECORD,
        [row.delivery_key for row in rows],
        [row.reason for row in rows],
        [row.status_code for row in rows],
        [row.message for row in rows],
        [row.raw_body for row in rows],
        [row.store_id for row in rows],
        [row.item_id for row in rows],
        [row.inventory_system_id for row in rows],
        [attempts[key] for key in sorted(latest)],
        [int(row["is_known"]) for row in known],
        [row.request_id for row in rows],
    )


async def list_newest(connection: AsyncConnection, selection: Selection, *, limit: int | None) -> list[KeptDelivery]:
    """The last seen first."""
    query = select(*_COLUMNS).where(*selection.conditions()).limit(limit)
    query = query.order_by(refused_delivery.c.last_seen_at.desc(), refused_delivery.c.refused_delivery_id.desc())
    return [_kept(row) for row in await connection.execute(query)]


async def count(connection: AsyncConnection, selection: Selection) -> int:
    """How many there are."""
    query = select(func.count()).select_from(refused_delivery).where(*selection.conditions())
    return await connection.scalar(query) or 0


async def list_ids(connection: AsyncConnection, selection: Selection, *, upto: int | None = None) -> list[int]:
    """In the order in which they first came; those up to number `upto`."""
    query = select(refused_delivery.c.refused_delivery_id).where(*selection.conditions())
    if upto is not None:
        query = query.where(refused_delivery.c.refused_delivery_id <= upto)
    query = query.order_by(refused_delivery.c.first_seen_at, refused_delivery.c.refused_delivery_id)
    return list(await connection.scalars(query))


async def read(connection: AsyncConnection, refused_delivery_ids: Sequence[int]) -> dict[int, KeptDelivery]:
    """By id; ids that do not exist are left out."""
    query = select(*_COLUMNS).where(is_among(refused_delivery.c.refused_delivery_id, refused_delivery_ids))
    return {row.refused_delivery_id: _kept(row) for row in await connection.execute(query)}


async def dismiss(connection: AsyncConnection, refused_delivery_ids: Sequence[int], *, actor: str, note: str) -> set[int]:
    """Close open ones, with all other open refusals of the same movements; those of them that were open."""
    table = refused_delivery.c
    is_open = table.state == State.OPEN.value
    keys = select(table.delivery_key).where(is_among(table.refused_delivery_id, refused_delivery_ids), is_open)
    # In order, so that two people cannot deadlock.
    touched = select(table.refused_delivery_id).where(table.delivery_key.in_(keys), is_open)
    locked = list(await connection.scalars(touched.order_by(table.refused_delivery_id).with_for_update()))
    statement = update(refused_delivery).where(is_among(table.refused_delivery_id, locked), is_open)
    await connection.execute(statement.values(state=State.DISMISSED, closed_at=func.now(), actor=actor, note=note))
    return set(locked) & set(refused_delivery_ids)


async def reopen(connection: AsyncConnection, refused_delivery_ids: Sequence[int], *, actor: str, note: str) -> list[int]:
    """Open dismissed ones again; those that it did so for. The note of the dismissal stays behind `note`.

    One whose body was deleted has nothing to replay: it becomes folded. If it comes again, it is judged then.
    """
    table = refused_delivery.c
    has_body = table.pruned_at.is_(None)
    statement = (
        update(refused_delivery)
        .where(is_among(table.refused_delivery_id, refused_delivery_ids), table.state == State.DISMISSED)
        .values(
            state=case((has_body, State.OPEN.value), else_=State.FOLDED.value),
            closed_at=case((has_body, null()), else_=table.closed_at),
            actor=actor,
            note=func.concat(note, literal(" / dismissed by "), table.actor, literal(": "), table.note),
        )
        .returning(table.refused_delivery_id)
    )
    return list(await connection.scalars(statement))


async def fold(connection: AsyncConnection, reason: str, *, keep: int, limit: int) -> int:
    """Fold the oldest open ones of `reason` beyond the newest `keep`, at most `limit`; how many."""
    table = refused_delivery.c
    beyond = max(0, await count(connection, Selection(reason=reason)) - keep)
    oldest = (
        select(table.refused_delivery_id)
        .where(table.state == State.OPEN.value, table.reason == reason)
        .order_by(table.first_seen_at, table.refused_delivery_id)
        .limit(min(beyond, limit))
        .with_for_update(skip_locked=True)
    )
    ids = list(await connection.scalars(oldest))
    if ids:
        values = {"state": State.FOLDED.value, "closed_at": func.now(), "raw_body": b"", "pruned_at": func.now()}
        await connection.execute(update(refused_delivery).where(table.refused_delivery_id.in_(ids)).values(values))
    return len(ids)


async def note_replayed(connection: AsyncConnection, delivery_key: bytes, *, actor: str, note: str | None = None) -> None:
    """Note that `actor` replayed a movement, on its refusals that this transaction has closed by applying it."""
    statement = update(refused_delivery).where(
        refused_delivery.c.delivery_key == delivery_key,
        refused_delivery.c.state == State.RESOLVED,
        refused_delivery.c.closed_at >= func.now(),
    )
    await connection.execute(statement.values(state=State.REPLAYED, **_acted(actor, note)))


def _acted(actor: str, note: str | None) -> dict[str, str]:
    """What of a replay is kept in the row. Without a note, the one that was there stays."""
    return {"actor": actor} if note is None else {"actor": actor, "note": note}


async def note_replay(
    connection: AsyncConnection, refused_delivery_id: int, *, message: str, actor: str, note: str | None = None
) -> None:
    """Keep why a replay was refused again."""
    statement = update(refused_delivery).where(refused_delivery.c.refused_delivery_id == refused_delivery_id)
    await connection.execute(statement.values(replay_message=message, replayed_at=func.now(), **_acted(actor, note)))


def _kept(row: Any) -> KeptDelivery:  # noqa: ANN401 - a row of `_COLUMNS`
    values: dict[str, Any] = row._asdict()
    values["state"] = State(values["state"])
    return KeptDelivery(**values)
