"""Work that is done again and again on the database, and waits while that is away: one log line an outage, and no failure."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from app.storage.transactions import DATABASE_FAILURES, why_failed

_log = structlog.get_logger("pos_sync.periodic")


async def repeat(
    name: str,
    turn: Callable[[], Awaitable[object]],
    *,
    pause: Callable[[], float],
    on_end: Callable[[BaseException | None], None] = lambda _error: None,
) -> None:
    """Do `turn`, rest for `pause` seconds, and so on, until it is cancelled. What is no failure of the database ends it.

    `on_end` is told of each turn's failure, or None.
    """
    is_waiting = False
    while True:
        try:
            await turn()
            on_end(None)
            is_waiting = False
        except DATABASE_FAILURES as error:
            on_end(error)
            if not is_waiting:
                _log.warning("waiting for the database", task=name, reason=why_failed(error))
            is_waiting = True
        await asyncio.sleep(pause())
