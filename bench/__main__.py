"""`make bench`: measure, print as it goes, and write bench/results. `make bench ARGS=--help` lists what can be chosen."""

import argparse
import shutil
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench import peer, report
from bench.machine import Server
from bench.measurement import NOOP, NOOP_WITH_LOG, OURS, PEER, TEXTBOOK, Bench, in_a_folder
from bench.report import Promise, Results


def _rivals(bench: Bench, results: Results, asked: Namespace) -> None:
    names = [NOOP, *([NOOP_WITH_LOG] if asked.noop_log else []), OURS]
    if reason := peer.install():
        results.skipped.append(f"the Fastify handler ({reason})")
    else:
        names.insert(1, PEER)
    results.rivals = bench.compare_rivals(names, rounds=asked.rounds, seconds=asked.seconds)


def _replicas(bench: Bench, results: Results, asked: Namespace) -> None:
    results.replicas = bench.compare_replicas(rounds=asked.rounds, seconds=asked.seconds)


def _compare(bench: Bench, results: Results, asked: Namespace) -> None:
    connections = [int(number) for number in asked.connections.split(",")]
    for workers in [int(number) for number in asked.workers.split(",")]:
        results.samples += bench.compare(
            [NOOP, TEXTBOOK, OURS], workers=workers, connections=connections, rounds=asked.rounds, seconds=asked.seconds
        )


def _latency(bench: Bench, results: Results, asked: Namespace) -> None:
    results.latencies = bench.latency(rounds=asked.rounds, seconds=asked.seconds)


def _ledger(bench: Bench, results: Results, asked: Namespace) -> None:
    results.ledger_rows = asked.ledger_rows
    # More rounds than the others: its ratio is the nearest to its limit.
    results.empty_ledger, results.large_ledger = bench.compare_ledgers(
        asked.ledger_rows, rounds=2 * asked.rounds + 1, seconds=asked.seconds
    )


def _record(bench: Bench, results: Results, asked: Namespace) -> None:
    results.deliveries, results.recordings = bench.record(rounds=asked.rounds, seconds=asked.seconds)


def _relay(bench: Bench, results: Results, _asked: Namespace) -> None:
    results.sent = bench.relay()


def _pages(bench: Bench, results: Results, asked: Namespace) -> None:
    results.page_times, results.without_people, results.beside_people = bench.pages(rounds=asked.rounds, seconds=asked.seconds)


def _prune(bench: Bench, results: Results, asked: Namespace) -> None:
    results.without_prune, results.beside_prune = bench.prune(rows=asked.old_messages, rounds=asked.rounds, seconds=asked.seconds)


def _sizes(bench: Bench, results: Results, asked: Namespace) -> None:
    results.movement_bytes = dict(bench.sizes(movements=asked.movements))


def _memory(bench: Bench, results: Results, asked: Namespace) -> None:
    results.memory = bench.memory(seconds=60 * asked.memory_minutes)


MEASURE: Mapping[str, Callable[[Bench, Results, Namespace], None]] = {
    "rivals": _rivals,
    "replicas": _replicas,
    "compare": _compare,
    "latency": _latency,
    "ledger": _ledger,
    "record": _record,
    "relay": _relay,
    "prune": _prune,
    "pages": _pages,
    "sizes": _sizes,
    "memory": _memory,
}


def main() -> int:
    """Measure what was asked for; 1 if a promise is not kept."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measure this service beside its yardsticks.")
    parser.add_argument("--only", choices=MEASURE, action="append", help="this part; may be given again [all of them]")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="of one service under one load")
    parser.add_argument("--connections", default="1,8,64,256")
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--ledger-rows", type=int, default=5_000_000)
    parser.add_argument("--old-messages", type=int, default=1_000_000, help="that a prune deletes beside deliveries")
    parser.add_argument("--movements", type=int, default=100_000, help="of which the bytes are told")
    parser.add_argument("--memory-minutes", type=float, default=10)
    parser.add_argument("--noop-log", action="store_true", help="measure the no-op endpoint with uvicorn's access log too")
    parser.add_argument("--name", default="latest", help="of the files in bench/results [latest]")
    parser.add_argument("--median-of", nargs="+", metavar="NAME", help="measure nothing: the medians of these whole runs")
    asked = parser.parse_args()
    if asked.median_of:
        return _tell(report.medians_of_runs(asked.median_of))
    parts = asked.only or MEASURE
    given = " ".join(sys.argv[1:])
    results = Results(
        command=f"make bench ARGS='{given}'" if given else "make bench",
        seconds=asked.seconds,
        rounds=asked.rounds,
        load="wrk" if shutil.which("wrk") else "an asyncio client of its own (wrk is not installed)",
    )

    def measure(server: Server, folder: Path) -> None:
        results.postgres = server.version()
        bench = Bench(server, folder, lambda line: print(line, flush=True))  # noqa: T201 - a command
        for part, run in MEASURE.items():
            if part in parts:
                run(bench, results, asked)

    in_a_folder(measure)
    page = report.write(results, asked.name)
    print(f"\nWritten: {page}\n")  # noqa: T201
    for what in results.skipped:
        print(f"SKIPPED   {what}")  # noqa: T201
    return _tell(report.promises(results))


def _tell(promises: Sequence[Promise]) -> int:
    """Print each figure beside its limit; 1 if one is not kept."""
    for promise in promises:
        verdict = "kept    " if promise.is_kept else "NOT KEPT"
        bound = "at least" if promise.is_at_least else "at most"
        print(f"{verdict}  {promise.text}: {promise.found:.2f} ({bound} {promise.limit:g})")  # noqa: T201
    return 0 if all(promise.is_kept for promise in promises) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (RuntimeError, subprocess.CalledProcessError) as error:
        sys.exit(f"{error}")
