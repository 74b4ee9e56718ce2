"""The commands around the service: `pos-sync serve`, `migrate`, `rules`, `register`, `status` and `doctor`."""

import os
import sys
from datetime import UTC, datetime
from typing import Any

import click
from alembic.util import CommandError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.cli.database import with_database
from app.cli.output import document_of, show_json, show_table, to_shown
from app.cli.readiness import wait_until_ready
from app.doctor import Check, Verdict, examine
from app.mipos.wiring import registrar, token_account, why_not_registering
from app.operations.readiness import describe_registration
from app.scope import WEBHOOK_PATH
from app.settings import Settings, load_database_settings, load_settings
from app.stock.rules import Rules, differing
from app.storage import syncs
from app.storage.catalog import list_stores
from app.storage.durability import read_standbys
from app.storage.levels import summarise
from app.storage.migrations import OldReplicasError, SchemaState, TablesInUseError, WrongEncodingError, migrate, read_schema_state
from app.storage.mipos_account import STOCK_WEBHOOK, Registration, RegistrationState, read_registration, read_token
from app.storage.rules import read_rules, replace_rules
from app.storage.schema_move import MissingRights
from app.storage.turns import TurnNotGiven

ZONES_OF_THEIR_OWN = "0007"
"""The revision from which a store may have no time zone of its own."""


@click.command()
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Worker processes.")
@click.option("--host", help="The address to listen on, instead of the setting HOST.")
@click.option("--port", type=click.IntRange(0, 65535), help="The port to listen on, instead of the setting PORT.")
def serve_command(workers: int, host: str | None, port: int | None) -> None:
    """Run the service for production.

    Needs DATABASE_URL and MIPOS_CLIENT_SECRET, and a schema that `pos-sync migrate` has brought to head. On SIGTERM it
    commits and answers all received deliveries, then ends with status 0.

    \b
    Example:  pos-sync serve --workers 2
    """
    # Through the environment, since each worker reads the settings itself.
    if host is not None:
        os.environ["HOST"] = host
    if port is not None:
        os.environ["PORT"] = str(port)
    settings = load_settings()
    # Here and not above: the other commands need no web server.
    from app.server.run import CannotListen, SchemaNotAtHead, serve  # noqa: PLC0415

    try:
        sys.exit(serve(settings, workers=workers))
    except (SchemaNotAtHead, CannotListen) as error:
        raise click.ClickException(str(error)) from error


@click.command()
@click.option("--grant-to", metavar="ROLE", help="An existing database role that gets the rights that the service needs.")
@click.option("--owner", metavar="ROLE", help="An existing database role that becomes the owner of the schema and all in it.")
@click.option("--force", "is_forced", is_flag=True, help="Migrate though replicas run that cannot work with the new schema.")
@click.option("--wait", "only_waits", is_flag=True, help="Change nothing: wait until another one has migrated.")
@click.option("--timeout", "seconds", type=click.FloatRange(0), default=600, show_default=True, help="Of --wait, in seconds.")
def migrate_command(grant_to: str | None, owner: str | None, seconds: float, *, is_forced: bool, only_waits: bool) -> None:
    """Bring the database schema to the newest revision; safe when several start at once.

    Needs DATABASE_URL only, as a role that may create a schema; connect to Postgres itself, not through a pooler. The service
    should run as another role: --grant-to gives it just the rights that it needs. It may read the ledger, and write it by
    calling one function.

    A schema that a newer version has made is left as it is, with status 0, where this version can work with it. Where replicas
    run that cannot work with the new schema, it waits 30 seconds for them to stop, and ends with 1.

    With --wait it needs the rights of the service only. It ends with status 0 when this version can run with the schema, and
    with status 1 if that takes longer than --timeout.

    \b
    Example:  pos-sync migrate --grant-to pos_sync
    """
    settings = load_database_settings()
    if only_waits:
        if grant_to is not None or owner is not None or is_forced:
            raise click.UsageError("--wait changes nothing, so it does not go with --grant-to, --owner or --force.")
        wait_until_ready(settings, seconds=seconds)
        click.echo("This version can run with the schema.")
        return

    async def work(engine: AsyncEngine) -> tuple[SchemaState, list[str]]:
        async with engine.connect() as connection:
            before = (await read_schema_state(connection)).revision
        reached = await migrate(
            engine,
            grant_to=grant_to,
            owner=owner,
            is_forced=is_forced,
            on_wait=lambda what: click.echo(f"Waiting for {what} ..."),
        )
        async with engine.connect() as connection:
            stores = await list_stores(connection)
        is_news = before is not None and before < ZONES_OF_THEIR_OWN
        return reached, [store.store_id for store in stores if store.timezone is None and is_news]

    try:
        reached, zoneless = with_database(settings, work, warns=False)
    except (CommandError, MissingRights, OldReplicasError, TablesInUseError, TurnNotGiven, WrongEncodingError) as error:
        raise click.ClickException(str(error)) from error
    newer = ": a newer version has made it, and this one can work with it" if reached.is_newer else ""
    click.echo(f"The schema is at revision {reached.revision}{newer}.")
    if zoneless:
        click.echo(
            f"These stores have no time zone of their own now, since UTC was the default before, and follow TIMEZONE: "
            f"{', '.join(zoneless)}. A zone of its own: pos-sync store set STORE --timezone ZONE"
        )


@click.command()
@click.option("--record", "is_recorded", is_flag=True, help="Record all four rules; one that is not set here gets its default.")
def rules_command(*, is_recorded: bool) -> None:
    """Show the rules that decide what becomes of a movement: POS_ID, NEGATIVE_STOCK, REPORTED_STOCK and TIMEZONE.

    The service records them in the database when it first starts. From then on the recorded ones count for every replica, every
    command and the SQL function. So to change one, change the setting, and run this with --record and the same settings.

    \b
    Example:  NEGATIVE_STOCK=refuse pos-sync rules --record
    """
    settings = load_database_settings()

    async def work(engine: AsyncEngine) -> Rules | None:
        async with engine.begin() as connection:
            if is_recorded:
                await replace_rules(connection, settings.rules)
            return await read_rules(connection)

    recorded = with_database(settings, work, warns=False)
    names = list(Rules.__dataclass_fields__)
    rows = [[name.upper(), _rule_text(recorded, name), _rule_text(settings.rules, name)] for name in names]
    show_table(["rule", "recorded", "here"], rows)
    if recorded is None:
        click.echo("None are recorded yet: the service records its own when it first starts.")
    elif differing(settings.rules, recorded):
        click.echo("They differ, and the recorded ones count. To record those from here: pos-sync rules --record")


def _rule_text(rules: Rules | None, name: str) -> str:
    value = None if rules is None else getattr(rules, name)
    return "-" if value is None else str(value)


@click.command()
def register_command() -> None:
    """Register the webhook at mipOS now, and print what mipOS says.

    Needs PUBLIC_URL and a mipOS account in the settings. Ends with status 0 if the webhook is registered, 1 if mipOS
    refuses it (a person has to act), 3 if mipOS cannot be reached (try again later).

    \b
    Example:  pos-sync register
    """
    settings = load_settings().model_copy(update={"mipos_register_on_startup": True})
    why_not = why_not_registering(settings)
    if why_not is not None:
        raise click.UsageError(f"Cannot register: {why_not}.")

    async def work(engine: AsyncEngine) -> Registration:
        async with registrar(settings, engine, webhook_path=WEBHOOK_PATH) as it:
            return await it.register_now()

    registration = with_database(settings, work)
    click.echo(f"{registration.url}\nmipOS says: {registration.words}")
    sys.exit({RegistrationState.REGISTERED: 0, RegistrationState.FAILED: 1, RegistrationState.PENDING: 3}[registration.state])


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def status_command(*, as_json: bool) -> None:
    """Show the state: schema, registration at mipOS, token, stock, refused deliveries, synchronisations.

    \b
    Example:  pos-sync status
    """
    settings = load_settings()

    async def work(engine: AsyncEngine) -> dict[str, Any]:
        async with engine.connect() as connection:
            return await _status(connection, settings)

    status = with_database(settings, work)
    if as_json:
        show_json(status)
        return
    width = max(len(name) for name in status)
    for name, value in status.items():
        if isinstance(value, list):
            continue
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        click.echo(f"{name.replace('_', ' '):<{width}}  {'-' if text is None else text}")
    for run in status.get("last_syncs", []):
        click.echo(
            f"sync of store {run['store']} with {run['system']}: {run['state']}, {run['started_at']}, items {run['items']}, "
            f"by {run['actor']}: {run['mipos_says'] or '-'}"
        )


async def _status(connection: AsyncConnection, settings: Settings) -> dict[str, Any]:
    state = await read_schema_state(connection)
    fault = state.fault
    if fault is not None:
        return {"schema": fault}
    registration = describe_registration(
        await read_registration(connection, STOCK_WEBHOOK), why_not=why_not_registering(settings)
    )
    summary = await summarise(connection)
    durability = (await read_standbys(connection)).fault
    return {
        "schema": state.revision,
        **({} if durability is None else {"durability": durability}),
        "registration": registration["state"],
        "registered_url": registration.get("url"),
        "mipos_says": registration["message"],
        "token": await _token_status(connection, settings),
        "stores": summary.stores,
        "stock_levels": summary.levels,
        "below_zero": summary.below_zero,
        "last_movement": to_shown(summary.last_movement_at),
        "open_refusals": summary.open_refusals,
        "last_refusal": to_shown(summary.last_refusal_at),
        "suspected_duplicates": summary.suspected_duplicates,
        "last_syncs": [_sync_status(run) for run in await syncs.list_last_runs(connection)],
    }


def _sync_status(run: syncs.Run) -> dict[str, Any]:
    """The newest synchronisation of a store and a system; one that nobody works on any more was cut off."""
    is_cut_off = run.state is syncs.State.RUNNING and not run.is_held
    return {
        "store": run.store_id,
        "system": run.inventory_system_id,
        "state": "cut off" if is_cut_off else run.state.value,
        "started_at": to_shown(run.started_at),
        "ended_at": to_shown(run.ended_at),
        "items": run.items,
        "covered": run.covered,
        "actor": run.actor,
        "mipos_says": run.words,
    }


async def _token_status(connection: AsyncConnection, settings: Settings) -> str:
    if settings.mipos_access_token is not None:
        return "given by MIPOS_ACCESS_TOKEN"
    stored = None if settings.mipos_client_id is None else await read_token(connection, token_account(settings))
    if stored is None:
        return "none yet"
    state = "expired" if stored.expires_at < datetime.now(UTC) else "valid until"
    return f"{state} {to_shown(stored.expires_at)}"


_COLOURS = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAILED: "red", Verdict.SKIPPED: None}


@click.command()
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="How many workers the service has.")
@click.option("--json", "as_json", is_flag=True, help="One JSON list.")
def doctor_command(workers: int, *, as_json: bool) -> None:
    """Check everything that has to be right: settings, database, invariants, mipOS, registration, the public URL, clocks.

    One line a check; where something is wrong, the reason and what to do. Ends with status 1 if a check failed. It changes
    nothing, and sends nothing but a token call and one delivery with a wrong signature to the public URL.

    \b
    Example:  pos-sync doctor --workers 2
    """
    settings = load_settings()

    async def work(engine: AsyncEngine) -> list[Check]:
        checks = []
        async for check in examine(settings, engine, workers=workers):
            checks.append(check)
            if not as_json:
                _show_check(check)
        return checks

    checks = with_database(settings, work)
    if as_json:
        show_json([document_of(check) for check in checks])
    sys.exit(1 if any(check.verdict is Verdict.FAILED for check in checks) else 0)


def _show_check(check: Check) -> None:
    verdict = click.style(f"{check.verdict.value:<8}", fg=_COLOURS[check.verdict])
    click.echo(f"{verdict} {check.name:<13} {check.reason}{f'. {check.remedy}' if check.remedy else ''}")
