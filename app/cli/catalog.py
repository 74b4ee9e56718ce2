"""`pos-sync catalog import` and `catalog export`."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import click
from sqlalchemy.ext.asyncio import AsyncEngine

from app.catalog_body import read_catalog, read_tables
from app.cli.database import with_database
from app.cli.group import CommandGroup
from app.cli.options import MomentType, actor_option, json_option
from app.cli.output import InputRefused, json_text, named_problems, show_json
from app.cli.progress import progress
from app.cli.subjects import unknown_store
from app.errors.requests import CannotSync, NoStoreToSync
from app.operator.catalog import Imported, ImportOrder, export_catalog, import_catalog
from app.settings import load_database_settings
from app.stock.catalog import Catalog, CatalogRefused, look_alikes, to_document
from app.stock.csv_catalog import FILES, to_tables
from app.stock.text import fault_in_id, number_of
from app.visible_text import as_seen, typed


@click.group(cls=CommandGroup)
def command() -> None:
    """Import and export a store's catalog: items, units, suppliers, and the inventory system that shares them.

    \b
    Example:  pos-sync catalog import --store 1 app/samples/store-1.json
    """


@command.command("import")
@click.option("--store", "store_id", required=True, help="The POS's id of the store. A new store is created.")
@click.option("--system", "inventory_system_id", help="With a folder: the inventory system that the store is connected to.")
@click.option("--user", "user_id_tps", help="With a folder: the user_id_tps of the user who owns the inventory system.")
@click.option("--connect", metavar="SYSTEM", help="Connect the store to this second inventory system, which the file names.")
@click.option("--decimal-comma", is_flag=True, help="With a folder: numbers have a decimal comma, as in 1250,50.")
@click.option("--as-of", type=MomentType(), metavar="TIME", help="When the file's stock was counted. [default: now]")
@click.option("--retire-missing", is_flag=True, help="Retire the store's items that the file lacks.")
@click.option(
    "--accept-unit-change",
    is_flag=True,
    help="Where the unit of an item changes, its stock in the file is a count in the new unit.",
)
@click.option("--same-unit", "same_units", metavar="UNIT_ID", multiple=True, help="This unit was only renamed.")
@click.option("--dry-run", "is_dry", is_flag=True, help="Only say what would change; change nothing.")
@actor_option
@json_option
@click.argument("source", metavar="FILE", type=click.Path(exists=True, allow_dash=True, path_type=Path))
def import_command(  # noqa: PLR0913 - one parameter per option
    *,
    store_id: str,
    source: Path,
    inventory_system_id: str | None,
    user_id_tps: str | None,
    connect: str | None,
    decimal_comma: bool,
    as_of: datetime | None,
    retire_missing: bool,
    accept_unit_change: bool,
    same_units: tuple[str, ...],
    is_dry: bool,
    actor: str,
    as_json: bool,
) -> None:
    """Import FILE: JSON in the shape of the documented sync call's body (- is standard input), or a folder of CSV tables.

    Repeatable: names, costs, units and suppliers are updated, and an item whose stock was never counted is opened with the
    file's stock. Other stock is never changed. An import changes its own store only. A bad file is refused whole: the first 20
    faults are named, and the exit status is 2. Ids that differ only in case or in the encoding of an accent are imported with a
    warning.

    While there is stock of an item, a file that changes its unit is refused. With --accept-unit-change, the file's stock is what
    there is now, in the new unit. Stock updates about the item then wait for the next full synchronisation.

    A folder holds items.csv, units.csv and suppliers.csv. The first line of each names the columns as the JSON names its
    fields, in any order and case; the output names other columns, which are ignored. Files are UTF-8. Cells are separated by
    commas, semicolons or tabs. Numbers have a decimal point, or with --decimal-comma a comma, and no thousands separators.

    \b
    Example:  pos-sync catalog import --store 1 app/samples/store-1.json
              pos-sync catalog import --store 1 exported --system 4344be8c-c6b9-4c51-88a6-d620144ab406 --user 30
              pos-sync catalog import --store 1 app/samples/store-1.json --retire-missing --dry-run
    """
    if fault := fault_in_id(store_id):
        raise click.BadParameter(f"{fault}.", param_hint="--store")
    if accept_unit_change and as_of is not None:
        raise click.UsageError(
            "--accept-unit-change and --as-of do not go together: what moved since then is in the old unit. Count again, and "
            "import that count without --as-of."
        )
    settings = load_database_settings()
    order = ImportOrder(
        connects=connect,
        retires_missing=retire_missing,
        accepts_unit_change=accept_unit_change,
        same_units=frozenset(same_units),
        actor=actor,
        is_dry=is_dry,
    )
    try:
        with progress("Reading the file") as line:
            catalog, ignored = _read(source, inventory_system_id, user_id_tps, decimal_comma=decimal_comma)
            line.update("Importing")

            async def work(engine: AsyncEngine) -> Imported:
                return await import_catalog(engine, store_id, catalog, order, as_of=as_of, on_progress=line.count)

            imported = with_database(settings, work)
    except CatalogRefused as error:
        named = named_problems(error.problems)
        raise InputRefused(f"{source} was refused, and nothing was imported:\n{named}") from error
    if as_json:
        show_json({"store_id": store_id, "is_dry": is_dry, **asdict(imported), "ignored_columns": list(ignored)})
    else:
        click.echo(f"{'Nothing was changed. It would be: ' if is_dry else ''}{_summary(store_id, catalog, imported)}")
        if ignored:
            click.echo(as_seen(f"Ignored columns: {', '.join(ignored)}."))
    if warnings := look_alikes(catalog):
        click.echo(f"Check these:\n{named_problems(warnings)}", err=True)


def _read(
    source: Path, inventory_system_id: str | None, user_id_tps: str | None, *, decimal_comma: bool
) -> tuple[Catalog, Sequence[str]]:
    """The catalog, and the columns that were ignored."""
    if source.is_dir():
        return _read_folder(source, inventory_system_id, user_id_tps, decimal_comma=decimal_comma)
    if inventory_system_id is not None or user_id_tps is not None:
        raise click.UsageError("--system and --user go with a folder of CSV tables: the JSON file names both itself.")
    if decimal_comma:
        raise click.UsageError("--decimal-comma goes with a folder of CSV tables: numbers in JSON have a decimal point.")
    return read_catalog(sys.stdin.buffer.read() if str(source) == "-" else source.read_bytes()), ()


def _summary(store_id: str, catalog: Catalog, imported: Imported) -> str:
    done = imported.changes
    recounted = f", counted in a new unit: {imported.recounted}" if imported.recounted else ""
    lead = f"{'New store' if imported.is_new_store else 'Store'} {store_id}: added {done.added}, changed {done.changed}"
    parts = f"name {done.name}, cost {done.cost}, unit {done.unit}, supplier {done.supplier}"
    others = f"kept {done.kept}, brought back {done.brought_back}, retired {done.retired}"
    stock = f"Opened with the file's stock: {imported.opened}{recounted}; all others keep their stock."
    lines = [f"{lead} ({parts}), {others}. {stock}"]
    if imported.is_new_system:
        lines.append(f"Connected to {catalog.inventory_system_id}, with user_id_tps {catalog.user_id_tps}.")
    if imported.former_user is not None:
        lines.append(
            f"The user_id_tps of {catalog.inventory_system_id}: {imported.former_user} before, {catalog.user_id_tps} after."
        )
    if imported.held:
        lines.append(
            f"Items whose unit changed: {imported.held}. Stock updates about them wait for a full synchronisation: "
            f"pos-sync sync --store {typed(store_id)}"
        )
    return "\n".join(map(as_seen, lines))


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
        with progress("Reading the store"):
            catalog = with_database(load_database_settings(), work)
    except NoStoreToSync as error:
        raise unknown_store(store_id) from error
    except CannotSync as error:
        raise click.ClickException(error.message) from error
    if is_csv and output is not None:
        output.mkdir(parents=True, exist_ok=True)
        for name, table in to_tables(catalog).items():
            (output / FILES[name]).write_bytes(table.encode("utf-8"))
        click.echo(
            f"Wrote {number_of(len(catalog.items), 'item')} to {output}. Import them with: "
            f"pos-sync catalog import --store ID {typed(str(output))} --system {typed(catalog.inventory_system_id)} "
            f"--user {typed(catalog.user_id_tps)}"
        )
        return
    text = json_text(to_document(catalog)) + "\n"
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")
        click.echo(f"Wrote {number_of(len(catalog.items), 'item')} to {output}.")
