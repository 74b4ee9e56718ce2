"""The measurements: each alternates what it compares, round after round, in one run, and is told as ratios."""

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import httpx2

from bench import pages, retention
from bench.load import LEVELS, SECRET, Answers, Movements, send_to_all
from bench.machine import Running, Server, cpu_seconds, running

NOOP, NOOP_WITH_LOG, PEER, TEXTBOOK, OURS, MIPOS = "noop", "noop+log", "fastify", "textbook", "pos-sync", "mipos"
FEW_LEVELS = 20
SENDERS = 2
"""Of the load on replicas: one for each, and as many where there is one replica."""
PARALLEL = 8
WARM_UPS, WARM_UP_SECONDS = 4, 5
_CALLING = "pos_sync_outbox_call_seconds_sum"
RELAY_SECONDS = 300.0
PAGE_ROUNDS = 9
START_SECONDS = 2.0
"""After which a process that prunes is at work"""
MAX_PER_SECOND = 20_000
"""More than any of them answers: the load must not run out."""
SLOWEST_PER_SECOND = {TEXTBOOK: 2_000}


@dataclass(frozen=True, slots=True)
class Sample:
    """One service under one load."""

    name: str
    port: int
    workers: int
    replicas: int
    levels: int
    connections: int
    rate: float
    p50_ms: float
    p99_ms: float
    service_cpu: float
    """CPU seconds of the service for 1,000 deliveries."""
    postgres_cpu: float
    """CPU seconds of Postgres for 1,000 deliveries."""

    @property
    def cpu(self) -> float:
        """CPU seconds of both for 1,000 deliveries."""
        return self.service_cpu + self.postgres_cpu


@dataclass(frozen=True, slots=True)
class Latency:
    """One round at one connection: medians in milliseconds."""

    ours: float
    direct: float


@dataclass(frozen=True, slots=True)
class Memory:
    """The service's memory, so many seconds into a steady load."""

    seconds: float
    megabytes: float
    answers: int


@dataclass(frozen=True, slots=True)
class Sent:
    """What the relay did with its outbox: `busy` is the mean number of calls at a time, of `parallel` allowed."""

    messages: int
    seconds: float
    busy: float
    parallel: int
    disorder: int


def median_of(samples: Sequence[Sample]) -> Sample:
    """The sample whose every figure is the median of `samples`."""
    figures = ("rate", "p50_ms", "p99_ms", "service_cpu", "postgres_cpu")
    values: dict[str, Any] = {figure: statistics.median(getattr(sample, figure) for sample in samples) for figure in figures}
    return replace(samples[0], **values)


class Bench:
    """One run, on one Postgres."""

    def __init__(self, server: Server, folder: Path, say: Callable[[str], None]) -> None:
        self._server = server
        self._folder = folder
        self._say = say
        self._movements = Movements()
        self._databases = 0

    def compare(
        self, names: Sequence[str], *, workers: int, connections: Sequence[int], rounds: int, seconds: float
    ) -> list[Sample]:
        """Each of `names` at each number of connections, by turns."""
        with ExitStack() as stack:
            services = [self._start(stack, name, self._new_database(), workers=workers) for name in names]
            return self._alternate(services, workers=workers, connections=connections, rounds=rounds, seconds=seconds)

    def compare_rivals(self, names: Sequence[str], *, rounds: int, seconds: float) -> list[Sample]:
        """Each of `names` at 64 connections, one worker, on few and on all levels, by turns."""
        with ExitStack() as stack:
            services = [self._start(stack, name, self._new_database(), workers=1) for name in names]
            return self._alternate(
                services, workers=1, connections=[64], rounds=rounds, seconds=seconds, levels=[FEW_LEVELS, LEVELS]
            )

    def compare_replicas(self, *, rounds: int, seconds: float) -> list[Sample]:
        """One replica of this service, and two on one database, by turns; 64 connections, on few and on all levels."""
        with ExitStack() as stack:
            services = [self._start(stack, OURS, self._new_database(), workers=1, replicas=number) for number in (1, 2)]
            return self._alternate(
                services,
                workers=1,
                connections=[64],
                rounds=rounds,
                seconds=seconds,
                levels=[FEW_LEVELS, LEVELS],
                senders=SENDERS,
            )

    def compare_ledgers(self, rows: int, *, rounds: int, seconds: float) -> tuple[list[Sample], list[Sample]]:
        """This service on an empty ledger, and on one with `rows` rows, by turns; 64 connections, one worker."""
        self._say(f"Filling a ledger with {rows:,} rows ...")
        empty, large = self._new_database(), self._new_database(rows=rows)
        with ExitStack() as stack:
            services = [self._start(stack, OURS, empty, workers=1), self._start(stack, OURS, large, workers=1)]
            # Right after a checkpoint Postgres writes each page that it touches as a whole: on a large ledger for some seconds,
            # and then no more until the next.
            for service in services * WARM_UPS:
                self._load(service, connections=64, seconds=WARM_UP_SECONDS)
            samples = self._alternate(services, workers=1, connections=[64], rounds=rounds, seconds=seconds)
        return [s for s in samples if s.port == services[0].port], [s for s in samples if s.port == services[1].port]

    def latency(self, *, rounds: int, seconds: float) -> list[Latency]:
        """This service at one connection beside one prepared insert-and-update transaction made directly with asyncpg."""
        found = []
        with ExitStack() as stack:
            service = self._start(stack, OURS, self._new_database(), workers=1)
            direct = self._server.url(self._new_database())
            for number in range(rounds):
                ours = self._load(service, connections=1, seconds=seconds).p50_ms
                command = [sys.executable, "-m", "bench.direct", direct, str(seconds)]
                finished = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - our own
                found.append(Latency(ours, float(finished.stdout)))
                self._say(f"round {number + 1}  1 connection  {OURS} {ours:.2f} ms  direct transaction {found[-1].direct:.2f} ms")
        return found

    def record(self, *, rounds: int, seconds: float) -> tuple[list[Sample], list[Sample]]:
        """Deliveries, and movements that the POS records over HTTP, by turns at one service; 64 connections, one worker."""
        deliveries, recordings = [], []
        with ExitStack() as stack:
            settings = {"POS_API_KEY": SECRET}
            service = self._start(stack, OURS, self._new_database(), workers=1, settings=settings)
            self._load(service, connections=8, seconds=1)
            for number in range(rounds):
                deliveries.append(self._sample(service, workers=1, connections=64, seconds=seconds))
                recordings.append(self._sample(service, workers=1, connections=64, seconds=seconds, is_recording=True))
                rates = f"deliveries {deliveries[-1].rate:.0f}/s  POS movements {recordings[-1].rate:.0f}/s"
                self._say(f"round {number + 1}  64 connections  {rates}")
        return deliveries, recordings

    def prune(self, *, rows: int, rounds: int, seconds: float) -> tuple[list[Sample], list[Sample]]:
        """Deliveries alone, and while a prune deletes as many old messages as the ledger has rows; by turns at one service."""
        alone, beside = [], []
        database = self._new_database(rows=rows)
        url = self._server.url(database)
        asyncio.run(retention.fill(url))
        with ExitStack() as stack:
            service = self._start(stack, OURS, database, workers=1)
            for _ in range(WARM_UPS):
                self._load(service, connections=64, seconds=WARM_UP_SECONDS)
            for number in range(rounds):
                for is_pruning in (True, False) if number % 2 else (False, True):
                    before = asyncio.run(retention.count(url))
                    process = subprocess.Popen([sys.executable, "-m", "bench.retention", url]) if is_pruning else None  # noqa: S603
                    if process is not None:
                        time.sleep(START_SECONDS)
                    sample = self._sample(service, workers=1, connections=64, seconds=seconds)
                    (beside if is_pruning else alone).append(sample)
                    if process is not None:
                        process.terminate()
                        process.wait()
                    deleted = before - asyncio.run(retention.count(url))
                    if is_pruning and not 0 < deleted < before:
                        raise RuntimeError(f"{deleted} of {before} messages were deleted: the prune did not work all the time")
                    self._say(f"round {number + 1}  64 connections  {sample.rate:.0f}/s  deleted meanwhile: {deleted:,}")
        return alone, beside

    def pages(self, *, rounds: int, seconds: float) -> tuple[Mapping[str, float], list[Sample], list[Sample]]:
        """The times of the pages, and deliveries alone and while ten people click; by turns at one service."""
        alone, beside = [], []
        database = self._new_database()
        self._say(asyncio.run(pages.fill(self._server.url(database))))
        with ExitStack() as stack:
            service = self._start(stack, OURS, database, workers=1, settings=pages.SETTINGS)
            url = f"http://127.0.0.1:{service.port}"
            times = asyncio.run(pages.times(url, rounds=PAGE_ROUNDS))
            for path, milliseconds in times.items():
                self._say(f"{milliseconds:7.1f} ms  {path}")
            for _ in range(WARM_UPS):
                self._load(service, connections=64, seconds=WARM_UP_SECONDS)
            for number in range(rounds):
                for is_clicking in (True, False) if number % 2 else (False, True):
                    process = subprocess.Popen([sys.executable, "-m", "bench.pages", url]) if is_clicking else None  # noqa: S603
                    if process is not None:
                        time.sleep(START_SECONDS)
                    sample = self._sample(service, workers=1, connections=64, seconds=seconds)
                    (beside if is_clicking else alone).append(sample)
                    if process is not None:
                        if process.poll() is not None:
                            raise RuntimeError("nobody clicked to the end")
                        process.terminate()
                        process.wait()
                    clicking = "ten people click" if is_clicking else "nobody clicks"
                    self._say(f"round {number + 1}  64 connections  {sample.rate:.0f}/s  {clicking}")
        return times, alone, beside

    def sizes(self, *, movements: int) -> Mapping[str, float]:
        """Bytes of a movement by part, with indexes: deliveries of which another system is told, all sent, told and sealed."""
        database = self._new_database()
        url = self._server.url(database)
        asyncio.run(retention.connect_second_system(url))
        with ExitStack() as stack:
            service = self._start(stack, OURS, database, workers=1)
            sent = 0
            while sent < movements:
                sent += self._load(service, connections=64, seconds=WARM_UP_SECONDS).answers
        found = asyncio.run(retention.bytes_of_a_movement(url))
        self._say(f"bytes of a movement, of {sent:,}: " + ", ".join(f"{part} {size:.0f}" for part, size in found.items()))
        return found

    def relay(self, *, pairs: int = 200, each: int = 20) -> Sent:
        """The relay with a full outbox, against a mipOS that answers in 20 ms."""
        database = self._new_database()
        self._server.queue_sales(database, pairs=pairs, each=each)
        with ExitStack() as stack:
            mipos = self._start(stack, MIPOS, database, workers=1)
            address = f"http://127.0.0.1:{mipos.port}"
            account = {"MIPOS_CLIENT_ID": "bench", "MIPOS_EMAIL": "bench@example.com", "MIPOS_PASSWORD": "bench"}
            settings = {"MIPOS_BASE_URL": address, "OUTBOX_PARALLEL": str(PARALLEL), **account}
            service = self._start(stack, OURS, database, workers=1, settings=settings)
            found: dict[str, Any] = {"calls": 0}
            deadline = time.monotonic() + RELAY_SECONDS
            while found["calls"] < pairs * each:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"the relay sent {found['calls']} of {pairs * each} messages in {RELAY_SECONDS:.0f} s")
                time.sleep(0.2)
                found = httpx2.get(f"{address}/bench", timeout=5, trust_env=False).json()
            metrics = httpx2.get(f"http://127.0.0.1:{service.port}/metrics", timeout=5, trust_env=False).text
        calling = next(float(line.split()[1]) for line in metrics.splitlines() if line.startswith(_CALLING))
        sent = Sent(found["calls"], found["seconds"], calling / found["seconds"], PARALLEL, found["disorder"])
        self._say(f"relay: {sent.messages} messages in {sent.seconds:.1f} s, {sent.busy:.2f} of {sent.parallel} calls at a time")
        return sent

    def memory(self, *, seconds: float) -> list[Memory]:
        """This service's memory under a steady load over 64 connections, about every ten seconds."""
        found: list[Memory] = []
        with ExitStack() as stack:
            service = self._start(stack, OURS, self._new_database(), workers=1)
            passed, answers = 0.0, 0
            while passed < seconds:
                result = self._load(service, connections=64, seconds=10)
                passed, answers = passed + result.seconds, answers + result.answers
                found.append(Memory(passed, service.resident_megabytes(), answers))
                self._say(f"{passed:4.0f} s  {answers:>9,} deliveries  {found[-1].megabytes:.1f} MB")
        return found

    def _start(  # noqa: PLR0913 - what a service is, each by name
        self,
        stack: ExitStack,
        name: str,
        database: str,
        *,
        workers: int,
        settings: Mapping[str, str] | None = None,
        replicas: int = 1,
    ) -> Running:
        log = self._folder / f"{name}.log"
        url = self._server.url(database)
        return stack.enter_context(running(name, url, workers=workers, log=log, settings=settings, replicas=replicas))

    def _new_database(self, *, rows: int = 0) -> str:
        self._databases += 1
        database = f"bench_{self._databases}"
        self._server.create(database, rows=rows)
        return database

    def _alternate(  # noqa: PLR0913 - each by name
        self,
        services: Sequence[Running],
        *,
        workers: int,
        connections: Sequence[int],
        rounds: int,
        seconds: float,
        levels: Sequence[int] = (LEVELS,),
        senders: int = 1,
    ) -> list[Sample]:
        for service in services:
            self._load(service, connections=8, seconds=1)
        samples = []
        for number in range(rounds):
            for count, some in product(connections, levels):
                # In another order each round, so that nobody always follows the one that leaves most to clean up.
                turn = number % len(services)
                for service in [*services[turn:], *services[:turn]]:
                    sample = self._sample(
                        service, workers=workers, connections=count, seconds=seconds, levels=some, senders=senders
                    )
                    samples.append(sample)
                    self._say(
                        f"round {number + 1}  {workers} worker(s)  {sample.replicas} replica(s)  {count:>3} connections"
                        f"  {some:>5,} levels  {service.name:<8}"
                        f"  {sample.rate:>6.0f}/s  p50 {sample.p50_ms:.1f} ms  p99 {sample.p99_ms:.1f} ms"
                        f"  CPU s/1000: service {sample.service_cpu:.3f}, Postgres {sample.postgres_cpu:.3f}"
                    )
        return samples

    def _sample(  # noqa: PLR0913 - each by name
        self,
        service: Running,
        *,
        workers: int,
        connections: int,
        seconds: float,
        is_recording: bool = False,
        levels: int = LEVELS,
        senders: int = 1,
    ) -> Sample:
        postgres = self._server.process()
        before = service.cpu_seconds(), cpu_seconds(postgres)
        result = self._load(
            service, connections=connections, seconds=seconds, is_recording=is_recording, levels=levels, senders=senders
        )
        thousands = result.answers / 1000
        return Sample(
            name=service.name,
            port=service.port,
            workers=workers,
            replicas=len(service.ports),
            levels=levels,
            connections=connections,
            rate=result.rate,
            p50_ms=result.p50_ms,
            p99_ms=result.p99_ms,
            service_cpu=(service.cpu_seconds() - before[0]) / thousands,
            postgres_cpu=(cpu_seconds(postgres) - before[1]) / thousands,
        )

    def _load(  # noqa: PLR0913 - each by name
        self,
        service: Running,
        *,
        connections: int,
        seconds: float,
        is_recording: bool = False,
        levels: int = LEVELS,
        senders: int = 1,
    ) -> Answers:
        count = int(SLOWEST_PER_SECOND.get(service.name, MAX_PER_SECOND) * seconds)
        movements = self._movements
        requests = list(movements.sales(count, api_key=SECRET) if is_recording else movements.requests(count, levels=levels))
        ports = [*service.ports] * (senders // len(service.ports) or 1)
        result = send_to_all(requests, ports=ports, connections=connections, seconds=seconds)
        if result.bad:
            raise RuntimeError(f"{service.name} answered {result.bad} of {result.answers} requests with something else than 2xx")
        return result


def in_a_folder(work: Callable[[Server, Path], None]) -> None:
    """Run `work` with a Postgres in a temporary folder, stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="pos-sync-bench-") as folder:
        server = Server(Path(folder))
        server.start()
        try:
            work(server, Path(folder))
        finally:
            server.stop()
