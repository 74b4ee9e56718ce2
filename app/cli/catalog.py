"""`pos-sync catalog import` and `catalog export`."""

import json
from pathlib import Path

import click
from sqlalchemy.ext.asyncio import AsyncEngine

from app.cataloguing import Imported, UnknownStoreError, WhichSystemError, export_catalog, import_catalog
from app.cli.database import with_database
from app.settings import load_database_settings
from app.stock.catalog import Catalog, CatalogRefused, read_catalog, to_document
from app.stock.text import fault_in

LONGEST_STORE_ID = 255


@click.group()
def command() -> None:
    """Import and export a store's catalogue: items, units, suppliers, and with which inventory system it shares them."""


@command.command("import")
@click.option("--store", "store_id", required=True, help="The store, by the id that the POS gives it; made if it is new.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def import_command(store_id: str, file: Path) -> None:
    """Import FILE, which is JSON in the shape of the documented sync call's body.

    Repeatable: names, costs, units and suppliers are updated, and an item that the store does not stock yet is opened with
    the file's stock. Stock that exists is never changed. A bad file is refused whole, with every bad entry named.

    \b
    Example:  pos-sync catalog import --store 1 app/samples/store-1.json
    """
    if fault := fault_in(store_id, longest=LONGEST_STORE_ID):
        raise click.BadParameter(f"{fault}.", param_hint="--store")
    settings = load_database_settings()
    try:
        catalog = read_catalog(file.read_text(encoding="utf-8"))

        async def work(engine: AsyncEngine) -> Imported:
            return await import_catalog(engine, store_id, catalog, timezone=settings.timezone)

        imported = with_database(settings, work)
    except UnicodeDecodeError as error:
        raise click.ClickException(f"{file} is not UTF-8. Nothing was imported.") from error
    except CatalogRefused as error:
        lines = "\n".join(f"  {problem}" for problem in error.problems)
        raise click.ClickException(f"{file} was refused, and nothing was imported:\n{lines}") from error
    kept = imported.items - imported.opened
    click.echo(
        f"{'Made store' if imported.is_new_store else 'Updated store'} {store_id}; items: {imported.items}, "
        f"units: {len(catalog.units)}, suppliers: {len(catalog.suppliers)}. "
        f"Stock opened: {imported.opened}, kept as it is: {kept}."
    )


@command.command("export")
@click.option("--store", "store_id", required=True, help="The store.")
@click.option("--system", "inventory_system_id", help="The inventory system, where the store has several.")
@click.option("--output", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="A file instead of the terminal.")
def export_command(store_id: str, inventory_system_id: str | None, output: Path | None) -> None:
    """Write a store's catalogue with its stock as it is now, in the shape that `import` takes.

    \b
    Example:  pos-sync catalog export --store 1 --output store-1.json
    """

    async def work(engine: AsyncEngine) -> Catalog:
        return await export_catalog(engine, store_id, inventory_system_id=inventory_system_id)

    try:
        catalog = with_database(load_database_settings(), work)
    except (UnknownStoreError, WhichSystemError) as error:
        raise click.ClickException(str(error)) from error
    text = json.dumps(to_document(catalog), ensure_ascii=False, indent=2) + "\n"
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")
        click.echo(f"Wrote {len(catalog.items)} items to {output}.")
