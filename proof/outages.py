"""Fault 3: Postgres stopped, in order and as a crash, and started again under load; short outages, and one past the deadline."""

import asyncio
from collections.abc import AsyncIterator
from typing import Literal

import httpx2

from proof.book import NO_CONTENT, Book
from proof.cluster import compared, count_lost, new_world, started
from proof.finding import Finding
from proof.route import Route
from proof.sender import UNAVAILABLE, Line, Sender
from tests.support.service import Service
from tests.support.world import World

ROUNDS = 3
PATIENT, IMPATIENT = 20.0, 1.0
"""RESPONSE_DEADLINE, in seconds: longer than any restart takes, even on a busy machine; and shorter than the long outage."""
PROBE_SECONDS = 5.0
RECOVERY_SECONDS = 60.0

Mode = Literal["fast", "immediate"]


async def run(route: Route) -> AsyncIterator[Finding]:
    """Short and long, both ways of stopping."""
    modes: tuple[Mode, ...] = ("fast", "immediate")
    for letter, mode in zip("ab", modes, strict=True):
        yield await _short(route, mode, f"3{letter}. Postgres restarted ({mode}){route.suffix}")
    for letter, mode in zip("cd", modes, strict=True):
        yield await _long(route, mode, f"3{letter}. Postgres away past the deadline ({mode}){route.suffix}")


async def _short(route: Route, mode: Mode, name: str) -> Finding:
    finding = Finding(name, rounds=ROUNDS)
    outages = []
    loop = asyncio.get_running_loop()
    async with new_world() as world, started(route.url(world), **{"response_deadline": PATIENT, **route.settings}) as service:
        sender = Sender(Book(name), lambda: service.port, seed=route.seed)
        async with compared(finding, world, sender):
            async with sender.load():
                for _ in range(ROUNDS):
                    await asyncio.sleep(0.5)
                    began = loop.time()
                    await asyncio.to_thread(route.server.halt, mode)
                    # What was answered after the outage began must be there after it.
                    await asyncio.to_thread(route.server.start)
                    outages.append(loop.time() - began)
                    finding.lost = (finding.lost or 0) + await count_lost(world, sender.book)
                    await _one_more_answer(sender)
            if max(outages) > PATIENT / 2:
                finding.problems[f"an outage took {max(outages):.1f} s: too slow a machine to tell anything"] += 1
    finding.notes.append(
        f"Postgres was away for {', '.join(f'{seconds:.1f}' for seconds in outages)} s; RESPONSE_DEADLINE={PATIENT:g};"
        " every delivery waited, and only 204 was allowed"
    )
    return finding


async def _one_more_answer(sender: Sender) -> None:
    """Wait until the load is answered again."""
    answered = sender.book.answers.total()
    while sender.book.answers.total() < answered + 50:
        await asyncio.sleep(0.02)


async def _long(route: Route, mode: Mode, name: str) -> Finding:
    finding = Finding(name, rounds=1)
    async with (
        new_world() as world,
        started(route.url(world), **{"response_deadline": IMPATIENT, **route.settings}) as service,
    ):
        pid = service.process.pid
        sender = Sender(Book(name), lambda: service.port, seed=route.seed)
        sender.may_answer = frozenset({NO_CONTENT, UNAVAILABLE})
        sender.slowest_allowed = 2 * IMPATIENT + 2
        async with compared(finding, world, sender):
            async with sender.load():
                await asyncio.sleep(0.5)
                await asyncio.to_thread(route.server.halt, mode)
                try:
                    await _look_during(finding, service, sender)
                finally:
                    await asyncio.to_thread(route.server.start)
                await _recovered(finding, service, sender, world)
            if service.process.poll() is not None or service.process.pid != pid:
                finding.problems["the service did not live through it"] += 1
    return finding


async def _look_during(finding: Finding, service: Service, sender: Sender) -> None:
    before = sender.book.answers[UNAVAILABLE]
    line = Line(lambda: service.port)
    loop = asyncio.get_running_loop()
    began = loop.time()
    statuses = set()
    while loop.time() - began < 3 * IMPATIENT:
        sent = sender.book.write()
        answer = await sender.deliver(sent, line)
        statuses.add(None if answer is None else answer.status)
    line.close()
    if statuses != {UNAVAILABLE}:
        finding.problems[f"while Postgres was away it answered {sorted(map(str, statuses))} and not 503"] += 1
    async with httpx2.AsyncClient(base_url=service.url, timeout=PROBE_SECONDS) as client:
        ready, alive = (await client.get("/readyz")).status_code, (await client.get("/livez")).status_code
    if (ready, alive) != (UNAVAILABLE, 200):
        finding.problems[f"while Postgres was away /readyz was {ready} and /livez {alive}"] += 1
    finding.notes.append(
        f"while Postgres was away: {sender.book.answers[UNAVAILABLE] - before} deliveries answered 503 with Retry-After, the "
        f"slowest answer after {sender.book.slowest:.2f} s with RESPONSE_DEADLINE={IMPATIENT:g}; /readyz {ready}, /livez {alive}"
    )


async def _recovered(finding: Finding, service: Service, sender: Sender, world: World) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    answered = sender.book.answers[NO_CONTENT]
    async with httpx2.AsyncClient(base_url=service.url, timeout=PROBE_SECONDS) as client:
        while loop.time() - began < RECOVERY_SECONDS:
            ready = (await client.get("/readyz")).status_code
            if ready == 200 and sender.book.answers[NO_CONTENT] > answered + 50:  # noqa: PLR2004 - well past a chance hit
                finding.notes.append(
                    f"{loop.time() - began:.1f} s after Postgres was back, /readyz was 200 and the load 204 again"
                )
                finding.lost = (finding.lost or 0) + await count_lost(world, sender.book)
                return
            await asyncio.sleep(0.05)
    finding.problems[f"it did not recover by itself within {RECOVERY_SECONDS:g} s"] += 1
