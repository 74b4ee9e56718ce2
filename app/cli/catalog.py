"""`pos-sync catalog import` and `catalog export`."""

import json
from collections.abc import Sequence
from pathlib import Path

import click
from sqlalchemy.ext.asyncio import AsyncEngine

from app.catalog_body import read_catalog, read_tables
from app.cli.database import with_database
from app.errors import CannotSync
from app.operator.catalog import Imported, export_catalog, import_catalog
from app.settings import load_database_settings
from app.stock.catalog import Catalog, CatalogRefused, to_document
from app.stock.csv_catalog import FILES, to_tables
from app.stock.text import MAX_TEXT_LENGTH, fault_in


@click.group()
def command() -> None:
    """Import and export a store's catalogue: items, units, suppliers, and with which inventory system it shares them."""


@command.command("import")
@click.option("--store", "store_id", required=True, help="The store, by the id that the POS gives it; made if it is new.")
@click.option("--system", "inventory_system_id", help="With a folder: the inventory system that the store is connected to.")
@click.option("--user", "user_id_tps", help="With a folder: the user_id_tps, who owns the inventory system.")
@click.argument("source", metavar="FILE", type=click.Path(exists=True, path_type=Path))
def import_command(store_id: str, source: Path, inventory_system_id: str | None, user_id_tps: str | None) -> None:
    """Import FILE, which is JSON in the shape of the documented sync call's body, or a folder of CSV tables.

    Repeatable: names, costs, units and suppliers are updated, and an item that the store does not stock yet is opened with
    the file's stock. Stock that exists is never changed. A bad file is refused whole, with every bad entry named.

    A folder holds items.csv, units.csv and suppliers.csv. The first line of each names the columns as the JSON names its
    fields, in any order; other columns are ignored, and said. UTF-8, comma or semicolon between cells, a point in numbers.

    \b
    Example:  pos-sync catalog import --store 1 app/samples/store-1.json
              pos-sync catalog import --store 1 exported --system 4344be8c-c6b9-4c51-88a6-d620144ab406 --user 30
    """
    if fault := fault_in(store_id, longest=MAX_TEXT_LENGTH):
        raise click.BadParameter(f"{fault}.", param_hint="--store")
    settings = load_database_settings()
    ignored: Sequence[str] = ()
    try:
        if source.is_dir():
            catalog, ignored = _read_folder(source, inventory_system_id=inventory_system_id, user_id_tps=user_id_tps)
        else:
            if inventory_system_id is not None or user_id_tps is not None:
                raise click.UsageError("--system and --user go with a folder of CSV tables: the JSON file names both itself.")
            catalog = read_catalog(source.read_text(encoding="utf-8"))

        async def work(engine: AsyncEngine) -> Imported:
            return await import_catalog(engine, store_id, catalog, rules=settings.rules)

        imported = with_database(settings, work)
    except UnicodeDecodeError as error:
        raise click.ClickException(f"{source} is not UTF-8. Nothing was imported.") from error
    except CatalogRefused as error:
        lines = "\n".join(f"  {problem}" for problem in error.problems)
        raise click.ClickException(f"{source} was refused, and nothing was imported:\n{lines}") from error
    kept = imported.items - imported.opened
    click.echo(
        f"{'Made store' if imported.is_new_store else 'Updated store'} {store_id}; items: {imported.items}, "
        f"units: {len(catalog.units)}, suppliers: {len(catalog.suppliers)}. "
        f"Stock opened: {imported.opened}, kept as it is: {kept}."
    )
    if ignored:
        click.echo(f"Ignored columns: {', '.join(ignored)}.")


def _read_folder(folder: Path, *, inventory_system_id: str | None, user_id_tps: str | None) -> tuple[Catalog, Sequence[str]]:
    if inventory_system_id is None or user_id_tps is None:
        raise click.UsageError("CSV tables do not name the inventory system: add --system ID --user ID.")
    missing = [name for name in FILES.values() if not (folder / name).is_file()]
    if missing:
        raise click.UsageError(f"The folder {folder} has no {', '.join(missing)}. It must hold {', '.join(FILES.values())}.")
    files = {name: (folder / file).read_bytes() for name, file in FILES.items()}
    read = read_tables(files, inventory_system_id=inventory_system_id, user_id_tps=user_id_tps)
    return read.catalog, read.ignored


@command.command("export")
@click.option("--store", "store_id", required=True, help="The store.")
@click.option("--system", "inventory_system_id", help="The inventory system, where the store has several.")
@click.option("--format", "as_format", type=click.Choice(["json", "csv"]), default="json", show_default=True)
@click.option(
    "--output", type=click.Path(writable=True, path_type=Path), help="A file instead of the terminal; of CSV, a folder (needed)."
)
def export_command(store_id: str, inventory_system_id: str | None, as_format: str, output: Path | None) -> None:
    """Write a store's catalogue with its stock as it is now, in the shape that `import` takes.

    In CSV a text that begins with = + - or @ gets an apostrophe before it, so that no spreadsheet runs it as a formula; the
    import takes it away again.

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
