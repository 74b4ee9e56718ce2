"""What a command is asked about: a store, item or inventory system that there is not is an error, and no empty list."""

import click
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.catalog import find_store, has_system
from app.storage.items import has_item
from app.visible_text import shown, typed


async def require_known(
    connection: AsyncConnection, *, store_id: str | None = None, item_id: str | None = None, system_id: str | None = None
) -> None:
    """Look whether there are the named ones; an item has to be in the store, where one is named too.

    Raises:
        ClickException: it names what there is not, and the command that lists them.
    """
    if store_id is not None and await find_store(connection, store_id) is None:
        raise unknown_store(store_id)
    if item_id is not None and not await has_item(connection, item_id, store_id=store_id):
        raise unknown_item(item_id, store_id)
    if system_id is not None and not await has_system(connection, system_id, store_id=store_id):
        where = "No store is connected" if store_id is None else f"Store {store_id} is not connected"
        raise click.ClickException(f"{where} to the inventory system {shown(system_id)}. `pos-sync store list` shows all.")


def unknown_store(store_id: str) -> click.ClickException:
    """There is no such store, in words for an operator."""
    return click.ClickException(
        f"There is no store {shown(store_id)}. `pos-sync store list` shows all. A new one comes with: pos-sync catalog import"
    )


def unknown_item(item_id: str, store_id: str | None) -> click.ClickException:
    """There is no such item, in words for an operator."""
    has_not = "No store has an item" if store_id is None else f"Store {store_id} has no item"
    store = "STORE" if store_id is None else typed(store_id)
    return click.ClickException(
        f"{has_not} {shown(item_id)}. `pos-sync item list --store {store}` shows all. New items come with: "
        "pos-sync catalog import"
    )
