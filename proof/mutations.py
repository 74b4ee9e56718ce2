"""Fault 7: with one guard taken out of a copy of the code, at least one test has to go red, or the tests prove nothing."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from app.storage.embedded import EmbeddedPostgres
from proof.finding import Finding
from proof.mutants import MUTANTS, Mutant
from proof.route import Route
from tests.support.postgres import FAST, VARIABLE

TREE = Path(__file__).parents[1]
PARTS = ("app", "migrations", "tests", "deploy", "docs", "pyproject.toml", "README.md", ".env.example")
"""What the tests need; copied, so that the working tree is never touched."""
MUTABLE = ("app", "migrations")
TEST_SECONDS = 15
"""Of one test: some mutants wait for ever."""
RUN_SECONDS = 60
"""Of one mutant's tests."""
BASELINE_SECONDS = 300
"""Of all of these tests over the unchanged copy."""
HUNG = "a_test_never_ended"
SOME_TESTS_FAILED = 1
"""pytest's exit status."""
SHOWN = 2


async def run(route: Route) -> AsyncIterator[Finding]:
    """The unchanged copy first, which has to be green, then each mutant. Tells nothing of the route."""
    del route
    finding = Finding("7. mutations: a guard taken out, a test goes red", rounds=len(MUTANTS))
    with tempfile.TemporaryDirectory(prefix="pos-sync-mutants-") as name:
        folder = Path(name)
        # Of its own: the template of the tests is made by migrations that are mutated too.
        server = EmbeddedPostgres(folder / "postgres", FAST)
        server.start()
        try:
            await asyncio.to_thread(_run_all, finding, folder, server.url("postgres"))
        finally:
            server.stop()
    yield finding


def _run_all(finding: Finding, folder: Path, postgres: str) -> None:
    original = folder / "original"
    original.mkdir()
    for part in PARTS:
        source = TREE / part
        if source.is_dir():
            shutil.copytree(source, original / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, original / part)
    files = tuple(sorted({argument for mutant in MUTANTS for argument in mutant.tests if argument.endswith(".py")}))
    ended = _test(original, files, postgres, seconds=BASELINE_SECONDS)
    if ended.returncode != 0:
        finding.problems[f"without any mutation the tests are red: {_red(ended.stdout) or ended.stdout[-300:]}"] += 1
    red_mutants = 0
    finding.notes += ["\n| taken out | red, among others |", "|---|---|"]
    for mutant in MUTANTS:
        copy = folder / "mutant"
        shutil.copytree(original, copy)
        try:
            _mutate(copy, mutant)
        except _AnchorGone as gone:
            finding.problems[str(gone)] += 1
            continue
        else:
            ended = _test(copy, mutant.tests, postgres)
        finally:
            shutil.rmtree(copy)
        red = _red(ended.stdout)
        if ended.returncode != SOME_TESTS_FAILED or not red:
            finding.problems[
                f'with "{mutant.name}" pytest {" ".join(mutant.tests)} ended with {ended.returncode}, no test red'
            ] += 1
        else:
            red_mutants += 1
            finding.notes.append(f"| {mutant.name} | {', '.join(f'`{test}`' for test in red[:SHOWN])} |")
        print(f"   {mutant.name}: {', '.join(red[:SHOWN]) or 'NO TEST RED'}", flush=True)
    finding.notes.insert(0, f"{red_mutants} of {len(MUTANTS)} mutants were noticed; the unchanged copy was green")


class _AnchorGone(Exception):
    """The code of a mutation has moved; the message says how to anchor it anew."""

    def __init__(self, name: str, pattern: str) -> None:
        super().__init__(f'the code of the mutation "{name}" has moved: give it a new anchor in proof/mutants.py for {pattern!r}')


def _mutate(tree: Path, mutant: Mutant) -> None:
    one = (mutant.pattern, mutant.replacement)
    if not any(_edit(tree, edit, most=mutant.most) for edit in (one, mutant.alternative) if edit is not None):
        raise _AnchorGone(mutant.name, mutant.pattern)
    if mutant.also is not None and not _edit(tree, mutant.also, most=1):
        raise _AnchorGone(mutant.name, mutant.also[0])


def _edit(tree: Path, edit: tuple[str, str], *, most: int) -> bool:
    """Make the edit in all of the code; without effect where its pattern is not there, or more than `most` times."""
    mutated = {path: re.subn(*edit, path.read_text()) for path in _sources(tree)}
    if not 1 <= sum(count for _, count in mutated.values()) <= most:
        return False
    for path, (text, count) in mutated.items():
        if count:
            # A mutant that cannot even be read would make every test red.
            compile(text, str(path), "exec")
            path.write_text(text)
    return True


def _sources(tree: Path) -> Iterable[Path]:
    return (path for part in MUTABLE for path in sorted((tree / part).rglob("*.py")))


def _test(tree: Path, tests: tuple[str, ...], postgres: str, *, seconds: float = RUN_SECONDS) -> subprocess.CompletedProcess[str]:
    # The folder of the copy comes before the installed package on the path, here and in processes that the tests start.
    environment = {**os.environ, VARIABLE: postgres, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "--maxfail=3", f"--timeout={TEST_SECONDS}", "-p", "no:cacheprovider", *tests]
    process = subprocess.Popen(
        command, cwd=tree, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    with process:
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            # A test that was timed out may hang in its clean-up too. Its session has the processes that it has started.
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            return subprocess.CompletedProcess(command, SOME_TESTS_FAILED, output + f"\nFAILED tests::{HUNG}", "")
    return subprocess.CompletedProcess(command, process.returncode, output, "")


def _red(output: str) -> list[str]:
    """The names of the failed tests, without files and parameters; errors of collecting are none."""
    names = re.findall(r"(?m)^FAILED \S+?::(\w+)", output)
    return list(dict.fromkeys(names))
