"""`pos-sync catalog import`, `catalog export`, `store list` and `store set`."""

import json
import sys
import zoneinfo
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.catalog_body import read_catalog, read_tables
from app.cli.database import in_transaction, with_database
from app.cli.output import InputRefused, named_problems, show_table
from app.errors.requests import CannotSync
from app.operator.catalog import Imported, export_catalog, import_catalog
from app.settings import load_database_settings
from app.stock.catalog import Catalog, CatalogRefused, look_alikes, to_document
from app.stock.csv_catalog import FILES, to_tables
from app.stock.text import MAX_TEXT_LENGTH, fault_in, fault_in_id
from app.storage.catalog import change_store, connect_system, enable_system, find_store, list_stores


@click.group()
def command() -> None:
    """Import and export a store's catalog: items, units, suppliers, and the inventory system that shares them."""


@command.command("import")
@click.option("--store", "store_id", required=True, help="The POS's id of the store. A new store is created.")
@click.option("--system", "inventory_system_id", help="With a folder: the inventory system that the store is connected to.")
@click.option("--user", "user_id_tps", help="With a folder: the user_id_tps of the user who owns the inventory system.")
@click.option("--decimal-comma", is_flag=True, help="With a folder: numbers have a decimal comma, as in 1250,50.")
@click.argument("source", metavar="FILE", type=click.Path(exists=True, allow_dash=True, path_type=Path))
def import_command(
    store_id: str, source: Path, inventory_system_id: str | None, user_id_tps: str | None, *, decimal_comma: bool
) -> None:
    """Import FILE: JSON in the shape of the documented sync call's body (- is standard input), or a folder of CSV tables.

    Repeatable: names, costs, units and suppliers are updated, and an item that the store does not stock yet is opened with
    the file's stock. Stock that exists is never changed. A bad file is refused whole: the first 20 faults are named, and the
    exit status is 2. Ids that differ only in case or in the encoding of an accent are imported with a warning.

    A folder holds items.csv, units.csv and suppliers.csv. The first line of each names the columns as the JSON names its
    fields, in any order and case; the output names other columns, which are ignored. Files are UTF-8. Cells are separated by
    commas, semicolons or tabs. Numbers have a decimal point, or with --decimal-comma a comma, and no thousands separators.

    \b
    Example:  pos-sync catalog import --store 1 app/samples/store-1.json
              pos-sync catalog import --store 1 exported --system 4344be8c-c6b9-4c51-88a6-d620144ab406 --user 30
    """
    if fault := fault_in_id(store_id):
        raise click.BadParameter(f"{fault}.", param_hint="--store")
    settings = load_database_settings()
    ignored: Sequence[str] = ()
    try:
        if source.is_dir():
            catalog, ignored = _read_folder(source, inventory_system_id, user_id_tps, decimal_comma=decimal_comma)
        else:
            if inventory_system_id is not None or user_id_tps is not None:
                raise click.UsageError("--system and --user go with a folder of CSV tables: the JSON file names both itself.")
            if decimal_comma:
                raise click.UsageError("--decimal-comma goes with a folder of CSV tables: numbers in JSON have a decimal point.")
            catalog = read_catalog(sys.stdin.buffer.read() if str(source) == "-" else source.read_bytes())

        async def work(engine: AsyncEngine) -> Imported:
            return await import_catalog(engine, store_id, catalog, rules=settings.rules)

        imported = with_database(settings, work)
    except CatalogRefused as error:
        named = named_problems(error.problems)
        raise InputRefused(f"{source} was refused, and nothing was imported:\n{named}") from error
    kept = imported.items - imported.opened
    click.echo(
        f"{'Made store' if imported.is_new_store else 'Updated store'} {store_id}; items: {imported.items}, "
        f"units: {len(catalog.units)}, suppliers: {len(catalog.suppliers)}. "
        f"Stock opened: {imported.opened}, kept as it is: {kept}."
    )
    if ignored:
        click.echo(f"Ignored columns: {', '.join(ignored)}.")
    if warnings := look_alikes(catalog):
        click.echo(f"Check these:\n{named_problems(warnings)}", err=True)


def _read_folder(
    folder: Path, inventory_system_id: str | None, user_id_tps: str | None, *, decimal_comma: bool
) -> tuple[Catalog, Sequence[str]]:
    if inventory_system_id is None or user_id_tps is None:
        raise click.UsageError("CSV tables do not name the inventory system: add --system ID --user ID.")
    missing = [name for name in FILES.values() if not (folder / name).is_file()]
    if missing:
        raise click.UsageError(f"The folder {folder} has no {', '.join(missing)}. It must hold {', '.join(FILES.values())}.")
    files = {name: (folder / file).read_bytes() for name, file in FILES.items()}
    read = read_tables(files, inventory_system_id=inventory_system_id, user_id_tps=user_id_tps, decimal_comma=decimal_comma)
    return read.catalog, read.ignored


@command.command("export")
@click.option("--store", "store_id", required=True, help="The store.")
@click.option("--system", "inventory_system_id", help="The inventory system, where the store has several.")
@click.option("--format", "as_format", type=click.Choice(["json", "csv"]), default="json", show_default=True)
@click.option(
    "--output",
    type=click.Path(writable=True, path_type=Path),
    help="Write to this file instead of the terminal. For CSV: a folder, required.",
)
def export_command(store_id: str, inventory_system_id: str | None, as_format: str, output: Path | None) -> None:
    """Write a store's catalog with its present stock, in the shape that `import` takes.

    In CSV, a text that begins with = + - or @ gets an apostrophe before it, so that no spreadsheet runs it as a formula. The
    import removes the apostrophe.

    \b
    Example:  pos-sync catalog export --store 1 --output store-1.json
              pos-sync catalog export --store 1 --format csv --output exported
    """
    is_csv = as_format == "csv"
    if is_csv and (output is None or output.is_file()):
        raise click.UsageError("CSV is three tables: name a folder for them with --output.")
    if not is_csv and output is not None and output.is_dir():
        raise click.UsageError(f"{output} is a folder: name a file with --output.")

    async def work(engine: AsyncEngine) -> Catalog:
        return await export_catalog(engine, store_id, inventory_system_id=inventory_system_id)

    try:
        catalog = with_database(load_database_settings(), work)
    except CannotSync as error:
        raise click.ClickException(error.message) from error
    if is_csv and output is not None:
        output.mkdir(parents=True, exist_ok=True)
        for name, table in to_tables(catalog).items():
            (output / FILES[name]).write_bytes(table.encode("utf-8"))
        click.echo(
            f"Wrote {len(catalog.items)} items to {output}. Import them with: pos-sync catalog import --store ID {output} "
            f"--system {catalog.inventory_system_id} --user {catalog.user_id_tps}"
        )
        return
    text = json.dumps(to_document(catalog), ensure_ascii=False, indent=2) + "\n"
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")
        click.echo(f"Wrote {len(catalog.items)} items to {output}.")


@click.group()
def store_command() -> None:
    """Show and set stores: name, mipOS id, time zone, negative stock, integrations."""


@store_command.command("list")
def list_command() -> None:
    """Show every store and its integrations.

    \b
    Example:  pos-sync store list
    """
    stores = in_transaction(list_stores)
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


@store_command.command("set")
@click.argument("store_id")
@click.option("--name", help="The name of the store.")
@click.option("--mipos-id", help="The id that mipOS gives the store. Calls to mipOS name it.")
@click.option("--timezone", help="Time zone of the dates in stock updates, such as America/Guayaquil.")
@click.option(
    "--negative-stock",
    type=click.Choice(["allow", "refuse", "default"]),
    help="Apply movements below zero, refuse them, or follow the rule NEGATIVE_STOCK.",
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
    """Change the named options of store STORE_ID. All others stay as they are.

    \b
    Example:  pos-sync store set 1 --name Centro --negative-stock refuse
    """
    if timezone is not None and timezone not in zoneinfo.available_timezones():
        raise click.BadParameter("is not a timezone name such as America/Guayaquil.", param_hint="--timezone")
    if name is not None and (fault := fault_in(name, max_length=MAX_TEXT_LENGTH)):
        raise click.BadParameter(f"{fault}.", param_hint="--name")
    for option, text in [("--mipos-id", mipos_id), *(("--connect", text) for text in connect or ())]:
        if text is not None and (fault := fault_in_id(text)):
            raise click.BadParameter(f"{fault}.", param_hint=option)
    chosen = {"name": name, "mipos_store_id": mipos_id, "timezone": timezone}
    values: dict[str, Any] = {column: value for column, value in chosen.items() if value is not None}
    if negative_stock is not None:
        values["negative_stock"] = None if negative_stock == "default" else negative_stock
    if not values and not connect and not enable and not disable:
        raise click.UsageError("Nothing to set. Name at least one option.")

    async def work(connection: AsyncConnection) -> None:
        if await find_store(connection, store_id) is None:
            raise click.ClickException(f"There is no store {store_id}. `pos-sync store list` shows all.")
        if values:
            await change_store(connection, store_id, values)
        if connect:
            await connect_system(connection, store_id, connect[0], user_id_tps=connect[1])
        for system, enabled in [*((s, True) for s in enable), *((s, False) for s in disable)]:
            if not await enable_system(connection, store_id, system, enabled=enabled):
                raise click.ClickException(f"Store {store_id} is not connected to {system}; nothing was set.")

    in_transaction(work)
    click.echo(f"Store {store_id} is set.")
