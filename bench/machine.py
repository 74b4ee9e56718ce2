"""What a measurement stands on: a Postgres of its own with production's settings, services as processes, CPU seconds."""

import asyncio
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx2
import psutil

from app.settings import Settings
from app.storage.embedded_postgres import EmbeddedPostgres
from bench import peer
from bench.load import ITEMS, SECRET, STORES

READY_SECONDS = 60
_TEMPLATE = "bench_template"
_CATALOG = """
INSERT INTO pos_sync.store (store_id, name, timezone)
  SELECT s::text, 'Store ' || s, 'UTC' FROM generate_series(0, {stores} - 1) AS s;
INSERT INTO pos_sync.unit (store_id, unit_id, name, short_name) SELECT store_id, 'kg', 'Kilogram', 'kg' FROM pos_sync.store;
INSERT INTO pos_sync.supplier (store_id, supplier_id, name) SELECT store_id, 'farm', 'Farm' FROM pos_sync.store;
INSERT INTO pos_sync.item (store_id, item_id, name, purchase_unit_id, consumption_unit_id, supplier_id, cost)
  SELECT store_id, 'item' || i, 'Item ' || i, 'kg', 'kg', 'farm', 1 FROM pos_sync.store, generate_series(0, {items} - 1) AS i;
INSERT INTO pos_sync.integration (store_id, inventory_system_id, user_id_tps, enabled)
  SELECT store_id, '4344be8c-c6b9-4c51-88a6-d620144ab406', '30', true FROM pos_sync.store;
INSERT INTO pos_sync.stock_level (store_id, item_id, quantity, version) SELECT store_id, item_id, 0, 0 FROM pos_sync.item;
"""
FILL_LEDGER = """
INSERT INTO pos_sync.stock_movement (store_id, item_id, level_version, source, inventory_system_id, movement_type, quantity,
  balance_after, reported_stock, date_text, sent_at_text, dedupe_key)
SELECT store_id, item_id, place, 'inventory_system', '4344be8c-c6b9-4c51-88a6-d620144ab406', 1, 1.25, 1.25 * place,
  12.44, moment.date_text, moment.date_text,
  convert_to(left(moment.date_text, 10), 'UTF8')
    || substr(sha256(convert_to(store_id || ' ' || item_id || ' ' || place, 'UTF8')), 11)
FROM pos_sync.stock_level, generate_series($1::bigint, $2::bigint) AS place,
  LATERAL (SELECT to_char(timestamp '2020-01-01' + place * interval '1 hour', 'YYYY-MM-DD HH24:MI:SS') AS date_text) AS moment
"""


_SALES = """
SELECT record_pos_movement(store_id, item_id, 'sale', 1, store_id || ' ' || item_id || ' ' || number)
FROM (SELECT store_id, item_id FROM pos_sync.stock_level ORDER BY item_id, store_id LIMIT $1) AS pair,
  generate_series(1, $2) AS number
ORDER BY number
"""


class Server:
    """One Postgres for all that is measured; fsync and all else as in production."""

    def __init__(self, folder: Path) -> None:
        self._postgres = EmbeddedPostgres(folder, {"max_connections": "200", "max_wal_size": "4GB"})

    def start(self) -> None:
        """Start it, with a template that has the schema and the catalogue."""
        self._postgres.start()
        asyncio.run(self._make_template())

    def stop(self) -> None:
        """Stop it."""
        self._postgres.stop()

    def url(self, database: str) -> str:
        """The address of `database`."""
        return self._postgres.url(database)

    def process(self) -> psutil.Process:
        """The postmaster."""
        pid = int((self._postgres.folder / "postgres" / "postmaster.pid").read_text().splitlines()[0])
        return psutil.Process(pid)

    def version(self) -> str:
        """Which Postgres it is."""
        return "Postgres " + asyncio.run(self._version())

    async def _version(self) -> str:
        connection = await asyncpg.connect(self.url("postgres"))
        version: str = await connection.fetchval("SHOW server_version")
        await connection.close()
        return version

    def create(self, database: str, *, rows: int = 0) -> None:
        """A database of its own, with about `rows` rows in the ledger, spread over all levels."""
        asyncio.run(self._create(database, rows))

    def queue_sales(self, database: str, *, pairs: int, each: int) -> None:
        """Record `each` sales of 1 for so many pairs of store and item; the ledger's trigger queues a message for each."""
        asyncio.run(self._queue_sales(database, pairs, each))

    async def _queue_sales(self, database: str, pairs: int, each: int) -> None:
        connection = await asyncpg.connect(self.url(database))
        await connection.execute("UPDATE pos_sync.store SET mipos_store_id = store_id")
        await connection.execute(_SALES, pairs, each)
        await connection.close()

    async def _make_template(self) -> None:
        connection = await asyncpg.connect(self.url("postgres"))
        await connection.execute(f"CREATE DATABASE {_TEMPLATE}")
        await connection.close()
        command = [sys.executable, "-m", "app", "migrate"]
        await asyncio.to_thread(
            subprocess.run,
            command,
            env=environment_of(self.url(_TEMPLATE)),
            stdout=subprocess.DEVNULL,
            check=True,
        )
        connection = await asyncpg.connect(self.url(_TEMPLATE))
        await connection.execute(_CATALOG.format(items=ITEMS, stores=STORES))
        await connection.close()

    async def _create(self, database: str, rows: int) -> None:
        connection = await asyncpg.connect(self.url("postgres"))
        await connection.execute(f"CREATE DATABASE {database} TEMPLATE {_TEMPLATE}")
        await connection.close()
        connection = await asyncpg.connect(self.url(database))
        versions = rows // (STORES * ITEMS)
        for first in range(1, versions + 1, 250):
            await connection.execute(FILL_LEDGER, first, min(first + 249, versions))
        await connection.execute("UPDATE pos_sync.stock_level SET quantity = 1.25 * $1::bigint, version = $1", versions)
        await connection.execute("VACUUM ANALYZE")
        await connection.execute("CHECKPOINT")
        await connection.close()


@dataclass(frozen=True, slots=True)
class Running:
    """A service that is measured."""

    name: str
    ports: Sequence[int]
    """One for each replica."""
    processes: Sequence[psutil.Process]

    @property
    def port(self) -> int:
        """Of the first replica."""
        return self.ports[0]

    def cpu_seconds(self) -> float:
        """Its processes' CPU time so far."""
        return sum(cpu_seconds(process) for process in self.processes)

    def resident_megabytes(self) -> float:
        """Its processes' memory now."""
        trees = [[process, *process.children(recursive=True)] for process in self.processes]
        return sum(process.memory_info().rss for tree in trees for process in tree) / 2**20


def environment_of(database_url: str, **settings: str) -> dict[str, str]:
    """This process's environment with the settings of a service instead of its own."""
    names = {name.upper() for name in Settings.model_fields}
    kept = {key: value for key, value in os.environ.items() if key.upper() not in names}
    ours = {"POS_SYNC_ENV_FILE": os.devnull, "DATABASE_URL": database_url, "MIPOS_CLIENT_SECRET": SECRET}
    return {**kept, **ours, **settings}


def _command(name: str, *, workers: int, port: int) -> Sequence[str]:
    """How each of them is started: as its own users start it."""
    if name == "pos-sync":
        return [sys.executable, "-m", "app", "serve", "--workers", str(workers)]
    if name == "fastify":
        return peer.COMMAND
    module, _, with_log = name.partition("+")
    command = [sys.executable, "-m", "uvicorn", "--factory", f"bench.{module}:application", "--port", str(port)]
    command += ["--workers", str(workers)] if workers > 1 else []
    return command if with_log else [*command, "--no-access-log"]


@contextmanager
def running(  # noqa: PLR0913 - what a service is, each by name
    name: str,
    database_url: str,
    *,
    workers: int,
    log: Path,
    settings: Mapping[str, str] | None = None,
    replicas: int = 1,
) -> Iterator[Running]:
    """So many processes of the service, or of the rival, of that name on one database, until the block ends."""
    with ExitStack() as stack:
        found = [
            stack.enter_context(_process(name, database_url, workers=workers, log=log, settings=settings or {}))
            for _ in range(replicas)
        ]
        yield Running(name, [port for port, _ in found], [process for _, process in found])


@contextmanager
def _process(
    name: str, database_url: str, *, workers: int, log: Path, settings: Mapping[str, str]
) -> Iterator[tuple[int, psutil.Process]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    environment = environment_of(database_url, PORT=str(port), **settings)
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - our own
            _command(name, workers=workers, port=port), env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                if httpx2.get(f"http://127.0.0.1:{port}/livez", timeout=5, trust_env=False).is_success:
                    break
            except httpx2.TransportError:
                pass
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} does not start; see {log}")
            time.sleep(0.1)
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def cpu_seconds(process: psutil.Process) -> float:
    """The CPU time of a process and its children, ended ones included."""
    own = process.cpu_times()
    total = own.user + own.system + own.children_user + own.children_system
    for child in process.children(recursive=True):
        try:
            times = child.cpu_times()
            total += times.user + times.system
        except psutil.NoSuchProcess:
            continue
    return total


def describe() -> str:
    """The machine's size, for a result."""
    memory = psutil.virtual_memory().total / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"
