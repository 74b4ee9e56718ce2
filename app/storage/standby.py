"""Reads from a standby (DATABASE_READ_URL), and how old its data may be: never older than a limit, and else not from there.

A standby alone cannot know that: the time since its last transaction grows where the primary is idle, and also where it was cut
off from the primary. So the primary's position in its log is noted twice a second. What a standby has replayed then says of which
time it has everything.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import asyncpg
import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.storage.engine import Database, reason_of
from app.storage.transactions import sqlstate
from app.storage.watch import LOOK_SECONDS, ask

MAX_AGE_SECONDS = 5.0
"""What is older is read from the primary."""
SILENCE_SECONDS = 1.0
"""A standby that has not answered for so long is left: a reader that waits for it turns to the primary."""
SAMPLES = 1200
"""Positions of the primary that are kept: those of ten minutes, so that the age of a standby that is far behind is known"""
QUERY_CANCELED = "57014"
"""SQLSTATE of a read that took too long: it would on the primary too."""

POSITION = """
SELECT ARRAY[(SELECT system_identifier FROM pg_catalog.pg_control_system())::pg_catalog.text,
  (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())::pg_catalog.text,
  CASE WHEN pg_catalog.pg_is_in_recovery() THEN 'standby' ELSE 'primary' END,
  (CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
    ELSE pg_catalog.pg_current_wal_flush_lsn() END - '0/0'::pg_catalog.pg_lsn)::pg_catalog.text]
"""
"""SQL: of which cluster and database the server is, which part it plays, and the position that it has written or replayed."""
# Each list is planned for its own filters, as on the primary.
_BEGIN = text("""
SELECT set_config('statement_timeout', :limit, true), set_config('plan_cache_mode', 'force_custom_plan', true),
  pg_is_in_recovery(), CAST(pg_last_wal_replay_lsn() - '0/0' AS bigint)
""")

_LOST = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)

_Found = TypeVar("_Found")
_log = structlog.get_logger("pos_sync.standby")


class ReadThePrimary(Exception):
    """The standby cannot serve this read; the message says why."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a server is in the log of its cluster."""

    cluster: tuple[str, str]
    """The identifier of the cluster, and the number of the database in it: a primary and its standbys agree on both."""
    is_standby: bool
    reached: int


async def read_position(connection: asyncpg.Connection, *, seconds: float = SILENCE_SECONDS) -> Position:
    """The position of the server behind `connection`.

    Raises:
        TimeoutError: it has not answered for `seconds`.
        OSError, asyncpg.PostgresError, asyncpg.InterfaceError: as the driver does.
    """
    found = await ask(connection, POSITION, seconds=seconds)
    assert isinstance(found, list)
    return position_in(found)


def position_in(row: Sequence[str]) -> Position:
    """The position in the value of `POSITION`."""
    identifier, database, part, reached = row
    return Position((identifier, database), part == "standby", int(reached))


class _Looker:
    """A connection of its own to one server, to look how far that is."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: asyncpg.Connection | None = None
        self.fault = ""
        """Why the last look found nothing"""

    async def look(self) -> Position | None:
        """The position of the server, or None where it is away, silent, or refuses."""
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = await self._database.connect()
            return await read_position(self._connection)
        except _LOST as error:
            self.fault = reason_of(error)
            self.close()
            return None

    def close(self) -> None:
        """Drop the connection without a word to the server."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


class Standby:
    """Hands out connections to read from the standby, as long as its data is fresh and it answers."""

    def __init__(self, primary: Database, standby: Database, *, on_age: Callable[[float], None] = lambda _seconds: None) -> None:
        self._database = standby
        self._primary, self._standby = _Looker(primary), _Looker(standby)
        self._engine: AsyncEngine | None = None
        self._left: asyncio.Future[None] | None = None
        """Done when the standby is left; None before the first look"""
        self._on_age = on_age
        self._samples: deque[tuple[float, int]] = deque(maxlen=SAMPLES)
        """When the primary was asked, and the position that it said"""
        self._cluster: tuple[str, str] | None = None
        self._complete_at = float("-inf")
        """The newest time of which the standby is known to have everything"""
        self._fault: str | None = None
        """Why the primary has to be read; empty where the standby may be, and None before the first look"""

    async def run(self) -> None:
        """Look at both servers until it is cancelled; no failure of either ends it."""
        started = asyncio.get_running_loop().time()
        self._left = asyncio.get_running_loop().create_future()
        async with self._database.engine() as self._engine:
            try:
                while True:
                    self._say(await self._look())
                    self._on_age(self._seconds_since(max(self._complete_at, started)))
                    await asyncio.sleep(LOOK_SECONDS)
            finally:
                self._fault = "the service is stopping"
                self._primary.close()
                self._standby.close()
                self._leave()

    async def _look(self) -> str:
        """Why the primary has to be read; empty where the standby may be."""
        asked_at = asyncio.get_running_loop().time()
        primary = await self._primary.look()
        if primary is not None and not primary.is_standby:
            self._samples.append((asked_at, primary.reached))
            self._cluster = primary.cluster
        standby = await self._standby.look()
        if standby is None:
            self._leave()
            return self._standby.fault
        if standby.cluster != self._cluster:
            return "the primary does not answer" if self._cluster is None else "it has another database than DATABASE_URL"
        if not standby.is_standby:
            return "it is no standby"
        self._complete_at = max(self._complete_at, self._complete_of(standby.reached))
        if self._seconds_since(self._complete_of(standby.reached)) > MAX_AGE_SECONDS:
            return f"it is more than {MAX_AGE_SECONDS:g} s behind the primary"
        return ""

    def _leave(self) -> None:
        """Readers that wait for the standby turn to the primary at once."""
        if self._left is not None:
            self._left.set_result(None)
        self._left = asyncio.get_running_loop().create_future()
        self._database.abandon()

    def _complete_of(self, reached: int) -> float:
        """The newest time of which a server that has replayed up to `reached` has everything."""
        return next((at for at, written in reversed(self._samples) if written <= reached), float("-inf"))

    @staticmethod
    def _seconds_since(at: float) -> float:
        return asyncio.get_running_loop().time() - at

    def _say(self, fault: str) -> None:
        if self._fault is None or bool(fault) is not bool(self._fault):
            if fault:
                _log.warning("reading from the primary, not from DATABASE_READ_URL", reason=fault)
            else:
                _log.info("reading from DATABASE_READ_URL")
        self._fault = fault

    @property
    def why_unused(self) -> str | None:
        """Why the primary is read instead, for a person; empty where the standby is read. None before the first look."""
        return self._fault

    async def read(self, work: Callable[[AsyncConnection], Awaitable[_Found]], *, limit: str) -> tuple[_Found, float]:
        """What `work` finds on the standby, and how many seconds old that may be; each statement ends within `limit`.

        Raises:
            ReadThePrimary: it is away, silent or behind, or ended a statement for a reason of its own.
            SQLAlchemyError: a statement took longer than `limit`.
        """
        left = self._left
        if self._fault is None or self._fault or left is None:
            raise ReadThePrimary(self._fault)
        # In a task, so that nobody waits for a standby that is left: for an answer, to connect, or for a place in the pool.
        reading = asyncio.create_task(self._read(work, limit=limit))
        reading.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            await asyncio.wait({reading, left}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                raise ReadThePrimary(self._fault)
            return reading.result()
        finally:
            reading.cancel()

    async def _read(self, work: Callable[[AsyncConnection], Awaitable[_Found]], *, limit: str) -> tuple[_Found, float]:
        assert self._engine is not None
        try:
            async with self._engine.connect() as connection:
                # Asked of this very connection: one name may lead to several standbys.
                _, _, is_standby, reached = (await connection.execute(_BEGIN, {"limit": limit})).one()
                complete_at = self._complete_of(reached) if is_standby else float("-inf")
                if self._seconds_since(complete_at) > MAX_AGE_SECONDS:
                    raise ReadThePrimary("it is behind the primary")
                found = await work(connection)
                return found, self._seconds_since(complete_at)
        except (*_LOST, SQLAlchemyError) as error:
            if sqlstate(error) == QUERY_CANCELED:
                raise
            raise ReadThePrimary(reason_of(error)) from error
