"""Fault 1: SIGKILL at a random moment under load; of the whole service, and of one worker among two."""

import asyncio
import contextlib
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

from proof.book import Book
from proof.cluster import compared, count_lost, new_world, started
from proof.finding import Finding
from proof.route import Route
from proof.sender import Sender
from tests.support.service import Service, free_port
from tests.support.world import World

ROUNDS = 20
WORKER_ROUNDS = 5
EARLIEST, LATEST = 0.05, 0.8
"""Seconds of load before the kill."""


async def run(route: Route) -> AsyncIterator[Finding]:
    """Both kinds of kill."""
    yield await _kill_services(route)
    if Path("/proc/self/stat").exists():
        yield await _kill_workers(route)
    else:
        yield Finding(f"1b. SIGKILL of a worker{route.suffix}", skipped="finds the workers in /proc, which is not here")


async def _kill_services(route: Route) -> Finding:
    finding = Finding(f"1a. SIGKILL of the service{route.suffix}", rounds=ROUNDS)
    moments = random.Random(route.seed)  # noqa: S311 - a moment is no secret
    left: Counter[bool] = Counter()
    async with new_world() as world:
        port = free_port()
        sender = Sender(Book(f"kill{route.suffix}"), lambda: port, seed=route.seed)
        sender.may_answer = frozenset({204, 503})
        for _ in range(ROUNDS):
            async with started(route.url(world), port=port, **route.settings) as service:
                sender.may_break = False
                await sender.settle(sender.book.unsettled)
                sender.may_break = True
                async with sender.load():
                    await asyncio.sleep(moments.uniform(EARLIEST, LATEST))
                    service.process.kill()
                    await asyncio.to_thread(service.process.wait)
                # What waited for its answer at the kill: Postgres may have it or not, and either is right.
                await _count_left(left, world, sender.book)
            finding.lost = (finding.lost or 0) + await count_lost(world, sender.book)
        async with started(route.url(world), port=port, **route.settings), compared(finding, world, sender):
            pass
    finding.notes.append(
        f"of the movements that a kill left without an answer, {left[True]} were in the ledger and {left[False]} were not; "
        "each was sent again"
    )
    if sender.book.broken < ROUNDS:
        finding.problems["fewer deliveries were interrupted than services were killed: the load was not there"] += 1
    return finding


async def _count_left(left: Counter[bool], world: World, book: Book) -> None:
    there = {row.date_text for row in await world.ledger()}
    left.update(movement.date_text in there for movement in book.unsettled)


async def _kill_workers(route: Route) -> Finding:
    finding = Finding(f"1b. SIGKILL of one of two workers{route.suffix}", rounds=WORKER_ROUNDS)
    moments = random.Random(route.seed)  # noqa: S311 - a moment is no secret
    async with new_world() as world, started(route.url(world), "--workers", "2", **route.settings) as service:
        sender = Sender(Book(f"worker{route.suffix}"), lambda: service.port, seed=route.seed)
        sender.may_answer, sender.may_break = frozenset({204, 503}), True
        async with sender.load():
            for _ in range(WORKER_ROUNDS):
                await asyncio.sleep(moments.uniform(EARLIEST, LATEST))
                victim = moments.choice(await _workers(service))
                os.kill(victim, signal.SIGKILL)
                await _replaced(service, victim)
        finding.lost = await count_lost(world, sender.book)
        await asyncio.to_thread(service.wait_until_ready)
        async with compared(finding, world, sender):
            pass
    return finding


async def _workers(service: Service) -> list[int]:
    """The worker processes, once there are two: children that multiprocessing has spawned, without its resource tracker."""
    while True:
        children = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children").read_text().split()
        workers = []
        for child in children:
            with contextlib.suppress(OSError):
                if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                    workers.append(int(child))
        if len(workers) == 2:  # noqa: PLR2004 - as many as it was started with
            return workers
        await asyncio.sleep(0.05)


async def _replaced(service: Service, victim: int) -> None:
    while victim in await _workers(service):
        await asyncio.sleep(0.05)
