"""`pos-sync dev`: everything on this machine, from an empty folder to a movement that was sent, verified and applied."""

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import httpx2
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

import app
from app.cataloguing import import_catalog
from app.cli.tables import show_table
from app.receiving.middleware import WEBHOOK_PATH
from app.receiving.sender import DOCUMENTED_MOVEMENT, php_json, signed_headers
from app.serving import free_port
from app.settings import ENV_FILE_VARIABLE, Settings
from app.stock.catalog import read_catalog
from app.stock.quantity import to_plain
from app.storage.embedded import SERVICE_ROLE, EmbeddedPostgres, EmbeddedPostgresError
from app.storage.engine import Database
from app.storage.levels import StockedItem, list_levels
from app.storage.migrating import migrate

SAMPLES = {"1": "store-1.json", "2": "store-2.json"}
"""The sample stores. The second is the documented sync body, to the letter."""
DATABASE = "pos_sync"
READY_SECONDS = 60
STOP_SECONDS = 15


@click.command()
@click.option(
    "--port", type=click.IntRange(1, 65535), default=8080, show_default=True, help="Another is taken if this is in use."
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".data"),
    show_default=True,
    help="Where Postgres keeps its data; delete the folder to start anew.",
)
def command(port: int, data: Path) -> None:
    """Run everything here, on a Postgres of its own, and send a first movement.

    Sets up Postgres in the folder of --data, migrates, imports two sample stores, starts the service, sends the movement of
    the mipOS document to it over HTTP, signed, and shows what it did. Goes on until Ctrl-C. Started again, it goes on with
    the stock that it left. Takes no settings from .env or the environment, so that it cannot touch your real database.

    \b
    Example:  pos-sync dev --port 8081
    """
    # SIGTERM ends it as Ctrl-C does, so that nothing is left behind either way.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        postgres = EmbeddedPostgres(data)
    except EmbeddedPostgresError as error:
        raise click.ClickException(str(error)) from error
    service: subprocess.Popen[bytes] | None = None
    try:
        _step("Postgres", "starting ...")
        postgres.start()
        settings = _settings(postgres, data, port=port)
        env_file = data / "dev.env"
        owner = Database(Settings.model_validate({**_secretly(settings), "database_url": postgres.url(DATABASE)}).sqlalchemy_url)
        asyncio.run(_prepare(owner))
        _step("Database", f"migrated, with the sample stores {' and '.join(SAMPLES)}")
        _write_env_file(env_file, settings)
        service = _start_service(env_file)
        base_url = f"http://127.0.0.1:{settings.port}"
        _wait_until_ready(base_url, service)
        _step("Service", f"ready at {base_url}{WEBHOOK_PATH}")
        asyncio.run(_demonstrate(owner, settings, base_url))
        _show_next(env_file, base_url)
        service.wait()
        raise click.ClickException(f"The service ended by itself, with status {service.returncode}.")
    except EmbeddedPostgresError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        click.echo("\nStopping ...")
    finally:
        # A second Ctrl-C must not leave a process behind.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _stop(service)
        postgres.stop()
    click.echo("Stopped. The stock stays as it is; `make run` goes on with it.")


def _step(what: str, text: str) -> None:
    click.echo(f"  {what:<10}{text}")


def _settings(postgres: EmbeddedPostgres, data: Path, *, port: int) -> Settings:
    """The development settings: a secret of this folder's own, made once, and a port that is free."""
    secret_file = data / "client-secret"
    if not secret_file.exists():
        secret_file.touch(mode=0o600)
        secret_file.write_text(secrets.token_hex(20))
    return Settings.model_validate(
        {
            "database_url": postgres.url(DATABASE, user=SERVICE_ROLE),
            "mipos_client_secret": secret_file.read_text(),
            "port": port if _is_free(port) else free_port(),
            "log_format": "console",
        }
    )


def _secretly(settings: Settings) -> dict[str, Any]:
    """Every setting with its value, secrets in the clear: only for handing on."""
    return {
        name: value.get_secret_value() if hasattr(value, "get_secret_value") else value
        for name, value in settings.model_dump().items()
        if value is not None
    }


def _is_free(port: int) -> bool:
    try:
        httpx2.get(f"http://127.0.0.1:{port}/livez", timeout=1)
    except httpx2.ConnectError:
        return True
    except httpx2.HTTPError:
        return False
    return False


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
        catalog = read_catalog((Path(app.__file__).parent / "samples" / sample).read_text(encoding="utf-8"))
        await import_catalog(engine, store_id, catalog, timezone="UTC")
    await engine.dispose()


def _start_service(env_file: Path) -> subprocess.Popen[bytes]:
    names = {name.upper() for name in Settings.model_fields}
    environment = {name: value for name, value in os.environ.items() if name.upper() not in names}
    environment[ENV_FILE_VARIABLE] = str(env_file.resolve())
    return subprocess.Popen([sys.executable, "-m", "app", "serve"], env=environment)


def _wait_until_ready(base_url: str, service: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and service.poll() is None:
        try:
            if httpx2.get(f"{base_url}/readyz", timeout=1).status_code == httpx2.codes.OK:
                return
        except httpx2.HTTPError:
            pass
        time.sleep(0.05)
    raise click.ClickException("The service did not become ready; its log lines above say why.")


async def _demonstrate(owner: Database, settings: Settings, base_url: str) -> None:
    """Send the documented movement, and show the stock before and after."""
    engine = owner.create_engine()
    store_id, item_id = str(DOCUMENTED_MOVEMENT["store_id"]), str(DOCUMENTED_MOVEMENT["external_id"])
    before = await _levels(engine, store_id)
    body = php_json(DOCUMENTED_MOVEMENT)
    headers = signed_headers(body, settings.mipos_client_secret.get_secret_value().encode("ascii"))
    async with httpx2.AsyncClient() as client:
        answer = await client.post(f"{base_url}{WEBHOOK_PATH}", content=body, headers=headers, timeout=30)
    after = await _levels(engine, store_id)
    await engine.dispose()
    click.echo()
    click.echo(f"Sent the movement of the mipOS document, signed: remove {DOCUMENTED_MOVEMENT['quantity']} of {item_id}.")
    click.echo(f"Answer: {answer.status_code} {answer.reason_phrase}. The stock of store {store_id}:")
    click.echo()
    show_table(
        ["item", "name", "before", "after"],
        [[level.item_id, level.name, to_plain(before[key].quantity), to_plain(level.quantity)] for key, level in after.items()],
        right=(2, 3),
    )
    if before[item_id].quantity == after[item_id].quantity:
        click.echo("\nNothing moved: this movement was applied in an earlier run, and each is applied exactly once.")


async def _levels(engine: AsyncEngine, store_id: str) -> dict[str, StockedItem]:
    async with engine.connect() as connection:
        return {level.item_id: level for level in await list_levels(connection, store_id=store_id)}


def _show_next(env_file: Path, base_url: str) -> None:
    pos_sync = f"{_shown_path(Path(sys.executable).parent / 'pos-sync')} --env-file {_shown_path(env_file)}"
    click.echo()
    click.echo("Send another, from a second terminal:")
    click.echo(f"  {pos_sync} send --item avcc123 --remove 0.5 --current-stock 11.94")
    click.echo(f"See the stock:   {pos_sync} stock")
    click.echo(f"See the service: {base_url}/readyz  {base_url}/metrics  {base_url}/openapi.json")
    click.echo("Ctrl-C stops everything. Each delivery is a line below.")
    click.echo()


def _shown_path(path: Path) -> str:
    """As short as it works from here."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow the link out of .venv
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(absolute)


def _stop(service: subprocess.Popen[bytes] | None) -> None:
    if service is None or service.poll() is not None:
        return
    service.terminate()
    try:
        service.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        service.kill()
        service.wait()
