"""A connection to Postgres that others on the network could read is warned about, at the start and by `doctor`."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.database_host import Host
from app.server.run import require_schema
from app.storage import engine
from tests.conftest import settings_for
from tests.support.commands import runner_for
from tests.support.proxy import PostgresProxy
from tests.support.sender import SECRET
from tests.support.world import World

WARNING = "the connection to the database is not encrypted"


@pytest.fixture
async def port(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """A port of this machine that leads to the server without TLS, whatever the host is called."""

    async def lookup(_host: Host) -> list[str]:
        return ["127.0.0.1"]

    monkeypatch.setattr(engine, "_lookup", lookup)
    async with PostgresProxy(world.server_address).running() as proxy:
        yield proxy.port


async def warnings(world: World, url: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> tuple[list[str], list[str], str]:
    """What the start warns of, the remedies that it names, and the verdict of `doctor`."""
    with capture_logs() as lines:
        await require_schema(settings_for(world, database_url=url))
    run = runner_for(url, monkeypatch, folder)
    monkeypatch.setenv("MIPOS_CLIENT_SECRET", SECRET)
    monkeypatch.setenv("MIPOS_BASE_URL", "http://127.0.0.1:1")
    checks = json.loads((await run("doctor", "--json")).stdout)
    (check,) = [check for check in checks if check["name"] == "encryption"]
    assert (WARNING == check["reason"]) == (check["verdict"] == "warning")
    said = [line for line in lines if line["log_level"] == "warning"]
    return [line["event"] for line in said], [line["remedy"] for line in said], check["verdict"]


@pytest.mark.parametrize("host", ["db.example.com", "192.0.2.7", "127.0.0.1:{0},db.example.com"])
async def test_plain_text_beyond_this_machine_is_warned_about(
    world: World, port: int, host: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = f"postgresql://pos_sync@{host.format(port)}:{port}/{world.database}"

    assert ([WARNING], ["DATABASE_URL with sslmode=verify-full"], "warning") == await warnings(world, url, monkeypatch, tmp_path)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "database"])
async def test_plain_text_on_this_machine_and_to_a_neighbour_is_not(
    world: World, port: int, host: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = f"postgresql://pos_sync@{host}:{port}/{world.database}"

    assert ([], [], "ok") == await warnings(world, url, monkeypatch, tmp_path)


async def test_a_socket_is_not(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if not isinstance(world.server_address, str):
        pytest.skip("the tests' Postgres has no socket here")

    assert ([], [], "ok") == await warnings(world, world.service_url, monkeypatch, tmp_path)
