"""`pos-sync dev`: everything on this machine, from an empty folder to a movement that was sent, verified and applied."""

import asyncio
import fcntl
import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

import click
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from app.cli.demo import demonstrate
from app.cli.dev_processes import on_free_port, run_sandbox, run_service, stop
from app.cli.dev_setup import (
    SAMPLES,
    OwnPostgres,
    Postgres,
    database_of,
    make_settings,
    prepare,
    secret,
)
from app.cli.page import new_link
from app.page.visitor import Role
from app.settings import Settings
from app.storage.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError
from app.storage.engine import reason_of
from app.storage.migrations import WrongEncodingError
from app.storage.page_access import Grant

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
        sandbox_port = on_free_port(sandbox_port, lambda free: run_sandbox(data, free, processes))
        _step("Sandbox", f"a stand-in mipOS at http://127.0.0.1:{sandbox_port}")

        def serve(free: int) -> tuple[Path, Settings]:
            if free != port:
                _step("Port", f"{port} is in use; taking {free}")
            settings = make_settings(postgres, data, port=free, sandbox_port=sandbox_port)
            return run_service(settings, data, processes), settings

        activate, settings = on_free_port(port, serve)
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
            stop(process)
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
