"""`pos-sync status`: how the service stands, what a person has to act on, and the command that helps."""

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import click
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.cli.database import with_database
from app.cli.output import show_json, to_iso, to_shown
from app.mipos.wiring import token_account, why_not_registering
from app.operations.readiness import describe_registration
from app.operator.standing import Found, look
from app.problems import kinds
from app.problems.kinds import EXIT_STATUS, Problem, Severity, worst
from app.settings import Settings, load_settings
from app.stock.quantity import to_canonical
from app.storage import retention, syncs
from app.storage.delivery_counts import UNVERIFIED
from app.storage.levels import summarise
from app.storage.migrations import read_schema_state
from app.storage.mipos_account import STOCK_WEBHOOK, read_registration, read_token
from app.storage.retention import LastPrune
from app.terminal import is_plain
from app.visible_text import as_seen

COLOURS = {Severity.CRITICAL: "red", Severity.WARNING: "yellow", Severity.INFO: None}
WATCH_SECONDS = 5.0
CUT_OFF = "cut_off"
"""The state of a synchronisation that runs, and that nobody works on"""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object; times are in ISO 8601.")
@click.option("--watch", "is_watching", is_flag=True, help="Show it again every five seconds, until Ctrl-C.")
def status_command(*, as_json: bool, is_watching: bool) -> None:
    """Show what a person has to act on, and how all stands: deliveries, stock updates, drift, synchronisations, registration.

    It looks by itself, so it is true where no service runs too. Ends with status 0, with 3 where there is a warning, and with 4
    where something is critical or the database cannot be asked. With --watch, this is by what was shown last before Ctrl-C.

    \b
    Example:  pos-sync status
    """
    settings = load_settings()
    status = None
    try:
        while True:
            severity = _show(settings, as_json=as_json, clears=is_watching)
            status = EXIT_STATUS[severity] if severity else 0
            if not is_watching:
                break
            time.sleep(WATCH_SECONDS)
    except KeyboardInterrupt:
        # That is how a watch ends, in the middle of a look too.
        if status is None:
            raise
    sys.exit(status)


def _show(settings: Settings, *, as_json: bool, clears: bool) -> Severity | None:
    async def work(engine: AsyncEngine) -> tuple[dict[str, Any], Sequence[Found]]:
        async with engine.connect() as connection:
            return await _read(connection, settings)

    numbers: dict[str, Any] = {}
    try:
        numbers, found = with_database(settings, work, warns=False)
    except click.ClickException as error:
        found = [Found(Problem(kinds.DATABASE, "", Severity.CRITICAL, error.message), None)]
    if clears and not is_plain():
        click.clear()
    severity = worst([one.problem.severity for one in found])
    if as_json:
        show_json(_document(numbers, found, severity))
    else:
        _print(numbers, found)
    return severity


async def _read(connection: AsyncConnection, settings: Settings) -> tuple[dict[str, Any], Sequence[Found]]:
    """What is counted, and the problems; only that one where the schema is not as this version needs it."""
    state = await read_schema_state(connection)
    if state.fault is not None:
        return {"schema": state.fault}, [Found(Problem(kinds.SCHEMA, "", Severity.CRITICAL, state.fault), None)]
    registration = describe_registration(
        await read_registration(connection, STOCK_WEBHOOK), why_not=why_not_registering(settings)
    )
    summary = await summarise(connection)
    standing = await look(connection, settings)
    numbers = {
        "schema": state.revision,
        **({} if standing.facts.durability is None else {"durability": standing.facts.durability}),
        "registration": registration["state"],
        "registered_url": registration.get("url"),
        "registered_at": standing.facts.registration.registered_at,
        "mipos_says": registration["message"],
        "token": await _token_status(connection, settings),
        "stores": summary.stores,
        "stock_levels": summary.levels,
        "below_zero": summary.below_zero,
        "last_movement": summary.last_movement_at,
        "deliveries_of_24_hours": {total.outcome: total.deliveries for total in standing.totals},
        "open_refusals": summary.open_refusals,
        "last_refusal": summary.last_refusal_at,
        "folded_refusals": standing.facts.folded,
        "suspected_duplicates": summary.suspected_duplicates,
        "stock_updates": {
            "pending": sum(queue.pending for queue in standing.facts.queues),
            "dead": sum(queue.dead for queue in standing.facts.queues),
            "oldest": min((queue.oldest_at for queue in standing.facts.queues if queue.oldest_at), default=None),
        },
        "drift": [
            {"store": one.store_id, "cause": one.cause, "items": one.items, "amount": to_canonical(one.amount)}
            for one in standing.facts.drift
        ],
        "database_bytes": standing.facts.database_bytes,
        "last_prune": _prune_status(await retention.read_last(connection)),
        "looked_at": standing.looked_at,
        "last_deliveries": [
            {
                "store": pair.store_id,
                "system": pair.inventory_system_id,
                "last_delivery": pair.last_at,
                "closed_until": pair.closed_until,
            }
            for pair in standing.facts.pairs
        ],
        "last_syncs": [_sync_status(run) for run in await syncs.list_last_runs(connection)],
    }
    return numbers, standing.found


def _document(numbers: dict[str, Any], found: Sequence[Found], severity: Severity | None) -> dict[str, Any]:
    return {
        "severity": severity.value if severity else None,
        "problems": [_problem(one) for one in found],
        **{name: to_iso(value) for name, value in numbers.items()},
    }


def _problem(one: Found) -> dict[str, Any]:
    return {
        "name": one.problem.kind.name,
        "subject": one.problem.subject,
        "severity": one.problem.severity.value,
        "title": one.problem.kind.title,
        "words": one.problem.words,
        "since": to_iso(one.since),
        "remedy": one.problem.kind.remedy,
    }


def _print(numbers: dict[str, Any], found: Sequence[Found]) -> None:
    _print_problems(found)
    plain = {name: value for name, value in numbers.items() if not isinstance(value, list)}
    width = max(map(len, plain), default=0)
    for name, value in plain.items():
        if name == "token":
            shown = _token_text(value)
        elif name == "deliveries_of_24_hours":
            told = {f"{key} signature" if key in UNVERIFIED else key: part for key, part in value.items()}
            shown = _counts(told)
        elif isinstance(value, dict):
            shown = _counts(value)
        else:
            shown = _text(value)
        click.echo(f"{name.replace('_', ' '):<{width}}  {shown}")
    for pair in numbers.get("last_deliveries", []):
        closed = f", closed until {to_shown(pair['closed_until'])}" if pair["closed_until"] else ""
        last = to_shown(pair["last_delivery"]) or "none yet"
        click.echo(as_seen(f"last delivery of store {pair['store']}, system {pair['system']}: {last}{closed}"))
    for run in numbers.get("last_syncs", []):
        state = run["state"].replace("_", " ")
        told = (
            f"sync of store {run['store']} with {run['system']}: {state}, {to_shown(run['started_at'])}, "
            f"items {run['items']}, by {run['actor']}: {run['mipos_says'] or '-'}"
        )
        click.echo(as_seen(told))


def _counts(value: dict[str, Any]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {_text(part)}" for key, part in value.items()) or "none"


def _print_problems(found: Sequence[Found]) -> None:
    if not found:
        click.echo("Nothing needs a person.\n")
        return
    for one in found:
        problem = one.problem
        if problem.severity is Severity.INFO:
            # The title tells of what is wrong, and nothing is.
            subject = f"{problem.subject}: " if problem.subject else ""
            click.echo(f"info      {as_seen(subject + problem.words)}")
            continue
        severity = click.style(f"{problem.severity.value:<8}", fg=COLOURS[problem.severity])
        about = f" ({problem.subject})" if problem.subject else ""
        since = f", since {to_shown(one.since)}" if one.since else ""
        click.echo(f"{severity}  {problem.kind.title}{as_seen(about)}{since}")
        click.echo(f"          {as_seen(problem.words)}")
        click.echo(f"          What to do: {problem.kind.remedy}")
    click.echo()


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return to_shown(value) or "-"
    return "-" if value is None else as_seen(str(value))


def _sync_status(run: syncs.Run) -> dict[str, Any]:
    """The newest synchronisation of a store and a system; one that nobody works on any more was cut off."""
    is_cut_off = run.state is syncs.State.RUNNING and not run.is_held
    return {
        "store": run.store_id,
        "system": run.inventory_system_id,
        "state": CUT_OFF if is_cut_off else run.state.value,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "items": run.items,
        "covered": run.covered,
        "actor": run.actor,
        "mipos_says": run.words,
    }


def _prune_status(last: LastPrune | None) -> dict[str, Any] | None:
    """When the last prune ended, and what it deleted."""
    return None if last is None else {"ended_at": last.ended_at, **asdict(last.pruned)}


async def _token_status(connection: AsyncConnection, settings: Settings) -> dict[str, Any]:
    if settings.mipos_access_token is not None:
        return {"state": "given", "expires_at": None}
    stored = None if settings.mipos_client_id is None else await read_token(connection, token_account(settings))
    if stored is None:
        return {"state": "none", "expires_at": None}
    return {"state": "expired" if stored.expires_at < datetime.now(UTC) else "valid", "expires_at": stored.expires_at}


def _token_text(token: dict[str, Any]) -> str:
    until = to_shown(token["expires_at"])
    words = {
        "given": "given by MIPOS_ACCESS_TOKEN",
        "none": "none yet",
        "expired": f"expired {until}",
        "valid": f"valid until {until}",
    }
    return words[token["state"]]
