"""`pos-sync stock`: the levels, with their units, and which of them need a look."""

import csv
import sys
from collections.abc import Sequence
from datetime import datetime

import click
from sqlalchemy.ext.asyncio import AsyncConnection

from app.cli.database import in_transaction
from app.cli.options import MomentType, item_option, json_option, store_option
from app.cli.output import document_of, show_json, show_table, to_shown
from app.cli.progress import progress
from app.cli.subjects import require_known
from app.stock.csv_cells import row_of
from app.stock.quantity import ZERO, to_plain
from app.storage.levels import LevelFilter, StockedItem, list_levels

_CSV = (
    "store_id", "item_id", "name", "quantity", "unit", "low_stock", "version", "updated_at", "retired_at", "copied_from",
)  # fmt: skip
_NUMBERS = {"quantity", "low_stock", "version"}
_STOCK_COLUMN = 3


@click.command()
@store_option
@item_option
@click.option(
    "--name",
    "named",
    metavar="TEXT",
    help="Only of items that have this in their name, or this id; case and accents do not count.",
)
@click.option("--below-zero", "is_below_zero", is_flag=True, help="Only levels below zero.")
@click.option("--low", "is_low", is_flag=True, help="Only levels below the item's threshold (pos-sync item set --low-stock).")
@click.option("--at", type=MomentType(), help="As it was at this time, by all that is known today.")
@click.option("--csv", "as_csv", is_flag=True, help="As CSV.")
@json_option
def stock_command(  # noqa: PLR0913 - one parameter per option
    *,
    store_id: str | None,
    item_id: str | None,
    named: str | None,
    is_below_zero: bool,
    is_low: bool,
    at: datetime | None,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Show stock levels, each with its unit.

    In CSV, a text that begins with = + - or @ gets an apostrophe before it, so that no spreadsheet runs it as a formula.

    \b
    Example:  pos-sync stock --store 1
              pos-sync stock --name tomato --below-zero
              pos-sync stock --low --csv
    """
    if as_csv and as_json:
        raise click.UsageError("Name --csv or --json, not both.")
    wanted = LevelFilter(named=named, is_below_zero=is_below_zero, is_low=is_low)

    async def work(connection: AsyncConnection) -> list[StockedItem]:
        await require_known(connection, store_id=store_id, item_id=item_id)
        return await list_levels(connection, store_id=store_id, item_id=item_id, wanted=wanted, at=at)

    # As it was at a time is computed from the ledger.
    with progress("Reading the stock"):
        levels = in_transaction(work)
    if as_json:
        show_json([document_of(level) for level in levels])
    elif as_csv:
        _write_csv(levels)
    elif levels:
        _show(levels)
    elif wanted == LevelFilter() and at is None:
        click.echo("No stock here. A store's first stock comes from: pos-sync catalog import --store ID FILE")
    else:
        click.echo("No such stock.")


def _show(levels: Sequence[StockedItem]) -> None:
    show_table(
        ["store", "item", "name", "stock", "unit", "movements", "updated", ""],
        [
            [
                level.store_id,
                level.item_id,
                level.name,
                to_plain(level.quantity),
                level.unit,
                "" if level.version is None else str(level.version),
                to_shown(level.updated_at) or "",
                _remark(level),
            ]
            for level in levels
        ],
        right=(_STOCK_COLUMN, 5),
        colours={(row, _STOCK_COLUMN): _colour(level) for row, level in enumerate(levels)},
    )


def _colour(level: StockedItem) -> str | None:
    if level.quantity < ZERO:
        return "red"
    return "yellow" if level.is_low else None


def _remark(level: StockedItem) -> str:
    remarks = [
        "below zero" if level.quantity < ZERO else "",
        f"low: below {to_plain(level.low_stock)}" if level.low_stock is not None and level.is_low else "",
        "" if level.retired_at is None else "retired",
        "" if level.copied_from is None else f"never imported here: definition of store {level.copied_from}",
    ]
    return "; ".join(remark for remark in remarks if remark)


def _write_csv(levels: Sequence[StockedItem]) -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow(_CSV)
    for level in levels:
        writer.writerow(row_of(document_of(level), _CSV, numbers=_NUMBERS))
