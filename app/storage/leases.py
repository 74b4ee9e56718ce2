"""Leases: who of all workers and replicas may do a thing that must not be done twice at once.

A lease and not a lock, since what it guards are calls to mipOS: a lock would keep a transaction open and idle for as long as
mipOS takes, and be lost with the connection while the call goes on. A holder that dies gives it back by its end.
"""

from datetime import timedelta

from sqlalchemy import delete, func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.tables import lease


async def try_acquire(connection: AsyncConnection, name: str, *, lasts: timedelta) -> bool:
    """Become the holder of `name` until it is released or `lasts` has passed, by the database's clock; False where another is.

    `lasts` has to be longer than what it guards can take. Effective for others once the caller's transaction is committed.
    """
    statement = insert(lease).values(name=name, held_until=func.now() + lasts)
    statement = statement.on_conflict_do_update(
        index_elements=["name"],
        set_={"held_until": statement.excluded.held_until},
        where=lease.c.held_until < func.now(),
    ).returning(lease.c.name)
    return (await connection.scalar(statement)) is not None


async def release(connection: AsyncConnection, name: str) -> None:
    """Let others have it."""
    await connection.execute(delete(lease).where(lease.c.name == name))
