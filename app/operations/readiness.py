"""/livez, which depends on nothing, and /readyz: the database answers, its schema fits this code, and we are not stopping."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import asyncpg
from pydantic import BaseModel, Field
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.storage.engine import WrongServer
from app.storage.migrations import read_schema_state
from app.storage.mipos_account import STOCK_WEBHOOK, Registration, read_registration
from app.storage.transactions import sqlstate
from app.storage.watch import READ_ONLY, ServerState

CHECK_SECONDS = 1.0
CHECK_TURNS = 5
"""Turns of the event loop in which an answer that has arrived is still read."""
LATE_SECONDS = 0.1
"""How late the end of the check may be; past it, it was this very process that was slow, and not the database."""
FRESH_SECONDS = 1.0
WAIT_SECONDS = 1.0
"""Between two looks at a schema that is waited for"""
CONNECT_SECONDS = 10.0

_Found = tuple[str, str, Registration | None]


class Ready(BaseModel):
    """What anybody may know: one of a few fixed sentences. The parts are for who has the POS's key, and for `pos-sync status`."""

    message: str


class ReadinessReport(BaseModel):
    """Whether traffic should come here, and each part of the reason."""

    message: str
    database: str
    # `schema` is a method of BaseModel.
    schema_: str = Field(alias="schema")
    draining: bool
    # Reported here, and never deciding: mipOS being away is no reason to take no deliveries.
    registration: dict[str, Any] = Field(description="Reported here, and never deciding.")

    @property
    def is_ready(self) -> bool:
        """Whether traffic should come here."""
        return self.database == "ok" and self.schema_ == "ok" and not self.draining


def _message(database: str, schema: str, *, draining: bool) -> str:
    """One sentence for a person."""
    if draining:
        return "The service is stopping."
    if database == ServerState.SILENT:
        return "The database does not answer."
    if database == ServerState.READ_ONLY:
        return "The database server is read-only: a standby, or a former primary. DATABASE_URL takes several hosts (h1,h2)."
    if database != "ok":
        return "The database refuses this service. `pos-sync doctor` says why."
    if schema != "ok":
        return "This version cannot work with the database's schema. `pos-sync status` says what to do."
    return "Ready."


class Readiness:
    """Asks the database at most once a second, however many ask us."""

    def __init__(
        self, engine: AsyncEngine, *, why_not_registering: str | None, writer_is_away: Callable[[], bool] = lambda: False
    ) -> None:
        self._engine = engine
        self._writer_is_away = writer_is_away
        self._why_not_registering = why_not_registering
        self._is_draining = False
        self._checked_at = float("-inf")
        self._latest: _Found = ("unknown", "unknown", None)
        self._checking = asyncio.Lock()

    def drain(self) -> None:
        """Say not ready from now on."""
        self._is_draining = True

    async def check(self) -> ReadinessReport:
        """The state now, or as it was within the last second."""
        async with self._checking:
            if time.monotonic() - self._checked_at >= FRESH_SECONDS:
                self._latest = await self._ask()
                self._checked_at = time.monotonic()
        database, schema, registration = self._latest
        if database == ServerState.WRITES and self._writer_is_away():
            # What reads is answered, and what writes is not.
            database = ServerState.SILENT.value
        return ReadinessReport(
            message=_message(database, schema, draining=self._is_draining),
            database=database,
            schema=schema,
            draining=self._is_draining,
            registration=(
                describe_registration(registration, why_not=self._why_not_registering)
                if database == "ok"
                else {"state": "unknown", "message": "The database cannot be asked."}
            ),
        )

    async def _ask(self) -> _Found:
        """The state; where this process is too busy to tell, what it found last stands."""
        loop = asyncio.get_running_loop()
        end = loop.time() + CHECK_SECONDS
        asking = asyncio.create_task(self._ask_database())
        try:
            await asyncio.wait({asking}, timeout=CHECK_SECONDS)
            for _ in range(CHECK_TURNS):
                if asking.done():
                    return await asking
                await asyncio.sleep(0)
            return self._latest if loop.time() > end + LATE_SECONDS else ("away", "unknown", None)
        finally:
            asking.cancel()

    async def _ask_database(self) -> _Found:
        try:
            async with self._engine.connect() as connection:
                if await connection.scalar(text(READ_ONLY)):
                    return ServerState.READ_ONLY.value, "unknown", None
                fault = (await read_schema_state(connection)).fault
                if fault is not None:
                    return "ok", fault, None
                return "ok", "ok", await _registration(connection)
        except (OSError, TimeoutError, SQLAlchemyError) as error:
            return _refusal(error), "unknown", None


async def _registration(connection: AsyncConnection) -> Registration | None:
    """Never decides whether we are ready, so it may not fail either."""
    try:
        return await read_registration(connection, STOCK_WEBHOOK)
    except SQLAlchemyError:
        return None


class SchemaNotReady(Exception):
    """The schema did not get ready in time; the message says what it lacks."""


async def wait_for_schema(engine: AsyncEngine, *, seconds: float, on_wait: Callable[[str], None]) -> None:
    """Return when this code can run with the schema. It changes nothing, and needs no right but the service role's.

    A database that is away is waited for too. `on_wait` gets each new reason for waiting.

    Raises:
        SchemaNotReady: not within `seconds`.
    """
    end = time.monotonic() + seconds
    told = None
    while True:
        fault = await _fault_in_schema(engine)
        if fault is None:
            return
        if fault != told:
            on_wait(fault)
            told = fault
        if time.monotonic() + WAIT_SECONDS > end:
            raise SchemaNotReady(f"After {seconds:g} seconds: {fault}")
        await asyncio.sleep(WAIT_SECONDS)


async def _fault_in_schema(engine: AsyncEngine) -> str | None:
    try:
        async with asyncio.timeout(CONNECT_SECONDS), engine.connect() as connection:
            return (await read_schema_state(connection)).fault
    except (OSError, TimeoutError, SQLAlchemyError, asyncpg.InterfaceError) as error:
        return _message(_refusal(error), "unknown", draining=False)


def _refusal(error: Exception) -> str:
    """What a failure says of the database. With a code Postgres said no: it is there, and something is not as it should be."""
    if isinstance(error, WrongServer):
        return ServerState.READ_ONLY.value
    code = sqlstate(error)
    return f"refuses this service ({code})" if code else ServerState.SILENT.value


def describe_registration(registration: Registration | None, *, why_not: str | None) -> dict[str, Any]:
    """The registration as /readyz and `pos-sync status` show it, in mipOS's own words where it said any."""
    if registration is None:
        return {"state": "pending" if why_not is None else "off", "message": why_not or "Not tried yet."}
    return {
        "state": registration.state.value,
        "url": registration.url,
        "message": registration.words,
        "attempts": registration.attempts,
        "attempted_at": registration.attempted_at.isoformat(timespec="seconds"),
    }
