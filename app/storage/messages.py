"""The messages of the outbox as people look at them, and what people do about them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import case, exists, func, literal, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.filters import is_among, matching
from app.storage.mipos_tables import outbox_message, system_level
from app.storage.outbox import OutboxState, announce
from app.storage.tables import integration, stock_movement

OF_THE_MOVEMENT = {"movement_type", "quantity", "balance_after"}


_connected, _known = integration.c, system_level.c
WAITS_FOR = case(
    (outbox_message.c.state != OutboxState.PENDING.value, None),
    (
        exists().where(
            _connected.store_id == outbox_message.c.store_id,
            _connected.inventory_system_id == outbox_message.c.inventory_system_id,
            ~_connected.enabled,
        ),
        literal("the integration is disabled"),
    ),
    (
        exists().where(
            _known.store_id == outbox_message.c.store_id,
            _known.inventory_system_id == outbox_message.c.inventory_system_id,
            _known.item_id == outbox_message.c.item_id,
            _known.is_held,
        ),
        literal("the unit was changed: run pos-sync sync first"),
    ),
    else_=None,
)


@dataclass(frozen=True, slots=True)
class ListedMessage:
    """A message as people look at it."""

    outbox_message_id: int
    state: OutboxState
    store_id: str
    item_id: str
    level_version: int
    inventory_system_id: str
    movement_type: int
    quantity: Decimal
    balance_after: Decimal
    attempts: int
    unknown_sends: int
    words: str | None
    waits_for: str | None
    """Why it is not tried, where it is pending and nothing is wrong with it."""
    created_at: datetime
    next_attempt_at: datetime
    closed_at: datetime | None
    actor: str | None
    note: str | None


async def find(  # noqa: PLR0913 - one filter each
    connection: AsyncConnection,
    *,
    states: Sequence[OutboxState] = (),
    store_id: str | None = None,
    item_id: str | None = None,
    system_id: str | None = None,
    ids: Sequence[int] = (),
    limit: int,
) -> list[ListedMessage]:
    """Messages, oldest first."""
    kept, moved = outbox_message.c, stock_movement.c
    columns = [
        WAITS_FOR if name == "waits_for" else (moved if name in OF_THE_MOVEMENT else kept)[name]
        for name in ListedMessage.__slots__
    ]
    level = (moved.store_id == kept.store_id) & (moved.item_id == kept.item_id) & (moved.level_version == kept.level_version)
    query = select(*columns).join(stock_movement, level).order_by(kept.outbox_message_id).limit(limit)
    query = query.where(*matching(outbox_message, store_id=store_id, item_id=item_id, inventory_system_id=system_id))
    if states:
        query = query.where(kept.state.in_([state.value for state in states]))
    if ids:
        query = query.where(is_among(kept.outbox_message_id, ids))
    return [ListedMessage(row[0], OutboxState(row[1]), *row[2:]) for row in await connection.execute(query)]


async def retry(connection: AsyncConnection, outbox_message_ids: Sequence[int], *, actor: str) -> list[int]:
    """Make messages due now: dead and dismissed ones again, pending ones at once. Those that it did so for."""
    table = outbox_message
    retried = [OutboxState.PENDING.value, OutboxState.DEAD.value, OutboxState.DISMISSED.value]
    statement = (
        update(table)
        .where(is_among(table.c.outbox_message_id, outbox_message_ids), table.c.state.in_(retried))
        .values(
            state=OutboxState.PENDING.value,
            next_attempt_at=func.now(),
            closed_at=None,
            actor=actor,
            # One that is on its way stays claimed; the others start counting from zero.
            attempts=case((table.c.state == OutboxState.PENDING.value, table.c.attempts), else_=0),
        )
        .returning(table.c.outbox_message_id)
    )
    found = list(await connection.scalars(statement))
    await announce(connection)
    return found


async def make_due(connection: AsyncConnection, store_id: str) -> None:
    """Try a store's pending messages now, because the cause of their wait was removed. One that is on its way stays claimed."""
    table = outbox_message
    statement = update(table).where(table.c.store_id == store_id, table.c.state == OutboxState.PENDING.value)
    await connection.execute(statement.values(next_attempt_at=func.now()))
    await announce(connection)


async def dismiss(connection: AsyncConnection, outbox_message_ids: Sequence[int], *, actor: str, note: str) -> list[int]:
    """Let messages never be sent; not those that are on their way. Those that it did so for."""
    table = outbox_message
    open_states = [OutboxState.PENDING.value, OutboxState.DEAD.value]
    statement = (
        update(table)
        .where(
            is_among(table.c.outbox_message_id, outbox_message_ids),
            table.c.state.in_(open_states),
            or_(table.c.claimed_until.is_(None), table.c.claimed_until <= func.now()),
        )
        .values(state=OutboxState.DISMISSED.value, closed_at=func.now(), actor=actor, note=note)
        .returning(table.c.outbox_message_id)
    )
    return list(await connection.scalars(statement))
