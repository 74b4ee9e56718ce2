"""Messages to the alert webhook, as they are kept: at most one that is not sent yet."""

from datetime import timedelta

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.problem_tables import alert_message
from app.storage.transactions import database_now

_KEPT = text("sent_at < now() - interval '30 days'")


async def keep(connection: AsyncConnection, message_id: str, body: str, *, min_pause: timedelta) -> bool:
    """Keep the message in place of any other that is not sent; whether it is time to send it.

    A message that takes the place of one that was not taken inherits its pause.
    """
    replaced = (
        delete(alert_message)
        .where(alert_message.c.sent_at.is_(None), alert_message.c.message_id != message_id)
        .returning(alert_message.c.attempts, alert_message.c.next_attempt_at)
    )
    old = (await connection.execute(replaced)).first()
    await connection.execute(delete(alert_message).where(_KEPT))
    values = {"message_id": message_id, "body": body}
    if old is not None:
        values |= {"attempts": old.attempts, "next_attempt_at": old.next_attempt_at}
    await connection.execute(insert(alert_message).values(**values).on_conflict_do_nothing())
    last = select(func.max(alert_message.c.sent_at)).scalar_subquery()
    query = select(
        (alert_message.c.next_attempt_at <= func.now())
        & func.coalesce(last + min_pause <= func.now(), text("true"))
        & alert_message.c.sent_at.is_(None)
    ).where(alert_message.c.message_id == message_id)
    return bool(await connection.scalar(query))


async def forget_unsent(connection: AsyncConnection) -> None:
    """Drop what is not sent: nothing has to be told any more."""
    await connection.execute(delete(alert_message).where(alert_message.c.sent_at.is_(None)))


async def mark_sent(connection: AsyncConnection, message_id: str) -> None:
    """Keep that the receiver has taken it."""
    await connection.execute(
        update(alert_message)
        .where(alert_message.c.message_id == message_id)
        .values(sent_at=func.now(), attempts=alert_message.c.attempts + 1, words=None)
    )


async def mark_failed(connection: AsyncConnection, message_id: str, *, words: str, max_pause: timedelta) -> int:
    """Keep that it was not taken, and when to try again; how often it was tried."""
    is_this = alert_message.c.message_id == message_id
    tried = await connection.scalar(select(alert_message.c.attempts).where(is_this).with_for_update())
    if tried is None:
        return 0
    attempts = tried + 1
    pause = min(timedelta(seconds=2 ** min(attempts, 12)), max_pause)
    # As a parameter: Citus takes no function of the clock beside columns.
    next_attempt_at = await database_now(connection) + pause
    values = {"attempts": attempts, "words": words, "next_attempt_at": next_attempt_at}
    await connection.execute(update(alert_message).where(is_this).values(**values))
    return attempts
