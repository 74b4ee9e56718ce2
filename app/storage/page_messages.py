"""The outbox as the operator page shows it: its pairs of store and system, and its messages by number, the newest first."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.filters import is_among, matching
from app.storage.messages import OF_THE_MOVEMENT, WAITS_FOR, ListedMessage
from app.storage.mipos_tables import outbox_message
from app.storage.outbox import OutboxState
from app.storage.page_lists import MAX_COUNTED
from app.storage.tables import item, stock_movement, unit

# Partial indexes hold what is pending and what is dead; of all else there may be any number. The oldest is the first number.
_PAIRS = text("""
SELECT queue.store_id, queue.inventory_system_id, sum(pending)::bigint, min(oldest_at), sum(dead)::bigint,
  CASE WHEN sum(pending) = 0 THEN NULL WHEN NOT bool_and(coalesce(integration.enabled, false)) THEN 'the integration is disabled'
    WHEN bool_or(store.mipos_store_id IS NULL) THEN 'the store has no mipOS id' ELSE max(waiting.words) END,
  max(refused.words)
FROM (
  SELECT store_id, inventory_system_id, count(*) AS pending, min(created_at) AS oldest_at, min(outbox_message_id) AS oldest_id,
    0 AS dead, NULL::bigint AS dead_id
  FROM pos_sync.outbox_message WHERE state = 'pending' GROUP BY 1, 2
  UNION ALL
  SELECT store_id, inventory_system_id, 0, NULL, NULL, count(*), max(outbox_message_id)
  FROM pos_sync.outbox_message WHERE state = 'dead' GROUP BY 1, 2
) AS queue
LEFT JOIN pos_sync.integration USING (store_id, inventory_system_id)
LEFT JOIN pos_sync.store ON store.store_id = queue.store_id
LEFT JOIN pos_sync.outbox_message AS waiting ON waiting.outbox_message_id = queue.oldest_id
LEFT JOIN pos_sync.outbox_message AS refused ON refused.outbox_message_id = queue.dead_id
GROUP BY 1, 2 ORDER BY 1, 2
""")


@dataclass(frozen=True, slots=True)
class PairQueue:
    """What waits for one system of one store. `why` is what the oldest waits for, `dead_words` why the newest was refused."""

    store_id: str
    inventory_system_id: str
    pending: int
    oldest_at: datetime | None
    dead: int
    why: str | None
    dead_words: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFilter:
    """Which messages; a state of None is any."""

    states: Sequence[OutboxState | None] = (OutboxState.PENDING, OutboxState.DEAD)
    store_id: str | None = None
    system_id: str | None = None
    item_id: str | None = None

    def conditions(self, state: OutboxState | None) -> list[ColumnElement[bool]]:
        """As SQL, of one state: those that are looked at have indexes of their own."""
        kept = outbox_message.c
        wanted = [] if state is None else [kept.state == state.value]
        if self.item_id is not None and self.store_id is None:
            # By the stores that have it, so that an index finds its messages.
            having = select(item.c.store_id, item.c.item_id).where(item.c.item_id == self.item_id)
            wanted.append(tuple_(kept.store_id, kept.item_id).in_(having))
        return wanted + matching(outbox_message, store_id=self.store_id, item_id=self.item_id, inventory_system_id=self.system_id)


@dataclass(frozen=True, slots=True)
class Message(ListedMessage):
    """A message with the ledger row that it tells, and what the page needs besides."""

    is_on_its_way: bool
    unit: str
    """The short name of the unit of the item"""

    @property
    def change(self) -> Decimal:
        """Of the level: below zero where it was taken away."""
        return self.quantity if self.movement_type == 1 else -self.quantity

    @property
    def version(self) -> str:
        """By which it is known whether it is still as it was seen."""
        return version_of(self.state.value, self.attempts)

    @property
    def is_retried(self) -> bool:
        """Whether it can be sent now: again, or without waiting."""
        return self.state in (OutboxState.PENDING, OutboxState.DEAD, OutboxState.DISMISSED) and not self.is_on_its_way

    @property
    def is_dismissed(self) -> bool:
        """Whether it can be dismissed."""
        return self.state in (OutboxState.PENDING, OutboxState.DEAD) and not self.is_on_its_way


_NAMES = (*ListedMessage.__slots__, *Message.__slots__)
_IS_ON_ITS_WAY = (
    (outbox_message.c.state == OutboxState.PENDING.value) & func.coalesce(outbox_message.c.claimed_until > func.now(), False)
).label("is_on_its_way")


def version_of(state: str, attempts: int) -> str:
    """What was seen of a message."""
    return f"{state}.{attempts}"


async def list_pairs(connection: AsyncConnection) -> list[PairQueue]:
    """Each pair for which something waits or was refused."""
    return [PairQueue(*row) for row in await connection.execute(_PAIRS)]


async def list_messages(connection: AsyncConnection, wanted: MessageFilter, *, after: int | None, limit: int) -> list[Message]:
    """Those before number `after`, the newest first."""
    number = outbox_message.c.outbox_message_id
    found: list[Message] = []
    for state in wanted.states:
        conditions = [*wanted.conditions(state), *([] if after is None else [number < after])]
        # The last one that waits may be old: by the index that holds no others.
        order = (number + 0 if state is OutboxState.PENDING else number).desc()
        found += await _read(connection, select(number).where(*conditions).order_by(order).limit(limit))
    return sorted(found, key=lambda one: -one.outbox_message_id)[:limit]


async def count_messages(connection: AsyncConnection, wanted: MessageFilter) -> int:
    """How many, up to one more than `MAX_COUNTED` of each state."""
    count = 0
    for state in wanted.states:
        some = select(1).select_from(outbox_message).where(*wanted.conditions(state)).limit(MAX_COUNTED + 1).subquery()
        count += await connection.scalar(select(func.count()).select_from(some)) or 0
    return count


async def list_numbers(
    connection: AsyncConnection, wanted: MessageFilter, *, upto: int | None = None, is_locked: bool = False
) -> list[int]:
    """All that are not on their way, in order; those up to number `upto`, locked until the transaction ends."""
    number = outbox_message.c.outbox_message_id
    last = [] if upto is None else [number <= upto]
    found: list[int] = []
    for state in wanted.states:
        query = select(number).where(*wanted.conditions(state), ~_IS_ON_ITS_WAY, *last).order_by(number)
        found += await connection.scalars(query.with_for_update(key_share=True) if is_locked else query)
    return sorted(found)


async def read_messages(connection: AsyncConnection, outbox_message_ids: Sequence[int]) -> list[Message]:
    """Those that exist, in order of their numbers."""
    number = outbox_message.c.outbox_message_id
    return (await _read(connection, select(number).where(is_among(number, outbox_message_ids))))[::-1]


async def lock_messages(connection: AsyncConnection, outbox_message_ids: Sequence[int]) -> dict[int, tuple[str, bool]]:
    """What is there of each now (`version_of`, and whether it is on its way), locked until the transaction ends."""
    kept = outbox_message.c
    query = (
        select(kept.outbox_message_id, kept.state, kept.attempts, _IS_ON_ITS_WAY)
        .where(is_among(kept.outbox_message_id, outbox_message_ids))
        .order_by(kept.outbox_message_id)
        .with_for_update(key_share=True)
    )
    return {row[0]: (version_of(row[1], row[2]), row[3]) for row in await connection.execute(query)}


async def _read(connection: AsyncConnection, numbers: Select[tuple[int]]) -> list[Message]:
    """The newest first."""
    kept, moved = outbox_message.c, stock_movement.c
    special: dict[str, Any] = {"waits_for": WAITS_FOR, "is_on_its_way": _IS_ON_ITS_WAY, "unit": unit.c.short_name.label("unit")}
    columns = [special.get(name, (moved if name in OF_THE_MOVEMENT else kept).get(name)) for name in _NAMES]
    level = (moved.store_id == kept.store_id) & (moved.item_id == kept.item_id) & (moved.level_version == kept.level_version)
    query = select(*columns).select_from(outbox_message).join(stock_movement, level)
    query = query.join(item, (item.c.store_id == kept.store_id) & (item.c.item_id == kept.item_id))
    query = query.join(unit, (unit.c.store_id == item.c.store_id) & (unit.c.unit_id == item.c.consumption_unit_id))
    query = query.where(kept.outbox_message_id.in_(numbers)).order_by(kept.outbox_message_id.desc())
    return [Message(row[0], OutboxState(row[1]), *row[2:]) for row in await connection.execute(query)]
