"""The measurements: each alternates what it compares, round after round, in one run, and is told as ratios."""

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.load import Answers, Movements, send
from bench.machine import Running, Server, cpu_seconds, running

NOOP, TEXTBOOK, OURS = "noop", "textbook", "pos-sync"
MOST_PER_SECOND = 20_000
"""More than any of them answers: the load must not run out."""
SLOWEST_PER_SECOND = {TEXTBOOK: 2_000}


@dataclass(frozen=True, slots=True)
class Sample:
    """One service under one load."""

    name: str
    workers: int
    connections: int
    rate: float
    p50_ms: float
    p99_ms: float
    service_cpu: float
    """CPU seconds of the service for 1,000 deliveries."""
    postgres_cpu: float
    """CPU seconds of Postgres for 1,000 deliveries."""


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

    def compare_ledgers(self, rows: int, *, rounds: int, seconds: float) -> tuple[list[Sample], list[Sample]]:
        """This service on an empty ledger, and on one with `rows` rows, by turns; 64 connections, one worker."""
        self._say(f"Filling a ledger with {rows:,} rows ...")
        empty, large = self._new_database(), self._new_database(rows=rows)
        with ExitStack() as stack:
            services = [self._start(stack, OURS, empty, workers=1), self._start(stack, OURS, large, workers=1)]
            samples = self._alternate(services, workers=1, connections=[64], rounds=rounds, seconds=seconds)
        return samples[0::2], samples[1::2]

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

    def _start(self, stack: ExitStack, name: str, database: str, *, workers: int) -> Running:
        return stack.enter_context(running(name, self._server.url(database), workers=workers, log=self._folder / f"{name}.log"))

    def _new_database(self, *, rows: int = 0) -> str:
        self._databases += 1
        database = f"bench_{self._databases}"
        self._server.create(database, rows=rows)
        return database

    def _alternate(
        self, services: Sequence[Running], *, workers: int, connections: Sequence[int], rounds: int, seconds: float
    ) -> list[Sample]:
        for service in services:
            self._load(service, connections=8, seconds=1)
        samples = []
        for number in range(rounds):
            for count in connections:
                for service in services:
                    sample = self._sample(service, workers=workers, connections=count, seconds=seconds)
                    samples.append(sample)
                    self._say(
                        f"round {number + 1}  {workers} worker(s)  {count:>3} connections  {service.name:<8}"
                        f"  {sample.rate:>6.0f}/s  p50 {sample.p50_ms:.1f} ms  p99 {sample.p99_ms:.1f} ms"
                        f"  CPU s/1000: service {sample.service_cpu:.3f}, Postgres {sample.postgres_cpu:.3f}"
                    )
        return samples

    def _sample(self, service: Running, *, workers: int, connections: int, seconds: float) -> Sample:
        postgres = self._server.process()
        before = service.cpu_seconds(), cpu_seconds(postgres)
        result = self._load(service, connections=connections, seconds=seconds)
        thousands = result.answers / 1000
        return Sample(
            name=service.name,
            workers=workers,
            connections=connections,
            rate=result.rate,
            p50_ms=result.p50_ms,
            p99_ms=result.p99_ms,
            service_cpu=(service.cpu_seconds() - before[0]) / thousands,
            postgres_cpu=(cpu_seconds(postgres) - before[1]) / thousands,
        )

    def _load(self, service: Running, *, connections: int, seconds: float) -> Answers:
        most = SLOWEST_PER_SECOND.get(service.name, MOST_PER_SECOND)
        requests = list(self._movements.requests(int(most * seconds)))
        result = send(requests, port=service.port, connections=connections, seconds=seconds)
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
