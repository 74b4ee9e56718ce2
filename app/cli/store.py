"""`pos-sync store list` and `store set`."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any

import click
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.cli.database import in_transaction
from app.cli.group import CommandGroup
from app.cli.options import json_option
from app.cli.output import document_of, show_json, show_table, to_iso, to_shown
from app.cli.subjects import unknown_store
from app.setting_values import known_timezones
from app.settings import load_database_settings
from app.stock.rules import Rules
from app.stock.text import MAX_TEXT_LENGTH, fault_in, fault_in_id, zone_of
from app.storage.catalog import (
    Integration,
    RepeatedDates,
    Store,
    change_store,
    connect_system,
    enable_system,
    find_store,
    list_stores,
    set_repeated_dates,
)
from app.storage.messages import make_due
from app.storage.rules import effective_rules
from app.storage.transactions import sqlstate
from app.visible_text import shown

_DEFAULT = "default"
_OPEN = "open"
_INVALID_PARAMETER = "22023"


@click.group(cls=CommandGroup)
def command() -> None:
    """Show and set stores: name, mipOS id, time zone, negative stock, integrations.

    \b
    Example:  pos-sync store list
    """


@command.command("list")
@json_option
def list_command(*, as_json: bool) -> None:
    """Show every store and its integrations.

    \b
    Example:  pos-sync store list
    """
    settings = load_database_settings()

    async def work(connection: AsyncConnection) -> tuple[list[Store], str]:
        return await list_stores(connection), (await effective_rules(connection, settings.rules)).timezone

    stores, default_zone = in_transaction(work)
    if as_json:
        show_json([_document(store, default_zone) for store in stores])
        return
    if not stores:
        click.echo("No stores yet. Make one with: pos-sync catalog import --store ID FILE")
        return
    rows = []
    for store in stores:
        systems = [_described(one) for one in store.integrations]
        zone = f"{default_zone} (default)" if store.timezone is None else store.timezone
        policy = "default" if store.negative_stock is None else store.negative_stock.value
        closed = to_shown(store.closed_until) if store.is_closed(datetime.now(UTC)) else "-"
        rows.append(
            [store.store_id, store.name, store.mipos_store_id or "-", zone, policy, closed or "-", systems[0] if systems else "-"]
        )
        rows += [["", "", "", "", "", "", system] for system in systems[1:]]
    show_table(["store", "name", "mipOS id", "timezone", "below zero", "closed until", "integrations"], rows)


def _document(store: Store, default_zone: str) -> dict[str, Any]:
    return {
        "store_id": store.store_id,
        "name": store.name,
        "mipos_store_id": store.mipos_store_id,
        "timezone": store.timezone or default_zone,
        "is_default_timezone": store.timezone is None,
        "negative_stock": None if store.negative_stock is None else store.negative_stock.value,
        "closed_until": to_iso(store.closed_until),
        "integrations": [document_of(one) for one in store.integrations],
    }


def _described(one: Integration) -> str:
    dates = ", repeated dates: apply" if one.repeated_dates is RepeatedDates.APPLY else ""
    return f"{one.inventory_system_id} (user {one.user_id_tps}, {'enabled' if one.enabled else 'disabled'}{dates})"


@command.command("set")
@click.argument("store_id")
@click.option("--name", help="The name of the store.")
@click.option("--mipos-id", help="The id that mipOS gives the store. Calls to mipOS name it.")
@click.option(
    "--timezone",
    metavar="ZONE",
    help="Time zone of what is sent and shown, such as America/Guayaquil; 'default' follows the rule TIMEZONE.",
)
@click.option(
    "--negative-stock",
    type=click.Choice(["allow", "refuse", "default"]),
    help="Apply movements below zero, refuse them, or follow the rule NEGATIVE_STOCK.",
)
@click.option(
    "--closed-until",
    metavar="DATE|open",
    help="Expect no deliveries until this date (2026-12-24, its beginning in the store's time zone); 'open' ends that.",
)
@click.option("--connect", metavar="SYSTEM USER", nargs=2, help="Connect an inventory system, with its user_id_tps.")
@click.option("--enable", metavar="SYSTEM", multiple=True, help="Take movements of this inventory system again.")
@click.option("--disable", metavar="SYSTEM", multiple=True, help="Refuse movements of this inventory system.")
@click.option(
    "--repeated-dates",
    metavar="SYSTEM suspect|apply",
    type=(str, click.Choice([one.value for one in RepeatedDates])),
    multiple=True,
    help="What becomes of a delivery that may be a movement of its own under a date that was used before: 'suspect' keeps it "
    "for a person (pos-sync duplicates list), 'apply' applies it. For a system that sends dates without a time of day.",
)
@json_option
def set_command(  # noqa: C901, PLR0913 - one parameter and one branch per option
    store_id: str,
    *,
    name: str | None,
    mipos_id: str | None,
    timezone: str | None,
    negative_stock: str | None,
    closed_until: str | None,
    connect: tuple[str, str] | None,
    enable: tuple[str, ...],
    disable: tuple[str, ...],
    repeated_dates: tuple[tuple[str, str], ...],
    as_json: bool,
) -> None:
    """Change the named options of store STORE_ID. All others stay as they are.

    \b
    Example:  pos-sync store set 1 --name Centro --negative-stock refuse
    """
    settings = load_database_settings()
    if timezone not in (None, _DEFAULT, *known_timezones()):
        raise click.BadParameter(
            "is not a timezone name such as America/Guayaquil, nor the word 'default'.", param_hint="--timezone"
        )
    if name is not None and (fault := fault_in(name, max_length=MAX_TEXT_LENGTH)):
        raise click.BadParameter(f"{fault}.", param_hint="--name")
    for option, text in [("--mipos-id", mipos_id), *(("--connect", text) for text in connect or ())]:
        if text is not None and (fault := fault_in_id(text)):
            raise click.BadParameter(f"{fault}.", param_hint=option)
    chosen = {"name": name, "mipos_store_id": mipos_id, "timezone": timezone}
    values: dict[str, Any] = {column: value for column, value in chosen.items() if value is not None}
    if negative_stock is not None:
        values["negative_stock"] = None if negative_stock == _DEFAULT else negative_stock
    if timezone == _DEFAULT:
        values["timezone"] = None
    closing = None if closed_until is None else _closing(closed_until)
    if not (values or closing or connect or enable or disable or repeated_dates):
        raise click.UsageError("Nothing to set. Name at least one option.")

    async def work(connection: AsyncConnection) -> dict[str, Any]:
        if await find_store(connection, store_id) is None:
            raise unknown_store(store_id)
        if values:
            await _change(connection, store_id, values)
        if closing is not None:
            await _close(connection, store_id, closing, settings.rules)
        if connect:
            await connect_system(connection, store_id, connect[0], user_id_tps=connect[1])
        for system, enabled in [*((s, True) for s in enable), *((s, False) for s in disable)]:
            if not await enable_system(connection, store_id, system, enabled=enabled):
                raise _not_connected(store_id, system)
        for system, choice in repeated_dates:
            if not await set_repeated_dates(connection, store_id, system, RepeatedDates(choice)):
                raise _not_connected(store_id, system)
        if mipos_id is not None or connect or enable:
            await make_due(connection, store_id)
        (changed,) = [store for store in await list_stores(connection) if store.store_id == store_id]
        return _document(changed, (await effective_rules(connection, settings.rules)).timezone)

    document = in_transaction(work)
    if as_json:
        show_json(document)
    else:
        click.echo(f"Store {store_id} is set.")


@dataclass(frozen=True, slots=True)
class _Closing:
    """Until when a store is closed; None where it is open."""

    until: date | None


def _closing(text: str) -> _Closing:
    if text == _OPEN:
        return _Closing(None)
    try:
        return _Closing(date.fromisoformat(text))
    except ValueError:
        raise click.BadParameter("is not a date such as 2026-12-24, nor the word 'open'.", param_hint="--closed-until") from None


async def _close(connection: AsyncConnection, store_id: str, closing: _Closing, rules: Rules) -> None:
    until = None
    if closing.until is not None:
        found = await find_store(connection, store_id)
        own = None if found is None else found.timezone
        zone = zone_of(own or (await effective_rules(connection, rules)).timezone)
        until = datetime.combine(closing.until, time(), tzinfo=zone)
        if until <= datetime.now(UTC):
            raise click.BadParameter(f"{closing.until} has begun already.", param_hint="--closed-until")
    await change_store(connection, store_id, {"closed_until": until})


def _not_connected(store_id: str, system: str) -> click.ClickException:
    return click.ClickException(
        f"Store {store_id} is not connected to {shown(system)}; nothing was set. `pos-sync store list` shows its connections."
    )


async def _change(connection: AsyncConnection, store_id: str, values: dict[str, Any]) -> None:
    try:
        await change_store(connection, store_id, values)
    except DBAPIError as error:
        # Postgres has a list of time zones of its own, and dates movements by it.
        if sqlstate(error) != _INVALID_PARAMETER:
            raise
        raise click.ClickException(
            f"Postgres does not know the time zone {values['timezone']}; nothing was set. The table pg_timezone_names lists "
            "those that it knows."
        ) from error
