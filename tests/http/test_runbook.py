"""The runbook, walked: each problem made for real, and ended by the commands that docs/runbook.md prints for it.

Steps without a command, such as starting Postgres, are done here in their place. `replication_slot` and `durability` need a
server of their own: tests/system/test_runbook.py.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.main import create_app
from app.operations import outage, problem_watch
from app.problems import judging, kinds
from app.problems.kinds import Kind, Severity
from app.sandbox.platform import InventorySystem
from tests.conftest import running, settings_for
from tests.support.commands import Run, runner_for
from tests.support.mipos import SYSTEM, Remote, listening, mipos
from tests.support.outbox import connect_stores, sell, settled, until
from tests.support.postgres import SAMPLES
from tests.support.runbook import Walk, sections
from tests.support.sender import PATH, SECRET, body_of, signed
from tests.support.service import free_port
from tests.support.watched import Watched, expect_deliveries, watched
from tests.support.world import World

WARNING, CRITICAL = Severity.WARNING, Severity.CRITICAL
SYSTEM_2 = "3d40a24e-d570-4598-ae68-e20687edd1f9"
"""The sample system of store 2"""
PAIR_2 = {"store_id": "2", "inventory_system_id": SYSTEM_2, "external_id": "item_abc456", "movement_type": "1"}
TOMORROW = "the-secret-of-tomorrow"
ELSEWHERE = {"replication_slot", "durability"}
REFUSES = '{"message": "No such integration.", "data": null}'


@dataclass
class Place:
    """Where the walks take place."""

    world: World
    run: Run
    remote: Remote
    settings: dict[str, Any]
    monkeypatch: pytest.MonkeyPatch
    it: Watched
    folder: Path
    deliveries: int = 0

    async def deliver(self, *, secret: str = SECRET, client: Any = None, **changes: Any) -> int:
        """Each is another one."""
        self.deliveries += 1
        body = body_of(**{"date": f"2026-05-30 12:00:{self.deliveries:02}", **changes})
        return int((await (client or self.it.client).post(PATH, content=body, headers=signed(body, secret=secret))).status_code)

    async def shows(self, kind: Kind, severity: Severity) -> None:
        await self.it.shows(kind, severity)

    async def is_over(self, kind: Kind) -> None:
        await self.it.is_over(kind)

    async def newest(self, table: str, *, where: str = "true") -> str:
        return str(await self.world.scalar(f"SELECT max({table}_id) FROM pos_sync.{table} WHERE {where}"))

    @asynccontextmanager
    async def reached(self) -> AsyncIterator[None]:
        """A replica that listens at PUBLIC_URL."""
        settings = settings_for(self.world, **self.settings, mipos_register_on_startup=False)
        async with listening(create_app(settings), port=int(self.settings["public_url"].rpartition(":")[2])):
            yield


async def walk_signatures(place: Place, walk: Walk) -> None:
    """The client secret was replaced at mipOS."""
    await walk.take(2, part=0)
    assert [401] * 3 == [await place.deliver(secret=TOMORROW) for _ in range(3)]
    await place.shows(kinds.SIGNATURES, CRITICAL)

    async def is_kept() -> bool:
        return "signature" in await walk.take(2, part=1) and await place.world.scalar(
            "SELECT count(*) > 0 FROM pos_sync.captured_delivery"
        )

    await until(is_kept)
    number = await place.newest("captured_delivery")
    assert "MIPOS_CLIENT_SECRET" in await walk.take(2, part=2, ends=(0, 1), number=number)
    walk.by_hand(1)
    with place.monkeypatch.context() as changed:
        changed.setenv("MIPOS_CLIENT_SECRET", TOMORROW)
        changed.setenv("MIPOS_CLIENT_SECRET_PREVIOUS", SECRET)
        rotated = settings_for(place.world, mipos_client_secret=TOMORROW, mipos_client_secret_previous=SECRET)
        async with running(rotated) as (_, client):
            await walk.take(3, number=number)
            assert 204 == await place.deliver(secret=TOMORROW, client=client, current_stock="9.94")
            await place.is_over(kinds.SIGNATURES)


async def walk_silence(place: Place, walk: Walk) -> None:
    ago = "UPDATE pos_sync.pair_delivery SET last_at = now() - interval '4 hours' WHERE store_id = '2'"
    await place.world.execute(ago)
    await place.shows(kinds.SILENCE, CRITICAL)
    await walk.take(1, store="2", date="2099-01-01")
    await place.is_over(kinds.SILENCE)
    assert 0 == (await place.run("store", "set", "2", "--closed-until", "open")).exit_code
    await place.shows(kinds.SILENCE, CRITICAL)
    async with place.reached():
        assert "leads to this service" in await walk.take(2)
    await walk.take(3)
    walk.by_hand(4)
    assert 204 == await place.deliver(**PAIR_2, quantity="1", current_stock="6.50")
    await place.is_over(kinds.SILENCE)


async def walk_registration(place: Place, walk: Walk) -> None:
    for _ in range(2):
        place.remote.fail("manage", status=409, body='{"message": ["Invalid type."], "data": null}')
    await place.run("register")
    await place.shows(kinds.REGISTRATION, CRITICAL)
    assert "Invalid type" in await walk.take(1, ends=(1,))
    walk.by_hand(2)
    await walk.take(1)
    await place.is_over(kinds.REGISTRATION)


async def walk_another_deployment(place: Place, walk: Walk) -> None:
    await place.world.execute(
        "UPDATE pos_sync.webhook_registration SET renewals = 2, registered_at = now() - interval '2 days'",
        "UPDATE pos_sync.pair_delivery SET last_at = now() - interval '4 hours' WHERE store_id = '2'",
    )
    await place.shows(kinds.ANOTHER_DEPLOYMENT, CRITICAL)
    walk.by_hand(1)
    await walk.take(2)
    assert 204 == await place.deliver(**PAIR_2, quantity="1", current_stock="7.50")
    await place.is_over(kinds.ANOTHER_DEPLOYMENT)


async def walk_public_url(place: Place, walk: Walk) -> None:
    await walk.take(1, ends=(1,))
    await place.shows(kinds.PUBLIC_URL, CRITICAL)
    walk.by_hand(2)
    # tests/system/test_proxies.py does it, at each proxy.
    walk.by_hand(3)
    async with place.reached():
        await walk.take(1)
        await place.is_over(kinds.PUBLIC_URL)


async def walk_unsettled(place: Place, walk: Walk) -> None:
    """Somebody has left a transaction open."""
    async with place.world.engine.connect() as holder, AsyncExitStack() as stack:
        stack.push_async_callback(holder.rollback)
        await holder.exec_driver_sql("SELECT 1 FROM pos_sync.stock_level WHERE item_id = 'avcc123' FOR UPDATE")
        assert 503 == await place.deliver()
        await place.shows(kinds.UNSETTLED, WARNING)
        await walk.take(1)
        await walk.take(2)
        walk.by_hand(3)
    # Five minutes go by.
    await place.world.execute("UPDATE pos_sync.delivery_count SET at = at - interval '6 minutes' WHERE outcome = 'unsettled'")
    await place.is_over(kinds.UNSETTLED)


async def walk_refusals(place: Place, walk: Walk) -> None:
    items = ("new001", "new002", "unknown")
    assert [409] * 3 == [await place.deliver(external_id=item, current_stock="1") for item in items]
    await place.shows(kinds.REFUSALS, WARNING)
    numbers = [await place.newest("refused_delivery", where=f"item_id = '{item}'") for item in items]
    await walk.take(1, number=numbers[0])
    document = json.loads((SAMPLES / "store-1.json").read_text())
    document["items"] += [{**document["items"][0], "external_id": item, "name": item, "stock": "2.25"} for item in items[:2]]
    catalog = place.folder / "catalog.json"
    catalog.write_text(json.dumps(document))
    assert 0 == (await place.run("catalog", "import", "--store", "1", str(catalog))).exit_code
    # The stock in a catalogue is a count.
    assert "needs a decision" in await walk.take(2, part=0, ends=(1,), number=numbers[0])
    await walk.take(2, part=1, number=numbers[0])
    await walk.take(2, part=2, number=numbers[1])
    await walk.take(3, number=numbers[2], why="obsolete")
    await place.is_over(kinds.REFUSALS)


async def walk_duplicates(place: Place, walk: Walk) -> None:
    for item, stock in (("item_abc123", ("16.22", "11.22")), ("item_abc456", ("12.50", "7.50"))):
        for change, after, sent_at in (("1", stock[0], "one"), ("2", stock[1], "two"), ("1", stock[0], "three")):
            changes = {"movement_type": change, "quantity": "5", "current_stock": after, "now": sent_at}
            assert 204 == await place.deliver(**{**PAIR_2, "external_id": item, "date": "2026-05-30 11:00:00", **changes})
    await place.shows(kinds.DUPLICATES, WARNING)
    await walk.take(1)
    *others, newest = [str(one["number"]) for one in json.loads((await place.run("duplicates", "list", "--json")).output)]
    for number in others:
        await walk.take(2, part=0, number=number)
    await walk.take(2, part=1, number=newest, why="a copy")
    await place.is_over(kinds.DUPLICATES)


async def walk_outbox_dead(place: Place, walk: Walk) -> None:
    numbers = []
    for key in "ab":
        place.remote.fail("stock_update", status=422, body=REFUSES)
        await sell(place.world, "0.1", f"dead {key}", item="saf001")
        await settled(place.world)
        numbers.append(await place.newest("outbox_message", where="state = 'dead'"))
    await place.shows(kinds.OUTBOX_DEAD, WARNING)
    assert "No such integration" in await walk.take(1)
    await walk.take(2, number=numbers[0], store="1", id="1")
    await walk.take(3, number=numbers[1], why="told as a whole", store="1")
    await place.is_over(kinds.OUTBOX_DEAD)


async def walk_outbox_late(place: Place, walk: Walk) -> None:
    async def sell_one(key: str) -> None:
        await sell(place.world, "0.1", f"late {key}", item="tom001")
        await place.shows(kinds.OUTBOX_LATE, WARNING)

    place.remote.fail("stock_update", status=503, times=1000)
    await sell_one("a")
    assert "503" in await walk.take(1)
    await walk.take(2)
    place.remote.sandbox.faults.clear()
    await walk.take(3, number=await place.newest("outbox_message"))
    await place.is_over(kinds.OUTBOX_LATE)

    place.remote.fail("stock_update", status=503, times=1000)
    await sell_one("b")
    await sell_one("c")
    assert 0 == (await place.run("store", "set", "1", "--disable", SYSTEM)).exit_code
    place.remote.sandbox.faults.clear()

    async def is_explained() -> bool:
        return "the integration is disabled" in (await place.run("status")).output

    await until(is_explained)
    await walk.take(4, part=1, number=await place.newest("outbox_message"), why="told by telephone")
    await walk.take(4, part=0, system=SYSTEM, store="1")
    await place.is_over(kinds.OUTBOX_LATE)

    await place.world.execute("UPDATE pos_sync.store SET mipos_store_id = NULL WHERE store_id = '1'")
    await sell_one("d")
    assert "the store has no mipOS id" in (await place.run("status")).output
    await walk.take(5, store="1", id="1")
    await place.is_over(kinds.OUTBOX_LATE)


async def walk_drift(place: Place, walk: Walk) -> None:
    async def differ(stock: str) -> None:
        assert 204 == await place.deliver(current_stock=stock)

        async def is_found() -> bool:
            return "avcc123" in (await place.run("drift")).output

        await until(is_found)
        await place.shows(kinds.DRIFT, WARNING)

    await differ("3")
    assert "avcc123" in await walk.take(1)
    await walk.take(2, store="1", item="avcc123", system=SYSTEM, why="counted there")
    await place.is_over(kinds.DRIFT)

    await differ("4")
    await walk.take(3, store="1", item="avcc123", quantity="5")
    await settled(place.world)
    await walk.take(4, store="1")
    await place.is_over(kinds.DRIFT)


async def walk_sync(place: Place, walk: Walk) -> None:
    place.remote.fail("sync", status=409, body=REFUSES)
    await place.run("sync", "--store", "1")
    await place.shows(kinds.SYNC, WARNING)
    assert "No such integration" in await walk.take(1)
    await walk.take(2, store="1")
    await place.is_over(kinds.SYNC)


async def walk_low_stock(place: Place, walk: Walk) -> None:
    for way in (1, 2):
        assert 0 == (await place.run("item", "set", "--store", "1", "tom001", "--low-stock", "100")).exit_code
        await place.shows(kinds.LOW_STOCK, WARNING)
        await walk.take(way, store="1", item="tom001", quantity="90")
        await place.is_over(kinds.LOW_STOCK)
        if way == 1:
            assert 0 == (await place.run("movement", "--store", "1", "--item", "tom001", "--waste", "50")).exit_code


async def walk_disk(place: Place, walk: Walk) -> None:
    size = await place.world.scalar("SELECT pg_database_size(current_database())")
    rows = int(size * 0.4 / 1000)
    await place.world.execute(f"CREATE TABLE filling AS SELECT repeat(md5(n::text), 30) FROM generate_series(1, {rows}) AS n")
    await place.shows(kinds.DISK, CRITICAL)
    walk.by_hand(1)
    assert "pos_sync_table_bytes" in (await place.it.client.get("/metrics")).text
    walk.by_hand(2)
    with place.monkeypatch.context() as changed:
        changed.setenv("DATABASE_DISK_BYTES", str(size * 10))
        assert '"disk"' not in (await place.run("status", "--json")).output
    walk.by_hand(3)
    await place.world.execute("DROP TABLE filling")
    await place.is_over(kinds.DISK)


async def walk_database(place: Place, walk: Walk) -> None:
    name = place.world.database
    ends = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND pid <> pg_backend_pid()"
    place.monkeypatch.setattr(outage, "MIN_RISE", timedelta(seconds=0.2))
    await place.world.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on", ends)
    await place.shows(kinds.DATABASE, CRITICAL)
    assert "read-only" in await walk.take(1)
    walk.by_hand(2)
    # Its other connections were ended too.
    await place.world.engine.dispose()
    await place.world.execute("SET TRANSACTION READ WRITE", f"ALTER DATABASE {name} RESET ALL", ends)
    walk.by_hand(3)
    await place.is_over(kinds.DATABASE)


WALKS: dict[str, Callable[[Place, Walk], Awaitable[None]]] = {
    "registration": walk_registration,
    "outbox_late": walk_outbox_late,
    "outbox_dead": walk_outbox_dead,
    "sync": walk_sync,
    "low_stock": walk_low_stock,
    "drift": walk_drift,
    "signatures": walk_signatures,
    "silence": walk_silence,
    "another_deployment": walk_another_deployment,
    "public_url": walk_public_url,
    "unsettled": walk_unsettled,
    "refusals": walk_refusals,
    "duplicates": walk_duplicates,
    "disk": walk_disk,
    "database": walk_database,
}


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_each_remedy_as_printed_ends_its_problem(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await connect_stores(world)
    await expect_deliveries(world, "2", SYSTEM_2)
    monkeypatch.setattr(judging, "VERIFIED_LATELY", timedelta())
    monkeypatch.setattr(judging, "MAX_QUEUE_AGE", timedelta(seconds=0.2))
    monkeypatch.setattr(problem_watch, "LEARN_TIME", timedelta())
    size = await world.scalar("SELECT pg_database_size(current_database())")
    monkeypatch.setenv("MIPOS_CLIENT_SECRET", SECRET)
    before = json.loads((await run("status", "--json")).output)["problems"]
    assert "watch" in [one["name"] for one in before]
    async with mipos() as remote:
        systems = remote.platform.systems
        systems[SYSTEM].stock |= {"tom001": "22.5", "saf001": "0.75"}
        systems[SYSTEM_2] = InventorySystem("30", {"2"}, stock={"item_abc123": "11.22", "item_abc456": "5.50"})
        url = f"http://127.0.0.1:{free_port()}"
        settings = remote.settings(public_url=url, database_disk_bytes=int(size / 0.7), response_deadline=1)
        async with watched(world, run, monkeypatch, **settings) as it:
            starting = Walk("watch", run, world)
            starting.by_hand(1)
            starting.by_hand(2)
            starting.end()
            await it.is_clear(kinds.WATCH)
            place = Place(world, run, remote, settings, monkeypatch, it, tmp_path)
            for section, walk_through in WALKS.items():
                walk = Walk(section, run, world)
                try:
                    await walk_through(place, walk)
                    walk.end()
                except BaseException as error:
                    error.add_note(f"docs/runbook.md#{section}")
                    raise


async def test_a_schema_that_nobody_has_made(empty_world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = runner_for(empty_world.owner_url, monkeypatch, tmp_path)
    monkeypatch.setenv("MIPOS_CLIENT_SECRET", SECRET)
    walk = Walk("schema", run, empty_world)
    for is_there in (True, False):
        problems = json.loads((await run("status", "--json")).output)["problems"]
        assert is_there is ("schema" in [one["name"] for one in problems])
        if is_there:
            await walk.take(1)
    walk.end()


def test_every_section_is_walked() -> None:
    assert {*sections()} == {*WALKS, *ELSEWHERE, "watch", "schema"}
