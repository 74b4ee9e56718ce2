"""Time-limited leases: mutual exclusion between workers and replicas for calls to mipOS.

A lease and not a lock, since what it guards are calls to mipOS: a lock would keep a transaction open and idle for as long as
mipOS takes, and be lost with the connection while the call goes on. The lease of a holder that dies lapses.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.storage.mipos_tables import lease
from app.storage.transactions import database_now

SYNC_LEASE = timedelta(seconds=60)
"""How long messages wait after a process that synchronised has died."""
SYNC_LEASE_PREFIX = "sync "
MARGIN = timedelta(seconds=5)
"""By how much a lease may last longer than it can, before it is taken for one of another clock"""
HEARTBEATS = 4
"""How often a lease is renewed within the time that it lasts."""
RELEASE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease as its holder knows it. Its end tells the holder from one that took the lease over after a lapse."""

    name: str
    held_until: datetime


def sync_lease(store_id: str, inventory_system_id: str) -> str:
    """The lease for synchronising the store with the system; while it is held, no message of the two is claimed."""
    return f"{SYNC_LEASE_PREFIX}{store_id} {inventory_system_id}"


SYNC_LEASE_IN_SQL = "'" + SYNC_LEASE_PREFIX + "' || {store_id} || ' ' || {inventory_system_id}"
"""The same name in SQL, for `str.format` with two columns."""


async def acquire(connection: AsyncConnection, name: str, *, lasts: timedelta) -> Lease | None:
    """Become the holder of `name` until it is given back or `lasts` has passed, by the database's clock; None where another is.

    Effective for others once the caller's transaction is committed. All who ask for one name ask for the same length. A lease
    that lasts longer was given by a clock that has gone back since, as at a failover: it is cut to the length, and its holder
    loses it.
    """
    # As a parameter: Citus takes no function of the clock in the condition of an upsert.
    now = await database_now(connection)
    statement = insert(lease).values(name=name, held_until=now + lasts)
    statement = statement.on_conflict_do_update(
        index_elements=["name"], set_={"held_until": statement.excluded.held_until}, where=lease.c.held_until < now
    )
    held_until = await connection.scalar(statement.returning(lease.c.held_until))
    if held_until is not None:
        return Lease(name, held_until)
    is_too_long = (lease.c.name == name) & (lease.c.held_until > now + lasts + MARGIN)
    await connection.execute(update(lease).where(is_too_long).values(held_until=now + lasts))
    return None


@asynccontextmanager
async def holding(engine: AsyncEngine, name: str, *, lasts: timedelta) -> AsyncIterator[bool]:
    """Whether the block is the holder of `name`, as with `acquire`, until the block ends.

    Given back wherever the holder is cancelled, be it while it acquires or gives back: a replica that stops must not hold up the
    others for as long as the lease lasts.

    Raises:
        OSError, TimeoutError, SQLAlchemyError: the database went away. Where the lease is held, it lapses by itself.
    """
    acquiring = asyncio.create_task(_acquire(engine, name, lasts), name=f"acquire lease {name}")
    try:
        yield await asyncio.shield(acquiring) is not None
    finally:
        releasing = asyncio.create_task(_release(engine, acquiring), name=f"release lease {name}")
        try:
            await asyncio.shield(releasing)
        except asyncio.CancelledError:
            await asyncio.gather(releasing, return_exceptions=True)
            raise


async def _acquire(engine: AsyncEngine, name: str, lasts: timedelta) -> Lease | None:
    async with engine.begin() as connection:
        return await acquire(connection, name, lasts=lasts)


async def _release(engine: AsyncEngine, acquiring: Awaitable[Lease | None]) -> None:
    async with asyncio.timeout(RELEASE_SECONDS):
        held = await acquiring
        if held is not None:
            async with engine.begin() as connection:
                await give_back(connection, held)


async def take_turn(engine: AsyncEngine, name: str, *, every: timedelta) -> bool:
    """Whether the caller does `name` in this period, of all replicas. The lease is not given back: it keeps the time."""
    async with engine.begin() as connection:
        return await acquire(connection, name, lasts=every) is not None


async def acquire_for_sync(connection: AsyncConnection, store_id: str, inventory_system_id: str) -> Lease | None:
    """Become the one who synchronises the store with the system; None where another does."""
    return await acquire(connection, sync_lease(store_id, inventory_system_id), lasts=SYNC_LEASE)


async def extend(connection: AsyncConnection, held: Lease, *, lasts: timedelta) -> Lease | None:
    """Hold it until `lasts` from now; None where it has lapsed, even for a moment: what it guards may have happened by then.

    The row stays locked until the commit.
    """
    is_same = (lease.c.name == held.name) & (lease.c.held_until == held.held_until)
    if await connection.scalar(select(lease.c.name).where(is_same).with_for_update()) is None:
        return None
    # Read under the lock. As a parameter: Citus takes no volatile function in an update.
    now = await database_now(connection)
    statement = update(lease).where(is_same, lease.c.held_until > now).values(held_until=now + lasts)
    held_until = await connection.scalar(statement.returning(lease.c.held_until))
    return None if held_until is None else Lease(held.name, held_until)


async def give_back(connection: AsyncConnection, held: Lease) -> None:
    """End the lease. This has no effect on a lease that another holder has taken over."""
    await connection.execute(delete(lease).where(lease.c.name == held.name, lease.c.held_until == held.held_until))


async def is_held(connection: AsyncConnection, name: str) -> bool:
    """Whether anybody holds it."""
    return await connection.scalar(select(lease.c.name).where(lease.c.name == name, lease.c.held_until > func.now())) is not None


class LeaseKeeper:
    """Keeps the lease of a full synchronisation by a heartbeat."""

    def __init__(self, engine: AsyncEngine, held: Lease) -> None:
        self._engine = engine
        self._held: Lease | None = held
        self._lock = asyncio.Lock()

    @property
    def is_lost(self) -> bool:
        """Whether another may have held it since."""
        return self._held is None

    @asynccontextmanager
    async def renewed(self) -> AsyncIterator[AsyncConnection | None]:
        """Open a transaction in which nobody else can take the lease; None where it is lost."""
        async with self._lock:
            async with self._engine.begin() as connection:
                renewed = None if self._held is None else await extend(connection, self._held, lasts=SYNC_LEASE)
                yield connection if renewed is not None else None
            self._held = renewed

    async def keep(self, until: asyncio.Event) -> None:
        """Renew it until another holds it, or `until` is set. Cut off in a COMMIT, nobody would know which end it has."""
        while not self.is_lost and not until.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(SYNC_LEASE.total_seconds() / HEARTBEATS):
                    await until.wait()
                    return
            with suppress(OSError, TimeoutError, SQLAlchemyError):
                async with self.renewed():
                    pass

    async def release(self) -> None:
        """Give it back."""
        if self._held is not None:
            async with self._engine.begin() as connection:
                await give_back(connection, self._held)


@asynccontextmanager
async def keeping(engine: AsyncEngine, held: Lease) -> AsyncIterator[LeaseKeeper]:
    """Keep `held` until the block ends, and give it back."""
    keeper = LeaseKeeper(engine, held)
    is_done = asyncio.Event()
    heartbeat = asyncio.create_task(keeper.keep(is_done), name="sync lease")
    try:
        yield keeper
    finally:
        is_done.set()
        # Where the database is away, the lease lapses by itself.
        with suppress(Exception):
            async with asyncio.timeout(RELEASE_SECONDS):
                await asyncio.wait([heartbeat])
                await keeper.release()
        heartbeat.cancel()
