"""Transactions that a person starts: the lock timeout of all transactions, and one rule for trying again."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.storage.engine import driver_of
from app.storage.faults import Fault, classify

LOCK_SECONDS = 0.25
"""How long any transaction of ours waits for a row that another session holds."""
MAX_CONFLICTS = 5
BUSY_SECONDS = 10.0
"""How long a transaction that meets a held row is tried again, before it ends with lock_not_available."""
PAUSE_SECONDS = 0.05

_T = TypeVar("_T")


async def run_transaction(
    engine: AsyncEngine,
    work: Callable[[AsyncConnection, asyncpg.Connection], Awaitable[_T]],
    *,
    is_dry: bool = False,
) -> _T:
    """Run `work` in a transaction, commit, and return what it returned; with `is_dry`, roll back instead.

    `work` gets the transaction's connection twice: for SQLAlchemy, and as the driver's own. It may run several times: again at
    once where another transaction came first, and after a pause where another session holds a row.

    Raises:
        asyncpg.PostgresError, DBAPIError: any other failure, the last conflict, or a row that is held for `BUSY_SECONDS`.
    """
    loop = asyncio.get_running_loop()
    conflicts, busy_until = 0, loop.time() + BUSY_SECONDS
    while True:
        try:
            async with engine.connect() as connection:
                await connection.execute(text(f"SET LOCAL lock_timeout = {int(LOCK_SECONDS * 1000)}"))
                result = await work(connection, await driver_of(connection))
                await (connection.rollback() if is_dry else connection.commit())
                return result
        except (asyncpg.PostgresError, DBAPIError) as error:
            fault = classify(error)
            conflicts += fault is Fault.CONFLICT
            may_wait = fault is Fault.BUSY and loop.time() < busy_until
            if not may_wait and (fault is not Fault.CONFLICT or conflicts >= MAX_CONFLICTS):
                raise
        await asyncio.sleep(PAUSE_SECONDS if may_wait else 0)
