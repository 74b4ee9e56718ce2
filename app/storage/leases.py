"""Leases: who of all workers and replicas may do a thing that must not be done twice at once.

A lease and not a lock, since what it guards are calls to mipOS: a lock would keep a transaction open and idle for as long as
mipOS takes, and be lost with the connection while the call goes on. A holder that dies gives it back by its end.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.tables import lease


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease as its holder knows it. Its end tells the holder from one that took the lease over after a lapse."""

    name: str
    held_until: datetime


def sync_lease(store_id: str, inventory_system_id: str) -> str:
    """The lease of whoever synchronises the store with the system; while it is held, no message of the two is claimed."""
    return f"sync {store_id} {inventory_system_id}"


async def acquire(connection: AsyncConnection, name: str, *, lasts: timedelta) -> Lease | None:
    """Become the holder of `name` until it is given back or `lasts` has passed, by the database's clock; None where another is.

    Effective for others once the caller's transaction is committed.
    """
    statement = insert(lease).values(name=name, held_until=func.now() + lasts)
    statement = statement.on_conflict_do_update(
        index_elements=["name"],
        set_={"held_until": statement.excluded.held_until},
        where=lease.c.held_until < func.now(),
    )
    held_until = await connection.scalar(statement.returning(lease.c.held_until))
    return None if held_until is None else Lease(name, held_until)


async def extend(connection: AsyncConnection, held: Lease, *, lasts: timedelta) -> Lease | None:
    """Hold it until `lasts` from now; None where it has lapsed, even for a moment: what it guards may have happened by then.

    The row stays locked until the commit.
    """
    statement = (
        update(lease)
        .where(
            lease.c.name == held.name,
            lease.c.held_until == held.held_until,
            lease.c.held_until > func.clock_timestamp(),
        )
        .values(held_until=func.clock_timestamp() + lasts)
        .returning(lease.c.held_until)
    )
    held_until = await connection.scalar(statement)
    return None if held_until is None else Lease(held.name, held_until)


async def give_back(connection: AsyncConnection, held: Lease) -> None:
    """End the lease. This has no effect on a lease that another holder has taken over."""
    await connection.execute(delete(lease).where(lease.c.name == held.name, lease.c.held_until == held.held_until))


async def is_held(connection: AsyncConnection, name: str) -> bool:
    """Whether anybody holds it."""
    return await connection.scalar(select(lease.c.name).where(lease.c.name == name, lease.c.held_until > func.now())) is not None
