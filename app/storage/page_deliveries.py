"""Deliveries that wait for a person, as the operator page lists them: by number, the newest first; bodies stay where they are.

What a person confirmed is compared here under lock: the level first, as deliveries do, and then the row.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.captures import CapturedDelivery, kept_columns, to_captured
from app.storage.delivery_tables import capture, captured_delivery, refused_delivery, suspected_duplicate
from app.storage.filters import is_among, matching
from app.storage.page_lists import MAX_COUNTED
from app.storage.refusals import Selection, State
from app.storage.tables import item, stock_level


@dataclass(frozen=True, slots=True)
class ListedRefusal:
    """One refused delivery in a list."""

    refused_delivery_id: int
    reason: str
    message: str
    replay_message: str | None
    store_id: str | None
    item_id: str | None
    attempts: int
    state: str
    first_seen_at: datetime
    last_seen_at: datetime
    request_id: str | None
    pruned_at: datetime | None


@dataclass(frozen=True, slots=True)
class ListedSuspect:
    """One suspected duplicate in a list."""

    suspected_duplicate_id: int
    reason: str
    store_id: str
    item_id: str
    inventory_system_id: str
    attempts: int
    state: str
    last_seen_at: datetime
    request_id: str | None


_REFUSAL = [refused_delivery.c[name] for name in ListedRefusal.__slots__]
_SUSPECT = [suspected_duplicate.c[name] for name in ListedSuspect.__slots__]


async def list_refused(
    connection: AsyncConnection, selection: Selection, *, after: int | None, limit: int
) -> list[ListedRefusal]:
    """Those before number `after`, the newest first."""
    number = refused_delivery.c.refused_delivery_id
    wanted = [*selection.conditions(), *_before(number, after)]
    chosen = _newest(number, wanted, limit=limit, is_open=selection.state is State.OPEN)
    query = select(*_REFUSAL).where(number.in_(chosen)).order_by(number.desc())
    return [ListedRefusal(*row) for row in await connection.execute(query)]


async def known_items(connection: AsyncConnection, named: Iterable[tuple[str | None, str | None]]) -> set[tuple[str, str]]:
    """Which of these (store, item) exist."""
    pairs = {(store_id, item_id) for store_id, item_id in named if store_id and item_id}
    if not pairs:
        return set()
    query = select(item.c.store_id, item.c.item_id).where(tuple_(item.c.store_id, item.c.item_id).in_(pairs))
    return {(row[0], row[1]) for row in await connection.execute(query)}


async def count_refused(connection: AsyncConnection, selection: Selection) -> int:
    """How many, up to one more than `MAX_COUNTED`."""
    return await _count(connection, refused_delivery, selection.conditions())


async def list_suspects(
    connection: AsyncConnection, wanted: Sequence[ColumnElement[bool]], *, is_open: bool, after: int | None, limit: int
) -> list[ListedSuspect]:
    """Those before number `after`, the newest first. `is_open`: only open ones are wanted."""
    number = suspected_duplicate.c.suspected_duplicate_id
    chosen = _newest(number, [*wanted, *_before(number, after)], limit=limit, is_open=is_open)
    query = select(*_SUSPECT).where(number.in_(chosen)).order_by(number.desc())
    return [ListedSuspect(*row) for row in await connection.execute(query)]


async def count_suspects(connection: AsyncConnection, wanted: Sequence[ColumnElement[bool]]) -> int:
    """How many, up to one more than `MAX_COUNTED`."""
    return await _count(connection, suspected_duplicate, wanted)


def suspects_that(**wanted: str | None) -> list[ColumnElement[bool]]:
    """Conditions by column; None is any."""
    return matching(suspected_duplicate, **wanted)


async def list_captured(connection: AsyncConnection, *, after: int | None, limit: int) -> list[CapturedDelivery]:
    """Those of the last day before number `after`, the newest first."""
    columns, is_fresh = kept_columns()
    number = captured_delivery.c.captured_delivery_id
    query = select(*columns).where(is_fresh, *_before(number, after)).order_by(number.desc()).limit(limit)
    return [to_captured(row) for row in await connection.execute(query)]


async def count_captured(connection: AsyncConnection) -> int:
    """How many there are of the last day."""
    _, is_fresh = kept_columns()
    return await _count(connection, captured_delivery, [is_fresh])


async def count_touched(connection: AsyncConnection, refused_delivery_ids: Sequence[int]) -> int:
    """How many open refusals go together with these: all of the same movements."""
    table = refused_delivery.c
    keys = select(table.delivery_key).where(is_among(table.refused_delivery_id, refused_delivery_ids))
    query = select(func.count()).where(table.state == State.OPEN.value, table.delivery_key.in_(keys))
    return await connection.scalar(query) or 0


async def lock_refused(connection: AsyncConnection, refused_delivery_ids: Sequence[int]) -> dict[int, Any]:
    """The rows by number (their state, and who closed them), locked after their levels until the transaction ends."""
    table = refused_delivery.c
    await _lock_levels(connection, refused_delivery, is_among(table.refused_delivery_id, refused_delivery_ids))
    query = (
        select(table.refused_delivery_id, table.state, table.actor)
        .where(is_among(table.refused_delivery_id, refused_delivery_ids))
        .order_by(table.refused_delivery_id)
    )
    return {row[0]: row for row in await connection.execute(query.with_for_update(key_share=True))}


async def lock_suspect(connection: AsyncConnection, suspected_duplicate_id: int) -> Any:  # noqa: ANN401 - a row
    """The row (its state, and who closed it), locked after its level until the transaction ends; None where there is none."""
    table = suspected_duplicate.c
    await _lock_levels(connection, suspected_duplicate, table.suspected_duplicate_id == suspected_duplicate_id)
    query = select(table.state, table.actor).where(table.suspected_duplicate_id == suspected_duplicate_id)
    return (await connection.execute(query.with_for_update(key_share=True))).one_or_none()


async def lock_captures(connection: AsyncConnection) -> None:
    """Nobody else starts or stops a capture until the transaction ends."""
    await connection.execute(select(capture.c.capture_id).order_by(capture.c.capture_id).with_for_update(key_share=True))


async def _lock_levels(connection: AsyncConnection, table: Table, of: ColumnElement[bool]) -> None:
    level = stock_level.c
    concerned = select(table.c.store_id, table.c.item_id).where(of)
    query = select(level.version).where(tuple_(level.store_id, level.item_id).in_(concerned))
    await connection.execute(query.order_by(level.store_id, level.item_id).with_for_update(key_share=True))


def _newest(number: ColumnElement[int], wanted: Sequence[ColumnElement[bool]], *, limit: int, is_open: bool) -> Select[Any]:
    """By number backwards; where open ones are wanted, by the index that holds no others: the last open one may be old."""
    order = (number + 0 if is_open else number).desc()
    return select(number).where(*wanted).order_by(order).limit(limit)


def _before(number: ColumnElement[int], after: int | None) -> list[ColumnElement[bool]]:
    return [] if after is None else [number < after]


async def _count(connection: AsyncConnection, table: Table, conditions: Sequence[ColumnElement[bool]]) -> int:
    some = select(1).select_from(table).where(*conditions).limit(MAX_COUNTED + 1).subquery()
    return await connection.scalar(select(func.count()).select_from(some)) or 0
