"""What decides /readyz, apart from HTTP."""

import asyncio
import time

import pytest

from app.operations.readiness import Readiness, ReadinessReport
from tests.conftest import running, settings_for
from tests.support.proxy import How, PostgresProxy
from tests.support.sender import PATH, body_of, signed
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


@pytest.mark.usefixtures("shipped_connecting")
@pytest.mark.parametrize("how", [How.RESET, How.SILENT])
async def test_a_writer_that_cannot_write_is_said_although_what_reads_is_answered(world: World, how: How) -> None:
    body, further = body_of(), body_of(date="further")
    async with PostgresProxy(world.server_address).running() as proxy:
        address = f"postgresql://pos_sync@127.0.0.1:{proxy.port}/{world.database}"
        async with running(settings_for(world, database_url=address, response_deadline=1)) as (app, client):
            assert 204 == (await client.post(PATH, content=body, headers=signed(body))).status_code
            proxy.arm(0, how, is_repeated=True, of=OF_THE_WRITER)
            refused = await client.post(PATH, content=further, headers=signed(further))
            unready = await while_it_reads(app.state.service.readiness)
            answer = await client.get("/readyz")
            proxy.arm(None)
            while not (ready := await app.state.service.readiness.check()).is_ready:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0)
            applied = await client.post(PATH, content=further, headers=signed(further))

    assert (503, 503, 204) == (refused.status_code, answer.status_code, applied.status_code)
    assert ["The database does not answer.", "Ready."] == [report.message for report in (unready, ready)]


OF_THE_WRITER = "pos_sync.service_rule"
"""What it asks when it connects"""


async def while_it_reads(readiness: Readiness) -> ReadinessReport:
    """What it says when its own look is answered. All connections are dropped where one is lost, so it may take several."""
    while True:
        readiness._checked_at = float("-inf")  # noqa: SLF001 - its answer is kept for a second
        report = await readiness.check()
        if readiness._latest[0] == "ok":  # noqa: SLF001
            return report
