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
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.leases import SYNC_LEASE_IN_SQL
from app.storage.mipos_tables import echo_identity, outbox_message
from app.storage.transactions import database_now

CHANNEL = """left('pos_sync_outbox:' || (
  SELECT nspname FROM pg_namespace AS n JOIN pg_class AS c ON c.relnamespace = n.oid
  WHERE c.oid = 'pos_sync.outbox_message'::regclass
), 63)"""
"""SQL for the channel on which a new message is announced, which is only a hint. With the schema in its name, so that two
installations in one database do not wake each other; as record_movement names it."""
CLAIMING = "LOCK TABLE pos_sync.outbox_claim IN ROW EXCLUSIVE MODE"
"""Claimers hold the table with each other. No advisory lock, which any role that may connect could hold."""
_NONE_CLAIMING = "LOCK TABLE pos_sync.outbox_claim IN SHARE MODE"


class OutboxState(StrEnum):
    """What became of a message."""

    PENDING = "pending"
    SENT = "sent"
    DEAD = "dead"
    """Refused, or held after a restore; it waits for a person."""
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
    attempts: int
    movement_type: int
    quantity: Decimal
    current_stock: Decimal
    """The balance after the movement. Where a later one was told already, it is the level of now: an old one must not be last."""
    happened_at: datetime
    user_id_tps: str
    mipos_store_id: str | None
    timezone: str
    claimed_until: datetime
    """By this the claim is known: who settles later has lost it to another."""

    @property
    def pair(self) -> tuple[str, str, str]:
        """Whose order counts: (inventory system, store, item)."""
        return self.inventory_system_id, self.store_id, self.item_id


# The oldest message of each pair by jumping from pair to pair in the index, however many messages wait; from behind the pair
# where the last claim ended, and no further than what is asked for. Locked, claimed and read by a statement each, since Citus
# refuses to write in a WITH.
_LOCK_DUE = """
WITH RECURSIVE head AS (
  (
    SELECT inventory_system_id, store_id, item_id, outbox_message_id FROM pos_sync.outbox_message
    WHERE state = 'pending' AND (inventory_system_id, store_id, item_id) > (:system_id, :store_id, :item_id)
    ORDER BY inventory_system_id, store_id, item_id, level_version LIMIT 1
  )
  UNION ALL
  SELECT next.* FROM head CROSS JOIN LATERAL (
    SELECT inventory_system_id, store_id, item_id, outbox_message_id FROM pos_sync.outbox_message
    WHERE state = 'pending'
      AND (inventory_system_id, store_id, item_id) > (head.inventory_system_id, head.store_id, head.item_id)
    ORDER BY inventory_system_id, store_id, item_id, level_version LIMIT 1
  ) AS next
)
SELECT message.outbox_message_id FROM pos_sync.outbox_message AS message JOIN head USING (outbox_message_id)
WHERE message.state = 'pending' AND message.next_attempt_at <= now()
  AND (message.claimed_until IS NULL OR message.claimed_until <= now())
  AND EXISTS (
    SELECT FROM pos_sync.integration
    WHERE integration.store_id = message.store_id AND integration.inventory_system_id = message.inventory_system_id
      AND integration.enabled
  )
  AND NOT EXISTS (
    SELECT FROM pos_sync.system_level AS held
    WHERE held.inventory_system_id = message.inventory_system_id AND held.store_id = message.store_id
      AND held.item_id = message.item_id AND held.is_held
  )
  AND NOT EXISTS (
    SELECT FROM pos_sync.lease
    WHERE lease.name = {sync_lease} AND lease.held_until > now()
  )
  AND NOT EXISTS (
    SELECT FROM pos_sync.outbox_message AS other
    WHERE other.state = 'pending' AND other.inventory_system_id = message.inventory_system_id
      AND other.store_id = message.store_id AND other.item_id = message.item_id AND other.claimed_until > now()
  )
LIMIT :limit
FOR UPDATE OF message SKIP LOCKED
""".format(sync_lease=SYNC_LEASE_IN_SQL.format(store_id="message.store_id", inventory_system_id="message.inventory_system_id"))  # noqa: S608
_CLAIM = """
UPDATE pos_sync.outbox_message
SET claimed_until = CAST(:now AS timestamptz) + :lasts, attempts = attempts + 1,
  -- A claim that nobody ended: its process died, perhaps after it had sent.
  unknown_sends = unknown_sends + (claimed_until IS NOT NULL)::integer,
  unknown_until = coalesce(claimed_until, unknown_until), sent_at = coalesce(sent_at, CAST(:now AS timestamptz))
WHERE outbox_message_id = ANY (CAST(:ids AS bigint[]))
"""
_READ_CLAIMED = """
SELECT
  claimed.outbox_message_id, claimed.store_id, claimed.item_id, claimed.level_version, claimed.inventory_system_id,
  claimed.attempts, moved.movement_type, moved.quantity, coalesce(overtaken.quantity, moved.balance_after),
  coalesce(moved.happened_at, moved.received_at), integration.user_id_tps, store.mipos_store_id,
  coalesce(store.timezone, rule.timezone, 'UTC'), claimed.claimed_until
FROM pos_sync.outbox_message AS claimed JOIN pos_sync.stock_movement AS moved USING (store_id, item_id, level_version)
JOIN pos_sync.store USING (store_id)
JOIN pos_sync.integration ON integration.store_id = claimed.store_id
  AND integration.inventory_system_id = claimed.inventory_system_id
LEFT JOIN pos_sync.service_rule AS rule ON true
LEFT JOIN LATERAL (
  SELECT level.quantity FROM pos_sync.stock_level AS level
  WHERE level.store_id = claimed.store_id AND level.item_id = claimed.item_id AND EXISTS (
    SELECT FROM pos_sync.outbox_message AS later
    WHERE later.store_id = claimed.store_id AND later.item_id = claimed.item_id
      AND later.inventory_system_id = claimed.inventory_system_id AND later.level_version > claimed.level_version
      AND later.state IN ('sent', 'covered')
  )
) AS overtaken ON true
WHERE claimed.outbox_message_id = ANY (CAST(:ids AS bigint[]))
ORDER BY claimed.inventory_system_id, claimed.store_id, claimed.item_id
"""


FIRST_PAIR = ("", "", "")


async def claim(
    connection: AsyncConnection, *, limit: int, lasts: timedelta, after: tuple[str, str, str] = FIRST_PAIR
) -> list[OutboxMessage]:
    """Take up to `limit` messages that are due, each the oldest of its pair, for `lasts`. Effective once committed.

    Only of pairs behind `after`; they come in order of their pairs, so that a caller who goes on from the last is fair to all.
    """
    await connection.execute(text(CLAIMING))
    system_id, store_id, item_id = after
    asked = {"limit": limit, "system_id": system_id, "store_id": store_id, "item_id": item_id}
    ids = list(await connection.scalars(text(_LOCK_DUE), asked))
    if not ids:
        return []
    now = await database_now(connection)
    await connection.execute(text(_CLAIM), {"ids": ids, "now": now, "lasts": lasts})
    return [OutboxMessage(*row) for row in await connection.execute(text(_READ_CLAIMED), {"ids": ids})]


async def announce(connection: AsyncConnection) -> None:
    """Hint to the relays that there is a message, with the caller's commit."""
    await connection.execute(text(f"SELECT pg_notify({CHANNEL}, '')"))


async def put_echoes(connection: AsyncConnection, echoes: Sequence[tuple[OutboxMessage, bytes]]) -> None:
    """Keep the identity that each message would have if it came back as a report; effective before it is sent."""
    rows = [
        {"store_id": message.store_id, "dedupe_key": identity, "outbox_message_id": message.outbox_message_id}
        for message, identity in echoes
    ]
    if rows:
        await connection.execute(insert(echo_identity).on_conflict_do_nothing(), rows)


async def await_claims(connection: AsyncConnection) -> None:
    """Return once nobody is in the middle of claiming: who begins to after this sees all that was committed before."""
    await connection.execute(text(_NONE_CLAIMING))


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a claimed message. Still pending, it is due again after `pause`."""

    message: OutboxMessage
    state: OutboxState
    words: str | None = None
    pause: timedelta = timedelta()
    may_have_arrived: bool = False
    """Whether this try may have been applied by mipOS, though nobody said so."""


async def settle(connection: AsyncConnection, settled: Sequence[Settled]) -> None:
    """End the claims. What was sent is sent, whatever happened meanwhile; all else counts only while the claim is still held."""
    # As a parameter: Citus takes no function of the clock beside columns.
    now = await database_now(connection)
    await connection.execute(
        text("""
        UPDATE pos_sync.outbox_message AS message
        SET state = done.state, words = done.words, next_attempt_at = done.next_attempt_at, claimed_until = NULL,
          closed_at = CASE WHEN done.state <> 'pending' THEN CAST(:now AS timestamptz) END,
          unknown_sends = message.unknown_sends + done.may_have_arrived::integer,
          unknown_until = CASE WHEN done.may_have_arrived THEN CAST(:now AS timestamptz) ELSE message.unknown_until END,
          sent_at = CASE WHEN done.state = 'sent' OR done.may_have_arrived OR message.unknown_sends > 0 THEN message.sent_at END
        FROM unnest(
          CAST(:ids AS bigint[]), CAST(:states AS text[]), CAST(:words AS text[]), CAST(:due AS timestamptz[]),
          CAST(:claims AS timestamptz[]), CAST(:arrivals AS boolean[])
        ) AS done (outbox_message_id, state, words, next_attempt_at, claimed_until, may_have_arrived)
        WHERE message.outbox_message_id = done.outbox_message_id
          AND (done.state = 'sent' OR (message.state = 'pending' AND message.claimed_until = done.claimed_until))
        """),
        {
            "ids": [one.message.outbox_message_id for one in settled],
            "states": [one.state.value for one in settled],
            "words": [one.words for one in settled],
            "due": [now + one.pause for one in settled],
            "now": now,
            "claims": [one.message.claimed_until for one in settled],
            "arrivals": [one.may_have_arrived for one in settled],
        },
    )


async def give_back(connection: AsyncConnection, outbox_message_ids: Iterable[int]) -> None:
    """End the claims of messages that were not tried."""
    ids = list(outbox_message_ids)
    table = outbox_message
    values = {
        "claimed_until": None,
        "attempts": func.greatest(table.c.attempts - 1, 0),
        "sent_at": case((table.c.unknown_sends > 0, table.c.sent_at), else_=None),
    }
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
