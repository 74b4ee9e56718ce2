"""The hot path's connection: what counts as committed, and what the server does about a worker that falls silent."""

import itertools
from contextlib import suppress

import asyncpg
import pytest
from sqlalchemy import text

from app.database_address import read_address
from app.storage.engine import Database
from app.storage.transactions import Connection
from tests.conftest import running, settings_for
from tests.support.proxy import How, PostgresProxy
from tests.support.sender import PATH, body_of, signed
from tests.support.world import World


async def test_a_commit_that_rolled_back_is_none(world: World) -> None:
    async def nothing(_: asyncpg.Connection) -> None:
        pass

    address = read_address(world.service_url)
    connection = Connection(Database(address, is_pooled=True), statement_seconds=4, on_connect=nothing)

    async def fail_and_go_on() -> None:
        async with connection.transaction() as driver:
            with suppress(asyncpg.DivisionByZeroError):
                await driver.execute("SELECT 1 / 0")

    with pytest.raises(asyncpg.InterfaceError, match="ROLLBACK"):
        await fail_and_go_on()
    connection.disconnect()


APPLY = "apply_movements("
"""Part of the writer's statement."""


@pytest.mark.parametrize("pooler", ["none", "transaction"])
async def test_a_worker_that_falls_silent_within_a_statement_does_not_keep_its_locks(
    world: World, pooler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Postgres waits for the next message of a statement that it has begun: it is neither idle nor running."""
    # Who looks whether the server answers would notice the resets below, and have the delivery tried once more.
    monkeypatch.setattr("app.storage.watch.LOOK_SECONDS", 60.0)
    async with world.engine.connect() as connection:
        if int(await connection.scalar(text("SHOW server_version_num")) or 0) < 170000:
            pytest.skip("the limit for a transaction came with Postgres 17")
    async with PostgresProxy(world.server_address).running() as proxy:
        address = f"postgresql://pos_sync@127.0.0.1:{proxy.port}/{world.database}"
        settings = settings_for(world, database_url=address, database_pooler=pooler, response_deadline=0.5)
        async with running(settings) as (_, silent), running(settings_for(world)) as (_, other):
            body, further = body_of(), body_of(date="further")
            # The first connection records the rules. Those after it are alike, so what is counted on one holds for the next.
            # On a busy machine to connect may take longer than the short deadline of this test.
            dates, applied = itertools.count(), 0
            while applied < 2:
                proxy.reset_all()
                proxy.arm(None)
                counted = body_of(date=f"counted {next(dates)}")
                answer = await silent.post(PATH, content=counted, headers=signed(counted))
                applied = applied + 1 if answer.status_code == 204 else 0
            # Other connections have messages of their own.
            passed = proxy.passed_of(APPLY)
            write = max(number for number, message in enumerate(passed) if message.name == "ParseComplete")
            proxy.reset_all()
            proxy.arm(write, How.SILENT, of=APPLY)

            lost = await silent.post(PATH, content=body, headers=signed(body))
            taken = await other.post(PATH, content=further, headers=signed(further))

    assert "ParseComplete" == proxy.lost[0].name
    assert (503, 204) == (lost.status_code, taken.status_code)
    assert {} == await world.broken_invariants()
