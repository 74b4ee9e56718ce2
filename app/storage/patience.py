"""How long what people start waits for rows that others hold, and how often it gives way: more than a delivery, not for ever."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.faults import Fault, classify

LOCK_TIMEOUT = "10s"
MOST_TRIES = 5

_T = TypeVar("_T")


async def limit_waiting(connection: AsyncConnection) -> None:
    """Begin the transaction; a lock that is not had in time fails it with lock_not_available (55P03)."""
    await connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))


async def again_on_conflict(attempt: Callable[[], Awaitable[_T]]) -> _T:
    """What `attempt` returns, which is one whole transaction: run again where another took a place in the ledger first.

    Raises:
        asyncpg.PostgresError: any other failure, or a conflict for the `MOST_TRIES`th time.
    """
    for _ in range(MOST_TRIES - 1):
        try:
            return await attempt()
        except asyncpg.PostgresError as error:
            if classify(error) is not Fault.CONFLICT:
                raise
    return await attempt()
