"""Citus by schema-based sharding: two chains of stores, each in a schema of its own, on a worker of its own."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import httpx2
import pytest

from app.database_address import read_address
from app.operator.drift import refresh
from app.stock.rules import Rules
from app.storage.engine import Database
from tests.support import citus
from tests.support.citus import Cluster, clustered
from tests.support.debian_postgres import Server
from tests.support.mipos import AUTHORIZED, SYSTEM, Remote, mipos
from tests.support.page import PASSWORD, Person
from tests.support.postgres import SAMPLES
from tests.support.sender import PATH, SECRET, body_of, signed
from tests.support.service import run_command, serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(citus.why_not() is not None, reason=str(citus.why_not())),
]
YESTERDAY = datetime.now(UTC) - timedelta(days=1)
"""When the stock of the catalogs was counted"""
EARLIER = f"{YESTERDAY + timedelta(hours=12):%Y-%m-%dT%H:%M}"
LISTS = (
    "/ui/",
    *(f"/ui/{name}" for name in ("stock", "deliveries", "outbox", "syncs", "catalog", "system", "jobs", "search?q=av")),
    "/ui/stores/1/items/avcc123",
    f"/ui/stock?store=1&at={EARLIER}",
    "/ui/stock.csv?store=1",
)
DELIVERIES = 40
COPIES = 3


@dataclass(frozen=True)
class Chain:
    """A chain of stores: its schema, and the role that owns it, as which its service works too."""

    cluster: Cluster
    schema: str
    owner: str

    def url(self, *, server: Server | None = None) -> str:
        """Its DATABASE_URL: at the coordinator."""
        return f"postgresql://{self.owner}@127.0.0.1:{(server or self.cluster.coordinator).port}/postgres"

    def command(self, *arguments: str, url: str | None = None, **values: str) -> CompletedProcess[str]:
        """A command, which must succeed."""
        done = run_command(
            *arguments, DATABASE_URL=url or self.url(), DATABASE_SCHEMA=self.schema, MIPOS_CLIENT_SECRET=SECRET, **values
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done

    def set_up(self) -> None:
        """The schema, made as in any Postgres, and then given to Citus; and two stores."""
        self.cluster.execute(
            f"CREATE ROLE {self.owner} LOGIN",
            f"GRANT CREATE ON DATABASE postgres TO {self.owner}",
            f"ALTER ROLE {self.owner} SET citus.enable_unsafe_triggers = on",
            f"ALTER ROLE {self.owner} SET citus.override_table_visibility = off",
            f"ALTER ROLE {self.owner} SET lock_timeout = '250ms'",
            f"ALTER ROLE {self.owner} SET synchronous_commit = on",
        )
        self.command("migrate")
        self.cluster.execute(f"SELECT citus_schema_distribute('{self.schema}')", role=self.owner)
        # Again, as each deployment does: it finds nothing to do.
        self.command("migrate")
        for store_id in ("1", "2"):
            sample = str(SAMPLES / f"store-{store_id}.json")
            self.command("catalog", "import", "--store", store_id, "--as-of", YESTERDAY.isoformat(), sample)
            self.command("store", "set", store_id, "--mipos-id", store_id)

    def rows(self, what: str, where: str = "true") -> int:
        """How many rows a table has."""
        return int(self.cluster.execute(f"SELECT count(*) FROM {self.schema}.{what} WHERE {where}"))

    def level(self, item_id: str, store_id: str = "1") -> str:
        """The stock of an item."""
        return self.cluster.execute(
            f"SELECT quantity FROM {self.schema}.stock_level WHERE store_id = '{store_id}' AND item_id = '{item_id}'"
        ).strip()

    @asynccontextmanager
    async def service(self, remote: Remote) -> AsyncIterator[httpx2.AsyncClient]:
        """A client of its service, with the key of the POS."""
        page = {"operator_password": PASSWORD}
        with serving(self.url(), database_schema=self.schema, **page, **remote.settings()) as service:
            async with httpx2.AsyncClient(base_url=service.url, headers=AUTHORIZED, timeout=30) as client:
                yield client


@pytest.fixture(scope="module")
def chains() -> Iterator[tuple[Chain, Chain]]:
    with clustered() as cluster:
        both = (Chain(cluster, "chain_a", "owner_a"), Chain(cluster, "chain_b", "owner_b"))
        for chain in both:
            chain.set_up()
        yield both


def numbered(number: int, **changes: Any) -> bytes:
    """A report that no other one equals."""
    moment = datetime(2026, 5, 30, 12, tzinfo=UTC) + timedelta(seconds=number)
    text = moment.strftime("%Y-%m-%d %H:%M:%S")
    return body_of(**{"quantity": "0.5", "date": text, "now": text, **changes})


async def delivered(client: httpx2.AsyncClient, body: bytes) -> None:
    """Send a delivery until it is taken, as mipOS does."""
    while True:
        try:
            answer = await client.post(PATH, content=body, headers=signed(body))
        except httpx2.TransportError:
            continue
        if answer.status_code == 204:
            return
        assert answer.status_code == 503, answer.text
        await asyncio.sleep(0.1)


async def test_two_chains_are_on_a_worker_each_and_every_delivery_is_recorded_once(chains: tuple[Chain, Chain]) -> None:
    reported = "source = 'inventory_system'"
    before = [chain.rows("stock_movement", reported) for chain in chains]
    async with mipos() as remote, chains[0].service(remote) as one, chains[1].service(remote) as other:
        bodies = [numbered(number) for number in range(DELIVERIES)] * COPIES
        await asyncio.gather(*(delivered(client, body) for body in bodies for client in (one, other)))

    assert len({chain.cluster.worker_of(chain.schema).port for chain in chains}) == 2
    assert [rows + DELIVERIES for rows in before] == [chain.rows("stock_movement", reported) for chain in chains]


async def test_a_worker_that_dies_costs_no_delivery_and_doubles_none(chains: tuple[Chain, Chain]) -> None:
    chain = chains[0]
    before = chain.rows("stock_movement")
    worker = chain.cluster.worker_of(chain.schema)
    async with mipos() as remote, chain.service(remote) as client:

        async def deliver(first: int) -> None:
            for number in range(first, first + 20):
                await delivered(client, numbered(number))
                await delivered(client, numbered(number))

        async def kill() -> None:
            for _ in range(3):
                await asyncio.sleep(0.2)
                await asyncio.to_thread(worker.stop)
                await asyncio.to_thread(worker.start, *citus.SETTINGS)

        await asyncio.gather(kill(), *(deliver(first) for first in (1000, 1100, 1200, 1300)))

    assert chain.rows("stock_movement") - before == 80


async def test_the_pos_records_and_the_inventory_systems_are_told(chains: tuple[Chain, Chain]) -> None:
    chain = chains[1]
    async with mipos() as remote, chain.service(remote) as till:
        system = remote.platform.systems[SYSTEM]
        settings = {name.upper(): str(value) for name, value in remote.settings().items()}
        sync = await asyncio.to_thread(chain.command, "sync", "--store", "1", **settings)
        assert ": done." in sync.stdout

        async def record(**body: Any) -> Any:
            headers = {"Idempotency-Key": json.dumps(body)[:200]}
            answers = [await till.post("/pos/stores/1/movements", json=body, headers=headers) for _ in range(2)]
            assert [201, 200] == [answer.status_code for answer in answers], [answer.text for answer in answers]
            return answers[0].json()

        async with asyncio.timeout(60):
            sold = await record(item_id="tom001", kind="sale", quantity="1.25")
            earlier = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
            await record(item_id="tom001", kind="count", quantity="20")
            # It was in the count.
            await record(item_id="tom001", kind="sale", quantity="3", happened_at=earlier)
            await record(item_id="tom001", kind="receipt", quantity="5")
            await record(item_id="tom001", kind="transfer", quantity="2", to_store_id="2")
            await record(
                atomic=True,
                movements=[{"item_id": item, "kind": "waste", "quantity": "0.01"} for item in ("tom001", "saf001")],
            )
            # A count that comes late, and reads what happened since.
            at = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
            await record(item_id="saf001", kind="count", quantity="0.5", happened_at=at)
            version = sold["movements"][0]["level_version"]
            order = {"item_id": "tom001", "level_version": version, "note": "typed twice", "actor": "ana"}
            answers = [await till.post("/pos/stores/1/reversals", json=order) for _ in range(2)]
            assert [201, 200] == [answer.status_code for answer in answers], [answer.text for answer in answers]
            while system.stock.get("tom001") != chain.level("tom001"):  # noqa: ASYNC110 - told by another server
                await asyncio.sleep(0.1)
            changes: list[Any] = []
            while "reversal" not in {change["source"] for change in changes}:
                changes = (await till.get("/pos/stores/1/changes")).json()["changes"]
        for path in ("stock", "movements?item_id=tom001", "ledger", "stock?at=2026-05-30T12:00:00Z"):
            assert (await till.get(f"/pos/stores/1/{path}")).status_code == 200, path
        assert (await till.get("/readyz")).status_code == 200

    assert chain.rows("outbox_message", "state = 'pending'") == 0


async def test_operators_commands_work(chains: tuple[Chain, Chain], tmp_path: Path) -> None:
    chain = chains[1]
    async with mipos() as remote, chain.service(remote) as client:
        unknown = numbered(5000, external_id="new")
        for _ in range(2):
            answer = await client.post(PATH, content=unknown, headers=signed(unknown))
            assert answer.status_code == 409, answer.text
    catalog = json.loads((SAMPLES / "store-1.json").read_text())
    catalog["items"] = [{**catalog["items"][0], "external_id": "new", "name": "New"}]
    file = tmp_path / "catalog.json"
    file.write_text(json.dumps(catalog))
    (refused,) = json.loads(chain.command("refused", "list", "--json").stdout)
    assert ("unknown_item", 2) == (refused["reason"], refused["attempts"])
    # Its exit status is 3 where something waits for a person.
    status = run_command("status", DATABASE_URL=chain.url(), DATABASE_SCHEMA=chain.schema, MIPOS_CLIENT_SECRET=SECRET)
    assert "stock levels" in status.stdout, status.stdout + status.stderr
    for arguments in (
        ("stock",),
        ("stock", "--at", "2026-05-30T12:00:00Z"),
        ("ledger", "--store", "1", "--item", "avcc123"),
        ("drift", "--all"),
        ("outbox", "list"),
        ("movement", "--store", "1", "--item", "avcc123", "--count", "7"),
        ("catalog", "import", "--store", "1", str(file)),
        ("refused", "replay", "--all", "--yes", "--not-counted", "--actor", "ana"),
        ("item", "list", "--store", "1"),
        ("refused", "list"),
        ("alerts", "list"),
        ("seal", "verify"),
        ("seal", "export"),
    ):
        chain.command(*arguments)
    database = Database(read_address(chain.url()), schema=chain.schema)
    async with database.engine() as engine:
        # What the service does in the background, minutes after its start.
        assert await refresh(engine, Rules(), limit=50) > 0
    assert "Sealed: " in chain.command("seal", "now").stdout
    assert "Verified: 0" not in chain.command("seal", "verify").stdout
    chain.cluster.execute(
        f"UPDATE {chain.schema}.outbox_message SET state = 'sent', created_at = now() - interval '200 days',"
        " closed_at = now() - interval '200 days'",
        f"INSERT INTO {chain.schema}.system_level AS known (store_id, item_id, inventory_system_id, compared_version)"
        f" SELECT level.store_id, level.item_id, inventory_system_id, version FROM {chain.schema}.stock_level AS level"
        f" JOIN {chain.schema}.integration USING (store_id)"
        " ON CONFLICT (store_id, item_id, inventory_system_id) DO UPDATE SET compared_version = excluded.compared_version",
        role=chain.owner,
    )
    counted, pruned = (json.loads(chain.command("prune", "--json", *how).stdout)["messages"] for how in (["--dry-run"], []))
    assert counted == pruned > 0
    assert chain.rows("outbox_message") == 0


async def test_the_page_shows_and_acts(chains: tuple[Chain, Chain]) -> None:
    chain, _ = chains
    async with mipos() as remote, chain.service(remote) as client:
        refused = body_of(external_id="unknown")
        assert 409 == (await client.post(PATH, content=refused, headers=signed(refused))).status_code
        person = Person(client)
        await person.log_in()
        assert "Ana (operator)" in person.text, (person.status, person.text)
        for path in LISTS:
            await person.open(path)
            assert 200 == person.status, (path, person.text)
            assert ("store,item,name," if ".csv" in path else "Ana (operator)") in person.text, path
            assert "/ui/stock" not in path or "avcc123" in person.text, path
        number = chain.cluster.execute(
            f"SELECT max(refused_delivery_id) FROM {chain.schema}.refused_delivery WHERE state = 'open'"
        ).strip()
        await person.open(f"/ui/deliveries/refused/confirm?number={number}")
        await person.send("/ui/deliveries/refused/replay", note="tried")
        assert f"Refused delivery {number}: refused again." in person.text
        await person.open(f"/ui/deliveries/refused/{number}")
        await person.send("/ui/deliveries/refused/dismiss", note="typed by hand")
        await person.open("/ui/stores/1/items/avcc123/count?to=3")
        await person.send("/ui/stores/1/items/avcc123/stock", note="counted")
        await person.open("/ui/acts")
        assert 3 == person.text.count("page:Ana")
    assert Decimal(3) == Decimal(chain.level("avcc123"))


def test_a_command_may_connect_to_any_server_of_the_cluster(chains: tuple[Chain, Chain]) -> None:
    chain = chains[1]
    for server in chain.cluster.servers:
        assert "avcc123" in chain.command("stock", url=chain.url(server=server)).stdout
