"""The only place that connects to Postgres: a pooled engine for everything, and bare driver connections for the hot path."""

from dataclasses import dataclass
from typing import Any

import asyncpg
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

CONNECT_SECONDS = 2.0
POOL_SIZE = 4
APPLICATION_NAME = "pos-sync"


@dataclass(frozen=True, slots=True)
class Database:
    """Where Postgres is, and whether PgBouncer in transaction mode stands before it.

    Behind a transaction pooler both statement caches are off and no startup parameter is sent: it refuses or mixes up either.
    """

    url: URL
    is_pooled: bool = False

    def create_engine(self) -> AsyncEngine:
        """A small pool: readiness, catalogue and commands use it, deliveries do not."""
        url = self.url.update_query_dict({"prepared_statement_cache_size": "0"}) if self.is_pooled else self.url
        return create_async_engine(
            url,
            isolation_level="READ COMMITTED",
            pool_size=POOL_SIZE,
            max_overflow=0,
            pool_timeout=CONNECT_SECONDS,
            connect_args=self._connect_arguments(),
        )

    async def connect(self) -> asyncpg.Connection:
        """A driver connection of its own, outside the pool; the caller closes it.

        Raises:
            OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError: as the driver does.
        """
        arguments = self.create_engine().dialect.create_connect_args(self.url)[1]
        return await asyncpg.connect(**arguments, **self._connect_arguments())

    def _connect_arguments(self) -> dict[str, Any]:
        if self.is_pooled:
            return {"timeout": CONNECT_SECONDS, "statement_cache_size": 0}
        return {"timeout": CONNECT_SECONDS, "server_settings": {"application_name": APPLICATION_NAME}}


async def driver_of(connection: AsyncConnection) -> asyncpg.Connection:
    """The driver's connection inside the transaction that `connection` has begun.

    Raises:
        RuntimeError: no statement has run yet, so SQLAlchemy has not told Postgres of its transaction.
    """
    driver = (await connection.get_raw_connection()).driver_connection
    assert isinstance(driver, asyncpg.Connection)
    if not driver.is_in_transaction():
        raise RuntimeError("the transaction has not begun")
    return driver
