"""Several servers, of which one serves: a frozen, dead or read-only one is left, and costs no more than a moment."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import httpx2
import pytest
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from app.database_address import read_address
from app.database_host import Host
from app.storage import engine as engine_module
from app.storage.engine import CONNECT_SECONDS, STAGGER_SECONDS, Database, ServerUnreachable, unreachable
from app.storage.watch import DatabaseWatch, ServerState
from tests.conftest import new_world, running, settings_for
from tests.support.commands import runner_for
from tests.support.postgres import SAMPLES, TEMPLATE
from tests.support.proxy import How, PostgresProxy
from tests.support.sender import PATH, body_of, signed
from tests.support.world import World

NOBODY = 1
"""A port on which nothing listens"""
PATIENT_SECONDS = 3.0
"""A server that works is not silent for so long, on a busy machine too."""


@pytest.fixture
async def proxies(world: World) -> AsyncIterator[tuple[PostgresProxy, PostgresProxy]]:
    """Two ways to the one server, each of which can be frozen."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(PostgresProxy(world.server_address).running())
        second = await stack.enter_async_context(PostgresProxy(world.server_address).running())
        yield first, second


def address(world: World, *ports: int, options: str = "") -> str:
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    return f"postgresql://pos_sync@{hosts}/{world.database}{options}"


async def seconds_to_connect(database: Database) -> float:
    started = asyncio.get_running_loop().time()
    (await database.connect()).terminate()
    return asyncio.get_running_loop().time() - started


async def test_a_frozen_first_host_costs_one_moment_once(world: World, proxies: tuple[PostgresProxy, PostgresProxy]) -> None:
    frozen, good = proxies
    frozen.freeze()
    database = Database(read_address(address(world, frozen.port, good.port)))

    first = await seconds_to_connect(database)
    await seconds_to_connect(database)

    assert STAGGER_SECONDS <= first
    # The one that served last is tried first.
    assert (1, 2) == (frozen.connections_made, good.connections_made)


async def test_a_dead_host_costs_nothing_and_one_that_comes_second_is_dropped(
    world: World, proxies: tuple[PostgresProxy, PostgresProxy]
) -> None:
    good, _ = proxies
    database = Database(read_address(address(world, NOBODY, good.port)))

    assert await seconds_to_connect(database) < CONNECT_SECONDS


async def test_each_address_of_a_name_is_a_server_of_its_own(
    world: World, proxies: tuple[PostgresProxy, PostgresProxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen, good = proxies
    frozen.freeze()
    looked_up: list[str] = []

    async def lookup(host: Host) -> list[str]:
        looked_up.append(host.name)
        return ["127.0.0.2", "127.0.0.1"]

    monkeypatch.setattr(engine_module, "_lookup", lookup)
    database = Database(read_address(f"postgresql://pos_sync@db.example:{good.port}/{world.database}"))
    (await database.connect()).terminate()
    (await database.connect()).terminate()

    # Looked up each time: a name may lead elsewhere by now.
    assert ["db.example", "db.example"] == looked_up


@pytest.mark.usefixtures("shipped_connecting")
async def test_where_none_serves_each_is_named_with_its_reason(
    world: World, proxies: tuple[PostgresProxy, PostgresProxy]
) -> None:
    frozen, _ = proxies
    frozen.freeze()
    database = Database(read_address(address(world, NOBODY, frozen.port)))

    with pytest.raises(ServerUnreachable) as failed:
        await database.connect()

    assert f"127.0.0.1:{NOBODY}: connection refused; 127.0.0.1:{frozen.port}: no answer" == str(failed.value)


async def test_a_server_without_tls_is_said_where_tls_is_asked_for() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(b"N")
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    address = read_address(f"postgresql://pos_sync@127.0.0.1:{server.sockets[0].getsockname()[1]}/pos?sslmode=require")
    async with server:
        with pytest.raises(ConnectionError) as failed:
            await Database(address).connect()

    assert "the server offers no TLS" in unreachable(address, failed.value)


async def test_a_refusal_of_postgres_is_told_as_it_is(proxies: tuple[PostgresProxy, PostgresProxy]) -> None:
    good, _ = proxies
    database = Database(read_address(f"postgresql://pos_sync@127.0.0.1:{NOBODY},127.0.0.1:{good.port}/no_such_database"))

    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await database.connect()


async def test_of_several_hosts_a_read_only_one_is_passed_by(world: World, proxies: tuple[PostgresProxy, PostgresProxy]) -> None:
    first, second = proxies
    await world.execute(f"ALTER DATABASE {world.database} SET default_transaction_read_only = on")
    database = Database(read_address(address(world, first.port, second.port)))

    with pytest.raises(ServerUnreachable, match=r"a standby.*; .*a standby"):
        await database.connect()


@pytest.mark.slow
async def test_a_silent_server_is_left_by_all_within_the_deadline_and_the_next_delivery_is_applied(
    world: World, proxies: tuple[PostgresProxy, PostgresProxy]
) -> None:
    first, second = proxies
    settings = settings_for(world, database_url=address(world, first.port, second.port))
    body, further = body_of(), body_of(date="2026-11-24 08:00:00")
    async with running(settings) as (app, client):
        before = await client.post(PATH, content=body, headers=signed(body))
        pooled = await app.state.service.engine.connect()
        first.freeze()
        # A statement of the relay, say: it has no end of its own.
        waiting = asyncio.create_task(pooled.exec_driver_sql("SELECT 1"))
        answers = [await client.post(PATH, content=further, headers=signed(further)) for _ in range(2)]
        with pytest.raises(SQLAlchemyError):
            await asyncio.wait_for(waiting, 10)
        await pooled.invalidate()
        await pooled.close()
        ready = await client.get("/readyz")

    assert 204 == before.status_code
    # The first one was under way when the server fell silent.
    assert 204 == answers[-1].status_code
    assert 200 == ready.status_code
    assert 2 == len(await world.ledger())


@pytest.mark.slow
@pytest.mark.parametrize("hosts", [1, 2])
async def test_a_server_that_turns_read_only_is_said_and_one_that_writes_again_is_used(
    world: World, proxies: tuple[PostgresProxy, PostgresProxy], hosts: int
) -> None:
    settings = settings_for(world, database_url=address(world, *[proxy.port for proxy in proxies][:hosts]))
    body = body_of()
    async with running(settings) as (app, client):
        assert 200 == (await ready(client, status=200)).status_code
        await world.execute(f"ALTER DATABASE {world.database} SET default_transaction_read_only = on")
        app.state.service.database.abandon()
        refused = await client.post(PATH, content=body, headers=signed(body))
        unready = await ready(client, status=503, words="read-only")
        await world.execute(
            "SET default_transaction_read_only = off", f"ALTER DATABASE {world.database} SET default_transaction_read_only = off"
        )
        again = await ready(client, status=200)
        applied = await client.post(PATH, content=body, headers=signed(body))

    assert (503, 503) == (refused.status_code, unready.status_code)
    assert (200, 204) == (again.status_code, applied.status_code)


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - what it looks at tells nobody
        await asyncio.sleep(0.01)


async def ready(client: httpx2.AsyncClient, *, status: int | None = None, words: str = "") -> httpx2.Response:
    while True:
        found = await client.get("/readyz")
        if status in (None, found.status_code) and words in found.json()["message"]:
            return found
        await asyncio.sleep(0.05)


async def test_the_watch_tells_a_silent_server_from_a_busy_process(
    world: World, proxies: tuple[PostgresProxy, PostgresProxy]
) -> None:
    proxy, _ = proxies
    database = Database(read_address(address(world, proxy.port)))
    watch = DatabaseWatch(database, silence_seconds=0.5)
    looking = asyncio.create_task(watch.run())
    other = await database.connect()
    await until(lambda: watch.state is ServerState.WRITES)
    proxy.freeze()
    await until(other.is_closed)
    looking.cancel()

    assert watch.state is ServerState.SILENT


@pytest.mark.slow
async def test_a_command_ends_where_its_server_goes_silent(
    world: World,
    proxies: tuple[PostgresProxy, PostgresProxy],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    proxy, _ = proxies
    monkeypatch.setattr("app.storage.watch.COMMAND_LOOK_SECONDS", 0.1)
    monkeypatch.setattr("app.storage.watch.MAX_COMMAND_SILENCE_SECONDS", PATIENT_SECONDS)
    run = runner_for(address(world, proxy.port), monkeypatch, tmp_path_factory.mktemp("run"))
    proxy.arm(None)
    shown = await run("stock")
    count = len(proxy.passed)
    assert 0 == shown.exit_code, shown.output
    proxy.arm(count // 2, How.FROZEN)
    ended = await run("stock")

    assert 1 == ended.exit_code
    assert "has not answered for" in ended.output


OF_THE_WORK = "SET LOCAL lock_timeout"
"""What the command says in its transaction, and the connection that looks whether the server answers does not"""


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["a statement", "the commit", "the answer to the commit"])
@pytest.mark.parametrize(
    "arguments", ["migrate", f"catalog import --store 7 {SAMPLES / 'store-1.json'}"], ids=["migrate", "import"]
)
async def test_a_command_whose_server_goes_silent_in_the_middle_says_that_its_outcome_is_unknown_and_may_be_run_again(
    arguments: str, lost: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("app.storage.watch.COMMAND_LOOK_SECONDS", 0.1)
    template = "template0" if arguments == "migrate" else TEMPLATE
    async with new_world(template=template) as world, new_world(template=template) as other:
        commit = await messages_until_commit(other, arguments, monkeypatch, tmp_path)
        async with PostgresProxy(world.server_address).running() as proxy:
            run = runner_for(owner_address(world, proxy.port), monkeypatch, tmp_path)
            after = {"a statement": commit // 2, "the commit": commit, "the answer to the commit": commit + 1}[lost]
            proxy.arm(after, How.FROZEN, of=OF_THE_WORK)
            ending = asyncio.ensure_future(run(*arguments.split()))
            # A busy machine may answer late. Only a server that has swallowed something is to be left soon.
            await until(lambda: bool(proxy.lost) or ending.done())
            with monkeypatch.context() as impatient:
                impatient.setattr("app.storage.watch.MAX_COMMAND_SILENCE_SECONDS", PATIENT_SECONDS)
                ended = await ending
            (first_lost,) = proxy.lost
            proxy.thaw()
            # The server notices that the client has gone.
            proxy.reset_all()
            again = await run(*arguments.split())
        found = await world.scalar(ALL_OF_IT)
        expected = await other.scalar(ALL_OF_IT)

    assert (lost == "the commit") == (first_lost.text == "COMMIT;")
    assert 1 == ended.exit_code
    assert "Whether the command has done its work is not known. Run it again: what was done is not done twice." in ended.output
    assert 0 == again.exit_code, again.output
    assert expected == found


ALL_OF_IT = """
SELECT (SELECT version_num FROM alembic_version) || coalesce(
  (SELECT string_agg(concat_ws(' ', store_id, item_id, source, quantity), ', ' ORDER BY store_id, item_id, level_version)
   FROM stock_movement), '')
"""
"""Where the schema stands, and what is in the ledger"""


async def messages_until_commit(world: World, arguments: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> int:
    """How many messages pass before the first commit of the command, where nothing is in its way."""
    async with PostgresProxy(world.server_address).running() as proxy:
        run = runner_for(owner_address(world, proxy.port), monkeypatch, folder)
        done = await run(*arguments.split())
        assert 0 == done.exit_code, done.output
        return [message.text for message in proxy.passed_of(OF_THE_WORK)].index("COMMIT;")


def owner_address(world: World, port: int) -> str:
    """The database as its owner, by way of a proxy."""
    return f"postgresql://{make_url(world.owner_url).username}@127.0.0.1:{port}/{world.database}"
