"""After a restore from a backup: what the database cannot know any more is not believed.

What happened after the backup is lost here, and not elsewhere: messages were sent, tokens replaced, changes told. So nothing that
may have gone out goes out again by itself, and readers of the change feed are told that it begins again.
"""

from dataclasses import dataclass

from sqlalchemy import BigInteger, cast, delete, func, null, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.mipos_tables import access_token, change_feed, change_feed_level, change_feed_state, lease, outbox_message
from app.storage.outbox import OutboxState, await_claims
from app.storage.rights import set_guards

PLACES_OF_A_SECOND = 2**20
"""More than are given in a second: so an epoch begins behind all places of the epochs before, also of those that were lost."""
WORDS = "held after a restore: it may have been sent before"


@dataclass(frozen=True, slots=True)
class Restored:
    """What was done."""

    messages: int
    """Held for a person."""
    tokens: int
    leases: int
    guards: list[str]
    """Those that a restore had weakened, and that are as they were again."""


async def begin_anew(connection: AsyncConnection, *, actor: str) -> Restored:
    """Hold the outbox, forget tokens and leases, begin an epoch of the change feed, and set the guards. As the owner.

    Raises:
        GuardMissing: nothing was changed.
    """
    await await_claims(connection)
    await connection.execute(select(change_feed_state).with_for_update())
    guards = await set_guards(connection)
    messages = await _hold_messages(connection, actor=actor)
    tokens = (await connection.execute(delete(access_token))).rowcount
    leases = (await connection.execute(delete(lease))).rowcount
    await _begin_epoch(connection)
    return Restored(messages, tokens, leases, guards)


async def _hold_messages(connection: AsyncConnection, *, actor: str) -> int:
    """Each may have been sent since the backup: drift counts it as a message whose outcome is not known."""
    table = outbox_message
    values = {
        "state": OutboxState.DEAD.value,
        "closed_at": func.now(),
        "claimed_until": null(),
        "sent_at": func.coalesce(table.c.sent_at, table.c.created_at),
        "unknown_sends": table.c.unknown_sends + 1,
        "unknown_until": func.now(),
        "words": WORDS,
        "actor": actor,
    }
    return (await connection.execute(update(table).where(table.c.state == OutboxState.PENDING.value).values(values))).rowcount


async def _begin_epoch(connection: AsyncConnection) -> None:
    """Every row gets another place, behind all that were ever given; also where nobody had read the feed before the backup."""
    await connection.execute(delete(change_feed))
    await connection.execute(delete(change_feed_level))
    second = cast(func.floor(func.extract("epoch", func.clock_timestamp())), BigInteger)
    statement = insert(change_feed_state).values(is_only=True, position=second * PLACES_OF_A_SECOND)
    begun = {
        "position": func.greatest(change_feed_state.c.position + PLACES_OF_A_SECOND, statement.excluded.position),
        "numbered_at": null(),
        "swept_at": null(),
    }
    await connection.execute(statement.on_conflict_do_update(index_elements=["is_only"], set_=begun))
