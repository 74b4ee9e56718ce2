"""Fault 9: a primary under Patroni is switched over, killed, or frozen under load; another node takes its place."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

import asyncpg
from sqlalchemy import text

from app.storage.embedded_postgres import SERVICE_ROLE
from proof.book import NO_CONTENT, Book
from proof.cluster import compared, count_lost, started
from proof.finding import Finding
from proof.route import Route
from proof.sender import UNAVAILABLE, Line, Sender
from tests.support import patroni, postgres
from tests.support.patroni import Cluster, Node
from tests.support.service import free_port
from tests.support.world import World

NAME = "9. failover of a Postgres cluster"
SWITCHES, ROUNDS = 3, 2
CONNECTIONS = 8
PAUSE_SECONDS = 0.05
"""Between two movements of a connection, and half of that between two tries of one"""
BEFORE_SECONDS, AFTER_SECONDS = 2.0, 3.0
"""Of load before the fault, and after the first 204"""
GOAL_SECONDS = 3.0
"""From the election to the first 204"""
ELECTION_SECONDS, RECOVERY_SECONDS = 120.0, 60.0
LOOK_SECONDS = 0.02
SLOWEST_SECONDS = 10.0
"""Twice RESPONSE_DEADLINE and 2 s"""
CUT_SECONDS = 1.5

Place = Literal["first", "last"]
Hurt = Callable[[Cluster, Node], Coroutine[Any, Any, None]]

_numbers = count(1)


@dataclass(frozen=True)
class _Failover:
    elected: float
    """Seconds from the fault until another server took writes"""
    committed: float
    """Seconds from then until a plain client's COMMIT there ended: it waits for a standby, as the service's do"""
    served: float
    """Seconds from the election until the first 204"""


async def run(route: Route) -> AsyncIterator[Finding]:
    """The three faults with COMMIT on two servers; and one with COMMIT on one server only."""
    why_not = patroni.why_not()
    if why_not is not None:
        yield Finding(NAME, skipped=why_not)
        return
    async with clustered(is_synchronous=True) as cluster:
        yield await _rounds(Finding("9a. switchover to a standby", SWITCHES), cluster, _switch_over, seed=route.seed)
        yield await _rounds(Finding("9b. SIGKILL of the primary and its Patroni", ROUNDS), cluster, _kill, seed=route.seed)
        yield await freeze(cluster, place="first", rounds=ROUNDS, seed=route.seed)
        yield await freeze(cluster, place="last", rounds=ROUNDS, seed=route.seed)
    async with clustered(is_synchronous=False) as cluster:
        yield await _lose(cluster, seed=route.seed)


async def freeze(cluster: Cluster, *, place: Place, rounds: int = 1, seed: int = 0) -> Finding:
    """Freeze the primary, which stands at `place` in DATABASE_URL."""
    name = f"9{'c' if place == 'first' else 'd'}. SIGSTOP of the primary and its Patroni, {place} in DATABASE_URL"
    return await _rounds(Finding(name, rounds), cluster, _freeze, place=place, seed=seed)


async def _switch_over(cluster: Cluster, _primary: Node) -> None:
    await asyncio.to_thread(cluster.switch_over)


async def _kill(_cluster: Cluster, primary: Node) -> None:
    await asyncio.to_thread(primary.kill)


async def _freeze(_cluster: Cluster, primary: Node) -> None:
    await asyncio.to_thread(primary.freeze)


async def _bring_back(node: Node) -> None:
    """Whatever was done to it."""
    await asyncio.to_thread(node.thaw)
    if not node.is_running:
        await asyncio.to_thread(node.start)


async def _rounds(finding: Finding, cluster: Cluster, hurt: Hurt, *, seed: int, place: Place | None = None) -> Finding:
    name, rounds = finding.fault, finding.rounds or 1
    failovers: list[_Failover] = []
    async with _world(cluster) as world:
        port = free_port()
        sender = _sender(name, port, seed)
        for number in range(rounds):
            await asyncio.to_thread(cluster.wait_until_whole)
            primary = await asyncio.to_thread(lambda: cluster.leader)
            url = cluster.url(
                first=primary if place == "first" else None,
                last=primary if place == "last" else None,
                user=SERVICE_ROLE,
                database=world.database,
            )
            # What it holds would be connections to a server that is the primary no longer.
            await world.engine.dispose()
            async with started(url, port=port):
                async with _persistent_load(sender):
                    await asyncio.sleep(BEFORE_SECONDS)
                    failovers.append(await _fail_over(finding, cluster, primary, hurt, sender))
                finding.lost = (finding.lost or 0) + await count_lost(world, sender.book)
                await _bring_back(primary)
                if number == rounds - 1:
                    async with compared(finding, world, sender):
                        await asyncio.to_thread(cluster.wait_until_whole)
    finding.notes += _table(failovers)
    return finding


async def _fail_over(finding: Finding, cluster: Cluster, primary: Node, hurt: Hurt, sender: Sender) -> _Failover:
    loop = asyncio.get_running_loop()
    watching = asyncio.create_task(_elected([node for node in cluster.nodes if node is not primary]))
    await asyncio.sleep(0)
    began = loop.time()
    hurting = asyncio.create_task(hurt(cluster, primary))
    async with asyncio.timeout(ELECTION_SECONDS):
        new_primary = await watching
    elected = loop.time()
    committing = asyncio.create_task(_commit(new_primary))
    before = sender.book.answers[NO_CONTENT]
    async with asyncio.timeout(RECOVERY_SECONDS):
        while sender.book.answers[NO_CONTENT] == before:
            await asyncio.sleep(LOOK_SECONDS / 4)
    served = loop.time()
    async with asyncio.timeout(RECOVERY_SECONDS):
        found = _Failover(elected - began, await committing - elected, served - elected)
    print(f"   new primary elected after {found.elected:.1f} s, first 204 {found.served:.2f} s after that", flush=True)
    await hurting
    await asyncio.sleep(AFTER_SECONDS)
    if found.served > GOAL_SECONDS:
        finding.problems[f"the first 204 came {found.served:.1f} s after the election, and not within {GOAL_SECONDS:g} s"] += 1
    return found


async def _elected(standbys: list[Node]) -> Node:
    """The one of them that becomes a primary."""
    looking = [asyncio.create_task(_leads(node)) for node in standbys]
    try:
        done, _ = await asyncio.wait(looking, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()
    finally:
        for one in looking:
            one.cancel()


async def _leads(node: Node) -> Node:
    while True:
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            async with _connected(node) as connection:
                while await connection.fetchval("SELECT pg_is_in_recovery()"):
                    await asyncio.sleep(LOOK_SECONDS)
                return node
        await asyncio.sleep(LOOK_SECONDS)


async def _commit(node: Node) -> float:
    """When a COMMIT of next to nothing has ended."""
    async with _connected(node) as connection:
        await connection.execute("SELECT pg_logical_emit_message(true, 'proof', '')")
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def _connected(node: Node) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(f"postgresql://postgres@{node.address}/postgres", timeout=1)
    try:
        yield connection
    finally:
        connection.terminate()


def _table(failovers: list[_Failover]) -> list[str]:
    return [
        "\n| round | new primary elected after | then a plain client's first COMMIT there after | first 204 after the election |",
        "|---:|---:|---:|---:|",
        *(
            f"| {number} | {it.elected:.1f} s | {it.committed:.2f} s | {it.served:.2f} s |"
            for number, it in enumerate(failovers, 1)
        ),
    ]


async def _lose(cluster: Cluster, *, seed: int) -> Finding:
    """With asynchronous replication a standby that lags is elected, and what it has not got is gone."""
    name = "9e. SIGKILL of the primary, with asynchronous replication and a network that fails just before"
    finding = Finding(name, rounds=1)
    async with _world(cluster) as world:
        port = free_port()
        sender = _sender(name, port, seed)
        primary = await asyncio.to_thread(lambda: cluster.leader)
        await world.engine.dispose()
        async with started(cluster.url(user=SERVICE_ROLE, database=world.database), port=port):
            async with _persistent_load(sender):
                await asyncio.sleep(BEFORE_SECONDS)
                await _cut_off_standbys(primary)
                failover = await _fail_over(finding, cluster, primary, _kill, sender)
            finding.acknowledged = len(sender.book.acknowledged)
            lost = await count_lost(world, sender.book)
            await _bring_back(primary)
            ledger = await world.ledger()
    finding.doubled = len(ledger) - len({row.date_text for row in ledger})
    finding.close(sender.book)
    finding.not_promised = f"{lost} acknowledged movements were lost"
    finding.notes += [
        (
            f"the standbys got nothing for {CUT_SECONDS:g} s before the primary died; {lost} movements that were answered 204 are"
            " not in the ledger of the new primary. Lost 0 is promised for synchronous replication only"
        ),
        *_table([failover]),
    ]
    return finding


async def _cut_off_standbys(primary: Node) -> None:
    """End their streams again and again: after the second time a standby waits 5 s before it asks again."""
    async with _connected(primary) as connection:
        loop = asyncio.get_running_loop()
        end = loop.time() + CUT_SECONDS
        while loop.time() < end:
            await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
            await asyncio.sleep(LOOK_SECONDS)


def _sender(name: str, port: int, seed: int) -> Sender:
    sender = Sender(Book(name), lambda: port, seed=seed)
    sender.may_answer = frozenset({NO_CONTENT, UNAVAILABLE})
    sender.slowest_allowed = SLOWEST_SECONDS
    return sender


@asynccontextmanager
async def _persistent_load(sender: Sender) -> AsyncIterator[None]:
    """New movements until the end of the block, each sent again until it is acknowledged, as mipOS does."""
    stopping = asyncio.Event()

    async def keep_delivering() -> None:
        line = Line(sender.port)
        while not stopping.is_set():
            sent = sender.book.write()
            while not sent.is_acknowledged:
                await sender.deliver(sent, line)
                await asyncio.sleep(PAUSE_SECONDS)
        line.close()

    tasks = [asyncio.create_task(keep_delivering()) for _ in range(CONNECTIONS)]
    try:
        yield
    finally:
        stopping.set()
        await asyncio.gather(*tasks)


@asynccontextmanager
async def clustered(*, is_synchronous: bool) -> AsyncIterator[Cluster]:
    """A cluster, without holding up what runs in this event loop."""
    context = patroni.patroni(is_synchronous=is_synchronous)
    cluster = await asyncio.to_thread(context.__enter__)
    try:
        yield cluster
    finally:
        await asyncio.to_thread(context.__exit__, None, None, None)


@asynccontextmanager
async def _world(cluster: Cluster) -> AsyncIterator[World]:
    """A database of its own in the cluster, with the sample stores; its engine follows the primary."""
    name = f"failover_{next(_numbers)}"
    maintenance = postgres.database_of(cluster.url(database="postgres")).create_engine()
    async with maintenance.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        if not await connection.scalar(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": SERVICE_ROLE}):
            await connection.execute(text(f"CREATE ROLE {SERVICE_ROLE} LOGIN"))
        await connection.execute(text(f"CREATE DATABASE {name}"))
    await maintenance.dispose()
    engine = postgres.database_of(cluster.url(database=name)).create_engine()
    try:
        await postgres.set_up(engine)
        yield World(name, engine)
    finally:
        await engine.dispose()
