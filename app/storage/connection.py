"""The connection on which deliveries are applied, outside the pool: made when it is needed, dropped when it fails."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg

from app.storage.engine import Database
from app.storage.transactions import LOCK_SECONDS


class Connection:
    """One connection with one transaction at a time. `on_connect` is awaited on each new one, before its first transaction."""

    def __init__(
        self,
        database: Database,
        *,
        statement_seconds: float,
        on_connect: Callable[[asyncpg.Connection], Awaitable[None]],
    ) -> None:
        self._database = database
        self._on_connect = on_connect
        self._connection: asyncpg.Connection | None = None
        # A pooled connection changes hands after each transaction, so there the limits are set inside of it.
        self._limits = session_limits(statement_seconds, scope="LOCAL" if database.is_pooled else "SESSION")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[asyncpg.Connection]:
        """Hold the connection for one statement, which is committed when this ends.

        Without a pooler a statement is a transaction by itself, so it costs one round trip.

        Raises:
            asyncpg.InterfaceError: Postgres ended the transaction in another way than by COMMIT.
        """
        connection = await self._connect()
        if not self._database.is_pooled:
            yield connection
            return
        await connection.execute(f"BEGIN ISOLATION LEVEL READ COMMITTED; {self._limits}")
        yield connection
        status = await connection.execute("COMMIT")
        if status != "COMMIT":
            raise asyncpg.InterfaceError(f"COMMIT answered {status}")

    async def _connect(self) -> asyncpg.Connection:
        """Return the connection, a new one if the last was lost; raises as the driver does."""
        if self._connection is None or self._connection.is_closed():
            connection = await self._database.connect()
            try:
                if not self._database.is_pooled:
                    await connection.execute(self._limits)
                await self._on_connect(connection)
            except BaseException:
                connection.terminate()
                raise
            self._connection = connection
        return self._connection

    async def roll_back(self) -> None:
        """End a failed transaction; a connection that cannot even do that is dropped. Never raises."""
        if self._connection is None or not self._connection.is_in_transaction():
            return
        try:
            await self._connection.execute("ROLLBACK", timeout=1)
        except Exception:  # noqa: BLE001 - whatever it is, the connection is of no more use
            self.disconnect()

    def disconnect(self) -> None:
        """Drop the connection at once, without a word to the server."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


def session_limits(statement_seconds: float, *, scope: str) -> str:
    """Limits on the server's side: a worker that is frozen or cut off must not keep its locks. `scope`: SESSION or LOCAL.

    If the client goes silent between Parse and Sync, neither statement_timeout nor idle_in_transaction_session_timeout runs.
    From Postgres 17 on transaction_timeout does: it is twice as long, so that it comes last.
    """
    milliseconds = int(statement_seconds * 1000)
    is_local = "true" if scope == "LOCAL" else "false"
    return (
        f"SET {scope} default_transaction_isolation = 'read committed'; SET {scope} lock_timeout = {int(LOCK_SECONDS * 1000)}; "
        f"SET {scope} statement_timeout = {milliseconds}; SET {scope} idle_in_transaction_session_timeout = {milliseconds}; "
        "SELECT CASE WHEN current_setting('server_version_num')::integer >= 170000 "
        f"THEN set_config('transaction_timeout', '{2 * milliseconds}', {is_local}) END"
    )
