"""`pos-sync store list` and `store set`."""

import zoneinfo
from typing import Any

import click
from sqlalchemy.ext.asyncio import AsyncEngine

from app.cli.database import with_database
from app.cli.output import show_table
from app.settings import load_database_settings
from app.stock.text import MAX_TEXT_LENGTH, fault_in
from app.storage.catalog import Store, change_store, connect_system, enable_system, find_store, list_stores


@click.group()
def command() -> None:
    """Show and set stores: name, mipOS id, timezone, negative-stock policy, integrations."""


@command.command("list")
def list_command() -> None:
    """Show every store and its integrations.

    \b
    Example:  pos-sync store list
    """

    async def work(engine: AsyncEngine) -> list[Store]:
        async with engine.connect() as connection:
            return await list_stores(connection)

    stores = with_database(load_database_settings(), work)
    if not stores:
        click.echo("No stores yet. Make one with: pos-sync catalog import --store ID FILE")
        return
    rows = []
    for store in stores:
        systems = [
            f"{i.inventory_system_id} (user {i.user_id_tps}, {'enabled' if i.enabled else 'disabled'})"
            for i in store.integrations
        ]
        policy = "default" if store.negative_stock is None else store.negative_stock.value
        rows.append(
            [store.store_id, store.name, store.mipos_store_id or "-", store.timezone, policy, systems[0] if systems else "-"]
        )
        rows += [["", "", "", "", "", system] for system in systems[1:]]
    show_table(["store", "name", "mipOS id", "timezone", "below zero", "integrations"], rows)


@command.command("set")
@click.argument("store_id")
@click.option("--name", help="What people call it.")
@click.option("--mipos-id", help="mipOS's own id of the store, for the paths of calls to mipOS.")
@click.option("--timezone", help="Of dates without one, such as America/Guayaquil.")
@click.option(
    "--negative-stock",
    type=click.Choice(["allow", "refuse", "default"]),
    help="Apply movements below zero, refuse them, or do as the setting NEGATIVE_STOCK says.",
)
@click.option("--connect", metavar="SYSTEM USER", nargs=2, help="Connect an inventory system, with its user_id_tps.")
@click.option("--enable", metavar="SYSTEM", multiple=True, help="Take movements of this inventory system again.")
@click.option("--disable", metavar="SYSTEM", multiple=True, help="Refuse movements of this inventory system.")
def set_command(  # noqa: C901, PLR0913 - one parameter and one branch per option
    store_id: str,
    *,
    name: str | None,
    mipos_id: str | None,
    timezone: str | None,
    negative_stock: str | None,
    connect: tuple[str, str] | None,
    enable: tuple[str, ...],
    disable: tuple[str, ...],
) -> None:
    """Set what is named by options of the store STORE_ID, and leave the rest.

    \b
    Example:  pos-sync store set 1 --name Centro --negative-stock refuse
    """
    if timezone is not None and timezone not in zoneinfo.available_timezones():
        raise click.BadParameter("is not a timezone name such as America/Guayaquil.", param_hint="--timezone")
    for option, text in [("--name", name), ("--mipos-id", mipos_id), *(("--connect", text) for text in connect or ())]:
        if text is not None and (fault := fault_in(text, longest=MAX_TEXT_LENGTH)):
            raise click.BadParameter(f"{fault}.", param_hint=option)
    chosen = {"name": name, "mipos_store_id": mipos_id, "timezone": timezone}
    values: dict[str, Any] = {column: value for column, value in chosen.items() if value is not None}
    if negative_stock is not None:
        values["negative_stock"] = None if negative_stock == "default" else negative_stock
    if not values and not connect and not enable and not disable:
        raise click.UsageError("Nothing to set. Name at least one option.")

    async def work(engine: AsyncEngine) -> None:
        async with engine.begin() as connection:
            if await find_store(connection, store_id) is None:
                raise click.ClickException(f"There is no store {store_id}. `pos-sync store list` shows all.")
            if values:
                await change_store(connection, store_id, values)
            if connect:
                await connect_system(connection, store_id, connect[0], user_id_tps=connect[1])
            for system, enabled in [*((s, True) for s in enable), *((s, False) for s in disable)]:
                if not await enable_system(connection, store_id, system, enabled=enabled):
                    raise click.ClickException(f"Store {store_id} is not connected to {system}; nothing was set.")

    with_database(load_database_settings(), work)
    click.echo(f"Store {store_id} is set.")
