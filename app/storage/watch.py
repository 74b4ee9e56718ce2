"""Looks whether the server still answers and still writes; a silent one is left by all connections at once.

A server that was frozen, or whose packets are dropped, keeps every connection open and answers none: without an end of its own,
each statement would never end.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum

import asyncpg
import structlog

from app.storage.engine import Database, reason_of

LOOK_SECONDS = 0.5
"""Between two looks at a server that answers, and between two tries to reach one"""
MAX_SILENCE_SECONDS = 3.0
"""A worker leaves a server that has not answered for so long; with LOOK_SECONDS well within the usual response deadline."""
COMMAND_LOOK_SECONDS = 2.0
MAX_COMMAND_SILENCE_SECONDS = 10.0
"""A command ends then; it has no other limit, since an import may take minutes."""
LATE_SECONDS = 0.1
"""How late the end of a wait may be; past it, it was this very process that was slow."""
_TURNS = 5
"""Turns of the event loop in which an answer that has arrived is still read"""

READ_ONLY = "SELECT pg_catalog.pg_is_in_recovery() OR pg_catalog.current_setting('transaction_read_only')::pg_catalog.bool"
"""SQL: whether the server refuses to write: a standby, or one that was made read-only."""

_log = structlog.get_logger("pos_sync.database")


class ServerState(StrEnum):
    """What is known of the server that the connections lead to."""

    UNKNOWN = "unknown"
    WRITES = "ok"
    READ_ONLY = "read-only"
    SILENT = "away"


class DatabaseWatch:
    """Keeps one connection of its own to ask by, and drops all of them where the server goes silent, is lost, or cannot write."""

    def __init__(self, database: Database, *, silence_seconds: float = MAX_SILENCE_SECONDS) -> None:
        self._database = database
        self._silence_seconds = silence_seconds
        self.state = ServerState.UNKNOWN

    async def run(self) -> None:
        """Until it is cancelled; no failure of the database ends it."""
        while True:
            try:
                connection = await self._database.connect()
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                # Perhaps only this connection is one too many: what the others meet, they say.
                self.state = ServerState.UNKNOWN
            else:
                try:
                    await self._look_at(connection)
                finally:
                    connection.terminate()
            await asyncio.sleep(LOOK_SECONDS)

    async def _look_at(self, connection: asyncpg.Connection) -> None:
        """Until the server is silent, lost, or read-only."""
        while True:
            try:
                is_read_only = await ask(connection, READ_ONLY, seconds=self._silence_seconds)
            except TimeoutError:
                self._leave(ServerState.SILENT, "it does not answer")
                return
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                self._leave(ServerState.SILENT, reason_of(error))
                return
            if is_read_only:
                self._leave(ServerState.READ_ONLY, "it is read-only")
                return
            if self.state is ServerState.READ_ONLY:
                # The others may still be at the standby.
                self._database.abandon(but=connection)
            self.state = ServerState.WRITES
            await asyncio.sleep(LOOK_SECONDS)

    def _leave(self, state: ServerState, why: str) -> None:
        if self.state is not state:
            _log.warning("leaving the database server", reason=why)
            self._database.abandon()
        self.state = state


async def ask(connection: asyncpg.Connection, query: str, *, seconds: float) -> object:
    """The single value of `query`.

    A cancelled call would wait for the very server that is silent, so it is left to end with its connection.

    Raises:
        TimeoutError: the server has not answered for `seconds`.
        OSError, asyncpg.PostgresError, asyncpg.InterfaceError: as the driver does.
    """
    loop = asyncio.get_running_loop()
    asking = asyncio.ensure_future(connection.fetchval(query))
    # Whatever comes of it when nobody waits any more.
    asking.add_done_callback(lambda done: done.cancelled() or done.exception())
    while True:
        end = loop.time() + seconds
        await asyncio.wait({asking}, timeout=seconds)
        for _ in range(_TURNS):
            if asking.done():
                return asking.result()
            await asyncio.sleep(0)
        if loop.time() <= end + LATE_SECONDS:
            break
    connection.terminate()
    raise TimeoutError


class SilentServer(Exception):
    """The server has not answered a command for too long."""


@asynccontextmanager
async def ending_with_silence(database: Database) -> AsyncIterator[None]:
    """Ends what is inside where the server goes silent: its connections are dropped, and this raises `SilentServer`."""
    silence = asyncio.Event()

    async def look() -> None:
        while True:
            await asyncio.sleep(COMMAND_LOOK_SECONDS)
            try:
                async with asyncio.timeout(MAX_COMMAND_SILENCE_SECONDS):
                    connection = await database.connect()
                try:
                    await ask(connection, "SELECT 1", seconds=MAX_COMMAND_SILENCE_SECONDS)
                finally:
                    connection.terminate()
            except TimeoutError:
                silence.set()
                database.abandon()
                return
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                # It says something. What the command meets, it says.
                continue

    looking = asyncio.create_task(look())
    try:
        yield
    except Exception as error:
        if silence.is_set():
            raise SilentServer from error
        raise
    finally:
        looking.cancel()
