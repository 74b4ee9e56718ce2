"""The command behind `make proof`: runs the faults and tells what they came to; exit status 1 if the promise was broken."""

import argparse
import asyncio
import contextlib
import random
import resource
import subprocess
import sys
import time
import traceback
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import uvloop

from proof import conditions, cuts, failover, histories, kills, mutations, outages, overload, rolling
from proof.cluster import NGINX, Server, query, server
from proof.finding import Finding, page, table
from proof.route import Route
from tests.support.pgbouncer import PGBOUNCER, pgbouncer

PAGE = Path(__file__).parents[1] / "docs" / "proof.md"

Run = Callable[[Route], AsyncIterator[Finding]]

FAULTS: dict[str, tuple[Run, str]] = {
    "kills": (kills.run, "1. SIGKILL of the service, and of a worker, under load"),
    "cuts": (cuts.run, "2. the connection to the database cut after each message of a delivery"),
    "outages": (outages.run, "3. Postgres stopped and started again under load"),
    "rolling": (rolling.run, "4. two replicas restarted one after the other behind nginx"),
    "overload": (overload.run, "5. 2,000 connections, silent and half-sent ones among them"),
    "conditions": (conditions.run, "6. locks, deadlocks, read-only, too many connections, disk full"),
    "mutations": (mutations.run, "7. with a guard taken out of the code, a test goes red"),
    "histories": (histories.run, "8. many random orders of arrival, and many random days"),
    "failover": (failover.run, "9. a Postgres cluster under Patroni: switchover, SIGKILL and SIGSTOP of the primary"),
}
THROUGH_PGBOUNCER = ("kills", "cuts", "outages")
"""What is run once more through PgBouncer."""
MAX_SECONDS = 900.0
"""Of one fault: past it, something hangs."""


def main() -> int:
    """Parse the arguments, run, and report."""
    parser = argparse.ArgumentParser(
        prog="make proof",
        description="Hurt real processes and a real Postgres, and compare the ledger with what was sent.",
        epilog="Faults: "
        + "; ".join(f"{name} ({text})" for name, (_, text) in FAULTS.items())
        + '. Example: make proof ARGS="kills cuts --direct"',
    )
    parser.add_argument("faults", nargs="*", metavar="FAULT", help="run these only; the page is then not written")
    parser.add_argument("--direct", action="store_true", help="leave out the runs through PgBouncer")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="of the random moments; printed")  # noqa: S311
    parser.add_argument("--write", metavar="FILE", type=Path, help="write the page to FILE (default: docs/proof.md, if all ran)")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.faults) - set(FAULTS))
    if unknown:
        parser.error(f"there is no fault named {', '.join(unknown)}; there are: {', '.join(FAULTS)}")
    _raise_file_limit()
    started = time.monotonic()
    with server() as it:
        findings, postgres = uvloop.run(_run_all(it, arguments))
    print(f"\n{table(findings)}\n")
    target = arguments.write or (None if arguments.faults or arguments.direct else PAGE)
    if target is not None:
        chosen = [*arguments.faults, *(["--direct"] if arguments.direct else []), "--seed", str(arguments.seed)]
        command = f'make proof ARGS="{" ".join(chosen)}"'
        others = [text for text in (_version(NGINX, "-v"), _version(PGBOUNCER, "--version")) if text]
        target.write_text(page(findings, command=command, seconds=time.monotonic() - started, postgres=postgres, others=others))
        print(f"Written to {target}.")
    return 1 if any(finding.is_failed for finding in findings) else 0


async def _run_all(it: Server, arguments: argparse.Namespace) -> tuple[list[Finding], str]:
    names = arguments.faults or list(FAULTS)
    (postgres,) = await query("SHOW server_version")
    print(f"Seed {arguments.seed}; Postgres {postgres[0]} in {it.folder}", flush=True)
    findings: list[Finding] = []
    with contextlib.ExitStack() as stack:
        pooled = None
        if PGBOUNCER is not None and not arguments.direct:
            pooled = Route(
                it, stack.enter_context(pgbouncer(str(it.socket_folder))), arguments.seed, {"database_pooler": "transaction"}
            )
        for name in names:
            await _run(findings, name, Route(it, seed=arguments.seed))
            if name not in THROUGH_PGBOUNCER:
                continue
            if pooled is not None:
                await _run(findings, name, pooled)
            else:
                reason = "left out by --direct" if arguments.direct else "PgBouncer is not installed"
                findings.append(Finding(f"{FAULTS[name][1]}, through PgBouncer", skipped=reason))
    return findings, str(postgres[0])


async def _run(findings: list[Finding], name: str, route: Route) -> None:
    run, text = FAULTS[name]
    print(f"\n== {text}{route.suffix}", flush=True)
    started = time.monotonic()
    try:
        async with asyncio.timeout(MAX_SECONDS):
            async for finding in run(route):
                findings.append(finding)
                print(f"   {finding.fault}: {finding.verdict} ({time.monotonic() - started:.0f} s)", flush=True)
                _print_notes(finding)
    except Exception as error:  # noqa: BLE001 - one fault that cannot be run must not hide what the others come to
        traceback.print_exc()
        failed = Finding(f"{text}{route.suffix}")
        failed.problems[f"it ended with {type(error).__name__}: {str(error)[:300]}"] += 1
        findings.append(failed)


def _print_notes(finding: Finding) -> None:
    for line in [*finding.notes, *(f"PROBLEM: {text} ({number} times)" for text, number in finding.problems.items())]:
        if not line.lstrip().startswith("|"):
            print(f"     {line}", flush=True)


def _raise_file_limit() -> None:
    """Fault 5 holds thousands of connections, on either side; what is set here is inherited by the service."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16384) if hard != resource.RLIM_INFINITY else 16384, hard))


def _version(program: str | None, option: str) -> str | None:
    if program is None:
        return None
    ended = subprocess.run([program, option], capture_output=True, text=True, check=False)
    lines = (ended.stdout + ended.stderr).splitlines()
    return lines[0].removeprefix("nginx version: ") if lines else Path(program).name


if __name__ == "__main__":
    sys.exit(main())
