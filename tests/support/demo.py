"""`pos-sync dev` as a process, for tests of what it prints and of the documents that tell how to use it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.service import environment, free_port

START_SECONDS = 90


@contextmanager
def developing(data: Path, port: int) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """`pos-sync dev`, once it has told how to go on; and the file of what it prints."""
    with beginning(data, port, free_port()) as (process, log):
        wait_until_told(process, log)
        yield process, log


@contextmanager
def beginning(data: Path, port: int, sandbox_port: int) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """`pos-sync dev` while it starts."""
    log = data.with_suffix(".log")
    # Settings of a real service around it must not matter.
    values = {
        "DATABASE_URL": "postgresql://real:secret@127.0.0.1:1/real",
        "MIPOS_CLIENT_SECRET": "x" * 40,
        "MIPOS_ACCESS_TOKEN": "a-real-token",
        "HOST": "0.0.0.0",
        "PORT": "1",
        "POS_ID": "9",
        "SYNC_EVERY": "1",
    }
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "app", "dev", "--data", str(data), "--port", str(port), "--sandbox-port", str(sandbox_port)],
            env={**environment(), **values},
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=_start_as_a_background_job,  # noqa: PLW1509 - no threads here
        )
    try:
        yield process, log
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        finally:
            process.kill()


def wait_until_told(process: subprocess.Popen[str], log: Path) -> None:
    """Return once it has told how to go on."""
    deadline = time.monotonic() + START_SECONDS
    while "Ctrl-C stops everything" not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def _start_as_a_background_job() -> None:
    """As a script starts one, with Ctrl-C's signal switched off; that of a closed terminal is on, also under nohup."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def run_script(script: str, folder: Path, **values: str) -> subprocess.CompletedProcess[str]:
    """Run shell lines in `folder`, as a person would who has typed `. .data/activate` before."""
    return subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", f". .data/activate\n{script}"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", **values},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
