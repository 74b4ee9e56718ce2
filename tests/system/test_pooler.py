"""A real PgBouncer in transaction mode: it works where it is named, and is recognised where it is not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.conftest import running, settings_for
from tests.support.commands import runner_for
from tests.support.pgbouncer import PGBOUNCER, pgbouncer
from tests.support.sender import PATH, body_of, signed
from tests.support.world import World


@pytest.fixture(params=["", "search_path, application_name, extra_float_digits, options"], ids=["refuses", "ignores"])
def pooler(world: World, request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of the world's database through PgBouncer, which refuses parameters of the connection, or ignores them."""
    server = world.server_address
    if PGBOUNCER is None:
        pytest.skip("pgbouncer is not installed")
    if not isinstance(server, str):
        pytest.skip("PgBouncer needs the server's socket")
    with pgbouncer(str(Path(server).parent), ignored=request.param) as port:
        yield f"postgresql://pos_sync@127.0.0.1:{port}/{world.database}"


async def deliver(client: httpx2.AsyncClient, **changes: Any) -> int:
    body = body_of(**changes)
    return (await client.post(PATH, content=body, headers=signed(body))).status_code


async def test_named_it_works_and_not_named_it_is_recognised(
    world: World, pooler: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = runner_for(pooler, monkeypatch, tmp_path)
    refused = await run("stock")
    monkeypatch.setenv("DATABASE_POOLER", "transaction")
    shown = await run("stock")
    async with running(settings_for(world, database_url=pooler, database_pooler="none")) as (_, client):
        assert 503 == (await client.get("/readyz")).status_code
    async with running(settings_for(world, database_url=pooler, database_pooler="transaction")) as (_, client):
        assert [204, 204, 204] == [await deliver(client, date=f"d{number}") for number in range(3)]

    assert (1, 0) == (refused.exit_code, shown.exit_code)
    assert "PgBouncer answers there. Set DATABASE_POOLER=transaction" in refused.output
    assert {} == await world.broken_invariants()
