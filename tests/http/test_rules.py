"""The recorded rules count for every door, and a process with others says so."""

import asyncio
from typing import Any

import asyncpg
import httpx2
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tests.conftest import running, settings_for
from tests.support.commands import Run
from tests.support.postgres import rename_database
from tests.support.proxy import How, PostgresProxy
from tests.support.sender import PATH, body_of, signed
from tests.support.world import World


async def deliver(client: httpx2.AsyncClient, **changes: Any) -> int:
    body = body_of(**changes)
    return (await client.post(PATH, content=body, headers=signed(body))).status_code


async def test_a_process_with_other_rules_says_so_and_does_not_win(
    world: World, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running(settings_for(world, negative_stock="refuse")) as (_, first):
        assert 409 == await deliver(first, quantity="20")
        async with running(settings_for(world, pos_id="7")) as (_, other):
            assert 409 == await deliver(other, quantity="21")
            said = capsys.readouterr().out
            assert 409 == await deliver(first, quantity="22")
    by_command = await run("movement", "--store", "1", "--item", "avcc123", "--sale", "23")
    async with world.engine.connect() as connection:
        with pytest.raises(DBAPIError, match="below zero"):
            await connection.execute(text("SELECT pos_sync.record_pos_movement('1', 'avcc123', 'sale', 24, 'ticket')"))

    assert "other rules than are recorded" in said
    assert "below zero" in by_command.output
    assert ["below_zero"] * 3 == [kept.reason for kept in await world.refused()]


async def test_recorded_again_other_rules_count_at_once(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(settings_for(world, negative_stock="refuse")) as (_, client):
        assert 409 == await deliver(client, quantity="20")
        shown = await run("rules")
        monkeypatch.setenv("NEGATIVE_STOCK", "allow")
        await run("rules", "--record")

        assert 204 == await deliver(client, quantity="21")

    assert "NEGATIVE_STOCK      refuse" in shown.output
    assert "They differ" in shown.output


async def test_a_service_records_its_rules_when_it_starts_and_not_with_its_first_delivery(world: World) -> None:
    async with running(settings_for(world, negative_stock="refuse")), world.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        while (recorded := await connection.scalar(text("SELECT negative_stock FROM pos_sync.service_rule"))) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    assert "refuse" == recorded


async def test_a_service_that_starts_before_its_database_records_its_rules_once_that_is_there(world: World) -> None:
    away = f"{world.database}_away"
    await world.engine.dispose()
    await rename_database(world.database, away)
    async with running(settings_for(world, negative_stock="refuse")) as (_, client):
        assert 503 == (await client.get("/readyz")).status_code
        await rename_database(away, world.database)
        async with world.engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            while not await connection.scalar(text("SELECT count(*) FROM pos_sync.service_rule")):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            with pytest.raises(DBAPIError, match="below zero"):
                await connection.execute(text("SELECT pos_sync.record_pos_movement('1', 'avcc123', 'sale', 24, 'ticket')"))


@pytest.mark.usefixtures("shipped_connecting")
@pytest.mark.parametrize("pooler", ["none", "transaction"])
async def test_a_server_that_says_nothing_after_its_greeting_holds_up_no_later_delivery(world: World, pooler: str) -> None:
    async with PostgresProxy(world.server_address).running() as proxy:
        address = f"postgresql://pos_sync@127.0.0.1:{proxy.port}/{world.database}"
        proxy.arm(None)
        greeted = await asyncpg.connect(address)
        proxy.arm(len(proxy.passed), How.SILENT)
        greeted.terminate()
        settings = settings_for(world, database_url=address, database_pooler=pooler, response_deadline=0.5)
        async with running(settings) as (_, client):
            while not proxy.lost:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            proxy.disarm()
            answers = [await deliver(client, date=str(number), quantity="0.01") for number in range(10)]

    assert 204 in answers


async def test_before_the_service_first_started_none_are_recorded(run: Run) -> None:
    assert "None are recorded yet" in (await run("rules")).output
