"""`pos-sync movement`."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import TypeVar

import click
from sqlalchemy.ext.asyncio import AsyncEngine

from app.cli.database import with_database
from app.cli.options import QuantityType
from app.errors import PosSyncError
from app.operator.movement import Recording, record
from app.settings import load_database_settings
from app.stock.movement import PosKind, pos_movement
from app.stock.quantity import NotAQuantity, require_unsigned, to_plain
from app.stock.text import parse_idempotency_key, parse_moment

_T = TypeVar("_T")


@click.command()
@click.option("--store", "store_id", required=True, help="The store.")
@click.option("--item", "item_id", required=True, help="The item.")
@click.option("--sale", metavar="QUANTITY", type=QuantityType(), help="The quantity that was sold.")
@click.option("--receipt", metavar="QUANTITY", type=QuantityType(), help="The quantity that was received.")
@click.option("--count", metavar="QUANTITY", type=QuantityType(), help="The counted stock: the level becomes this quantity.")
@click.option("--key", help="The idempotency key, such as the ticket's number. [default: a new one]")
@click.option("--at", "happened_at", help='When, with its offset, such as "2026-05-30T12:45:03-05:00". [default: now]')
def command(  # noqa: PLR0913 - one parameter per option
    *,
    store_id: str,
    item_id: str,
    sale: Decimal | None,
    receipt: Decimal | None,
    count: Decimal | None,
    key: str | None,
    happened_at: str | None,
) -> None:
    """Record what the POS sold, received or counted. The running service tells the store's inventory systems.

    A second call with the same --key changes nothing.

    \b
    Example:  pos-sync movement --store 1 --item avcc123 --sale 0.5 --key ticket-7
    """
    asked = {PosKind.SALE: sale, PosKind.RECEIPT: receipt, PosKind.COUNT: count}
    named = [(kind, quantity) for kind, quantity in asked.items() if quantity is not None]
    if len(named) != 1:
        raise click.UsageError("Name one of --sale, --receipt and --count.")
    ((kind, quantity),) = named
    try:
        require_unsigned(quantity)
    except NotAQuantity as problem:
        raise click.BadParameter(f"{problem}.", param_hint=f"--{kind.value}") from None
    key = str(uuid.uuid4()) if key is None else _parsed(parse_idempotency_key, key, hint="--key")
    moment = None if happened_at is None else _parsed(parse_moment, happened_at, hint="--at")
    movement = pos_movement(
        store_id=store_id,
        item_id=item_id,
        kind=kind,
        quantity=quantity,
        idempotency_key=key,
        happened_at=moment,
        recorded_at=datetime.now(UTC),
    )
    settings = load_database_settings()

    async def work(engine: AsyncEngine) -> Recording:
        return await record(engine, movement, idempotency_key=key)

    try:
        recording = with_database(settings, work)
    except PosSyncError as error:
        raise click.ClickException(error.message) from error
    said = "Recorded" if recording.is_new else "Recorded before"
    click.echo(f"{said}, with the key {key}. The stock of {item_id} in store {store_id} after it: {to_plain(recording.stock)}.")


def _parsed(parse: Callable[[str], _T], text: str, *, hint: str) -> _T:
    try:
        return parse(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}.", param_hint=hint) from None
