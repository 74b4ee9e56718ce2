"""`pos-sync` as a process: what it prints as it comes, how it ends when interrupted or not read, and on which terminals."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anyio.to_thread
import pytest

from tests.support.outbox import sell
from tests.support.world import World

PROGRAM = Path(sys.executable).with_name("pos-sync")
_WITH_CTRL_C = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
"""Where the tests run as a script's background job, they begin with Ctrl-C ignored, and so would what they start."""
NOWHERE = "postgresql://nobody@127.0.0.1:1/none"


def started(folder: Path, *arguments: str, stdout: int = subprocess.PIPE, **variables: str) -> subprocess.Popen[bytes]:
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "LANG", "LC_ALL"}}
    return subprocess.Popen(
        [sys.executable, "-c", _WITH_CTRL_C, PROGRAM, *arguments],
        cwd=folder,
        env={**kept, "HOME": str(folder), "DATABASE_URL": NOWHERE, **variables},
        stdout=stdout,
        stderr=subprocess.STDOUT if variables.get("TERM") else subprocess.PIPE,
        start_new_session=True,
    )


def interrupted(process: subprocess.Popen[bytes], wait: Callable[[], None]) -> tuple[int, str]:
    """How it ended, and what it said, when Ctrl-C came after `wait`."""
    with process:
        wait()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
        return process.returncode, errors.decode()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells what a process has loaded")
@pytest.mark.parametrize("library", ["_pydantic_core", "asyncpg/protocol"])
async def test_ctrl_c_while_it_starts_is_quiet(world: World, tmp_path: Path, library: str) -> None:
    # One that does not end by itself: a busy machine may look late.
    process = started(tmp_path, "ledger", "--store", "1", "--follow", DATABASE_URL=world.service_url)

    def wait() -> None:
        # In the middle of the imports.
        maps = Path(f"/proc/{process.pid}/maps")
        while library not in maps.read_text(encoding="utf-8"):
            assert process.poll() is None

    status, said = await anyio.to_thread.run_sync(interrupted, process, wait)

    assert "Traceback" not in said
    assert status in {-signal.SIGINT, 130, 1}


async def test_ctrl_c_later_is_quiet_too(world: World, tmp_path: Path) -> None:
    process = started(tmp_path, "ledger", "--store", "1", "--follow", DATABASE_URL=world.service_url)

    def wait() -> None:
        assert process.stderr is not None
        assert b"until Ctrl-C" in process.stderr.readline()

    status, said = await anyio.to_thread.run_sync(interrupted, process, wait)

    assert (130, "Aborted!") == (status, said.strip())


@pytest.mark.slow
@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
async def test_a_ledger_that_is_followed_prints_each_new_row_of_the_item_once_and_on_one_line(
    world: World, tmp_path: Path, form: tuple[str, ...]
) -> None:
    await sell(world, "0.1", "before it follows")
    item = ("--store", "1", "--item", "avcc123")
    process = started(tmp_path, "ledger", *item, "--follow", *form, DATABASE_URL=world.service_url)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        assert b"until Ctrl-C" in await anyio.to_thread.run_sync(process.stderr.readline)
        await sell(world, "0.25", "one")
        first = await anyio.to_thread.run_sync(process.stdout.readline)
        await sell(world, "1", "of another item", item="tom001")
        await sell(world, "0.5", "two")
        second = await anyio.to_thread.run_sync(process.stdout.readline)
        process.send_signal(signal.SIGINT)
        rest, _ = await anyio.to_thread.run_sync(process.communicate)
    finally:
        process.kill()

    if form:
        rows = [json.loads(line) for line in (first, second)]
        shown = [(row["item_id"], str(row["level_version"]), row["source"], row["delta"]) for row in rows]
        assert [("avcc123", "3", "pos_sale", "-0.25"), ("avcc123", "4", "pos_sale", "-0.5")] == shown
    else:
        # What is before them is when it happened, in two words.
        shown = [line.decode().split()[2:] for line in (first, second)]
        assert [["avcc123", "3", "sale", "-0.25", "POS"], ["avcc123", "4", "sale", "-0.5", "POS"]] == shown
    assert b"" == rest


async def test_a_pipe_that_nobody_reads_is_silent(world: World, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = started(tmp_path, "stock", stdout=writer, DATABASE_URL=world.service_url)
    os.close(writer)

    _, errors = await anyio.to_thread.run_sync(process.communicate)

    assert (141, b"") == (process.returncode, errors)


async def test_a_file_that_cannot_be_written_is_no_fault_of_the_database(world: World, tmp_path: Path) -> None:
    process = started(tmp_path, "catalog", "export", "--store", "1", "--output", "no/such.json", DATABASE_URL=world.service_url)

    _, errors = await anyio.to_thread.run_sync(process.communicate)

    assert (1, b"Error: no/such.json: No such file or directory.\n") == (process.returncode, errors)


@pytest.mark.parametrize("missing", ["click", "asyncpg", "sqlalchemy.dialects.postgresql.asyncpg"])
async def test_a_part_that_cannot_be_loaded_is_no_fault_of_the_database(world: World, tmp_path: Path, missing: str) -> None:
    """Before any command is known, when this one is loaded, and in the middle of asking the database."""
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules[{missing!r}] = None\n")
    process = started(tmp_path, "stock", PYTHONPATH=str(tmp_path), DATABASE_URL=world.service_url)

    _, errors = await anyio.to_thread.run_sync(process.communicate)

    reason = f"import of {missing} halted; None in sys.modules"
    said = f"Error: A part of this program cannot be loaded: {reason}. Install it again, with all that it requires.\n"
    assert (1, said) == (process.returncode, errors.decode())


HURRY = "import app.cli.status; app.cli.status.WATCH_SECONDS = 0.1"
CLEARS = b"\x1b[2J"


@pytest.mark.slow
@pytest.mark.parametrize("terminal", ["xterm", "dumb", None])
async def test_a_watch_prints_again_until_ctrl_c_and_clears_only_a_terminal(
    world: World, tmp_path: Path, terminal: str | None
) -> None:
    (tmp_path / "sitecustomize.py").write_text(HURRY)
    reader, writer = os.pipe() if terminal is None else pty.openpty()
    variables = {"PYTHONPATH": str(tmp_path), "MIPOS_CLIENT_SECRET": "s" * 20, "DATABASE_URL": world.service_url}
    process = started(tmp_path, "status", "--watch", stdout=writer, **variables, **({"TERM": terminal} if terminal else {}))
    os.close(writer)

    def read() -> bytes:
        shown = b""
        while shown.count(b"No service has looked yet") < 3:
            part = os.read(reader, 4096)
            assert part, shown
            shown += part
        process.send_signal(signal.SIGINT)
        with process:
            with suppress(OSError):
                while part := os.read(reader, 4096):
                    shown += part
            return shown + (process.stderr.read() if process.stderr else b"")

    shown = await anyio.to_thread.run_sync(read)
    os.close(reader)

    # By what is wrong with the service, and not as interrupted.
    assert 3 == process.returncode, shown
    assert b"Traceback" not in shown
    assert b"Aborted" not in shown
    assert (terminal == "xterm") == (CLEARS in shown)
    assert shown.count(CLEARS) in ((0,) if terminal != "xterm" else range(3, 100))


@pytest.mark.parametrize(
    ("variables", "is_coloured"),
    [({"TERM": "xterm"}, True), ({"TERM": "dumb"}, False), ({"TERM": "xterm", "NO_COLOR": "1"}, False)],
    ids=["terminal", "dumb", "NO_COLOR"],
)
def test_colours_are_for_terminals_that_want_them(tmp_path: Path, variables: dict[str, str], *, is_coloured: bool) -> None:
    ours, theirs = pty.openpty()
    process = started(tmp_path, "status", stdout=theirs, MIPOS_CLIENT_SECRET="s" * 20, **variables)
    os.close(theirs)
    shown = b""
    # An error is how Linux says that nobody writes any more.
    with process, suppress(OSError):
        while part := os.read(ours, 4096):
            shown += part
    os.close(ours)

    assert 4 == process.returncode
    assert b"critical" in shown
    assert is_coloured == (b"\x1b[" in shown)
