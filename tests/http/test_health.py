"""What decides /readyz, apart from HTTP."""

import asyncio
import time
from contextlib import suppress

import httpx2
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.operations.readiness import Readiness
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


@pytest.mark.parametrize("how", [How.RESET, How.SILENT])
async def test_a_writer_that_cannot_write_is_said_although_what_reads_is_answered(world: World, how: How) -> None:
    body, further = body_of(), body_of(date="further")
    async with PostgresProxy(world.server_address).running() as proxy:
        address = f"postgresql://pos_sync@127.0.0.1:{proxy.port}/{world.database}"
        async with running(settings_for(world, database_url=address, response_deadline=1)) as (app, client):
            assert 204 == (await client.post(PATH, content=body, headers=signed(body))).status_code
            proxy.arm(0, how, is_repeated=True, of=OF_THE_WRITER)
            refused = await client.post(PATH, content=further, headers=signed(further))
            unready = await readiness_of(client, status=503)
            read = await read_by(app.state.service.engine)
            still = await client.get("/readyz")
            proxy.arm(None)
            ready = await readiness_of(client, status=200)
            applied = await client.post(PATH, content=further, headers=signed(further))

    assert (503, 1) == (refused.status_code, read)
    assert ["The database does not answer."] * 2 == [answer.json()["message"] for answer in (unready, still)]
    assert ("Ready.", 204) == (ready.json()["message"], applied.status_code)


OF_THE_WRITER = "pos_sync.service_rule"
"""What it asks when it connects"""


async def readiness_of(client: httpx2.AsyncClient, *, status: int) -> httpx2.Response:
    """The first answer with this status."""
    while (found := await client.get("/readyz")).status_code != status:  # noqa: ASYNC110 - it is told of nobody
        await asyncio.sleep(0.01)
    return found


async def read_by(engine: AsyncEngine) -> object:
    """What a connection of the pool answers. All are dropped where the writer's is lost, so it is asked until one is left."""
    while True:
        with suppress(DBAPIError):
            async with engine.connect() as connection:
                return await connection.scalar(text("SELECT 1"))
