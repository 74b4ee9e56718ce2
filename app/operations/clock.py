"""Compares the database's clock, by which all replicas date and wait, with this machine's: a false one is to be noticed."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from app.storage.transactions import DATABASE_FAILURES, database_now

LOOK_SECONDS = 30.0
MAX_SKEW = timedelta(seconds=2)
"""Past it a warning is due: nothing here needs more precision, and clocks that are synchronised keep far less."""

_log = structlog.get_logger("pos_sync.clock")


def skew_of(now: datetime, *, asked: datetime, answered: datetime) -> timedelta:
    """By how much the database's `now` is ahead of this machine's clock; below zero: behind.

    It was read at some time between the two. Within them no difference can be told, so a slow answer makes none.
    """
    return now - min(max(now, asked), answered)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class ClockWatch:
    """Looks now and then, tells each result to `on_skew`, and warns when a difference begins."""

    def __init__(
        self, engine: AsyncEngine, *, on_skew: Callable[[timedelta], None], own_clock: Callable[[], datetime] = _utc_now
    ) -> None:
        self._engine = engine
        self._on_skew = on_skew
        self._own_clock = own_clock
        self._is_off = False

    async def run(self) -> None:
        """Until it is cancelled. A database that is away is others' business."""
        while True:
            with suppress(*DATABASE_FAILURES):
                await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Compare once."""
        async with self._engine.connect() as connection:
            # The first statement of a connection begins its transaction, which takes a while.
            await database_now(connection)
            asked = self._own_clock()
            now = await database_now(connection)
            skew = skew_of(now, asked=asked, answered=self._own_clock())
        self._on_skew(skew)
        is_off = abs(skew) > MAX_SKEW
        if is_off != self._is_off:
            self._is_off = is_off
            tell, event = (_log.warning, "database clock differs") if is_off else (_log.info, "database clock agrees again")
            tell(event, seconds=round(skew.total_seconds(), 1), remedy="Synchronise the clocks of both machines (NTP).")
