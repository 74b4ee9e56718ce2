"""Pings: signed requests of our own that prove that PUBLIC_URL leads to a service with this database."""

from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.problem_tables import ping

_OLD = text("sent_at < now() - interval '1 day'")


async def put(connection: AsyncConnection, nonce: str, *, url: str) -> None:
    """Keep a ping that is about to be sent. Old ones are forgotten, but for the newest that came back."""
    newest = select(func.max(ping.c.sent_at)).where(ping.c.state == "returned").scalar_subquery()
    await connection.execute(delete(ping).where(_OLD, ping.c.sent_at != func.coalesce(newest, text("'infinity'"))))
    await connection.execute(insert(ping).values(nonce=nonce, url=url))


async def arrive(connection: AsyncConnection, nonce: str) -> bool:
    """Note that it arrived here; False where this database knows no such ping."""
    statement = update(ping).where(ping.c.nonce == nonce).values(answered_at=func.now())
    return (await connection.execute(statement)).rowcount == 1


async def has_arrived(connection: AsyncConnection, nonce: str) -> bool:
    """Whether a service with this database has received it."""
    return await connection.scalar(select(ping.c.answered_at).where(ping.c.nonce == nonce)) is not None


async def end(connection: AsyncConnection, nonce: str, *, state: str, words: str) -> None:
    """Keep what came of it: 'returned', 'refused' or 'lost'."""
    await connection.execute(update(ping).where(ping.c.nonce == nonce).values(state=state, words=words))
