"""Many random orders of arrival, and many random days: the same tests as in `make test`, which try a few."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from proof.finding import Finding
from proof.route import Route

TREE = Path(__file__).parents[1]
SECONDS = 800
ORDERS, DAYS, HISTORIES = 1000, 40, 4000
RUNS = (
    (
        f"8. {ORDERS} histories of counts, sales and reversals, each in two orders of arrival",
        ORDERS,
        {"POS_SYNC_ORDERS": str(ORDERS)},
        ("tests/http/test_counts_in_time.py", "-k", "any_order or as_if"),
    ),
    (
        f"8. {DAYS} days of sales, reports, losses, lost answers and syncs against the sandbox: drift is what was injected",
        DAYS,
        {"POS_SYNC_DAYS": str(DAYS)},
        ("tests/http/test_drift_against_mipos.py", "-k", "any_day"),
    ),
    (
        f"8. {HISTORIES} simulated histories: drift is what was injected, or said to be not known",
        HISTORIES,
        {"POS_SYNC_HISTORIES": str(HISTORIES)},
        ("tests/unit/test_drift_histories.py",),
    ),
)


async def run(route: Route) -> AsyncIterator[Finding]:
    """Each with a server of its own. Tells nothing of the route."""
    del route
    for fault, rounds, numbers, tests in RUNS:
        finding = Finding(fault, rounds=rounds)
        ended = await asyncio.to_thread(_test, numbers, tests)
        if ended.returncode != 0:
            last = ended.stdout.strip().splitlines()[-1:] or [f"status {ended.returncode}"]
            finding.problems[last[0][:300]] += 1
        else:
            finding.notes += re.findall(r"\d+ passed", ended.stdout)[-1:]
        yield finding


def _test(numbers: dict[str, str], tests: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", f"--timeout={SECONDS}", "-p", "no:cacheprovider", *tests]
    return subprocess.run(command, cwd=TREE, env={**os.environ, **numbers}, capture_output=True, text=True, check=False)
