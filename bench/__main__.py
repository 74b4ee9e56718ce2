"""`make bench`: measure, print as it goes, and write bench/results. `make bench ARGS=--help` lists what can be chosen."""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from bench import report
from bench.machine import Server
from bench.measuring import NOOP, OURS, TEXTBOOK, Bench, in_a_folder
from bench.report import Results

PARTS = ("compare", "latency", "ledger", "record", "relay", "memory")


def main() -> int:
    """Measure what was asked for; 1 if a promise is not kept."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measure this service beside its yardsticks.")
    parser.add_argument("--only", choices=PARTS, action="append", help="this part; may be given again [all of them]")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4, help="of one service under one load")
    parser.add_argument("--connections", default="1,8,64,256")
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--ledger-rows", type=int, default=5_000_000)
    parser.add_argument("--memory-minutes", type=float, default=10)
    parser.add_argument("--name", default="latest", help="of the files in bench/results [latest]")
    asked = parser.parse_args()
    parts = asked.only or PARTS
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
        rounds, seconds = asked.rounds, asked.seconds
        if "compare" in parts:
            connections = [int(number) for number in asked.connections.split(",")]
            for workers in [int(number) for number in asked.workers.split(",")]:
                results.samples += bench.compare(
                    [NOOP, TEXTBOOK, OURS], workers=workers, connections=connections, rounds=rounds, seconds=seconds
                )
        if "latency" in parts:
            results.latencies = bench.latency(rounds=2 * rounds + 1, seconds=seconds)
        if "ledger" in parts:
            results.ledger_rows = asked.ledger_rows
            results.empty_ledger, results.large_ledger = bench.compare_ledgers(
                asked.ledger_rows, rounds=2 * rounds + 1, seconds=seconds
            )
        if "record" in parts:
            results.deliveries, results.recordings = bench.record(rounds=rounds, seconds=seconds)
        if "relay" in parts:
            results.sent = bench.relay()
        if "memory" in parts:
            results.memory = bench.memory(seconds=60 * asked.memory_minutes)

    in_a_folder(measure)
    page = report.write(results, asked.name)
    print()  # noqa: T201
    for promise in report.promises(results):
        verdict = "kept    " if promise.is_kept else "NOT KEPT"
        print(f"{verdict}  {promise.text}: {promise.found:.2f} (limit {promise.limit:g})")  # noqa: T201
    print(f"\nWritten: {page}")  # noqa: T201
    return 0 if all(promise.is_kept for promise in report.promises(results)) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (RuntimeError, subprocess.CalledProcessError) as error:
        sys.exit(f"{error}")
