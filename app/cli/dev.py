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
from pathlib import Path
from typing import Any

import click
import httpx2
from sqlalchemy import make_url, text

import app
from app.catalog_body import read_catalog
from app.cli.demonstrating import demonstrate
from app.operator.catalog import import_catalog
from app.settings import ENV_FILE_VARIABLE, Settings
from app.stock.rules import Rules
from app.storage.catalog import change_store
from app.storage.embedded import SERVICE_ROLE, EmbeddedPostgres, EmbeddedPostgresError
from app.storage.engine import Database
from app.storage.migrating import migrate

SAMPLES = {"1": "store-1.json", "2": "store-2.json"}
"""The sample stores. The second is the documented sync body, to the letter."""
SAMPLE_FOLDER = Path(app.__file__).parent / "samples"
DATABASE = "pos_sync"
_PR_SET_PDEATHSIG = 1
READY_SECONDS = 60
STOP_SECONDS = 15


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
    help="Where Postgres keeps its data; delete the folder to start anew.",
)
@click.option("--stop", "is_to_stop", is_flag=True, help="Only stop a Postgres that was left behind, after a kill -9.")
def command(port: int, sandbox_port: int, data: Path, *, is_to_stop: bool) -> None:
    """Run everything here, on a Postgres of its own, and send a first movement.

    Sets up Postgres in the folder of --data, migrates, imports two sample stores, and starts a stand-in mipOS (the sandbox)
    and the service, which registers its webhook there. Then an inventory system in the sandbox reports the movement of the
    mipOS document; the sandbox signs it and calls the webhook; and you see what it did. Goes on until Ctrl-C. Started again,
    it goes on with the stock that it left. Takes no settings from .env or the environment, so that it cannot touch your
    real database or your real mipOS account.

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
        postgres = EmbeddedPostgres(data)
    except EmbeddedPostgresError as error:
        raise click.ClickException(str(error)) from error
    if is_to_stop:
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


def _run(postgres: EmbeddedPostgres, data: Path, *, port: int, sandbox_port: int) -> None:
    processes: list[subprocess.Popen[bytes]] = []
    try:
        _step("Postgres", "starting ...")
        postgres.start()
        owner = Database(make_url(postgres.url(DATABASE)).set(drivername="postgresql+asyncpg"))
        asyncio.run(_prepare(owner))
        _step("Database", f"migrated, with the sample stores {' and '.join(SAMPLES)}")
        service_port, sandbox_port = _free(port), _free(sandbox_port)
        if service_port != port:
            _step("Port", f"{port} is in use; taking {service_port}")
        settings = _settings(postgres, data, port=service_port, sandbox_port=sandbox_port)
        env_file = data / "dev.env"
        _write_env_file(env_file, settings)
        processes.append(_start_sandbox(settings, data, sandbox_port))
        _wait_for(f"{settings.mipos_base_url}/sandbox/received", processes[-1])
        _step("Sandbox", f"a stand-in mipOS at {settings.mipos_base_url}")
        processes.append(_start(["serve"], {ENV_FILE_VARIABLE: str(env_file.resolve())}))
        ready = _wait_for(f"{settings.public_url}/readyz", processes[-1], until=_is_registered)
        _step("Service", f"registered at the sandbox: {ready['registration']['url']}")
        asyncio.run(demonstrate(owner, settings))
        _show_next(env_file, settings)
        processes[-1].wait()
        raise click.ClickException(f"The service ended by itself, with status {processes[-1].returncode}.")
    except EmbeddedPostgresError as error:
        raise click.ClickException(str(error)) from error
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


def _step(what: str, text: str) -> None:
    click.echo(f"  {what:<10}{text}")


def _settings(postgres: EmbeddedPostgres, data: Path, *, port: int, sandbox_port: int) -> Settings:
    """The development settings, with secrets of this folder's own."""
    return Settings.model_validate(
        {
            "database_url": postgres.url(DATABASE, user=SERVICE_ROLE),
            "mipos_client_secret": _secret(data / "client-secret"),
            "pos_api_key": _secret(data / "pos-api-key"),
            "mipos_base_url": f"http://127.0.0.1:{sandbox_port}",
            "mipos_client_id": "sandbox-client",
            "mipos_email": "pos@example.com",
            "mipos_password": "sandbox",
            "public_url": f"http://127.0.0.1:{port}",
            "port": port,
            "log_format": "console",
        }
    )


def _secret(file: Path) -> str:
    """The secret in `file`, made once."""
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(secrets.token_hex(20))
    return file.read_text()


def _secretly(settings: Settings) -> dict[str, Any]:
    """Every setting with its value, secrets in the clear: only for handing on."""
    return {
        name: value.get_secret_value() if hasattr(value, "get_secret_value") else value
        for name, value in settings.model_dump().items()
        if value is not None
    }


def _free(port: int) -> int:
    """`port`, or another where something answers there already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _write_env_file(path: Path, settings: Settings) -> None:
    """What a second terminal needs: `pos-sync --env-file .data/dev.env stock`."""
    path.touch(mode=0o600)
    values = _secretly(settings)
    path.write_text("".join(f"{name.upper()}='{getattr(value, 'value', value)}'\n" for name, value in values.items()))


async def _prepare(owner: Database) -> None:
    """Database, least-rights role, schema, samples; all of it only where it is missing."""
    cluster = Database(owner.url.set(database="postgres")).create_engine()
    async with cluster.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        if not await connection.scalar(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": SERVICE_ROLE}):
            await connection.execute(text(f"CREATE ROLE {SERVICE_ROLE} LOGIN"))
        if not await connection.scalar(text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": DATABASE}):
            await connection.execute(text(f"CREATE DATABASE {DATABASE}"))
    await cluster.dispose()
    engine = owner.create_engine()
    await migrate(engine, grant_to=SERVICE_ROLE)
    for store_id, sample in SAMPLES.items():
        catalog = read_catalog((SAMPLE_FOLDER / sample).read_text(encoding="utf-8"))
        await import_catalog(engine, store_id, catalog, rules=Rules())
        async with engine.begin() as connection:
            await change_store(connection, store_id, {"mipos_store_id": store_id})
    await engine.dispose()


def _start_sandbox(settings: Settings, data: Path, port: int) -> subprocess.Popen[bytes]:
    catalogs = [part for store_id, sample in SAMPLES.items() for part in ("--catalog", store_id, str(SAMPLE_FOLDER / sample))]
    state = str((data / "sandbox.json").resolve())
    secret = settings.mipos_client_secret.get_secret_value()
    return _start(["sandbox", "--port", str(port), "--state", state, *catalogs], {"MIPOS_CLIENT_SECRET": secret})


def _start(arguments: list[str], variables: dict[str, str]) -> subprocess.Popen[bytes]:
    """A command of ours as a process of its own, with no settings but `variables`."""
    names = {name.upper() for name in Settings.model_fields}
    environment = {name: value for name, value in os.environ.items() if name.upper() not in names}
    return subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "app", *arguments],
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


def _wait_for(
    url: str, process: subprocess.Popen[bytes], *, until: Callable[[dict[str, Any]], bool] = lambda _: True
) -> dict[str, Any]:
    """What `url` answers, as soon as it answers 200 and `until` is content with it."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            answer = httpx2.get(url, timeout=1, trust_env=False)
            if answer.status_code == httpx2.codes.OK and until(answer.json()):
                return dict(answer.json())
        except httpx2.HTTPError:
            pass
        time.sleep(0.05)
    raise click.ClickException(f"{url} did not become ready; the log lines above say why.")


def _is_registered(ready: dict[str, Any]) -> bool:
    return bool(ready["registration"]["state"] == "registered")


def _show_next(env_file: Path, settings: Settings) -> None:
    program = _shown_path(Path(sys.executable).parent / "pos-sync")
    pos_sync = f"{program} --env-file {_shown_path(env_file)}"
    click.echo()
    click.echo("Let the inventory system report another, from a second terminal:")
    click.echo(f"  {program} sandbox move --url {settings.mipos_base_url} --item avcc123 --remove 0.5")
    click.echo(f"Sign and send one yourself:  {pos_sync} send --item avcc123 --remove 0.5 --current-stock 11.94")
    click.echo(f"Record a sale of the POS:    {pos_sync} movement --store 1 --item avcc123 --sale 0.25")
    click.echo(f"See the stock, the state:    {pos_sync} stock | status | outbox list --all | drift --all | doctor")
    click.echo(f"See the service:             {settings.public_url}/readyz  {settings.public_url}/metrics")
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
