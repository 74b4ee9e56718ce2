"""`pos-sync stock`."""

import click
from sqlalchemy.ext.asyncio import AsyncEngine

from app.cli.database import with_database
from app.cli.options import item_option, json_option, store_option
from app.cli.output import show_json, show_table, to_utc
from app.settings import load_database_settings
from app.stock.quantity import ZERO, to_plain
from app.storage.levels import StockedItem, list_levels


@click.command()
@store_option
@item_option
@json_option
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
        show_json(rows)
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
                to_utc(level.updated_at) or "",
                "below zero" if level.quantity < ZERO else "",
            ]
            for level in levels
        ],
        right=(3, 4),
    )
