"""One policy for every background task: what fails is logged and run again, later each time; receiving goes on meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

RESTART_SECONDS = 5.0
MAX_RESTART_SECONDS = 300.0
SETTLED_SECONDS = 600.0
"""A task that ran for so long starts again with the first pause."""

_log = structlog.get_logger("pos_sync.supervisor")


async def supervise(name: str, run: Callable[[], Awaitable[None]], *, restart_seconds: float = RESTART_SECONDS) -> None:
    """Run `run` until it returns; where it raises, log that and run it again after a pause. Cancel it to stop."""
    loop = asyncio.get_running_loop()
    pause = restart_seconds
    while True:
        started = loop.time()
        try:
            await run()
        except Exception:  # noqa: BLE001 - a bug in one task must not end it for good, nor touch the others
            if loop.time() - started > SETTLED_SECONDS:
                pause = restart_seconds
            _log.exception("background task failed", task=name, restart_in_seconds=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, MAX_RESTART_SECONDS)
        else:
            return
