"""Fault 5: many more connections and deliveries than the service can take, silent and half-sent ones among them."""

import asyncio
import contextlib
import http.client
import json
import resource
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from proof.book import NO_CONTENT, Book
from proof.cluster import compared, new_world, started
from proof.finding import Finding
from proof.route import Route
from proof.sender import UNAVAILABLE, Sender
from tests.support.sender import body_of, raw_request, signed
from tests.support.service import Service

NAME = "5. overload: 2,000 connections"
CONNECTIONS = 2000
SILENT, HALF_SENT = 500, 500
"""Of the connections: those on which nothing comes, and those whose head or body never ends."""
WAITING_LINE = 200
"""Far below the number of senders, so that the line is full all the time."""
SECONDS = 12.0
"""Longer than the service gives a silent connection."""
MEASURED_SECONDS = 3.0
LEAST_RATIO = 0.5
"""Of the rate after to the rate before; generous, since this machine does other things too."""
KIB_PER_CONNECTION, KIB_OF_SLACK = 64, 128 * 1024
"""The bound on memory: what each connection may cost, and what the burst itself may."""
PROBE_SECONDS = 5.0
LEAST_PROBES = 3
"""Of each path, during the overload; fewer would prove nothing."""
DEADLINE = 4.0


async def run(route: Route) -> AsyncIterator[Finding]:
    """Measure, overload, measure again."""
    needed = CONNECTIONS + 500
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < needed:
        yield Finding(NAME, skipped=f"needs {needed} open files (ulimit -n)")
        return
    yield await _overload(route)


async def _overload(route: Route) -> Finding:
    finding = Finding(NAME, rounds=1)
    async with new_world() as world:
        settings = {"waiting_line": WAITING_LINE, "response_deadline": DEADLINE, **route.settings}
        async with started(route.url(world), **settings) as service:
            sender = Sender(Book("overload"), lambda: service.port, seed=route.seed)
            async with compared(finding, world, sender):
                await _rate(sender)
                before = await _rate(sender)
                idle = _memory(service)
                probes = _Probes()
                book = sender.book
                sender.may_answer = frozenset({NO_CONTENT, UNAVAILABLE})
                answered = Counter(book.answers)
                async with _useless(service) as useless, probes.asking(service):
                    async with sender.load(CONNECTIONS - SILENT - HALF_SENT):
                        await asyncio.sleep(SECONDS)
                    await useless.ended()
                overload = book.answers - answered
                sender.may_answer = frozenset({NO_CONTENT})
                after = await _rate(sender)
    _judge(finding, probes, useless.answers, overload)
    finding.notes += [
        f"{CONNECTIONS} connections for {SECONDS:g} s, WAITING_LINE={WAITING_LINE}: {SILENT} silent, {HALF_SENT} half-sent",
        f"the others sent without a pause (0.1 s after a 503): {overload[NO_CONTENT]} x 204, {overload[UNAVAILABLE]} x 503",
        f"silent and half-sent connections ended by the service with: {_told(useless.answers)}",
        *(
            f"{path} answered {len(seconds)} times meanwhile, the slowest after {max(seconds, default=0):.2f} s"
            for path, seconds in probes.seconds.items()
        ),
        f"rate after / rate before: {after / before:.2f} (at least {LEAST_RATIO} wanted)",
    ]
    if after < LEAST_RATIO * before:
        finding.problems["it did not come back to its speed"] += 1
    if idle and probes.memory:
        bound = idle + CONNECTIONS * KIB_PER_CONNECTION + KIB_OF_SLACK
        finding.notes.append(
            f"resident memory: {idle // 1024} MiB before, {max(probes.memory) // 1024} MiB at most, bound {bound // 1024} MiB"
        )
        if max(probes.memory) > bound:
            finding.problems["its memory was not bounded"] += 1
    else:
        finding.notes.append("resident memory: n/a (read from /proc, which is not here)")
    return finding


def _judge(finding: Finding, probes: "_Probes", useless: Counter[str], overload: Counter[int]) -> None:
    finding.problems.update(probes.problems)
    for path, seconds in probes.seconds.items():
        if len(seconds) < LEAST_PROBES:
            finding.problems[f"{path} answered only {len(seconds)} times during the overload"] += 1
    if not overload[UNAVAILABLE]:
        finding.problems["nobody was turned away: it was no overload"] += 1
    if not overload[NO_CONTENT]:
        finding.problems["nothing was taken during the overload"] += 1
    for answer, number in useless.items():
        if answer not in {"closed", "408"}:
            finding.problems[f"a silent or half-sent connection was {answer}"] += number


async def _rate(sender: Sender) -> float:
    """Deliveries answered 204 in a second, over 64 connections."""
    before = sender.book.answers[NO_CONTENT]
    loop = asyncio.get_running_loop()
    started_at = loop.time()
    async with sender.load(64):
        await asyncio.sleep(MEASURED_SECONDS)
    return (sender.book.answers[NO_CONTENT] - before) / (loop.time() - started_at)


def _memory(service: Service) -> int | None:
    """Resident memory in KiB, where /proc tells."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{service.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    return None


@dataclass
class _Probes:
    """/livez and /readyz, each on a new connection, as an orchestrator asks; and the memory meanwhile.

    From threads of their own: what they measure is the service, and not how late this event loop of 2,000 connections is.
    """

    seconds: dict[str, list[float]] = field(default_factory=lambda: {"/livez": [], "/readyz": []})
    memory: list[int] = field(default_factory=list)
    problems: Counter[str] = field(default_factory=Counter)

    @asynccontextmanager
    async def asking(self, service: Service) -> AsyncIterator[None]:
        """Ask until the end of the block; each question that was begun is waited for."""
        stopping = threading.Event()
        asking = [asyncio.create_task(asyncio.to_thread(self._ask, path, service, stopping)) for path in self.seconds]
        watching = asyncio.create_task(asyncio.to_thread(self._watch, service, stopping))
        try:
            yield
        finally:
            stopping.set()
            await asyncio.gather(*asking, watching)

    def _ask(self, path: str, service: Service, stopping: threading.Event) -> None:
        while not stopping.wait(0.2):
            started_at = time.monotonic()
            connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=PROBE_SECONDS)
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                said = json.loads(answer.read())["message"]
            except (OSError, http.client.HTTPException) as error:
                self.problems[f"{path} did not answer within {PROBE_SECONDS:g} s ({type(error).__name__})"] += 1
                continue
            finally:
                connection.close()
            self.seconds[path].append(time.monotonic() - started_at)
            if answer.status != 200:  # noqa: PLR2004 - ready
                self.problems[f"{path} answered {answer.status} ({said})"] += 1

    def _watch(self, service: Service, stopping: threading.Event) -> None:
        while not stopping.wait(0.2):
            memory = _memory(service)
            if memory is not None:
                self.memory.append(memory)


class _Useless:
    """The silent and the half-sent connections, and how each ended."""

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()
        self.tasks: list[asyncio.Task[None]] = []

    async def hold(self, port: int, beginning: bytes) -> None:
        """Open, send the beginning of a request, and wait for what the service does about it."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError as error:
            self.answers[f"not accepted ({type(error).__name__})"] += 1
            return
        try:
            if beginning:
                writer.write(beginning)
            async with asyncio.timeout(SECONDS * 4):
                head = await reader.read(4096)
            self.answers[head.split()[1].decode() if head else "closed"] += 1
        except TimeoutError:
            self.answers["left open"] += 1
        except OSError:
            self.answers["closed"] += 1
        finally:
            writer.close()

    async def ended(self) -> None:
        """Wait until the service has ended all of them."""
        await asyncio.gather(*self.tasks)


@asynccontextmanager
async def _useless(service: Service) -> AsyncIterator[_Useless]:
    it = _Useless()
    body = body_of(date="never whole")
    whole = raw_request(body, signed(body))
    beginnings = [b""] * SILENT + [whole[:40], whole[:-10]] * (HALF_SENT // 2)
    it.tasks = [asyncio.create_task(it.hold(service.port, beginning)) for beginning in beginnings]
    try:
        yield it
    finally:
        for task in it.tasks:
            task.cancel()
        await asyncio.gather(*it.tasks, return_exceptions=True)


def _told(answers: Counter[str]) -> str:
    return ", ".join(f"{answer} x {number}" for answer, number in sorted(answers.items())) or "none"
