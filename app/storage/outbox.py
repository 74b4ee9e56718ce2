"""Messages that go out: claimed, settled, listed. The function apply_movements queues them.

The order of a pair (inventory system, store, item) is that of its ledger rows. Only the oldest pending message of a pair can be
claimed, so a pair never has two on their way; a claim ends by itself, so one that was lost with its process is sent again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from sqlalchemy import case, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.leases import SYNC_LEASE_IN_SQL
from app.storage.mipos_tables import outbox_message
from app.storage.tables import matching, stock_movement

CHANNEL = "left('pos_sync_outbox:' || current_schema(), 63)"
"""SQL for the channel on which a new message is announced, which is only a hint. With the schema in its name, so that two
installations in one database do not wake each other; as record_pos_movement names it."""
CLAIMS_LOCK = "hashtextextended('pos_sync outbox claims ' || current_schema(), 0)"
"""SQL for an advisory lock. Claimers take it shared; a sync takes it exclusively, to wait until no claim is in progress."""


class OutboxState(StrEnum):
    """What became of a message."""

    PENDING = "pending"
    SENT = "sent"
    DEAD = "dead"
    """Refused; it waits for a person."""
    COVERED = "covered"
    """A full synchronisation has told the stock after it."""
    DISMISSED = "dismissed"


@dataclass(frozen=True, slots=True)
class OutboxMessage:
    """One message with the ledger row that it tells, and where it goes."""

    outbox_message_id: int
    store_id: str
    item_id: str
    level_version: int
    inventory_system_id: str
    user_id_tps: str
    attempts: int
    source: str
    movement_type: int
    quantity: Decimal
    balance_after: Decimal
    date_text: str | None
    received_at: datetime
    mipos_store_id: str | None
    timezone: str
    claimed_until: datetime
    """By this the claim is known: who settles later has lost it to another."""

    @property
    def pair(self) -> tuple[str, str, str]:
        """Whose order counts: (inventory system, store, item)."""
        return self.inventory_system_id, self.store_id, self.item_id


# The oldest message of each pair by jumping from pair to pair in the index, however many messages wait; from behind the pair
# where the last claim ended, and no further than what is asked for.
_CLAIM = """
WITH RECURSIVE head AS (
  (
    SELECT inventory_system_id, store_id, item_id, outbox_message_id FROM outbox_message
    WHERE state = 'pending' AND (inventory_system_id, store_id, item_id) > (:system_id, :store_id, :item_id)
    ORDER BY inventory_system_id, store_id, item_id, level_version LIMIT 1
  )
  UNION ALL
  SELECT next.* FROM head CROSS JOIN LATERAL (
    SELECT inventory_system_id, store_id, item_id, outbox_message_id FROM outbox_message
    WHERE state = 'pending'
      AND (inventory_system_id, store_id, item_id) > (head.inventory_system_id, head.store_id, head.item_id)
    ORDER BY inventory_system_id, store_id, item_id, level_version LIMIT 1
  ) AS next
), due AS (
  SELECT message.outbox_message_id FROM outbox_message AS message JOIN head USING (outbox_message_id)
  WHERE message.state = 'pending' AND message.next_attempt_at <= now()
    AND (message.claimed_until IS NULL OR message.claimed_until <= now())
    AND NOT EXISTS (
      SELECT FROM lease
      WHERE lease.name = {sync_lease} AND lease.held_until > now()
    )
    AND NOT EXISTS (
      SELECT FROM outbox_message AS other
      WHERE other.state = 'pending' AND other.inventory_system_id = message.inventory_system_id
        AND other.store_id = message.store_id AND other.item_id = message.item_id AND other.claimed_until > now()
    )
  LIMIT :limit
  FOR UPDATE OF message SKIP LOCKED
), claimed AS (
  UPDATE outbox_message AS message
  SET claimed_until = now() + :lasts, attempts = message.attempts + 1
  FROM due WHERE message.outbox_message_id = due.outbox_message_id
  RETURNING message.*
)
SELECT
  claimed.outbox_message_id, claimed.store_id, claimed.item_id, claimed.level_version, claimed.inventory_system_id,
  claimed.user_id_tps, claimed.attempts, moved.source, moved.movement_type, moved.quantity, moved.balance_after,
  moved.date_text, moved.received_at, store.mipos_store_id, store.timezone, claimed.claimed_until
FROM claimed JOIN stock_movement AS moved USING (store_id, item_id, level_version) JOIN store USING (store_id)
ORDER BY claimed.inventory_system_id, claimed.store_id, claimed.item_id
""".format(sync_lease=SYNC_LEASE_IN_SQL.format(store_id="message.store_id", inventory_system_id="message.inventory_system_id"))  # noqa: S608


FIRST_PAIR = ("", "", "")


async def claim(
    connection: AsyncConnection, *, limit: int, lasts: timedelta, after: tuple[str, str, str] = FIRST_PAIR
) -> list[OutboxMessage]:
    """Take up to `limit` messages that are due, each the oldest of its pair, for `lasts`. Effective once committed.

    Only of pairs behind `after`; they come in order of their pairs, so that a caller who goes on from the last is fair to all.
    """
    await connection.execute(text(f"SELECT pg_advisory_xact_lock_shared({CLAIMS_LOCK})"))
    system_id, store_id, item_id = after
    asked = {"limit": limit, "lasts": lasts, "system_id": system_id, "store_id": store_id, "item_id": item_id}
    rows = await connection.execute(text(_CLAIM), asked)
    return [OutboxMessage(*row) for row in rows]


async def await_claims(connection: AsyncConnection) -> None:
    """Return once nobody is in the middle of claiming: who begins to after this sees all that was committed before."""
    await connection.execute(text(f"SELECT pg_advisory_xact_lock({CLAIMS_LOCK})"))


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a claimed message. Still pending, it is due again after `pause`."""

    message: OutboxMessage
    state: OutboxState
    words: str | None = None
    pause: timedelta = timedelta()


async def settle(connection: AsyncConnection, settled: Sequence[Settled]) -> None:
    """End the claims. What was sent is sent, whatever happened meanwhile; all else counts only while the claim is still held."""
    await connection.execute(
        text("""
        UPDATE outbox_message AS message
        SET state = done.state, words = done.words, next_attempt_at = now() + done.pause, claimed_until = NULL,
          closed_at = CASE WHEN done.state <> 'pending' THEN now() END
        FROM unnest(
          CAST(:ids AS bigint[]), CAST(:states AS text[]), CAST(:words AS text[]), CAST(:pauses AS interval[]),
          CAST(:claims AS timestamptz[])
        ) AS done (outbox_message_id, state, words, pause, claimed_until)
        WHERE message.outbox_message_id = done.outbox_message_id
          AND (done.state = 'sent' OR (message.state = 'pending' AND message.claimed_until = done.claimed_until))
        """),
        {
            "ids": [one.message.outbox_message_id for one in settled],
            "states": [one.state.value for one in settled],
            "words": [one.words for one in settled],
            "pauses": [one.pause for one in settled],
            "claims": [one.message.claimed_until for one in settled],
        },
    )


async def give_back(connection: AsyncConnection, outbox_message_ids: Iterable[int]) -> None:
    """End the claims of messages that were not tried."""
    ids = list(outbox_message_ids)
    table = outbox_message
    values = {"claimed_until": None, "attempts": func.greatest(table.c.attempts - 1, 0)}
    await connection.execute(
        update(table).where(table.c.outbox_message_id.in_(ids), table.c.state == OutboxState.PENDING.value).values(values)
    )


@dataclass(frozen=True, slots=True)
class Backlog:
    """How much waits: pending messages, the age of the oldest in seconds, and dead ones."""

    pending: int
    oldest_seconds: float
    dead: int


async def backlog(connection: AsyncConnection) -> Backlog:
    """What waits now."""
    table = outbox_message.c
    oldest = func.coalesce(func.extract("epoch", func.now() - func.min(table.created_at)), 0)
    pending, seconds = (
        await connection.execute(select(func.count(), oldest).where(table.state == OutboxState.PENDING.value))
    ).one()
    dead = await connection.scalar(select(func.count()).where(table.state == OutboxState.DEAD.value))
    return Backlog(pending, float(seconds), dead or 0)


_OF_THE_MOVEMENT = {"movement_type", "quantity", "balance_after"}


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
    words: str | None
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
    columns = [(moved if name in _OF_THE_MOVEMENT else kept)[name] for name in ListedMessage.__slots__]
    level = (moved.store_id == kept.store_id) & (moved.item_id == kept.item_id) & (moved.level_version == kept.level_version)
    query = select(*columns).join(stock_movement, level).order_by(kept.outbox_message_id).limit(limit)
    query = query.where(*matching(outbox_message, store_id=store_id, item_id=item_id, inventory_system_id=system_id))
    if states:
        query = query.where(kept.state.in_([state.value for state in states]))
    if ids:
        query = query.where(kept.outbox_message_id.in_(ids))
    return [ListedMessage(row[0], OutboxState(row[1]), *row[2:]) for row in await connection.execute(query)]


async def retry(connection: AsyncConnection, outbox_message_ids: Sequence[int]) -> list[int]:
    """Make messages due now: dead and dismissed ones again, pending ones at once. Those that it did so for."""
    table = outbox_message
    retried = [OutboxState.PENDING.value, OutboxState.DEAD.value, OutboxState.DISMISSED.value]
    statement = (
        update(table)
        .where(table.c.outbox_message_id.in_(outbox_message_ids), table.c.state.in_(retried))
        .values(
            state=OutboxState.PENDING.value,
            next_attempt_at=func.now(),
            closed_at=None,
            # One that is on its way stays claimed; the others start counting from zero.
            attempts=case((table.c.state == OutboxState.PENDING.value, table.c.attempts), else_=0),
        )
        .returning(table.c.outbox_message_id)
    )
    found = list(await connection.scalars(statement))
    await connection.execute(text(f"SELECT pg_notify({CHANNEL}, '')"))
    return found


async def dismiss(connection: AsyncConnection, outbox_message_ids: Sequence[int], *, actor: str, note: str) -> list[int]:
    """Let messages never be sent; not those that are on their way. Those that it did so for."""
    table = outbox_message
    open_states = [OutboxState.PENDING.value, OutboxState.DEAD.value]
    statement = (
        update(table)
        .where(
            table.c.outbox_message_id.in_(outbox_message_ids),
            table.c.state.in_(open_states),
            func.coalesce(table.c.claimed_until, func.now()) <= func.now(),
        )
        .values(state=OutboxState.DISMISSED.value, closed_at=func.now(), actor=actor, note=note)
        .returning(table.c.outbox_message_id)
    )
    return list(await connection.scalars(statement))
