"""/livez, which depends on nothing, and /readyz: the database answers, its schema is at head, and we are not stopping."""

import asyncio
import time
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.storage.migrating import current_revision, head

CHECK_SECONDS = 1.0
FRESH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Health:
    """What /readyz says: whether to send us traffic, and each part of the reason."""

    is_ready: bool
    database: str
    schema: str
    draining: bool

    @property
    def message(self) -> str:
        """One sentence for a person."""
        if self.draining:
            return "The service is stopping."
        if self.database != "ok":
            return "The database does not answer."
        if self.schema != "ok":
            return "The database schema is not the one that this version needs. Run: pos-sync migrate"
        return "Ready."


class Readiness:
    """Asks the database at most once a second, however many ask us."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._is_draining = False
        self._checked_at = float("-inf")
        self._latest = ("unknown", "unknown")
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
        database, schema = self._latest
        is_ready = database == "ok" and schema == "ok" and not self._is_draining
        return Health(is_ready=is_ready, database=database, schema=schema, draining=self._is_draining)

    async def _ask(self) -> tuple[str, str]:
        try:
            async with asyncio.timeout(CHECK_SECONDS), self._engine.connect() as connection:
                revision = await current_revision(connection)
        except (OSError, TimeoutError, SQLAlchemyError):
            return "away", "unknown"
        return "ok", "ok" if revision == head() else "not at head"
