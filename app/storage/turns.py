"""Turns of the commands that change the schema: one at a time, by advisory locks.

Any role that may connect can hold an advisory lock. So a command that waits for one says who holds it, and its wait has an end.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.engine import schema_of

MIGRATION, INDEXES = "migration", "indexes"
MAX_TURN_SECONDS = 600.0
"""A turn that takes longer ends the wait."""
POLL_SECONDS = 0.2

_KEY = "hashtextextended('pos_sync ' || CAST(:turn AS text) || ' ' || CAST(:schema AS text), 0)"
_HOLDER = text(f"""
SELECT 'pid ' || l.pid || ', role ' || coalesce(a.usename, '?')
  || ', application ' || coalesce(nullif(a.application_name, ''), '?')
FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.database = (
  SELECT oid FROM pg_database WHERE datname = current_database()
) AND (l.classid::bigint << 32) | l.objid::bigint = {_KEY}
""")  # noqa: S608 - our own words


class TurnNotGiven(Exception):
    """The message says who holds the turn, and what to do."""


async def try_turn(connection: AsyncConnection, turn: str) -> bool:
    """Take the turn until the transaction ends, if nobody has it."""
    asked = {"turn": turn, "schema": schema_of(connection)}
    return bool(await connection.scalar(text(f"SELECT pg_try_advisory_xact_lock({_KEY})"), asked))


async def holder_of(connection: AsyncConnection, turn: str) -> str:
    """Who has the turn, for a person."""
    found = await connection.scalar(_HOLDER, {"turn": turn, "schema": schema_of(connection)})
    return found or "a session that has ended since"


@asynccontextmanager
async def take_turn(
    connection: AsyncConnection, turn: str, *, on_wait: Callable[[str], None] = lambda _holder: None
) -> AsyncIterator[None]:
    """Hold the turn on a connection that commits each statement, until the block ends.

    Not waited for in a statement: that would be an open transaction, for which a concurrent build of an index would wait.

    Raises:
        TurnNotGiven: another session has held it for `MAX_TURN_SECONDS`.
    """
    asked = {"turn": turn, "schema": schema_of(connection)}
    waiting = Waiting(on_wait)
    while not await connection.scalar(text(f"SELECT pg_try_advisory_lock({_KEY})"), asked):
        await waiting.for_holder(await holder_of(connection, turn))
    try:
        yield
    finally:
        await connection.execute(text(f"SELECT pg_advisory_unlock({_KEY})"), asked)


class Waiting:
    """One wait for a turn: says once who is waited for, and ends."""

    def __init__(self, on_wait: Callable[[str], None]) -> None:
        self._on_wait = on_wait
        self._ends_at: float | None = None

    async def for_holder(self, holder: str) -> None:
        """Pause before the next try.

        Raises:
            TurnNotGiven: it has been waited for too long.
        """
        now = asyncio.get_running_loop().time()
        if self._ends_at is None:
            self._ends_at = now + MAX_TURN_SECONDS
            self._on_wait(holder)
        if now > self._ends_at:
            raise TurnNotGiven(
                f"Another session has held the turn of migrations for {MAX_TURN_SECONDS / 60:g} minutes ({holder}). Nothing was "
                "changed. If that is no migration of yours, end it with SELECT pg_terminate_backend(PID), and run this again."
            )
        await asyncio.sleep(POLL_SECONDS)
