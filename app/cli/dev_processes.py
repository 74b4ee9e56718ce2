"""The processes of `pos-sync dev`: each on a port of its own, known as ours whatever else listens there, stopped at the end."""

import ctypes
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import click
import httpx2

from app.cli.dev_setup import SAMPLE_FOLDER, SAMPLES, client_secret, write_files
from app.cli.sandbox import CLIENT_SECRET, RUN_ID
from app.settings import ENV_FILE_VARIABLE, Settings

_PR_SET_PDEATHSIG = 1
MAX_PORTS = 5
"""How many ports are tried where another program takes each of them at the same moment"""
READY_SECONDS = 60
STOP_SECONDS = 15
_LISTENING = "listening address=127.0.0.1:{} "
"""What `serve` writes once it has the port"""
_Running = TypeVar("_Running")


class PortTaken(Exception):
    """Another program has taken the port since it was looked at."""


def on_free_port(wanted: int, run: Callable[[int], _Running]) -> _Running:
    """What `run` makes of `wanted`, or of another port where that is in use."""
    for _ in range(MAX_PORTS):
        with suppress(PortTaken):
            return run(_free(wanted))
    raise click.ClickException("Other programs take each port that is free, at the same moment. Start it again.")


def _free(port: int) -> int:
    """`port`, or another where something answers there already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_sandbox(data: Path, port: int, processes: list[subprocess.Popen[bytes]]) -> int:
    """Start it, and return its port once it answers there."""
    catalogs = [part for store_id, sample in SAMPLES.items() for part in ("--catalog", store_id, str(SAMPLE_FOLDER / sample))]
    arguments = ["sandbox", "--port", str(port), "--state", str((data / "sandbox.json").resolve()), *catalogs]
    run_id, log = secrets.token_hex(8), data / "sandbox.log"
    processes.append(_start(arguments, {CLIENT_SECRET: client_secret(data), RUN_ID: run_id}, log))
    # What else may listen there cannot know the id.
    _wait_for("/sandbox/received", port, processes[-1], log, until=lambda told: told.get("run_id") == run_id)
    return port


def run_service(settings: Settings, data: Path, processes: list[subprocess.Popen[bytes]]) -> Path:
    """Start it, and return what finds it from a second terminal, once it is registered."""
    env_file, activate = write_files(data, settings)
    log = data / "service.log"
    processes.append(_start(["serve"], {ENV_FILE_VARIABLE: str(env_file.resolve())}, log))
    assert settings.pos_api_key is not None
    key = settings.pos_api_key.get_secret_value()
    is_registered = _is_registered_at(f"{settings.public_url}/")
    _wait_for("/pos/status", settings.port, processes[-1], log, until=is_registered, key=key)
    return activate


def _start(arguments: list[str], variables: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a command of ours as a process, with no settings but `variables`. It writes to `log`, not into our own output."""
    names = {name.upper() for name in Settings.model_fields}
    environment = {n: v for n, v in os.environ.items() if n.upper() not in names and not n.startswith(("POS_SYNC_", "PG"))}
    log.touch(mode=0o600)
    with log.open("wb") as output:
        return subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "app", *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            # All of it is on this machine: no proxy of the environment may come in between.
            env={**environment, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", **variables},
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - one system call, and there are no threads here
        )


def _end_with_parent() -> None:
    """Where the system can (Linux): get SIGTERM when the parent is gone, so that a kill -9 of it leaves no service behind."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    except (AttributeError, OSError):
        return


def _wait_for(  # noqa: PLR0913 - what is asked, and where
    path: str,
    port: int,
    process: subprocess.Popen[bytes],
    log: Path,
    *,
    until: Callable[[dict[str, Any]], bool],
    key: str | None = None,
) -> None:
    """Return as soon as `process` answers 200 for `path` and `until` is content with what it says.

    With a `key` it is asked only when it has written into its log that it listens: no other program gets the key, or is believed.

    Raises:
        PortTaken: the process has ended, since another one has the port.
    """
    url = f"http://127.0.0.1:{port}{path}"
    deadline = time.monotonic() + READY_SECONDS
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    while time.monotonic() < deadline and process.poll() is None:
        if key is None or _LISTENING.format(port) in log.read_text(encoding="utf-8", errors="replace"):
            try:
                answer = httpx2.get(url, timeout=1, trust_env=False, headers=headers)
                if answer.status_code == httpx2.codes.OK and until(answer.json()):
                    return
            except (httpx2.HTTPError, ValueError):
                pass
        time.sleep(0.05)
    if process.poll() is not None and _free(port) != port:
        raise PortTaken
    click.echo(log.read_text(encoding="utf-8", errors="replace"), err=True)
    raise click.ClickException(f"{url} did not become ready; the log lines above say why.")


def _is_registered_at(address: str) -> Callable[[dict[str, Any]], bool]:
    """A registration that an earlier run left, with another port, does not count."""

    def is_so(ready: dict[str, Any]) -> bool:
        registration = ready["registration"]
        return bool(registration["state"] == "registered" and registration["url"].startswith(address))

    return is_so


def stop(process: subprocess.Popen[bytes]) -> None:
    """Have it end, and wait until it has."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
