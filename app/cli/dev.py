"""`pos-sync dev`: everything on this machine, from an empty folder to a movement that was sent, verified and applied."""

import asyncio
import ctypes
import fcntl
import os
import secrets
import shlex
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
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from app.cli.demo import demonstrate
from app.cli.dev_setup import (
    SAMPLE_FOLDER,
    SAMPLES,
    OwnPostgres,
    Postgres,
    client_secret,
    database_of,
    make_settings,
    prepare,
    secret,
    write_files,
)
from app.cli.page import new_link
from app.cli.sandbox import CLIENT_SECRET, RUN_ID
from app.page.visitor import Role
from app.settings import ENV_FILE_VARIABLE, Settings
from app.storage.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError
from app.storage.engine import reason_of
from app.storage.migrations import WrongEncodingError
from app.storage.page_access import Grant

_PR_SET_PDEATHSIG = 1
MAX_PORTS = 5
"""How many ports are tried where another program takes each of them at the same moment"""
READY_SECONDS = 60
STOP_SECONDS = 15
FOLLOW_SECONDS = 0.1
VISITOR = "dev"
"""The name behind the link to the page"""
NEXT = (
    "pos-sync sandbox move --item avcc123 --remove 0.5    # the inventory system reports a movement",
    "pos-sync movement --store 1 --item avcc123 --sale 0.25    # the POS sells",
    "pos-sync stock",
    "pos-sync status    # status 3",
    "pos-sync outbox list --all",
    "pos-sync drift --all",
)
"""What is shown to go on with; a test runs each line."""
_LISTENING = "listening address=127.0.0.1:{} "
"""What `serve` writes once it has the port"""
_Running = TypeVar("_Running")


class _PortTaken(Exception):
    """Another program has taken the port since it was looked at."""


@click.command()
@click.option(
    "--port", type=click.IntRange(1, 65535), default=8080, show_default=True, help="Another is taken if this is in use."
)
@click.option("--sandbox-port", type=click.IntRange(1, 65535), default=8090, show_default=True, help="Likewise, for the sandbox.")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".data"),
    show_default=True,
    help="Where the private Postgres and the secrets are; delete the folder to start from the beginning.",
)
@click.option(
    "--postgres",
    "address",
    metavar="URL",
    envvar="POS_SYNC_POSTGRES",
    show_envvar=True,
    help="A server of yours, as its superuser.",
)
@click.option("--stop", "is_to_stop", is_flag=True, help="Only stop a Postgres that was left behind, after a kill -9.")
def command(port: int, sandbox_port: int, data: Path, address: str | None, *, is_to_stop: bool) -> None:
    """Run everything here, on a Postgres of its own, and send a first movement.

    Sets up Postgres in the folder of --data, migrates, imports two sample stores, and starts a stand-in mipOS (the sandbox)
    and the service, which registers its webhook there. Then an inventory system in the sandbox reports the movement of the
    mipOS document; the sandbox signs it and calls the webhook; and you see what it did. It runs until Ctrl-C. The next
    start goes on with the same stock. It takes no settings from .env or the environment, so that it cannot touch your
    real database or your real mipOS account. With --postgres it uses a database and a role of its own on your server,
    named pos_sync_dev_ and a number for the folder; they stay there.

    \b
    Example:  pos-sync dev --port 8081
    """
    # SIGTERM and a closed terminal end it as Ctrl-C does, so that nothing is left behind either way. SIGINT is named too:
    # a script's background job starts with SIGINT ignored. Under nohup a closed terminal does not end it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    try:
        postgres: Postgres = OwnPostgres(address, data) if address and not is_to_stop else EmbeddedPostgres(data)
    except EmbeddedPostgresError as error:
        raise click.ClickException(str(error)) from error
    except ArgumentError as error:
        raise click.BadParameter(
            "is not an address such as postgresql://user:password@host/postgres.", param_hint="--postgres"
        ) from error
    if is_to_stop:
        if data.exists():
            postgres.stop()
        return
    data.mkdir(parents=True, exist_ok=True)
    with (data / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise click.ClickException(
                f"It runs already on the folder {data}: see {data / 'dev.env'} for its addresses."
            ) from error
        _run(postgres, data, port=port, sandbox_port=sandbox_port)


def _run(postgres: Postgres, data: Path, *, port: int, sandbox_port: int) -> None:
    processes: list[subprocess.Popen[bytes]] = []
    log = data / "service.log"
    try:
        _step("Postgres", "starting ...")
        postgres.start()
        asyncio.run(prepare(postgres, secret(data / "database-password")))
        _step("Database", f"migrated, with the sample stores {' and '.join(SAMPLES)}")
        sandbox_port = _on_free_port(sandbox_port, lambda free: _run_sandbox(data, free, processes))
        _step("Sandbox", f"a stand-in mipOS at http://127.0.0.1:{sandbox_port}")

        def run_service(free: int) -> tuple[Path, Settings]:
            if free != port:
                _step("Port", f"{port} is in use; taking {free}")
            settings = make_settings(postgres, data, port=free, sandbox_port=sandbox_port)
            return _run_service(settings, data, processes), settings

        activate, settings = _on_free_port(port, run_service)
        _step("Service", f"registered at the sandbox: {settings.public_url}/webhooks/stock")
        asyncio.run(demonstrate(database_of(postgres), settings))
        link = asyncio.run(new_link(database_of(postgres), settings, Grant(VISITOR, Role.OPERATOR)))
        _show_next(activate, settings, link)
        _follow(log, processes[-1])
        raise click.ClickException(f"The service ended by itself, with status {processes[-1].returncode}.")
    except (EmbeddedPostgresError, WrongEncodingError) as error:
        raise click.ClickException(str(error)) from error
    except (OSError, TimeoutError, SQLAlchemyError) as error:
        reason = reason_of(getattr(error, "orig", None) or error).partition("\n")[0]
        raise click.ClickException(f"Postgres cannot be used: {reason}.") from error
    except KeyboardInterrupt:
        click.echo("\nStopping ...")
    finally:
        # A second Ctrl-C must not leave a process behind.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for process in reversed(processes):
            _stop(process)
        postgres.stop()
    click.echo("Stopped. The stock stays as it is; the next start goes on with it.")


def _follow(log: Path, process: subprocess.Popen[bytes]) -> None:
    """Print what the service logs from now on, until it ends."""
    with log.open(encoding="utf-8", errors="replace") as lines:
        lines.seek(0, os.SEEK_END)
        while process.poll() is None:
            click.echo(lines.read(), nl=False)
            time.sleep(FOLLOW_SECONDS)
        click.echo(lines.read(), nl=False)


def _step(what: str, text: str) -> None:
    click.echo(f"  {what:<10}{text}")


def _free(port: int) -> int:
    """`port`, or another where something answers there already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _on_free_port(wanted: int, run: Callable[[int], _Running]) -> _Running:
    """What `run` makes of `wanted`, or of another port where that is in use."""
    for _ in range(MAX_PORTS):
        with suppress(_PortTaken):
            return run(_free(wanted))
    raise click.ClickException("Other programs take each port that is free, at the same moment. Start it again.")


def _run_sandbox(data: Path, port: int, processes: list[subprocess.Popen[bytes]]) -> int:
    """Start it, and return its port once it answers there."""
    catalogs = [part for store_id, sample in SAMPLES.items() for part in ("--catalog", store_id, str(SAMPLE_FOLDER / sample))]
    arguments = ["sandbox", "--port", str(port), "--state", str((data / "sandbox.json").resolve()), *catalogs]
    run_id, log = secrets.token_hex(8), data / "sandbox.log"
    processes.append(_start(arguments, {CLIENT_SECRET: client_secret(data), RUN_ID: run_id}, log))
    # What else may listen there cannot know the id.
    _wait_for("/sandbox/received", port, processes[-1], log, until=lambda told: told.get("run_id") == run_id)
    return port


def _run_service(settings: Settings, data: Path, processes: list[subprocess.Popen[bytes]]) -> Path:
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


def _wait_for(  # noqa: PLR0913 - what it asks, and of whom
    path: str,
    port: int,
    process: subprocess.Popen[bytes],
    log: Path,
    *,
    until: Callable[[dict[str, Any]], bool] = lambda _: True,
    key: str | None = None,
) -> None:
    """Return as soon as `process` answers 200 for `path` and `until` is content with what it says.

    With a `key` it is asked only when it has written into its log that it listens: no other program gets the key, or is believed.

    Raises:
        _PortTaken: the process has ended, since another one has the port.
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
        raise _PortTaken
    click.echo(log.read_text(encoding="utf-8", errors="replace"), err=True)
    raise click.ClickException(f"{url} did not become ready; the log lines above say why.")


def _is_registered_at(address: str) -> Callable[[dict[str, Any]], bool]:
    """A registration that an earlier run left, with another port, does not count."""

    def is_so(ready: dict[str, Any]) -> bool:
        registration = ready["registration"]
        return bool(registration["state"] == "registered" and registration["url"].startswith(address))

    return is_so


def _show_next(activate: Path, settings: Settings, link: str) -> None:
    click.echo()
    click.echo("The page shows it all. This link logs in once, within 15 minutes; then `pos-sync page link` makes another:")
    click.echo(f"  {link}")
    click.echo()
    click.echo("Go on in a second terminal. The first line finds the commands and this service:")
    click.echo(f"  . {_shown_path(activate)}")
    for line in NEXT:
        click.echo(f"  {line}")
    click.echo(f"The service is at {settings.public_url}: /docs, /readyz, /metrics.")
    click.echo("Ctrl-C stops everything. Each delivery is a line below.")
    click.echo()


def _shown_path(path: Path) -> str:
    """As short as it works from here."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow the link out of .venv
    shown = str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(absolute)
    return shlex.quote(shown)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
