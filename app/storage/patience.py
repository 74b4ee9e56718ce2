"""How long what people start waits for rows that others hold: longer than a delivery does, and not for ever."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

LOCK_TIMEOUT = "10s"


async def limit_waiting(connection: AsyncConnection) -> None:
    """Begin the transaction; a lock that is not had in time fails it with lock_not_available (55P03)."""
    await connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
