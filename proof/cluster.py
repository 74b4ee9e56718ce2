"""The Postgres that is hurt (durable, as it ships), PgBouncer before it, a database for each fault, and the comparison."""

import asyncio
import os
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import asyncpg
from sqlalchemy import text

from app.storage.embedded_postgres import EmbeddedPostgres
from proof.book import ITEMS, Book, total_by_item
from proof.finding import Finding
from proof.sender import Sender
from tests.support import postgres
from tests.support.service import Service, serving
from tests.support.world import World

SYSTEM_PATH = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"
NGINX = shutil.which("nginx", path=SYSTEM_PATH)

START_SECONDS = 60


class Server(EmbeddedPostgres):
    """A Postgres with the settings that it ships with: fsync and synchronous commit are on."""

    def halt(self, mode: Literal["fast", "immediate"]) -> None:
        """Stop it: `fast` ends the sessions in order, `immediate` is a crash, from which it recovers when it starts."""
        self._run("pg_ctl", "stop", "-w", "-s", "-m", mode, "-D", str(self._data))

    def own(self, path: Path) -> None:
        """Give `path` to the user that Postgres runs as."""
        self._own(path)


@contextmanager
def server() -> Iterator[Server]:
    """A server of our own, with the migrated template in it; tests.support clones the databases on it."""
    folder = postgres.passable_folder("pos-sync-proof-")
    it = Server(folder, {"max_connections": "60", "autovacuum": "off"})
    it.start()
    os.environ[postgres.VARIABLE] = it.url("postgres")
    try:
        postgres.start()
        yield it
    finally:
        del os.environ[postgres.VARIABLE]
        it.stop()
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def new_world() -> AsyncIterator[World]:
    """A database with the sample stores, as tests have it."""
    name = await postgres.create_database()
    engine = postgres.looking_engine(postgres.url(name))
    try:
        yield World(name, engine)
    finally:
        await engine.dispose()
        await postgres.drop_database(name)


async def query(sql: str, *arguments: Any, database: str = "postgres") -> list[Any]:
    """The rows of one statement, as the superuser, on a connection of its own."""
    connection = await asyncpg.connect(postgres.url(database))
    try:
        return list(await connection.fetch(sql, *arguments))
    finally:
        await connection.close()


@asynccontextmanager
async def started(database_url: str, *arguments: str, **settings: Any) -> AsyncIterator[Service]:
    """`tests.support.service.serving`, without holding up the load that runs in this event loop."""
    context = serving(database_url, *arguments, **settings)
    service = await asyncio.to_thread(context.__enter__)
    try:
        yield service
    finally:
        await asyncio.to_thread(context.__exit__, None, None, None)


@asynccontextmanager
async def compared(finding: Finding, world: World, sender: Sender) -> AsyncIterator[None]:
    """Run a fault; then look whether all that was acknowledged is there, send everything again, and compare ledger and book.

    The fault has to be over when the block ends, and the service has to be there.
    """
    yield
    book = sender.book
    finding.acknowledged = len(book.acknowledged)
    finding.lost = (finding.lost or 0) + await count_lost(world, book)
    sender.may_answer, sender.may_break, sender.slowest_allowed = frozenset({204, 503}), False, None
    await sender.settle(book.movements)
    await compare(finding, world, book)
    finding.close(book)


async def count_lost(world: World, book: Book) -> int:
    """How many acknowledged movements are not in the ledger at this moment."""
    acknowledged = [movement.date_text for movement in book.acknowledged]
    # Connections from before the fault are dead.
    await world.engine.dispose()
    async with world.engine.connect() as connection:
        number = await connection.scalar(
            text(
                "SELECT count(*) FROM unnest(CAST(:acknowledged AS text[])) AS sent (date_text) WHERE NOT EXISTS"
                " (SELECT FROM pos_sync.stock_movement WHERE stock_movement.date_text = sent.date_text)"
            ),
            {"acknowledged": acknowledged},
        )
    return int(number or 0)


async def compare(finding: Finding, world: World, book: Book) -> None:
    """The ledger against the book, when everything was answered 204: each movement once, as it was sent, and nothing else."""
    ledger = await world.ledger()
    times = Counter(row.date_text for row in ledger)
    written = {movement.date_text: movement for movement in book.movements}
    finding.lost = (finding.lost or 0) + sum(1 for date_text in written if date_text not in times)
    finding.doubled = (finding.doubled or 0) + sum(number - 1 for number in times.values())
    for row in ledger:
        sent = written.get(row.date_text)
        if sent is None:
            finding.problems["a ledger row that nobody sent"] += 1
        elif (sent.item_id, sent.delta) != (row.item_id, row.delta):
            finding.problems["a ledger row that differs from what was sent"] += 1
    totals = total_by_item(book.movements)
    for item_id in ITEMS:
        if await world.level(item_id) != await _opening(world, item_id) + totals[item_id]:
            finding.problems[f"the level of {item_id} is not its opening and what was sent"] += 1
    for name, places in (await world.broken_invariants()).items():
        finding.problems[name] += places


async def _opening(world: World, item_id: str) -> Decimal:
    async with world.engine.connect() as connection:
        opening = await connection.scalar(
            text(
                "SELECT coalesce(sum(delta), 0) FROM pos_sync.stock_movement"
                " WHERE source = 'opening' AND store_id = '1' AND item_id = :item_id"
            ),
            {"item_id": item_id},
        )
    return Decimal(opening or 0)
