"""`pos-sync status`."""

from datetime import UTC, datetime
from typing import Any

import click
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.cli.database import with_database
from app.cli.output import show_json, to_utc
from app.mipos.wiring import token_account, why_not_registering
from app.operations.health import describe_registration
from app.settings import Settings, load_settings
from app.storage import registrations, syncs, tokens
from app.storage.migrating import current_revision, fault_in_revision
from app.storage.summaries import summarise


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(*, as_json: bool) -> None:
    """Show how things stand: schema, registration at mipOS, token, stock, refused deliveries, synchronisations.

    \b
    Example:  pos-sync status
    """
    settings = load_settings()

    async def work(engine: AsyncEngine) -> dict[str, Any]:
        async with engine.connect() as connection:
            return await _gather(connection, settings)

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


async def _gather(connection: AsyncConnection, settings: Settings) -> dict[str, Any]:
    revision = await current_revision(connection)
    fault = fault_in_revision(revision)
    if fault is not None:
        return {"schema": fault}
    registration = describe_registration(
        await registrations.read(connection, registrations.STOCK_WEBHOOK), why_not=why_not_registering(settings)
    )
    summary = await summarise(connection)
    return {
        "schema": revision,
        "registration": registration["state"],
        "registered_url": registration.get("url"),
        "mipos_says": registration["message"],
        "token": await _token(connection, settings),
        "stores": summary.stores,
        "stock_levels": summary.levels,
        "below_zero": summary.below_zero,
        "last_movement": to_utc(summary.last_movement_at),
        "open_refusals": summary.open_refusals,
        "last_refusal": to_utc(summary.last_refusal_at),
        "suspected_duplicates": summary.suspected_duplicates,
        "last_syncs": [_sync(run) for run in await syncs.list_last_runs(connection)],
    }


def _sync(run: syncs.Run) -> dict[str, Any]:
    """The newest synchronisation of a store and a system; one that nobody works on any more was cut off."""
    is_cut_off = run.state is syncs.State.RUNNING and not run.is_held
    return {
        "store": run.store_id,
        "system": run.inventory_system_id,
        "state": "cut off" if is_cut_off else run.state.value,
        "started_at": to_utc(run.started_at),
        "ended_at": to_utc(run.ended_at),
        "items": run.items,
        "covered": run.covered,
        "actor": run.actor,
        "mipos_says": run.words,
    }


async def _token(connection: AsyncConnection, settings: Settings) -> str:
    if settings.mipos_access_token is not None:
        return "given by MIPOS_ACCESS_TOKEN"
    stored = None if settings.mipos_client_id is None else await tokens.read(connection, token_account(settings))
    if stored is None:
        return "none yet"
    state = "expired" if stored.expires_at < datetime.now(UTC) else "valid until"
    return f"{state} {to_utc(stored.expires_at)}"
