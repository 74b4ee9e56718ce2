"""Refused deliveries as people see and mend them; `storage.refusals` is how the hot path keeps them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.tables import refused_delivery


class State(StrEnum):
    """What became of a refused delivery."""

    OPEN = "open"
    RESOLVED = "resolved"
    """The same movement was applied later by itself."""
    REPLAYED = "replayed"
    DISMISSED = "dismissed"


@dataclass(frozen=True, slots=True)
class KeptDelivery:
    """One refused delivery as it is kept; `replay_message` says why it was refused again when it was last replayed."""

    refused_delivery_id: int
    fingerprint: bytes
    reason: str
    http_status: int
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which refused deliveries; None is any."""

    state: State | None = State.OPEN
    reason: str | None = None
    store_id: str | None = None
    item_id: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """As SQL."""
        wanted = {"state": self.state, "reason": self.reason, "store_id": self.store_id, "item_id": self.item_id}
        return [refused_delivery.c[name] == value for name, value in wanted.items() if value is not None]


_COLUMNS = [refused_delivery.c[name] for name in KeptDelivery.__slots__]


async def list_newest(connection: AsyncConnection, selection: Selection, *, limit: int | None) -> list[KeptDelivery]:
    """The last seen first."""
    query = select(*_COLUMNS).where(*selection.conditions()).limit(limit)
    query = query.order_by(refused_delivery.c.last_seen_at.desc(), refused_delivery.c.refused_delivery_id.desc())
    return [_kept(row) for row in await connection.execute(query)]


async def count(connection: AsyncConnection, selection: Selection) -> int:
    """How many there are."""
    query = select(func.count()).select_from(refused_delivery).where(*selection.conditions())
    return await connection.scalar(query) or 0


async def list_ids(connection: AsyncConnection, selection: Selection) -> list[int]:
    """In the order in which they first came."""
    query = select(refused_delivery.c.refused_delivery_id).where(*selection.conditions())
    query = query.order_by(refused_delivery.c.first_seen_at, refused_delivery.c.refused_delivery_id)
    return list(await connection.scalars(query))


async def read(connection: AsyncConnection, refused_delivery_ids: Sequence[int]) -> dict[int, KeptDelivery]:
    """By id; ids that do not exist are left out."""
    query = select(*_COLUMNS).where(refused_delivery.c.refused_delivery_id.in_(refused_delivery_ids))
    return {row.refused_delivery_id: _kept(row) for row in await connection.execute(query)}


async def lock_state(connection: AsyncConnection, refused_delivery_id: int) -> State:
    """Lock one that exists until the caller's transaction ends, and return its state.

    Call it only after the level that it is about is locked: deliveries lock in that order too.
    """
    query = select(refused_delivery.c.state).where(refused_delivery.c.refused_delivery_id == refused_delivery_id)
    return State((await connection.execute(query.with_for_update())).scalar_one())


async def close(  # noqa: PLR0913 - one per column
    connection: AsyncConnection,
    refused_delivery_id: int,
    *,
    state: State,
    actor: str | None = None,
    note: str | None = None,
    also_fingerprint: bytes | None = None,
) -> bool:
    """Close an open one, and all open ones of the same movement where `also_fingerprint` names it; False if it was not open."""
    statement = (
        update(refused_delivery)
        .where(refused_delivery.c.state == State.OPEN)
        .where(
            (refused_delivery.c.refused_delivery_id == refused_delivery_id) | (refused_delivery.c.fingerprint == also_fingerprint)
        )
        .values(state=state, closed_at=func.now(), actor=actor, note=note)
        .returning(refused_delivery.c.refused_delivery_id)
    )
    return refused_delivery_id in set(await connection.scalars(statement))


async def note_replay(connection: AsyncConnection, refused_delivery_id: int, *, message: str, actor: str) -> None:
    """Keep why a replay was refused again."""
    statement = update(refused_delivery).where(refused_delivery.c.refused_delivery_id == refused_delivery_id)
    await connection.execute(statement.values(replay_message=message, replayed_at=func.now(), actor=actor))


def _kept(row: Any) -> KeptDelivery:  # noqa: ANN401 - a row of `_COLUMNS`
    values: dict[str, Any] = row._asdict()
    values["state"] = State(values["state"])
    return KeptDelivery(**values)
