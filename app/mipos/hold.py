"""The lease under which one pair of store and system is synchronised: had by one, kept alive, and given back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.storage import leases
from app.storage.leases import Lease
from app.storage.syncs import Pair

LEASE = timedelta(seconds=60)
"""How long messages wait after a process that synchronised has died."""
EXTENSIONS = 4
"""How often a lease is extended within the time that it lasts."""
RELEASE_SECONDS = 2.0


async def acquire(connection: AsyncConnection, pair: Pair) -> Lease | None:
    """The lease of `pair`, or None where another has it."""
    return await leases.acquire(connection, leases.sync_lease(pair.store_id, pair.inventory_system_id), lasts=LEASE)


class Hold:
    """A lease that is kept alive in the background."""

    def __init__(self, engine: AsyncEngine, lease: Lease) -> None:
        self._engine = engine
        self._lease: Lease | None = lease
        self._lock = asyncio.Lock()

    @property
    def is_lost(self) -> bool:
        """Whether another may have had it since."""
        return self._lease is None

    @asynccontextmanager
    async def extended(self) -> AsyncIterator[AsyncConnection | None]:
        """A transaction in which nobody else can take the lease; None where it is lost."""
        async with self._lock:
            async with self._engine.begin() as connection:
                extended = None if self._lease is None else await leases.extend(connection, self._lease, lasts=LEASE)
                yield connection if extended is not None else None
            self._lease = extended

    async def keep(self) -> None:
        """Extend it for ever, or until another has it."""
        while not self.is_lost:
            await asyncio.sleep(LEASE.total_seconds() / EXTENSIONS)
            with suppress(OSError, TimeoutError, SQLAlchemyError):
                async with self.extended():
                    pass

    async def release(self) -> None:
        """Give it back."""
        if self._lease is not None:
            async with self._engine.begin() as connection:
                await leases.give_back(connection, self._lease)


@asynccontextmanager
async def holding(engine: AsyncEngine, lease: Lease) -> AsyncIterator[Hold]:
    """Keep `lease` alive until the block ends, and give it back."""
    hold = Hold(engine, lease)
    keeper = asyncio.create_task(hold.keep(), name="sync lease")
    try:
        yield hold
    finally:
        keeper.cancel()
        # A database that is away gives it back by its end.
        with suppress(Exception):
            async with asyncio.timeout(RELEASE_SECONDS):
                await asyncio.wait([keeper])
                await hold.release()
