"""Each failure, made for real and in real time, with the intervals that are shipped: told within a minute, and over when it ends.

A service of two workers, a sandbox as mipOS, a receiver of the alert webhook, and a Prometheus with the shipped rules, which
scrapes as an operator's does. One thing alone is quicker than in production: what is over is told after `CLEAR` instead of five
clear minutes (`alert_message.MIN_FALL`), or the test would take ten. Run it with `-s` to see the seconds.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from app.problems import kinds
from app.problems.kinds import Severity
from app.sandbox.faults import Fault
from app.sandbox.platform import InventorySystem
from app.sandbox.server import Sandbox
from app.storage.migrations import migrate
from tests.support import prometheus as real
from tests.support.alarms import Places, alarm
from tests.support.debian_postgres import binaries, one_server
from tests.support.mipos import SETTINGS, SYSTEM, listening, platform
from tests.support.outbox import connect_stores, messages, sell
from tests.support.postgres import looking_engine
from tests.support.sender import PATH, SECRET, body_of, signed
from tests.support.service import Service, free_port, serving
from tests.support.watched import ALERT_SECRET, Receiver, expect_deliveries, receiving
from tests.support.world import World

WARNING, CRITICAL = Severity.WARNING, Severity.CRITICAL
SYSTEM_2 = "3d40a24e-d570-4598-ae68-e20687edd1f9"
"""The sample system of store 2"""
CLEAR = 20.0
TOMORROW = "the-secret-of-tomorrow"
SEAM = f"""
import datetime
from app.operations import alert_message
alert_message.MIN_FALL = datetime.timedelta(seconds={CLEAR})
"""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.skipif(real.WHY_NOT is not None, reason=real.WHY_NOT or "")]


@asynccontextmanager
async def watched(
    url: str, monkeypatch: pytest.MonkeyPatch, folder: Path, **settings: Any
) -> AsyncIterator[tuple[Places, Service, Receiver]]:
    """A service with its receiver and its Prometheus."""
    # Each process of the service runs this before anything else.
    (folder / "sitecustomize.py").write_text(SEAM)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    async with receiving() as receiver, AsyncExitStack() as stack:
        own = f"http://127.0.0.1:{receiver.port}"
        values: dict[str, Any] = {
            "alert_webhook_url": f"{own}/alerts",
            "alert_webhook_secret": ALERT_SECRET,
            "heartbeat_url": own,
            **settings,
        }
        service = await asyncio.to_thread(stack.enter_context, serving(url, "--workers", "2", **values))
        monkeypatch.delenv("PYTHONPATH")
        prometheus = await stack.enter_async_context(real.prometheus(service.port))
        client = await stack.enter_async_context(httpx2.AsyncClient(timeout=30))
        environment = {name.upper(): str(value) for name, value in values.items()}
        environment |= {"DATABASE_URL": url, "MIPOS_CLIENT_SECRET": SECRET}
        places = Places(service.url, receiver, prometheus, client, environment)
        async with places.watching():
            yield places, service, receiver


async def until(condition: Callable[[], Awaitable[Any]], *, pause: float = 0.5) -> None:
    async with asyncio.timeout(120):
        while not await condition():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(pause)


@dataclass
class Front:
    """Where PUBLIC_URL leads: to the service, until it is closed."""

    port: int
    to: int
    server: asyncio.Server | None = None

    async def open(self) -> None:
        self.server = await asyncio.start_server(self._pass_on, "127.0.0.1", self.port)

    async def close(self) -> None:
        if self.server is not None:
            self.server.close()
            self.server = None

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.to)

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            with closing(target):
                while data := await source.read(65536):
                    target.write(data)

        await asyncio.gather(copy(reader, there_writer), copy(there_reader, writer), return_exceptions=True)


@dataclass
class Restaurant:
    """What goes wrong in it, and how its cause is removed."""

    world: World
    places: Places
    sandbox: Sandbox
    mipos_port: int
    front: Front
    mipos: AsyncExitStack

    async def mipos_comes(self) -> None:
        await self.mipos.enter_async_context(listening(self.sandbox, port=self.mipos_port, lifespan="off"))

    async def mipos_goes(self) -> None:
        await self.mipos.aclose()

    async def deliver(self, *, secret: str = SECRET, **changes: Any) -> int:
        body = body_of(**changes)
        url = f"{self.places.service_url}{PATH}"
        return (await self.places.client.post(url, content=body, headers=signed(body, secret=secret))).status_code

    async def number(self, table: str) -> str:
        return str(await self.world.scalar(f"SELECT max({table}_id) FROM pos_sync.{table}"))

    async def is_since(self, seconds: float, store_id: str) -> bool:
        query = f"SELECT now() - last_at > interval '{seconds} s' FROM pos_sync.pair_delivery WHERE store_id = '{store_id}'"
        return await self.world.scalar(query) or False


async def test_all_that_a_restaurant_meets(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    await connect_stores(world)
    await expect_deliveries(world, "2", SYSTEM_2)
    sandbox, mipos_port, port = Sandbox(platform()), free_port(), free_port()
    sandbox.platform.systems[SYSTEM].stock |= {"tom001": "22.5", "saf001": "0.75"}
    sandbox.platform.systems[SYSTEM_2] = InventorySystem("30", {"2"}, stock={"item_abc123": "11.22", "item_abc456": "5.50"})
    size = await world.scalar("SELECT pg_database_size(current_database())")
    settings = {
        **SETTINGS,
        "port": port,
        "mipos_base_url": f"http://127.0.0.1:{mipos_port}",
        "public_url": f"http://127.0.0.1:{(front := Front(free_port(), port)).port}",
        "ping_every": 0.25,
        "database_disk_bytes": int(size / 0.7),
    }
    sandbox.faults.append(Fault(call="manage", status=409, body='{"message": ["Invalid type."], "data": null}'))
    async with (
        AsyncExitStack() as stack,
        AsyncExitStack() as mipos,
        watched(world.service_url, monkeypatch, tmp_path, **settings) as (places, _, _),
    ):
        await front.open()
        stack.push_async_callback(front.close)
        it = Restaurant(world, places, sandbox, mipos_port, front, mipos)
        await it.mipos_comes()
        held = await break_all(it)
        places.check_promise(await places.shown(held), title="told")
        ended = await end_all(it)
        seen = await places.over(ended)
        places.check_promise(seen, title="over", beyond={"webhook": CLEAR})


async def break_all(it: Restaurant) -> dict[tuple[str, str], float]:
    """Make everything wrong that can be side by side; when the condition of each held."""
    world, now = it.world, lambda: it.places.now
    held: dict[tuple[str, str], float] = {}

    async def is_refused() -> bool:
        return await world.scalar("SELECT state = 'failed' FROM pos_sync.webhook_registration") or False

    async def has_returned() -> bool:
        return await world.scalar("SELECT EXISTS (SELECT FROM pos_sync.ping WHERE state = 'returned')") or False

    await asyncio.gather(until(is_refused), until(has_returned))
    held[alarm(kinds.REGISTRATION, CRITICAL)] = now()
    await it.front.close()
    held[alarm(kinds.PUBLIC_URL, CRITICAL)] = now() + 15  # the next ping

    # mipOS refuses one stock update, and is away when the next one has to be sent.
    it.sandbox.faults.append(Fault(call="stock_update", status=422, body='{"message": "No such integration.", "data": null}'))
    await sell(world, "0.1", "a", item="saf001")

    async def is_dead() -> bool:
        return any(one.state == "dead" for one in await messages(world))

    await until(is_dead)
    held[alarm(kinds.OUTBOX_DEAD, WARNING)] = now()
    await it.mipos_goes()
    await sell(world, "1", "b", item="tom001")
    held[alarm(kinds.OUTBOX_LATE, WARNING)] = now() + 60

    assert 204 == await it.deliver(current_stock="10")
    held[alarm(kinds.DRIFT, WARNING)] = now() + 30
    assert 409 == await it.deliver(external_id="unknown", date="2026-05-30 12:45:04")
    held[alarm(kinds.REFUSALS, WARNING)] = now()
    for change, stock, sent_at in (("1", "16.22", "one"), ("2", "11.22", "two"), ("1", "16.22", "three")):
        # The third is as the first, and may be one of its own.
        changes = {"movement_type": change, "quantity": "5", "current_stock": stock, "now": sent_at}
        pair = {"store_id": "2", "inventory_system_id": SYSTEM_2, "external_id": "item_abc123"}
        assert 204 == await it.deliver(**pair, **changes)
    held[alarm(kinds.DUPLICATES, WARNING)] = now()
    await it.places.run("item", "set", "--store", "1", "saf001", "--low-stock", "1000")
    held[alarm(kinds.LOW_STOCK, WARNING)] = now()

    async def fill() -> None:
        filler = int((await world.scalar("SELECT pg_database_size(current_database())")) * 0.4 / 1000)
        await world.execute(f"CREATE TABLE filling AS SELECT repeat(md5(n::text), 30) FROM generate_series(1, {filler}) AS n")

    await fill()
    held[alarm(kinds.DISK, CRITICAL)] = now()
    await it.places.run("sync", "--store", "2", status=None)
    held[alarm(kinds.SYNC, WARNING)] = now()

    # A verified delivery lately would make the wrong ones somebody's test.
    await until(lambda: it.is_since(15, "1"))
    for date in "cde":
        assert 401 == await it.deliver(secret=TOMORROW, date=date)
    held[alarm(kinds.SIGNATURES, CRITICAL)] = now()
    await world.execute("UPDATE pos_sync.pair_delivery SET last_at = now() - interval '4 hours' WHERE store_id = '2'")
    held[alarm(kinds.SILENCE, CRITICAL)] = held[alarm(kinds.SILENCE, WARNING)] = now()
    return held


async def end_all(it: Restaurant) -> dict[kinds.Kind, float]:
    """Remove the cause of each failure. Return when each condition ended."""
    world, run, now = it.world, it.places.run, lambda: it.places.now
    by = ("--actor", "ana")
    ended: dict[kinds.Kind, float] = {}
    await it.mipos_comes()
    await it.front.open()
    ended[kinds.PUBLIC_URL] = now() + 15  # the next ping
    pair = {"store_id": "2", "inventory_system_id": SYSTEM_2, "external_id": "item_abc456"}
    assert 204 == await it.deliver(**pair, movement_type="1", quantity="1", current_stock="6.50")
    ended[kinds.SILENCE] = now()
    assert 204 == await it.deliver(date="f", current_stock="9")
    ended[kinds.SIGNATURES] = now()
    await run("register")
    ended[kinds.REGISTRATION] = now()
    await run("refused", "dismiss", await it.number("refused_delivery"), "--note", "a test", *by)
    ended[kinds.REFUSALS] = now()
    await run("duplicates", "apply", await it.number("suspected_duplicate"), *by)
    ended[kinds.DUPLICATES] = now()
    await run("item", "set", "--store", "1", "saf001", "--no-low-stock")
    ended[kinds.LOW_STOCK] = now()
    await world.execute("DROP TABLE filling")
    ended[kinds.DISK] = now()
    await run("sync", "--store", "2")
    ended[kinds.SYNC] = now()
    (dead,) = [one.outbox_message_id for one in await messages(world) if one.state == "dead"]
    await run("outbox", "retry", str(dead))

    async def is_none(state: str) -> bool:
        return all(one.state != state for one in await messages(world))

    await until(lambda: is_none("dead"))
    ended[kinds.OUTBOX_DEAD] = now()
    await until(lambda: is_none("pending"))
    ended[kinds.OUTBOX_LATE] = now()
    await run("reconcile", "--store", "1", "--item", "avcc123", "--adopt", SYSTEM, "--note", "counted", *by)
    ended[kinds.DRIFT] = now()
    return ended


@pytest.mark.skipif(binaries() is None, reason="Debian's Postgres is not installed, or this is not root")
async def test_a_primary_that_becomes_a_standby(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with one_server("fsync=off") as server:
        engine = looking_engine(server.url)
        async with engine.begin() as connection:
            await connection.execute(text("CREATE ROLE pos_sync LOGIN"))
        await migrate(engine, grant_to="pos_sync")
        await engine.dispose()
        async with watched(server.url.replace("postgres@", "pos_sync@"), monkeypatch, tmp_path) as (places, _, receiver):
            await until(lambda: has_beaten(receiver))
            await asyncio.to_thread(server.demote)
            held = {alarm(kinds.DATABASE, CRITICAL): places.now + 15}
            places.check_promise(await places.shown(held), title="told")

            await asyncio.to_thread(server.promote)
            ended = {kinds.DATABASE: places.now}
            places.check_promise(await places.over(ended), title="over", beyond={"webhook": CLEAR})


async def test_a_schema_that_goes_away_and_one_that_is_too_new(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    known = await world.scalar("SELECT version_num FROM pos_sync.alembic_version")
    since = await world.scalar("SELECT compatible_from FROM pos_sync.alembic_version")
    version = "UPDATE pos_sync.alembic_version SET version_num = '{}', compatible_from = '{}'"
    async with watched(world.service_url, monkeypatch, tmp_path) as (places, _, receiver):
        await until(lambda: has_beaten(receiver))
        for breaks, restores in (
            ("ALTER SCHEMA pos_sync RENAME TO gone", "ALTER SCHEMA gone RENAME TO pos_sync"),
            (version.format("9999", "9999"), version.format(known, since)),
        ):
            places.history.clear()
            receiver.messages.clear()
            await world.execute(breaks)
            held = {alarm(kinds.SCHEMA, CRITICAL): places.now + 15}
            places.check_promise(await places.shown(held), title=f"told: {breaks}")
            assert [] == receiver.told(kinds.DATABASE)

            await world.execute(restores)
            ended = {kinds.SCHEMA: places.now}
            places.check_promise(await places.over(ended), title="over", beyond={"webhook": CLEAR})


async def test_a_service_that_died(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody is left who could tell the webhook: that is what HEARTBEAT_URL is for, whose calls stop."""
    async with watched(world.service_url, monkeypatch, tmp_path) as (places, service, receiver):
        await until(lambda: has_beaten(receiver))
        await until(places.prometheus.knows_the_last_look)
        held = {alarm(kinds.WATCH, CRITICAL): places.now + 120}
        await asyncio.to_thread(end, service)
        beats = receiver.beats
        seen = await places.shown(held, places=("status", "doctor", "rule"))
        places.check_promise(seen, title="told")
        assert beats == receiver.beats


async def has_beaten(receiver: Receiver) -> bool:
    return receiver.beats > 0


def end(service: Service) -> None:
    service.signal()
    service.wait()
