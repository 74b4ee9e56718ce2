"""`pos-sync item list`, `set`, `retire` and `restore`."""

from decimal import Decimal
from typing import Any

import click
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.cli.database import in_transaction, with_database
from app.cli.group import CommandGroup
from app.cli.options import QuantityType, TextType, actor_option, json_option
from app.cli.output import show_json, show_table, to_iso, to_shown
from app.cli.subjects import require_known
from app.operator.item import CannotChangeItem, ItemChange, retire_items, set_item
from app.settings import load_database_settings
from app.stock.definitions import DefinedItem
from app.stock.quantity import NotAQuantity, require_unsigned, to_plain
from app.stock.text import MAX_TEXT_LENGTH
from app.storage import items
from app.visible_text import typed

_store_option = click.option("--store", "store_id", required=True, help="The store.")
_items_argument = click.argument("item_ids", metavar="ITEM...", nargs=-1, required=True)


@click.group(cls=CommandGroup)
def command() -> None:
    """Show and change the items of a store; retire them and bring them back.

    \b
    Example:  pos-sync item list --store 1
    """


@command.command("list")
@_store_option
@click.option("--retired", "is_retired", is_flag=True, help="Only retired items.")
@json_option
def list_command(*, store_id: str, is_retired: bool, as_json: bool) -> None:
    """Show a store's items: units, supplier, cost, threshold of low stock, whether they are retired, and where they come from.

    \b
    Example:  pos-sync item list --store 1
    """

    async def work(connection: AsyncConnection) -> list[DefinedItem]:
        await require_known(connection, store_id=store_id)
        return await items.list_items(connection, store_id)

    found = [one for one in in_transaction(work) if one.retired_at is not None or not is_retired]
    if as_json:
        show_json([_document(one) for one in found])
    elif not found:
        click.echo("No retired items." if is_retired else "No items. They come with: pos-sync catalog import --store ID FILE")
    else:
        show_table(
            ["item", "name", "unit", "purchase unit", "supplier", "cost", "low below", "retired", "copied from store"],
            [
                [
                    one.item_id,
                    one.name,
                    one.unit_id,
                    one.purchase_unit_id,
                    one.supplier_id,
                    to_plain(one.cost),
                    "" if one.low_stock is None else to_plain(one.low_stock),
                    to_shown(one.retired_at) or "",
                    one.copied_from or "",
                ]
                for one in found
            ],
            right=(5, 6),
        )


def _document(one: DefinedItem) -> dict[str, Any]:
    return {
        "item_id": one.item_id,
        "name": one.name,
        "unit_id": one.unit_id,
        "purchase_unit_id": one.purchase_unit_id,
        "supplier_id": one.supplier_id,
        "cost": to_plain(one.cost),
        "low_stock": None if one.low_stock is None else to_plain(one.low_stock),
        "retired_at": to_iso(one.retired_at),
        "copied_from": one.copied_from,
    }


@command.command("set")
@_store_option
@click.argument("item_id", metavar="ITEM")
@click.option("--name", type=TextType(MAX_TEXT_LENGTH), help="What it is called.")
@click.option("--cost", type=QuantityType(), help="What a purchase unit costs.")
@click.option("--supplier", "supplier_id", metavar="ID", help="Its supplier, by the id of one that the store has.")
@click.option("--purchase-unit", "purchase_unit_id", metavar="ID", help="The unit in which it is bought.")
@click.option("--unit", "unit_id", metavar="ID", help="The unit in which it is stocked. Only while the stock is 0.")
@click.option("--low-stock", type=QuantityType(), help="Warn when the stock is below this.")
@click.option("--no-low-stock", "forgets_low_stock", is_flag=True, help="Do not warn any more.")
@actor_option
@json_option
def set_command(  # noqa: PLR0913 - one parameter per option
    *,
    store_id: str,
    item_id: str,
    name: str | None,
    cost: Decimal | None,
    supplier_id: str | None,
    purchase_unit_id: str | None,
    unit_id: str | None,
    low_stock: Decimal | None,
    forgets_low_stock: bool,
    actor: str,
    as_json: bool,
) -> None:
    """Change the named options of item ITEM in one store. All others stay as they are, and other stores keep theirs.

    \b
    Example:  pos-sync item set --store 1 avcc123 --name "Chicken, free range" --cost 7.10
              pos-sync item set --store 1 avcc123 --low-stock 2
    """
    change = ItemChange(
        name=name,
        cost=_unsigned(cost, "--cost"),
        supplier_id=supplier_id,
        purchase_unit_id=purchase_unit_id,
        consumption_unit_id=unit_id,
        low_stock=_unsigned(low_stock, "--low-stock"),
        forgets_low_stock=forgets_low_stock,
    )
    if not change.values:
        raise click.UsageError("Nothing to set. Name at least one option.")

    async def work(engine: AsyncEngine) -> bool:
        return await set_item(engine, store_id, item_id, change, actor=actor)

    try:
        is_held = with_database(load_database_settings(), work)
    except CannotChangeItem as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        show_json({"store_id": store_id, "item_id": item_id, "is_held": is_held})
        return
    click.echo(f"Item {item_id} of store {store_id} is set.")
    if is_held:
        click.echo(
            f"Its unit changed. Stock updates about it wait for a full synchronisation: pos-sync sync --store {typed(store_id)}"
        )


def _unsigned(quantity: Decimal | None, option: str) -> Decimal | None:
    try:
        return None if quantity is None else require_unsigned(quantity)
    except NotAQuantity as problem:
        raise click.BadParameter(f"{problem}.", param_hint=option) from None


@command.command("retire")
@_store_option
@_items_argument
@json_option
def retire_command(*, store_id: str, item_ids: tuple[str, ...], as_json: bool) -> None:
    """Leave items out of exports and synchronisations. They keep their stock and ledger, and still take movements.

    \b
    Example:  pos-sync item retire --store 1 tom001
    """
    _set_retired(store_id, item_ids, retires=True, as_json=as_json)


@command.command("restore")
@_store_option
@_items_argument
@json_option
def restore_command(*, store_id: str, item_ids: tuple[str, ...], as_json: bool) -> None:
    """Bring retired items back into exports and synchronisations.

    \b
    Example:  pos-sync item restore --store 1 tom001
    """
    _set_retired(store_id, item_ids, retires=False, as_json=as_json)


def _set_retired(store_id: str, item_ids: tuple[str, ...], *, retires: bool, as_json: bool) -> None:
    async def work(engine: AsyncEngine) -> set[str]:
        return await retire_items(engine, store_id, item_ids, retires=retires)

    try:
        done = with_database(load_database_settings(), work)
    except CannotChangeItem as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        show_json([{"item_id": one, "is_retired": retires, "is_changed": one in done} for one in dict.fromkeys(item_ids)])
        return
    same = len(set(item_ids) - done)
    verb, state = ("Retired", "were retired already") if retires else ("Brought back", "were not retired")
    click.echo(f"{verb}: {len(done)}." + (f" {same} {state}." if same else ""))
