"""/livez, which depends on nothing, and /readyz: the database answers, its schema is at head, and we are not stopping."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.storage import registrations
from app.storage.faults import sqlstate
from app.storage.migrating import current_revision, fault_in_revision
from app.storage.registrations import Registration

CHECK_SECONDS = 1.0
CHECK_TURNS = 5
"""Turns of the event loop in which an answer that has arrived is still read."""
LATE_SECONDS = 0.1
"""How late the end of the check may be; past it, it was this very process that was slow, and not the database."""
FRESH_SECONDS = 1.0


_Found = tuple[str, str, Registration | None]


@dataclass(frozen=True, slots=True)
class Health:
    """What /readyz says: whether to send us traffic, and each part of the reason."""

    is_ready: bool
    database: str
    schema: str
    draining: bool
    registration: dict[str, Any]
    """Reported here, and never deciding: mipOS being away is no reason to take no deliveries."""

    @property
    def message(self) -> str:
        """One sentence for a person."""
        if self.draining:
            return "The service is stopping."
        if self.database == "away":
            return "The database does not answer."
        if self.database != "ok":
            return f"The database {self.database}. Check DATABASE_URL, and the role's rights: pos-sync migrate --grant-to ROLE"
        if self.schema != "ok":
            return self.schema
        return "Ready."


class Readiness:
    """Asks the database at most once a second, however many ask us."""

    def __init__(self, engine: AsyncEngine, *, why_not_registering: str | None) -> None:
        self._engine = engine
        self._why_not_registering = why_not_registering
        self._is_draining = False
        self._checked_at = float("-inf")
        self._latest: _Found = ("unknown", "unknown", None)
        self._checking = asyncio.Lock()

    def drain(self) -> None:
        """Say not ready from now on."""
        self._is_draining = True

    async def check(self) -> Health:
        """The state now, or as it was within the last second."""
        async with self._checking:
            if time.monotonic() - self._checked_at >= FRESH_SECONDS:
                self._latest = await self._ask()
                self._checked_at = time.monotonic()
        database, schema, registration = self._latest
        is_ready = database == "ok" and schema == "ok" and not self._is_draining
        return Health(
            is_ready=is_ready,
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
                fault = fault_in_revision(await current_revision(connection))
                if fault is not None:
                    return "ok", fault, None
                return "ok", "ok", await _registration(connection)
        except (OSError, TimeoutError, SQLAlchemyError) as error:
            # With a code Postgres said no: it is there, and something is not as it should be.
            code = sqlstate(error)
            return f"refuses this service ({code})" if code else "away", "unknown", None


async def _registration(connection: AsyncConnection) -> Registration | None:
    """Never decides whether we are ready, so it may not fail either."""
    try:
        return await registrations.read(connection, registrations.STOCK_WEBHOOK)
    except SQLAlchemyError:
        return None


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
