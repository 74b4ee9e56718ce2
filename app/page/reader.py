"""What the page reads: lists from a standby where there is a fresh one, but not just after the visitor has changed something."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from fastapi import Request
from fastapi.responses import Response
from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.page.faults import NothingThere
from app.storage.standby import ReadThePrimary, Standby

CHANGED_COOKIE = "pos_sync_changed"
CHANGED_SECONDS = 30
"""After a change the visitor reads from the primary for so long."""
MAX_READ_TIME, MAX_JOB_TIME = "10s", "120s"
"""Of a statement of a page, and of a job"""

_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class PageReader:
    """Reads with connections of the page's own: ten people who click take none from the deliveries."""

    engine: AsyncEngine
    standby: Standby | None = None

    async def read(self, request: Request, work: Callable[[AsyncConnection], Awaitable[_Found]]) -> tuple[_Found, float]:
        """What `work` finds, and how many seconds old that may be: 0 from the primary.

        One thing, which the address names, is read from the primary: a visitor acts on what its page shows.
        """
        if self.standby is not None and not request.path_params and CHANGED_COOKIE not in request.cookies:
            try:
                return await self.standby.read(work, limit=MAX_READ_TIME)
            except (ReadThePrimary, NothingThere):
                # What was made just now is on the primary only.
                pass
        return await self.read_now(work), 0.0

    async def read_now(self, work: Callable[[AsyncConnection], Awaitable[_Found]]) -> _Found:
        """What is there now."""
        async with self.engine.connect() as connection:
            return await work(connection)


def limit_statements(engine: AsyncEngine, longest: str) -> None:
    """Let no statement of this engine take longer: what it holds is given back then.

    Each is planned for its own filters. A plan for any state would read all closed refusals to find the few that are open.
    """
    settings = {"statement_timeout": longest, "plan_cache_mode": "force_custom_plan"}
    limits = "SELECT " + ", ".join(f"set_config('{name}', '{value}', true)" for name, value in settings.items())

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(limits)


def note_change(answer: Response) -> None:
    """Let this visitor read what was just changed."""
    answer.set_cookie(CHANGED_COOKIE, "1", max_age=CHANGED_SECONDS, path="/ui", httponly=True, samesite="lax")
