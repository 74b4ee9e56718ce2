"""`pos-sync restored`: what a database that came out of a backup cannot know any more is not believed."""

from pathlib import Path
from typing import Any

import httpx2
import pytest
from click.testing import Result
from sqlalchemy import select

from app.storage.mipos_tables import access_token, change_feed, lease, outbox_message
from app.storage.rights import GUARDS, read_guards
from app.storage.tables import stock_movement
from tests.conftest import running, settings_for
from tests.support.commands import Run, runner_for
from tests.support.outbox import connect_stores, messages, sell
from tests.support.sender import PATH, body_of, signed
from tests.support.world import World

KEY = "0123456789abcdef"


@pytest.fixture
def run_as_owner(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    async def run(*arguments: str, input: bytes | None = None) -> Result:  # noqa: A002 - click's word
        return await runner_for(world.owner_url, monkeypatch, tmp_path)(*arguments, input=input)

    return run


@pytest.fixture
def run(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """As conftest's, and in tests that also run commands as the owner."""

    async def run(*arguments: str) -> Result:
        return await runner_for(world.service_url, monkeypatch, tmp_path)(*arguments)

    return run


async def column(world: World, of: Any) -> list[Any]:
    async with world.engine.connect() as connection:
        return list(await connection.scalars(select(of)))


async def guards_of(world: World) -> dict[str, str]:
    async with world.engine.connect() as connection:
        return await read_guards(connection)


async def test_messages_that_wait_are_held_for_a_person(world: World, run_as_owner: Run, run: Run) -> None:
    await connect_stores(world)
    await sell(world, "1", "sale-1")
    await sell(world, "2", "sale-2")
    await world.execute(f"UPDATE {outbox_message.fullname} SET state = 'sent', closed_at = now() WHERE level_version = 2")
    result = await run_as_owner("restored", "--yes", "--actor", "ann")
    sent, held = await messages(world)

    assert 0 == result.exit_code, result.output
    assert "Messages held: 1." in result.output
    assert ("sent", 0) == (sent.state, sent.unknown_sends)
    assert ("dead", 1, "ann", None) == (held.state, held.unknown_sends, held.actor, held.claimed_until)
    assert held.created_at == held.sent_at
    assert "may have been sent before" in (await run("outbox", "list")).output
    assert 0 == (await run("outbox", "retry", "--dead")).exit_code
    assert ["sent", "pending"] == [one.state for one in await messages(world)]


async def test_drift_of_a_held_message_is_not_known(world: World, run_as_owner: Run, run: Run) -> None:
    await connect_stores(world)
    async with running(settings_for(world)) as (_, client):
        assert 204 == (await client.post(PATH, content=body_of(), headers=signed(body_of()))).status_code
    await sell(world, "1", "sale-1")
    await run_as_owner("restored", "--yes")

    assert "by up to 1" in (await run("drift", "--store", "1", "--all")).output


async def test_tokens_and_leases_are_forgotten(world: World, run_as_owner: Run) -> None:
    await world.execute(
        f"INSERT INTO {access_token.fullname} (account, token, expires_at) VALUES ('a', 't', now() + interval '1 day')",
        f"INSERT INTO {lease.fullname} (name, held_until) VALUES ('sync 1 x', now() + interval '1 day')",
    )
    result = await run_as_owner("restored", "--yes")

    assert "Forgotten: 1 tokens, 1 leases" in result.output
    assert [] == await column(world, access_token.c.account) == await column(world, lease.c.name)


async def changes(client: httpx2.AsyncClient, after: int = 0) -> httpx2.Response:
    return await client.get(f"/pos/stores/1/changes?after={after}&limit=1000", headers={"Authorization": f"Bearer {KEY}"})


async def test_a_cursor_of_before_is_told_to_begin_again(world: World, run_as_owner: Run) -> None:
    await sell(world, "1", "sale-1")
    settings = settings_for(world, pos_api_key=KEY)
    async with running(settings) as (_, client):
        before = (await changes(client)).json()
    # Rows that were told after the backup, and are lost.
    lost_cursor = before["cursor"] + 1000
    for _ in range(2):
        assert 0 == (await run_as_owner("restored", "--yes")).exit_code
        async with running(settings) as (_, client):
            again = (await changes(client)).json()
            old, lost = await changes(client, before["cursor"]), await changes(client, lost_cursor)
            following = await changes(client, again["cursor"])

        assert [row["level_version"] for row in before["changes"]] == [row["level_version"] for row in again["changes"]]
        assert 410 == old.status_code == lost.status_code
        assert "after=0" in old.json()["message"]
        assert (200, []) == (following.status_code, following.json()["changes"])
        before, lost_cursor = again, again["cursor"] + 1000


async def test_an_epoch_begins_also_where_nobody_had_read_the_feed_before_the_backup(world: World, run_as_owner: Run) -> None:
    await run_as_owner("restored", "--yes")
    async with running(settings_for(world, pos_api_key=KEY)) as (_, client):
        first = (await changes(client)).json()["changes"]
        lost = await changes(client, 7)

    assert first
    assert 410 == lost.status_code
    assert 2**53 > max(await column(world, change_feed.c.position))


@pytest.mark.parametrize("weakened", ["ENABLE TRIGGER", "DISABLE TRIGGER", "ENABLE REPLICA TRIGGER"])
async def test_guards_are_set_again(world: World, run_as_owner: Run, weakened: str) -> None:
    await run_as_owner("restored", "--yes")
    strong = await guards_of(world)
    await world.execute(f"ALTER TABLE {stock_movement.fullname} {weakened} {GUARDS[0]}")
    result = await run_as_owner("restored", "--yes")
    again = await run_as_owner("restored", "--yes")

    assert dict.fromkeys(GUARDS, "A") == strong == await guards_of(world)
    assert f"Guards of the ledger: set again: {GUARDS[0]}\n" in result.output
    assert "Guards of the ledger: as they must be\n" in again.output


async def test_without_a_guard_nothing_is_done(world: World, run_as_owner: Run) -> None:
    await connect_stores(world)
    await sell(world, "1", "sale-1")
    await world.execute(f"DROP TRIGGER {GUARDS[1]} ON {stock_movement.fullname}")
    result = await run_as_owner("restored", "--yes")

    assert 1 == result.exit_code
    assert f"The ledger has no {GUARDS[1]}" in result.output
    assert ["pending"] == [one.state for one in await messages(world)]


async def test_an_older_schema_is_to_be_migrated_first(world: World, run_as_owner: Run) -> None:
    await world.execute("UPDATE alembic_version SET version_num = '0006'")
    result = await run_as_owner("restored", "--yes")

    assert 1 == result.exit_code
    assert "Run: pos-sync migrate" in result.output


async def test_it_asks_first_and_wants_the_owner(world: World, run_as_owner: Run, run: Run) -> None:
    await connect_stores(world)
    await sell(world, "1", "sale-1")
    asked = await run_as_owner("restored", input=b"n\n")
    service = await run("restored", "--yes")

    assert 1 == asked.exit_code
    assert "is every replica stopped?" in asked.output
    assert 1 == service.exit_code
    assert "permission denied" in service.output
    assert ["pending"] == [one.state for one in await messages(world)]
