"""Fault 6: Postgres is there and says no, in the ways that the design's table of answers names; then it recovers."""

import asyncio
import contextlib
import os
import subprocess
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx2

from proof.book import ITEMS, NO_CONTENT, Book
from proof.cluster import compared, new_world, query, started
from proof.finding import Finding
from proof.route import Route
from proof.sender import UNAVAILABLE, Sender
from tests.support import postgres
from tests.support.service import Service
from tests.support.world import World

DEADLINE = 1.0
"""RESPONSE_DEADLINE, in seconds."""
FEW = 20
"""Deliveries that are looked at one by one."""
LEAST_COLLISIONS = 5
COLLISION_SECONDS = 60.0


@dataclass(frozen=True)
class Scene:
    """One fault's stage: the database, the service in it, its sender, and what is found."""

    route: Route
    world: World
    service: Service
    sender: Sender
    finding: Finding

    async def deliver(self, status: int, *, item_id: str | None = None, number: int = FEW) -> None:
        """Send movements at once; each has to be answered `status`."""
        book = self.sender.book
        movements = [book.write(item_id=item_id) for _ in range(number)]
        answers = await asyncio.gather(*(self.sender.deliver(sent) for sent in movements))
        got = Counter(None if answer is None else answer.status for answer in answers)
        if got != Counter({status: number}):
            self.finding.problems[f"{number} deliveries were to be answered {status}, and were answered {dict(got)}"] += 1

    async def failures(self, fault: str) -> int:
        """How many transactions of the service have failed in this way, as its metrics tell."""
        async with httpx2.AsyncClient(base_url=self.service.url) as client:
            text = (await client.get("/metrics")).text
        prefix = f'pos_sync_failed_transactions_total{{fault="{fault}"}} '
        return int(sum(float(line.removeprefix(prefix)) for line in text.splitlines() if line.startswith(prefix)))

    async def disconnect(self) -> None:
        """Take its connections from the service."""
        await query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'pos_sync' AND datname = $1",
            self.world.database,
        )


Play = Callable[[Scene], Awaitable[None]]


async def run(route: Route) -> AsyncIterator[Finding]:
    """Each condition in a database and a service of its own."""
    plays: dict[str, Play] = {
        "6a. a level locked by another session": _locked_level,
        "6b. the whole table locked by another session": _locked_table,
        "6c. deadlocks with another session": _deadlocks,
        "6d. serialization failures": _serialization_failures,
        "6e. read-only, as a failed-over server is": _read_only,
        "6f. too many connections": _too_many_connections,
        "6g. the service's rights taken away": _no_rights,
        "6h. disk full": _disk_full,
    }
    for name, play in plays.items():
        yield await _play(route, name, play)


async def _play(route: Route, name: str, play: Play) -> Finding:
    finding = Finding(name, rounds=1)
    async with new_world() as world, started(route.url(world), response_deadline=DEADLINE, **route.settings) as service:
        sender = Sender(Book(name), lambda: service.port, seed=route.seed)
        sender.may_answer = frozenset({NO_CONTENT, UNAVAILABLE})
        sender.slowest_allowed = 2 * DEADLINE + 2
        scene = Scene(route, world, service, sender, finding)
        try:
            await scene.deliver(NO_CONTENT)
            await play(scene)
        except _CannotBeMade as reason:
            return Finding(name, skipped=str(reason))
        async with compared(finding, world, sender):
            pass
        # Recovery: without any delay that an operator would have to wait for, and at once for all.
        sender.may_answer = frozenset({NO_CONTENT})
        await scene.deliver(NO_CONTENT)
    return finding


class _CannotBeMade(Exception):
    """The condition cannot be made here; the message says why."""


@asynccontextmanager
async def _session(world: World) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres.url(world.database))
    try:
        yield connection
    finally:
        await connection.close()


async def _locked_level(scene: Scene) -> None:
    held, *free = ITEMS
    async with _session(scene.world) as other, other.transaction():
        await other.execute("SELECT FROM pos_sync.stock_level WHERE store_id = '1' AND item_id = $1 FOR UPDATE", held)
        waiting = asyncio.create_task(scene.deliver(UNAVAILABLE, item_id=held))
        await scene.deliver(NO_CONTENT, item_id=free[0])
        await waiting
        await scene.deliver(NO_CONTENT, item_id=free[1])
    await scene.deliver(NO_CONTENT, item_id=held)
    scene.finding.notes.append("deliveries for the locked level: 503 at the deadline; for the others, meanwhile: 204")


async def _locked_table(scene: Scene) -> None:
    async with _session(scene.world) as other, other.transaction():
        await other.execute("LOCK TABLE pos_sync.stock_level")
        await scene.deliver(UNAVAILABLE)
    await scene.deliver(NO_CONTENT)


async def _deadlocks(scene: Scene) -> None:
    # The service asks for locks in one order and gives up waiting long before Postgres looks for a deadlock. So that it is
    # the victim of real ones, Postgres looks at once in its sessions.
    await query("ALTER ROLE pos_sync SET deadlock_timeout = '10ms'")
    try:
        await scene.disconnect()
        await _collide(scene, _lock_backwards(scene), "(40P01)", "was the victim of {} deadlocks")
    finally:
        await query("ALTER ROLE pos_sync RESET deadlock_timeout")


async def _collide(scene: Scene, disturbing: "AbstractAsyncContextManager[None]", code: str, text: str) -> None:
    """Load until the service has met errors of this SQLSTATE often enough."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + COLLISION_SECONDS
    async with disturbing, scene.sender.load():
        while (seen := scene.service.log.count(code)) < LEAST_COLLISIONS:
            if loop.time() > deadline:
                break
            await asyncio.sleep(0.2)
    if seen < LEAST_COLLISIONS:
        scene.finding.problems[f"only {seen} collisions in {COLLISION_SECONDS:g} s: it proves nothing"] += 1
    scene.finding.rounds = seen
    scene.finding.notes.append("under load the service " + text.format(seen))


@asynccontextmanager
async def _lock_backwards(scene: Scene) -> AsyncIterator[None]:
    """Another session that locks the levels in the other order than the service does, again and again."""

    async def disturb() -> None:
        lock = "SELECT FROM pos_sync.stock_level WHERE store_id = '1' AND item_id = $1 FOR UPDATE"
        async with _session(scene.world) as other:
            while True:
                with contextlib.suppress(asyncpg.DeadlockDetectedError):
                    async with other.transaction():
                        await other.execute(lock, "tom001")
                        await asyncio.sleep(0.005)
                        await other.execute(lock, "avcc123")
                await asyncio.sleep(0.005)

    task = asyncio.create_task(disturb())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _serialization_failures(scene: Scene) -> None:
    # At READ COMMITTED, which the service sets, Postgres itself raises these only in rare cases; so a trigger raises them.
    @asynccontextmanager
    async def failing() -> AsyncIterator[None]:
        await scene.world.execute(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF random() < 0.1 THEN"
            " RAISE EXCEPTION 'could not serialize access' USING ERRCODE = '40001'; END IF; RETURN NULL; END $$",
            "CREATE TRIGGER fail AFTER INSERT ON stock_movement FOR EACH STATEMENT EXECUTE FUNCTION fail()",
        )
        try:
            yield
        finally:
            await scene.world.execute("DROP TRIGGER fail ON stock_movement", "DROP FUNCTION fail")

    await _collide(scene, failing(), "(40001)", "met {} serialization failures (raised by a trigger)")


async def _read_only(scene: Scene) -> None:
    await query(f"ALTER DATABASE {scene.world.database} SET default_transaction_read_only = on")
    try:
        await scene.disconnect()
        await scene.deliver(UNAVAILABLE)
    finally:
        await query(f"ALTER DATABASE {scene.world.database} RESET default_transaction_read_only")
    # Its sessions were read-only when they began; that it left them is what lets it go on.
    await scene.deliver(NO_CONTENT)


async def _too_many_connections(scene: Scene) -> None:
    taken: list[asyncpg.Connection] = []

    async def fill() -> None:
        # As the service's own role: some places are kept for superusers.
        with contextlib.suppress(asyncpg.TooManyConnectionsError):
            while True:
                taken.append(await asyncpg.connect(postgres.url(scene.world.database, user="pos_sync")))

    try:
        await fill()
        for pid in [row[0] for row in await _service_sessions(scene)]:
            await query("SELECT pg_terminate_backend($1)", pid)
            while await query("SELECT FROM pg_stat_activity WHERE pid = $1", pid):
                await asyncio.sleep(0.01)
            await fill()
        await scene.deliver(UNAVAILABLE)
    finally:
        for connection in taken:
            connection.terminate()
    scene.finding.notes.append(f"{len(taken)} sessions of others held every place")
    while len(await query("SELECT FROM pg_stat_activity WHERE usename = 'pos_sync'")) > 2:  # noqa: PLR2004 - the service's own
        await asyncio.sleep(0.05)
    await scene.deliver(NO_CONTENT)


async def _service_sessions(scene: Scene) -> list[asyncpg.Record]:
    return await query(
        "SELECT pid FROM pg_stat_activity WHERE datname = $1 AND application_name = 'pos-sync' AND usename = 'pos_sync'",
        scene.world.database,
    )


async def _no_rights(scene: Scene) -> None:
    await scene.world.execute("REVOKE EXECUTE ON FUNCTION apply_movements FROM pos_sync")
    await scene.deliver(UNAVAILABLE)
    if await scene.failures("not_set_up") == 0:
        scene.finding.problems["the metrics do not tell of it"] += 1
    await scene.world.execute("GRANT EXECUTE ON FUNCTION apply_movements TO pos_sync")
    await scene.deliver(NO_CONTENT)


_INDEXES = "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'pos_sync.stock_movement'::regclass"


async def _disk_full(scene: Scene) -> None:
    with _small_disk(scene) as folder:
        owner = await asyncpg.connect(postgres.url(scene.world.database))
        try:
            await owner.execute(f"CREATE TABLESPACE small LOCATION '{folder}'")
            await owner.execute("ALTER TABLE pos_sync.stock_movement SET TABLESPACE small")
            for (index,) in await owner.fetch(_INDEXES):
                await owner.execute(f"ALTER INDEX {index} SET TABLESPACE small")
            await scene.deliver(NO_CONTENT)
            await _fill_disk(scene, folder)
            await scene.deliver(NO_CONTENT)
            for (index,) in await owner.fetch(_INDEXES):
                await owner.execute(f"ALTER INDEX {index} SET TABLESPACE pg_default")
            await owner.execute("ALTER TABLE pos_sync.stock_movement SET TABLESPACE pg_default")
            await owner.execute("DROP TABLESPACE small")
        finally:
            await owner.close()


async def _fill_disk(scene: Scene, folder: Path) -> None:
    """Fill what is left, and deliver until Postgres needs another page; then make room."""
    ballast = folder / "ballast"
    with ballast.open("wb") as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 65536)
            file.flush()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + COLLISION_SECONDS
    async with scene.sender.load():
        # Until the pages that are there are full.
        while not scene.sender.book.answers[UNAVAILABLE] and loop.time() < deadline:
            await asyncio.sleep(0.05)
    await scene.deliver(UNAVAILABLE)
    said = scene.service.log.count("the disk is full (53100)")
    if not said:
        scene.finding.problems["Postgres never said that its disk is full (53100): it proves nothing"] += 1
    async with httpx2.AsyncClient(base_url=scene.service.url) as client:
        alive = (await client.get("/livez")).status_code
    scene.finding.notes.append(f"Postgres said 53100 (disk full), each delivery then 503; /livez {alive}; with room again: 204")
    ballast.unlink()


@contextlib.contextmanager
def _small_disk(scene: Scene) -> Iterator[Path]:
    """A file system of a few MiB that Postgres may write to."""
    if os.geteuid() != 0:
        raise _CannotBeMade("a small file system can be mounted by root only")
    with tempfile.TemporaryDirectory(prefix="pos-sync-disk-") as name:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", name], capture_output=True, text=True, check=False
        )
        if mounted.returncode != 0:
            raise _CannotBeMade(f"a tmpfs cannot be mounted here ({mounted.stderr.strip()})")
        try:
            folder = Path(name)
            scene.route.server.own(folder)
            folder.chmod(0o700)
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", name], check=False)
