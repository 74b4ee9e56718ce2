"""`pos-sync sync`, what `pos-sync status` says of it, and SYNC_EVERY."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from app.cli.progress import Progress
from app.cli.sync import _progress
from app.mipos.client import MiposClient
from app.mipos.schedule import Schedule
from app.mipos.sync import Phase
from app.mipos.wiring import tokens_of
from app.storage import syncs
from app.storage.syncs import SyncPair
from tests.conftest import running, settings_for
from tests.support.commands import Run
from tests.support.mipos import SYSTEM, Remote, mipos
from tests.support.sender import SECRET
from tests.support.service import free_port
from tests.support.world import World


@pytest.fixture
async def remote() -> AsyncIterator[Remote]:
    async with mipos() as it:
        yield it


@pytest.fixture
async def operator(world: World, run: Run, remote: Remote, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Commands with a mipOS account and a store that mipOS knows."""
    for name, value in remote.settings(mipos_client_secret=SECRET).items():
        monkeypatch.setenv(name.upper(), str(value))
    await world.execute("UPDATE pos_sync.store SET mipos_store_id = store_id")
    return run


async def test_sync_sends_and_says_what_mipos_says(operator: Run, remote: Remote) -> None:
    result = await operator("sync", "--store", "1", "--actor", "Ana")

    assert 0 == result.exit_code, result.output
    assert (
        f"Store 1 with {SYSTEM}: done. items: 3, units: 2, suppliers: 2; messages that it made superfluous: 0.\n"
        "mipOS says: Synchronization data was sent to the inventory system.\n"
    ) == result.output
    assert {"avcc123": "13.69", "saf001": "0.042", "tom001": "22.5"} == remote.platform.systems[SYSTEM].stock


async def test_mipos_that_was_never_reached_has_taken_nothing(
    world: World, operator: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.mipos.answers.MIN_PAUSE", timedelta(seconds=0.01))
    monkeypatch.setenv("MIPOS_BASE_URL", f"http://127.0.0.1:{free_port()}")

    result = await operator("sync", "--store", "1")

    assert 3 == result.exit_code, result.output
    assert f"Store 1 with {SYSTEM}: failed." in result.output
    words = "mipOS could not be reached: connection refused. mipOS took nothing. Synchronise again."
    assert result.output.endswith(f"\n{words}\n")
    assert [("refused", words)] == [(run.state, run.words) async for run in _runs(world)]


async def test_a_dry_run_checks_and_calls_nobody(world: World, operator: Run, remote: Remote) -> None:
    result = await operator("sync", "--store", "1", "--dry-run")

    assert f"Store 1 can be sent to {SYSTEM}: items: 3, units: 2, suppliers: 2. Nothing was sent.\n" == result.output
    assert {} == remote.calls
    body = json.loads((await operator("sync", "--store", "1", "--dry-run", "--json")).output)
    assert {"items", "user_id_tps", "inventory_system_id", "units", "suppliers"} == set(body)
    async with world.engine.connect() as connection:
        assert [] == await syncs.list_last_runs(connection)


async def test_a_dry_run_names_every_bad_entry(world: World, operator: Run) -> None:
    await world.execute("UPDATE pos_sync.item SET name = ' '")

    result = await operator("sync", "--store", "1", "--dry-run")

    assert 1 == result.exit_code
    assert 'Item 1 ("avcc123"): name must not be blank.' in result.output
    assert 'Item 3 ("tom001"): name must not be blank.' in result.output


async def test_the_exit_status_tells(operator: Run, remote: Remote) -> None:
    remote.platform.systems[SYSTEM].knows_store = False
    refused = await operator("sync", "--store", "1", "--json")
    remote.fail("sync", status=503, times=3, retry_after=0)
    unknown = await operator("sync", "--store", "1")

    assert (1, "refused") == (refused.exit_code, json.loads(refused.output)["state"])
    assert 3 == unknown.exit_code
    assert "Whether mipOS took the inventory is not known" in unknown.output


async def test_what_has_to_be_set_up_is_one_sentence(world: World, operator: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 'Error: There is no store "9".' in (await operator("sync", "--store", "9")).output
    await world.execute("UPDATE pos_sync.store SET mipos_store_id = NULL")
    without_id = await operator("sync", "--store", "1")
    for name in ("MIPOS_CLIENT_ID", "MIPOS_EMAIL", "MIPOS_PASSWORD"):
        monkeypatch.delenv(name)
    without_account = await operator("sync", "--store", "1")

    assert (1, 2) == (without_id.exit_code, without_account.exit_code)
    assert "pos-sync store set 1 --mipos-id ID" in without_id.output
    assert "no mipOS account is set" in without_account.output


async def test_status_shows_the_last_run_of_each_store_and_system(world: World, operator: Run, remote: Remote) -> None:
    remote.platform.systems[SYSTEM].knows_store = False
    await operator("sync", "--store", "1")
    remote.platform.systems[SYSTEM].knows_store = True
    await operator("sync", "--store", "1", "--actor", "Ana")
    await world.execute("INSERT INTO pos_sync.integration (store_id, inventory_system_id, user_id_tps) VALUES ('2', 'x', '40')")
    async with world.engine.begin() as connection:
        await syncs.start(connection, SyncPair("2", "x"), actor="Ben")

    shown = (await operator("status")).output
    listed = json.loads((await operator("status", "--json")).output)["last_syncs"]

    assert f"sync of store 1 with {SYSTEM}: done, " in shown
    assert "sync of store 2 with x: cut off, " in shown
    assert [("1", "done", 3, "Ana"), ("2", "cut_off", 0, "Ben")] == [
        (run["store"], run["state"], run["items"], run["actor"]) for run in listed
    ]


def test_progress_names_each_phase_and_then_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    monkeypatch.setattr(Progress, "update", lambda _line, label, done=0, total=0: said.append((label, done, total)))

    with _progress() as on_progress:
        for phase in Phase:
            on_progress(phase, 1, 2)
        on_progress(Phase.SENDING, 2, 2)

    assert [
        ("Reading the inventory", 1, 2),
        ("Checking it", 1, 2),
        ("Sending it", 1, 2),
        ("Waiting for mipOS's answer", 0, 0),
    ] == said


async def test_replicas_with_a_schedule_synchronise_once(world: World, operator: Run, remote: Remote) -> None:
    del operator
    await world.execute("UPDATE pos_sync.integration SET enabled = false WHERE store_id = '2'")
    settings = settings_for(world, **remote.settings(sync_every=1, mipos_register_on_startup=False))

    async with running(settings), running(settings):
        while "done" not in [run.state async for run in _runs(world)]:  # noqa: ASYNC110 - the table tells
            await asyncio.sleep(0.01)

    assert 1 == remote.calls["sync"]
    assert [("done", "SYNC_EVERY")] == [(run.state, run.actor) async for run in _runs(world)]


async def test_what_is_not_due_or_not_possible_is_left(world: World, remote: Remote) -> None:
    settings = settings_for(world, **remote.settings())
    async with MiposClient(remote.url) as client:
        schedule = Schedule(world.engine, client, tokens_of(settings, world.engine, client), every=timedelta(hours=1))
        await schedule.look()  # no store has a mipOS id
        assert {} == remote.calls
        await world.execute("UPDATE pos_sync.store SET mipos_store_id = store_id WHERE store_id = '1'")
        await schedule.look()
        await schedule.look()  # done just now
        assert 1 == remote.calls["sync"]
        await world.execute("UPDATE pos_sync.sync_run SET started_at = now() - interval '61 minutes'")
        remote.fail("sync", status=409, body='{"message": ["Not today."]}')
        await schedule.look()
        await world.execute(
            "UPDATE pos_sync.sync_run SET started_at = now() - interval '61 minutes'", "UPDATE pos_sync.item SET name = ' '"
        )
        await schedule.look()

    assert ["refused"] == [run.state async for run in _runs(world)]
    assert 2 == remote.calls["sync"]


async def test_a_schedule_survives_a_database_that_goes_away(
    world: World, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(world, **remote.settings())
    looks = asyncio.Queue[None]()
    failures = iter([OSError(), RuntimeError()])

    async def list_due(*_arguments: object) -> list[SyncPair]:
        looks.put_nowait(None)
        for failure in failures:
            raise failure
        return []

    monkeypatch.setattr(syncs, "list_due", list_due)
    async with MiposClient(remote.url) as client:
        tokens = tokens_of(settings, world.engine, client)
        running_schedule = asyncio.create_task(Schedule(world.engine, client, tokens, every=timedelta(seconds=0.1)).run())
        for _ in range(4):
            await looks.get()
        running_schedule.cancel()


async def _runs(world: World) -> AsyncIterator[syncs.Run]:
    async with world.engine.connect() as connection:
        for run in await syncs.list_last_runs(connection):
            yield run
