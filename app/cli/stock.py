"""`pos-sync stock`."""

import json

import click
from sqlalchemy.ext.asyncio import AsyncEngine

from app.cli.database import with_database
from app.cli.tables import show_table
from app.settings import load_database_settings
from app.stock.quantity import ZERO, to_plain
from app.storage.levels import StockedItem, list_levels


@click.command()
@click.option("--store", "store_id", help="Only this store.")
@click.option("--item", "item_id", help="Only this item.")
@click.option("--json", "as_json", is_flag=True, help="One JSON list, quantities as strings.")
def command(store_id: str | None, item_id: str | None, *, as_json: bool) -> None:
    """Show stock levels.

    \b
    Example:  pos-sync stock --store 1
    """

    async def work(engine: AsyncEngine) -> list[StockedItem]:
        async with engine.connect() as connection:
            return await list_levels(connection, store_id=store_id, item_id=item_id)

    levels = with_database(load_database_settings(), work)
    if as_json:
        rows = [
            {
                "store_id": level.store_id,
                "item_id": level.item_id,
                "name": level.name,
                "quantity": to_plain(level.quantity),
                "version": level.version,
                "updated_at": level.updated_at.isoformat(),
            }
            for level in levels
        ]
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    if not levels:
        click.echo("No stock here. A store's first stock comes from: pos-sync catalog import --store ID FILE")
        return
    show_table(
        ["store", "item", "name", "stock", "movements", "updated", ""],
        [
            [
                level.store_id,
                level.item_id,
                level.name,
                to_plain(level.quantity),
                str(level.version),
                level.updated_at.strftime("%Y-%m-%d %H:%M:%S UTC"),
                "below zero" if level.quantity < ZERO else "",
            ]
            for level in levels
        ],
        right=(3, 4),
    )
