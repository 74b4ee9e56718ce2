"""The commands around the service: `pos-sync serve`, `migrate`, `rules`, `register`, `status` and `doctor`."""

import os
import sys
from collections.abc import Sequence

import click
from alembic.util import CommandError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.cli.database import with_database
from app.cli.options import json_option
from app.cli.output import document_of, show_json, show_table
from app.cli.progress import progress
from app.cli.readiness import wait_until_ready
from app.doctor import Check, Verdict, examine
from app.mipos.answers import attributed
from app.mipos.wiring import registrar, why_not_registering
from app.problems.kinds import EXIT_STATUS, Severity
from app.scope import WEBHOOK_PATH
from app.settings import load_database_settings, load_settings
from app.stock.rules import Rules, differing
from app.storage.catalog import list_stores
from app.storage.migrations import (
    OldReplicasError,
    SchemaState,
    TablesInUseError,
    WrongEncodingError,
    head,
    migrate,
    read_schema_state,
)
from app.storage.mipos_account import Registration, RegistrationState
from app.storage.rules import read_rules, replace_rules
from app.storage.schema_move import MissingRights
from app.storage.turns import TurnNotGiven
from app.visible_text import as_seen

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
@click.option("--current", "is_current", is_flag=True, help="Change nothing: show at which revision the schema is.")
@json_option
def migrate_command(  # noqa: PLR0913 - one parameter per option
    *,
    grant_to: str | None,
    owner: str | None,
    seconds: float,
    is_forced: bool,
    only_waits: bool,
    is_current: bool,
    as_json: bool,
) -> None:
    """Bring the database schema to the newest revision; safe when several start at once.

    Needs DATABASE_URL only, as a role that may create a schema; connect to Postgres itself, not through a pooler. The service
    should run as another role: --grant-to gives it just the rights that it needs. It may read the ledger, and write it by
    calling one function.

    A schema that a newer version has made is left as it is, with status 0, where this version can work with it. Where replicas
    run that cannot work with the new schema, it waits 30 seconds for them to stop, and ends with 1.

    With --wait it needs the rights of the service only. It ends with status 0 when this version can run with the schema, and
    with status 1 if that takes longer than --timeout. --current shows where the schema stands, and ends with status 1 where
    this version cannot run with it.

    \b
    Example:  pos-sync migrate --grant-to pos_sync
              pos-sync migrate --current
    """
    settings = load_database_settings()
    if only_waits or is_current:
        if grant_to is not None or owner is not None or is_forced or (only_waits and is_current):
            raise click.UsageError(
                "--wait and --current change nothing, so they go with none of --grant-to, --owner, --force and each other."
            )
        if only_waits:
            wait_until_ready(settings, seconds=seconds)
        state = with_database(settings, _read_state, warns=False)
        _show_state(state, [], as_json=as_json, is_current=is_current)
        sys.exit(0 if state.fault is None else 1)

    async def work(engine: AsyncEngine) -> tuple[SchemaState, list[str]]:
        async with engine.connect() as connection:
            before = (await read_schema_state(connection)).revision
        with progress("Migrating") as line:
            reached = await migrate(
                engine,
                grant_to=grant_to,
                owner=owner,
                is_forced=is_forced,
                on_wait=lambda what: line.say(f"Waiting for {what} ...", err=True),
            )
        async with engine.connect() as connection:
            stores = await list_stores(connection)
        is_news = before is not None and before < ZONES_OF_THEIR_OWN
        return reached, [store.store_id for store in stores if store.timezone is None and is_news]

    try:
        reached, zoneless = with_database(settings, work, warns=False)
    except (CommandError, MissingRights, OldReplicasError, TablesInUseError, TurnNotGiven, WrongEncodingError) as error:
        raise click.ClickException(str(error)) from error
    _show_state(reached, zoneless, as_json=as_json)


async def _read_state(engine: AsyncEngine) -> SchemaState:
    async with engine.connect() as connection:
        return await read_schema_state(connection)


def _show_state(state: SchemaState, zoneless: Sequence[str], *, as_json: bool, is_current: bool = False) -> None:
    if as_json:
        show_json({**document_of(state), "needed": head(), "fault": state.fault, "stores_without_timezone": list(zoneless)})
        return
    if state.fault is not None:
        click.echo(state.fault)
        return
    newer = ": a newer version has made it, and this one can work with it" if state.is_newer else ""
    newest = " (the newest)" if is_current and not state.is_newer else ""
    click.echo(f"The schema is at revision {state.revision}{newest}{newer}.")
    if zoneless:
        click.echo(
            f"These stores have no time zone of their own now, since UTC was the default before, and follow TIMEZONE: "
            f"{', '.join(zoneless)}. A zone of its own: pos-sync store set STORE --timezone ZONE"
        )


@click.command()
@click.option("--record", "is_recorded", is_flag=True, help="Record all rules; one that is not set here gets its default.")
@json_option
def rules_command(*, is_recorded: bool, as_json: bool) -> None:
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
    if as_json:
        show_json({"recorded": None if recorded is None else document_of(recorded), "here": document_of(settings.rules)})
        return
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
@json_option
def register_command(*, as_json: bool) -> None:
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

    with progress("Waiting for mipOS"):
        registration = with_database(settings, work)
    if as_json:
        document = document_of(registration)
        del document["account"]
        show_json(document)
    else:
        click.echo(f"{as_seen(registration.url)}\n{as_seen(attributed(registration.words))}")
    sys.exit({RegistrationState.REGISTERED: 0, RegistrationState.FAILED: 1, RegistrationState.PENDING: 3}[registration.state])


_COLOURS = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAILED: "red", Verdict.SKIPPED: None}


@click.command()
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="How many workers the service has.")
@json_option
def doctor_command(workers: int, *, as_json: bool) -> None:
    """Check everything that has to be right: settings, database, invariants, mipOS, registration, the public URL, clocks.

    One line a check; where something is wrong, the reason and what to do. The problems that `status` shows are among them. Ends
    with status 0, with 3 where there is a warning, and with 4 where a check failed. It changes nothing. It sends a
    token call and one request without content to mipOS, and one delivery with a wrong signature to the public URL.

    \b
    Example:  pos-sync doctor --workers 2
    """
    settings = load_settings()

    async def work(engine: AsyncEngine) -> list[Check]:
        checks = []
        with progress("Checking") as line:
            async for check in examine(settings, engine, workers=workers):
                checks.append(check)
                line.update(f"Checking what follows {check.name}")
                if not as_json:
                    line.say(_shown(check))
        return checks

    checks = with_database(settings, work)
    if as_json:
        show_json([document_of(check) for check in checks])
    sys.exit(max((_EXIT_STATUS[check.verdict] for check in checks), default=0))


_EXIT_STATUS = {
    Verdict.OK: 0,
    Verdict.SKIPPED: 0,
    Verdict.WARNING: EXIT_STATUS[Severity.WARNING],
    Verdict.FAILED: EXIT_STATUS[Severity.CRITICAL],
}


def _shown(check: Check) -> str:
    verdict = click.style(f"{check.verdict.value:<8}", fg=_COLOURS[check.verdict])
    # What mipOS or the database said may end in a full stop of its own.
    reason = check.reason.rstrip(".") if check.remedy else check.reason
    return f"{verdict} {check.name:<13} {as_seen(reason)}{f'. {as_seen(check.remedy)}' if check.remedy else ''}"
