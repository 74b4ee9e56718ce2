"""A replica of the release before, on the schema of this one: it answers 503, and neither books nor refuses for good."""

from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from app.storage.embedded_postgres import SERVICE_ROLE
from app.storage.migrations import migrate
from tests.conftest import running, settings_for
from tests.support.postgres import url
from tests.support.releases import fill_by, forget_code, run_code, take_code
from tests.support.sender import PATH, body_of, signed
from tests.support.service import Service, serving
from tests.support.world import World

pytestmark = pytest.mark.slow
RELEASES = {"0007": "7ee4515", "0005": "3ac84fa"}
"""Revisions of the code: the last before the own schema, and the last whose replicas write the ledger by their own rules."""


@pytest.fixture(scope="session", params=RELEASES)
def old_tree(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of an older release."""
    return take_code(RELEASES[request.param], tmp_path_factory.mktemp("old"))


@pytest.fixture
async def old_world(empty_world: World, old_tree: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A database that the release before has migrated and filled, and where processes run its code."""
    return fill_by(old_tree, empty_world, monkeypatch)


async def deliver(client: httpx2.AsyncClient, **changes: Any) -> int:
    body = body_of(**changes)
    return (await client.post(PATH, content=body, headers=signed(body))).status_code


async def deliver_to(service: Service, *, raw: bytes | None = None, **changes: Any) -> int:
    body = body_of(**changes) if raw is None else raw
    async with httpx2.AsyncClient(base_url=service.url, timeout=20) as client:
        return (await client.post(PATH, content=body, headers=signed(body))).status_code


@pytest.mark.parametrize("has_other_role", [False, True])
async def test_an_old_replica_answers_503_once_the_schema_is_new(
    old_world: World, monkeypatch: pytest.MonkeyPatch, *, has_other_role: bool
) -> None:
    """Also where its role has the name of the new schema, and so finds in it what it knows."""
    assert SERVICE_ROLE == "pos_sync"
    role = f"service_of_{old_world.database}" if has_other_role else SERVICE_ROLE
    if has_other_role:
        await old_world.execute(f"CREATE ROLE {role} LOGIN")
        run_code(old_world.owner_url, "migrate", "--grant-to", role)
    with serving(url(old_world.database, user=role)) as old:
        assert [204, 409] == [await deliver_to(old), await deliver_to(old, external_id="unknown")]
        forget_code(monkeypatch)
        await migrate(old_world.engine, is_forced=True)

        answers = {
            "new": await deliver_to(old, date="2026-05-31"),
            "known": await deliver_to(old),
            "unknown item": await deliver_to(old, external_id="unknown", date="2026-05-31"),
            "unreadable": await deliver_to(old, raw=b"{"),
            "out of its contract": await deliver_to(old, quantity="x"),
        }
        ledger, refused = await old_world.ledger(), await old_world.refused()
        async with running(settings_for(old_world)) as (_, client):
            again = [await deliver(client), await deliver(client, date="2026-05-31")]

    assert {503} == set(answers.values()), answers
    assert (1, 1) == (len(ledger), len(refused))
    assert [204, 204] == again
    assert 2 == len(await old_world.ledger())
    assert {} == await old_world.broken_invariants()
    if has_other_role:
        await old_world.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


async def test_a_till_that_may_call_the_function_still_may_and_is_told_on(
    old_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_code(monkeypatch)
    role = f"till_{old_world.database}"
    await old_world.execute(f"CREATE ROLE {role}", f"GRANT EXECUTE ON FUNCTION record_pos_movement TO {role}")
    await old_world.execute("INSERT INTO integration (store_id, inventory_system_id, user_id_tps) VALUES ('1', 'other', '7')")

    await migrate(old_world.engine)

    async with old_world.engine.begin() as connection:
        await connection.execute(text(f"SET LOCAL ROLE {role}"))
        stock = await connection.scalar(text("SELECT public.record_pos_movement('1', 'avcc123', 'sale', 1, 'ticket')"))
    async with old_world.engine.connect() as connection:
        queued = await connection.scalar(text("SELECT count(*) FROM outbox_message WHERE inventory_system_id = 'other'"))
    await old_world.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")
    assert ("12.69", 1) == (str(stock), queued)
