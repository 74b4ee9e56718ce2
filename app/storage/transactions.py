"""The connection of the engine, the transactions of operators, and what a failure of the database means for either.

One lock timeout holds for all transactions, and one table says what each failure means.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from enum import Enum, auto
from typing import TypeVar

import asyncpg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.failure import UNKNOWN
from app.storage.durability import raised_synchronous_commit
from app.storage.engine import Database, driver_of, reason_of

DATABASE_FAILURES = (OSError, TimeoutError, SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError)
"""What a statement may raise because of the database: SQLAlchemy does not wrap all that the driver raises."""


class Fault(Enum):
    """What to do about a failed transaction."""

    AWAY = auto()
    """Postgres, or the way to it, is not working, or the outcome is unknown: connect again and run the whole again."""
    CONFLICT = auto()
    """Another transaction came first: run the whole again at once."""
    BUSY = auto()
    """Another session held a lock for too long: run again, apart from what waits for it."""
    BROKEN = auto()
    """Postgres failed inside (a damaged page, a file system): it may be one row's, so find whose, and try that one again."""
    DATA = auto()
    """The database refuses a value: find whose it is, spare the others."""
    NOT_SET_UP = auto()
    """Tables or rights are missing: an operator has to act."""
    BUG = auto()
    """Our own code is wrong: find for which delivery, spare the others."""


_CONFLICTS = {"23505", "40001", "40P01"}
"""unique_violation (a place in the ledger was taken), serialization_failure, deadlock_detected"""
_BUSY = {"55P03", "57014"}
"""lock_not_available, query_canceled (statement_timeout)"""
_AWAY_CLASSES = {"08", "25", "28", "3D", "53", "57"}
"""connection, transaction state (read-only after a failover), authorisation, no database, resources (disk full, too many
connections), operator (shutdown)"""
_LOST_CLASSES = {"08", "25", "57"}
"""Of these, what holds for all connections to the server"""
_BROKEN_CLASSES = {"58", "XX"}
"""system error, internal error"""
_NOT_SET_UP = {"42501", "42P01", "42703", "42883", "42704", "3F000"}
"""insufficient_privilege; undefined table, column, function, object, schema"""
_DATA_CLASSES = {"22", "23", "44", "54", "P0"}
"""data exception, integrity violation, check option, program limit (an index row too long), raised by a trigger"""


NOT_LET_IN = "28P01"
NOT_LET_IN_REMEDY = "The password of the database role is wrong. Set the right one in DATABASE_URL (or PGPASSWORD, PGPASSFILE)."


def sqlstate(error: BaseException) -> str:
    """The five-character code with which Postgres refused (its manual, appendix A); empty where it did not answer.

    SQLAlchemy's errors hold the driver's in `orig`.
    """
    return getattr(getattr(error, "orig", error), "sqlstate", None) or ""


def classify(error: BaseException) -> Fault:
    """Return the fault behind `error`, which is the driver's, or SQLAlchemy's around it."""
    if isinstance(error, DBAPIError):
        error = (error.orig and error.orig.__cause__) or error
    if isinstance(error, asyncpg.PostgresError):
        state = sqlstate(error)
        if state in _CONFLICTS or isinstance(error, asyncpg.InvalidCachedStatementError):
            return Fault.CONFLICT
        if state in _BUSY:
            return Fault.BUSY
        if state in _NOT_SET_UP:
            return Fault.NOT_SET_UP
        if state[:2] in _AWAY_CLASSES:
            return Fault.AWAY
        if state[:2] in _BROKEN_CLASSES:
            return Fault.BROKEN
        return Fault.DATA if state[:2] in _DATA_CLASSES else Fault.BUG
    # A server that is away raises bare OSErrors (refused, no such socket, unknown host); a lost connection, InterfaceError.
    if isinstance(error, (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError)):
        return Fault.AWAY
    return Fault.BUG


_WORDS = {
    Fault.CONFLICT: "another transaction came first",
    Fault.BUSY: "another session holds what it needs",
    Fault.NOT_SET_UP: "a table, a function or a right is missing",
    Fault.BROKEN: "Postgres failed inside",
    Fault.DATA: "Postgres refuses a value",
}
_WORDS_OF_CODES = {
    "57014": "it took longer than it may",
    "57P03": "the server is starting or stopping",
    "57": "the server ended the connection",
    "08": "the connection was lost",
    "53100": "the disk is full",
    "53300": "the server has no connection left",
    "53": "the server has no room left",
}
"""By SQLSTATE or its class, where that says more."""


def why_failed(error: BaseException) -> str:
    """Why a statement failed, for a person, with Postgres's code where it gave one.

    The text of an error is left out, but of one of connecting: it can hold values of a delivery.
    """
    code = sqlstate(error)
    if code:
        words = _WORDS_OF_CODES.get(code) or _WORDS_OF_CODES.get(code[:2]) or _WORDS.get(classify(error), "Postgres refuses it")
        return f"{words} ({code})"
    cause = getattr(error, "orig", None) or error
    cause = cause.__cause__ if isinstance(cause.__cause__, asyncpg.InterfaceError) else cause
    if isinstance(cause, asyncpg.InterfaceError) and isinstance(cause, ValueError):
        # The driver's own DataError, which it does not export.
        return "a value cannot be sent to Postgres"
    if isinstance(cause, PoolTimeout):
        return "all connections were in use"
    if isinstance(cause, (asyncpg.InterfaceError, asyncpg.InternalClientError)):
        return "the connection was lost"
    return reason_of(cause) if isinstance(cause, (OSError, TimeoutError)) else UNKNOWN


LOCK_SECONDS = 0.25
"""How long any transaction of ours waits for a row that another session holds."""
MAX_CONFLICTS = 5
BUSY_SECONDS = 10.0
"""How long a transaction that meets a held row is tried again, before it ends with lock_not_available."""
PAUSE_SECONDS = 0.05

_T = TypeVar("_T")
First = Callable[[AsyncConnection], Awaitable[None]] | None


async def run_transaction(
    engine: AsyncEngine,
    work: Callable[[AsyncConnection, asyncpg.Connection], Awaitable[_T]],
    *,
    is_dry: bool = False,
    first: First = None,
) -> _T:
    """Run `work` in a transaction, commit, and return what it returned; with `is_dry`, roll back instead.

    `first` runs before it in the same transaction, such as to see whether all of it was done before. What it raises ends it.
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
                if first is not None:
                    await first(connection)
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
                    await connection.execute(f"{self._limits}; {raised_synchronous_commit(is_local=False)}")
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

    def abandon_server(self) -> None:
        """Drop this and every other connection of the process."""
        self.disconnect()
        self._database.abandon()


async def database_now(connection: AsyncConnection) -> datetime:
    """The time by the database's clock: the one clock that all replicas share."""
    now = await connection.scalar(text("SELECT pg_catalog.clock_timestamp()"))
    assert isinstance(now, datetime)
    return now


async def is_encrypted(connection: AsyncConnection) -> bool:
    """Whether this connection goes by TLS."""
    query = text("SELECT ssl FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid()")
    return bool(await connection.scalar(query))


def is_server_lost(error: BaseException) -> bool:
    """Whether the server that `error` came from is gone, stopping, or read-only; not one that was only too slow."""
    if isinstance(error, asyncpg.PostgresError):
        return sqlstate(error)[:2] in _LOST_CLASSES
    return isinstance(error, (OSError, asyncpg.InterfaceError)) and not isinstance(error, TimeoutError)


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
