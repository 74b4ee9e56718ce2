"""What decides /readyz, apart from HTTP."""

import asyncio
import time

import pytest

from app.operations.readiness import Readiness
from tests.support.world import World


async def test_a_process_that_is_late_is_not_taken_for_a_database_that_is_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def keep_busy() -> None:
        while True:
            time.sleep(0.3)  # noqa: ASYNC251 - it holds up the event loop on purpose
            await asyncio.sleep(0)

    readiness = Readiness(world.engine, why_not_registering=None)
    assert (await readiness.check()).is_ready
    monkeypatch.setattr("app.operations.readiness.FRESH_SECONDS", 0.0)
    monkeypatch.setattr("app.operations.readiness.CHECK_SECONDS", 1.0)
    busy = asyncio.create_task(keep_busy())
    health = await readiness.check()
    busy.cancel()

    assert health.is_ready
