"""Unverified deliveries that an operator asked to keep: for a time, up to a number, and none for longer than a day.

Whether a capture is on is decided by the database's clock, in the transaction that keeps.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, func, insert, literal, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.delivery_tables import capture, captured_delivery
from app.storage.filters import is_among
from app.storage.tables import integration
from app.storage.transactions import database_now

MAX_CAPTURED_BYTES = 65536
"""Of one body; the table holds no longer ones."""
MAX_KEPT = 200
MAX_CAPTURE_TIME = timedelta(hours=24)
KEPT_FOR = timedelta(hours=24)
"""After this time a captured delivery is gone."""


@dataclass(frozen=True, slots=True)
class Unverified:
    """A body that came without a signature that fits. `signatures` are name and value of each header that may hold one."""

    raw_body: bytes
    signatures: tuple[tuple[str, str], ...]
    content_type: str | None
    client: str | None
    store_id: str | None
    inventory_system_id: str | None
    seconds_ago: float = 0.0
    """Since it came, by the clock of who has waited with it"""

    @property
    def content_hash(self) -> bytes:
        """By which the same is known again."""
        seen = hashlib.sha256(self.raw_body)
        seen.update(repr(self.signatures).encode())
        return seen.digest()


@dataclass(frozen=True, slots=True)
class Capture:
    """One order to keep, and whether it is on."""

    capture_id: int
    started_at: datetime
    ends_at: datetime
    max_kept: int
    actor: str
    is_on: bool


@dataclass(frozen=True, slots=True)
class CapturedDelivery:
    """One that was kept. Nobody knows who has sent it."""

    captured_delivery_id: int
    raw_body: bytes
    signatures: tuple[tuple[str, str], ...]
    content_type: str | None
    client: str | None
    names_known_pair: bool
    attempts: int
    first_seen_at: datetime
    last_seen_at: datetime
    delivered_at: datetime | None
    outcome: str | None
    actor: str | None


_KEPT = [captured_delivery.c[name] for name in CapturedDelivery.__slots__]
_NOW = func.clock_timestamp()


async def start(connection: AsyncConnection, *, length: timedelta, max_kept: int, actor: str) -> Capture:
    """Keep from now on, for `length` and at most `max_kept`; a capture that is on ends."""
    await stop(connection)
    await forget(connection)
    values = {"ends_at": func.now() + length, "max_kept": max_kept, "actor": actor}
    *columns, _ = _capture_columns()
    row = (await connection.execute(insert(capture).values(values).returning(*columns))).one()
    return Capture(**row._asdict(), is_on=True)


async def stop(connection: AsyncConnection) -> bool:
    """End the capture that is on; False where none was. What was kept stays for its day."""
    # Waits for who keeps: after this nothing more is kept.
    now = await database_now(connection)
    return bool((await connection.execute(update(capture).where(capture.c.ends_at > now).values(ends_at=now))).rowcount)


async def is_on(connection: AsyncConnection) -> bool:
    """Whether a capture is on."""
    return bool(await connection.scalar(select(exists().where(_is_on()))))


async def newest(connection: AsyncConnection) -> Capture | None:
    """The last capture that was asked for."""
    row = (await connection.execute(select(*_capture_columns()).order_by(capture.c.capture_id.desc()).limit(1))).one_or_none()
    return None if row is None else _capture(row)


async def keep(connection: AsyncConnection, found: Sequence[Unverified]) -> None:
    """Keep these, if a capture is on and was when they came, and as far as it has room.

    Those that name a known pair of store and system take the place of others.
    """
    # Locked, so that all workers together keep no more than was asked for.
    query = select(capture.c.capture_id, capture.c.max_kept, (_NOW - capture.c.started_at).label("running"))
    on = (await connection.execute(query.where(_is_on()).order_by(capture.c.capture_id).limit(1).with_for_update())).first()
    if on is None:
        return
    for one in found:
        if one.seconds_ago > on.running.total_seconds():
            continue
        is_known = exists().where(
            integration.c.store_id == one.store_id, integration.c.inventory_system_id == one.inventory_system_id
        )
        values = {
            "capture_id": on.capture_id,
            "content_hash": one.content_hash,
            "raw_body": one.raw_body,
            "signatures": [part for pair in one.signatures for part in pair],
            "content_type": one.content_type,
            "client": one.client,
            "names_known_pair": await connection.scalar(select(is_known)),
        }
        statement = upsert(captured_delivery).values(values)
        again = {"attempts": captured_delivery.c.attempts + 1, "last_seen_at": statement.excluded.last_seen_at}
        await connection.execute(statement.on_conflict_do_update(index_elements=["capture_id", "content_hash"], set_=again))
    of_capture = select(captured_delivery.c.captured_delivery_id).where(captured_delivery.c.capture_id == on.capture_id)
    best = captured_delivery.c.names_known_pair.desc(), captured_delivery.c.captured_delivery_id
    too_many = of_capture.order_by(*best).offset(on.max_kept)
    await connection.execute(delete(captured_delivery).where(captured_delivery.c.captured_delivery_id.in_(too_many)))


async def known_systems(connection: AsyncConnection, *, limit: int) -> list[str]:
    """Inventory systems with which a store is connected."""
    return list(await connection.scalars(select(integration.c.inventory_system_id).distinct().limit(limit)))


async def forget(connection: AsyncConnection) -> None:
    """Delete what is older than a day."""
    # As a parameter: Citus takes no volatile function in a deletion.
    oldest = await database_now(connection) - KEPT_FOR
    await connection.execute(delete(captured_delivery).where(captured_delivery.c.first_seen_at <= oldest))
    await connection.execute(delete(capture).where(capture.c.ends_at < oldest))


async def list_kept(connection: AsyncConnection) -> list[CapturedDelivery]:
    """Those that name a known pair first, and of them the last seen."""
    order = captured_delivery.c.names_known_pair.desc(), captured_delivery.c.last_seen_at.desc()
    return [to_captured(row) for row in await connection.execute(select(*_KEPT).where(_is_fresh()).order_by(*order))]


async def read(connection: AsyncConnection, captured_delivery_id: int) -> CapturedDelivery | None:
    """The one with this number; None where there is none, or it is older than a day."""
    query = select(*_KEPT).where(_is_fresh(), is_among(captured_delivery.c.captured_delivery_id, [captured_delivery_id]))
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else to_captured(row)


async def note_delivered(connection: AsyncConnection, captured_delivery_id: int, *, outcome: str, actor: str) -> None:
    """Note who had it applied, and what became of it."""
    statement = update(captured_delivery).where(captured_delivery.c.captured_delivery_id == captured_delivery_id)
    await connection.execute(statement.values(delivered_at=func.now(), outcome=outcome, actor=actor))


def _is_on() -> ColumnElement[bool]:
    return capture.c.ends_at > _NOW


def _is_fresh() -> ColumnElement[bool]:
    return captured_delivery.c.first_seen_at > _NOW - literal(KEPT_FOR)


def kept_columns() -> tuple[list[ColumnElement[Any]], ColumnElement[bool]]:
    """What `to_captured` reads, and the condition that it is of the last day."""
    return list(_KEPT), _is_fresh()


def _capture_columns() -> list[ColumnElement[Any]]:
    return [*(capture.c[name] for name in Capture.__slots__ if name != "is_on"), _is_on().label("is_on")]


def _capture(row: Any) -> Capture:  # noqa: ANN401 - a row of `_capture_columns`
    return Capture(**row._asdict())


def to_captured(row: Any) -> CapturedDelivery:  # noqa: ANN401 - a row of `kept_columns`
    """As an object."""
    values = row._asdict()
    flat = values["signatures"]
    values["signatures"] = tuple(zip(flat[::2], flat[1::2], strict=True))
    return CapturedDelivery(**values)
