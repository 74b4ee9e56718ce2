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
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue

from app.storage.embedded_postgres import EmbeddedPostgres
from proof.finding import Finding
from proof.mutants import MUTANTS, Mutant
from proof.route import Route
from tests.support.postgres import FAST, VARIABLE

TREE = Path(__file__).parents[1]
PARTS = ("app", "migrations", "tests", "deploy", "docs", "pyproject.toml", "README.md", ".env.example")
"""What the tests need; copied, so that the working tree is never touched."""
MUTABLE = ("app", "migrations")
REPLACED = ("0006_apply_movements.py",)
"""Their functions are replaced by those of a later revision: a guard that is taken out there is missed by nobody."""
AT_ONCE = 2
"""How many mutants are tried at the same time, each on a server of its own."""
TEST_SECONDS = 15
"""Of one test: some mutants wait without end."""
RUN_SECONDS = 60
"""Of one mutant's tests."""
BASELINE_SECONDS, BASELINE_TEST_SECONDS = 300, 100
"""Of all of these tests over the unchanged copy, and of one: whole files, so with tests that take longer."""
HUNG = "a_test_never_ended"
SOME_TESTS_FAILED = 1
"""pytest's exit status."""
SHOWN = 2


async def run(route: Route) -> AsyncIterator[Finding]:
    """The unchanged copy first, which has to be green, then each mutant. Tells nothing of the route."""
    del route
    finding = Finding("7. mutations: a guard taken out, a test goes red", rounds=len(MUTANTS))
    await asyncio.to_thread(_run_all, finding)
    yield finding


def _run_all(finding: Finding) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pos-sync-mutants-")))
        folder.chmod(0o711)
        original = folder / "original"
        _copy_code(original)
        # Of their own, one for each that runs: the template of the tests is made by migrations that are mutated too.
        servers: SimpleQueue[str] = SimpleQueue()
        for number in range(AT_ONCE):
            server = EmbeddedPostgres(folder / f"postgres-{number}", FAST)
            server.start()
            stack.callback(server.stop)
            servers.put(server.url("postgres"))
        _look_at_unchanged(finding, original, servers)

        def try_one(mutant: Mutant) -> list[str]:
            postgres = servers.get()
            try:
                return _red_with(mutant, original, postgres)
            finally:
                servers.put(postgres)

        pool = stack.enter_context(ThreadPoolExecutor(AT_ONCE))
        red_mutants = 0
        finding.notes += ["\n| taken out | red, among others |", "|---|---|"]
        for mutant, trying in [(mutant, pool.submit(try_one, mutant)) for mutant in MUTANTS]:
            try:
                red = trying.result()
            except _AnchorGone as gone:
                finding.problems[str(gone)] += 1
                continue
            if red:
                red_mutants += 1
                finding.notes.append(f"| {mutant.name} | {', '.join(f'`{test}`' for test in red[:SHOWN])} |")
            else:
                finding.problems[f'with "{mutant.name}" no test of pytest {" ".join(mutant.tests)} was red'] += 1
            print(f"   {mutant.name}: {', '.join(red[:SHOWN]) or 'NO TEST RED'}", flush=True)
    finding.notes.insert(0, f"{red_mutants} of {len(MUTANTS)} mutants were noticed; the unchanged copy was green")


def _copy_code(target: Path) -> None:
    target.mkdir()
    for part in PARTS:
        source = TREE / part
        if source.is_dir():
            shutil.copytree(source, target / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target / part)


def _look_at_unchanged(finding: Finding, original: Path, servers: "SimpleQueue[str]") -> None:
    files = tuple(sorted({argument for mutant in MUTANTS for argument in mutant.tests if argument.endswith(".py")}))
    postgres = servers.get()
    ended = _test(original, ("-n", str(AT_ONCE), *files), postgres, seconds=BASELINE_SECONDS, of_one=BASELINE_TEST_SECONDS)
    servers.put(postgres)
    if ended.returncode != 0:
        finding.problems[f"without any mutation the tests are red: {_red(ended.stdout) or ended.stdout[-300:]}"] += 1


def _red_with(mutant: Mutant, original: Path, postgres: str) -> list[str]:
    """The tests that are red with `mutant`: none also where pytest did not come to run them.

    Raises:
        _AnchorGone: the code is not where the mutant looks for it.
    """
    with tempfile.TemporaryDirectory(dir=original.parent) as name:
        copy = Path(name) / "mutant"
        shutil.copytree(original, copy)
        _mutate(copy, mutant)
        ended = _test(copy, mutant.tests, postgres)
    return _red(ended.stdout) if ended.returncode == SOME_TESTS_FAILED else []


class _AnchorGone(Exception):
    """The code of a mutation has moved; the message says what to change."""

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
    found = (path for part in MUTABLE for path in sorted((tree / part).rglob("*.py")))
    return (path for path in found if path.name not in REPLACED)


def _test(
    tree: Path, tests: tuple[str, ...], postgres: str, *, seconds: float = RUN_SECONDS, of_one: float = TEST_SECONDS
) -> subprocess.CompletedProcess[str]:
    # The folder of the copy comes before the installed package on the path, here and in processes that the tests start.
    environment = {**os.environ, VARIABLE: postgres, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "--maxfail=3", f"--timeout={of_one}", "-p", "no:cacheprovider", *tests]
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
    if not names and re.search(r"\+ Timeout \+", output):
        # pytest-timeout ends the run where a test does not end, without a word of which.
        names = [HUNG]
    return list(dict.fromkeys(names))
