"""The hot path's own connection, outside the pool: made when it is needed, dropped when it fails, limited by the server."""

import asyncpg

from app.storage.engine import Database

LOCK_SECONDS = 0.25


class Writer:
    """One connection with one transaction at a time. The caller begins, commits and rolls back."""

    def __init__(self, database: Database, *, statement_seconds: float) -> None:
        self._database = database
        self._connection: asyncpg.Connection | None = None
        # A pooled connection changes hands after each transaction, so there the limits are set inside of it.
        begin = "BEGIN ISOLATION LEVEL READ COMMITTED"
        limits = session_limits(statement_seconds, scope="LOCAL" if database.is_pooled else "SESSION")
        self._begin = f"{begin}; {limits}" if database.is_pooled else begin
        self._on_connect = None if database.is_pooled else limits

    @property
    def is_pooled(self) -> bool:
        """Whether a pooler hands the connection to others between two transactions."""
        return self._database.is_pooled

    async def connect(self) -> asyncpg.Connection:
        """The connection, a new one if the last was lost; raises as the driver does."""
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._database.connect()
            if self._on_connect is not None:
                await self._connection.execute(self._on_connect)
        return self._connection

    async def begin(self) -> asyncpg.Connection:
        """Begin a transaction on the connection."""
        connection = await self.connect()
        await connection.execute(self._begin)
        return connection

    async def commit(self) -> None:
        """Commit; returns only if Postgres said so.

        Raises:
            asyncpg.InterfaceError: it ended the transaction in another way.
        """
        assert self._connection is not None
        status = await self._connection.execute("COMMIT")
        if status != "COMMIT":
            raise asyncpg.InterfaceError(f"COMMIT answered {status}")

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

    A worker that falls silent between two messages of one statement is waited for by none of the first three limits, since
    to Postgres it is neither idle nor running. From 17 on there is one for the transaction: twice as long, so that it is last.

    Plans are made once, since for the arrays of a batch Postgres would plan each statement anew, which costs more than running
    it; and never with a sequential scan, since a plan that was made while the ledger was empty would read all of it for ever.
    """
    milliseconds = int(statement_seconds * 1000)
    is_local = "true" if scope == "LOCAL" else "false"
    return (
        f"SET {scope} lock_timeout = {int(LOCK_SECONDS * 1000)}; SET {scope} statement_timeout = {milliseconds}; "
        f"SET {scope} idle_in_transaction_session_timeout = {milliseconds}; "
        f"SET {scope} plan_cache_mode = force_generic_plan; SET {scope} enable_seqscan = off; SET {scope} jit = off; "
        "SELECT CASE WHEN current_setting('server_version_num')::integer >= 170000 "
        f"THEN set_config('transaction_timeout', '{2 * milliseconds}', {is_local}) END"
    )
