"""`pos-sync movement` and `pos-sync reverse`."""

import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

import click
from sqlalchemy.ext.asyncio import AsyncEngine

from app.applying.reversal import Reversal, reverse
from app.cli.database import with_database
from app.cli.options import QuantityType, TextType, actor_option, json_option, note_option
from app.cli.output import document_of, show_json, to_shown
from app.cli.subjects import require_known, unknown_item, unknown_store
from app.errors import PosSyncError, UnknownItem, UnknownStore
from app.operator.movement import Recording, record
from app.settings import load_database_settings
from app.stock.movement import Correction
from app.stock.pos import PosKind, pos_movement
from app.stock.quantity import NotAQuantity, require_unsigned, to_plain, to_signed
from app.stock.text import MAX_TEXT_LENGTH, parse_idempotency_key, parse_moment

_T = TypeVar("_T")
_HELP = {
    PosKind.SALE: "The quantity that was sold.",
    PosKind.RECEIPT: "The quantity that was received.",
    PosKind.COUNT: "What was counted: the level at --at becomes this quantity, and what happened since stays.",
    PosKind.RETURN: "The quantity that a customer brought back.",
    PosKind.WASTE: "The quantity that was thrown away.",
    PosKind.ADJUSTMENT: "A change for another reason, with a sign. Needs --reason.",
    PosKind.TRANSFER: "The quantity that goes to another store. Needs --to.",
}


def _kind_options(command: Callable[..., None]) -> Callable[..., None]:
    for kind in reversed(PosKind):
        option = click.option(f"--{kind.value}", f"as_{kind.value}", metavar="QUANTITY", type=QuantityType(), help=_HELP[kind])
        command = option(command)
    return command


@click.command()
@click.option("--store", "store_id", required=True, help="The store.")
@click.option("--item", "item_id", required=True, help="The item.")
@_kind_options
@click.option("--to", "to_store_id", help="Of a transfer: the store that receives.")
@click.option("--reason", type=TextType(MAX_TEXT_LENGTH), help="Why. It is kept in the ledger.")
@click.option("--reference", type=TextType(MAX_TEXT_LENGTH), help="What it belongs to, such as a delivery note.")
@click.option("--key", help="The idempotency key, such as the ticket's number. [default: a new one]")
@click.option("--at", "happened_at", help='When, with its offset, such as "2026-05-30T12:45:03-05:00". [default: now]')
@json_option
def command(  # noqa: PLR0913 - one parameter per option
    *,
    store_id: str,
    item_id: str,
    to_store_id: str | None,
    reason: str | None,
    reference: str | None,
    key: str | None,
    happened_at: str | None,
    as_json: bool,
    **quantities: Decimal | None,
) -> None:
    """Record what the POS sold, received, counted or moved. The running service tells the store's inventory systems.

    Time decides: what happened before a count is in it, in whatever order the two are recorded. A second call with the same
    --key changes nothing.

    \b
    Example:  pos-sync movement --store 1 --item avcc123 --sale 0.5 --key ticket-7
    """
    kind, quantity = _only(quantities)
    if (kind is PosKind.TRANSFER) != (to_store_id is not None) or to_store_id == store_id:
        raise click.UsageError("--transfer and --to belong together, and --to is another store.")
    if kind is PosKind.ADJUSTMENT and reason is None:
        raise click.UsageError("An adjustment needs --reason.")
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
        reason=reason,
        reference=reference,
        to_store_id=to_store_id,
    )
    settings = load_database_settings()

    async def work(engine: AsyncEngine) -> Recording:
        return await record(engine, movement, idempotency_key=key)

    try:
        recording = with_database(settings, work)
    except UnknownStore as error:
        raise unknown_store(error.store_id) from error
    except UnknownItem as error:
        # Of an item that only other stores have, the definition is copied.
        raise unknown_item(item_id, None) from error
    except PosSyncError as error:
        raise click.ClickException(error.message) from error
    if as_json:
        show_json({"store_id": store_id, "item_id": item_id, "key": key, **_document(recording)})
        return
    said = "Recorded" if recording.is_new else "Recorded before"
    click.echo(f"{said}, with the key {key}. The stock of {item_id} in store {store_id} after it: {to_plain(recording.stock)}.")
    if recording.to_store_stock is not None:
        click.echo(f"In store {to_store_id}: {to_plain(recording.to_store_stock)}.")
    _show_correction(recording.correction)


@click.command()
@click.option("--store", "store_id", required=True, help="The store.")
@click.option("--item", "item_id", required=True, help="The item.")
@click.option("--row", "level_version", type=click.IntRange(1), required=True, help="The row's number in the item's ledger.")
@note_option
@actor_option
@click.option("--dry-run", "is_dry", is_flag=True, help="Only show what would be; change nothing.")
@json_option
def reverse_command(  # noqa: PLR0913 - one parameter per option
    *, store_id: str, item_id: str, level_version: int, note: str, actor: str, is_dry: bool, as_json: bool
) -> None:
    """Take back one ledger row by its opposite, once. Of a transfer both halves are taken back.

    The opposite happens when the row did: reversed, a sale that a count had held leaves the stock as it is, and a count is as
    if it had never been. `pos-sync ledger` shows the numbers of the rows. The inventory systems are told, but for the one that
    reported the movement.

    \b
    Example:  pos-sync reverse --store 1 --item avcc123 --row 2 --note "booked twice"
    """
    settings = load_database_settings()

    async def work(engine: AsyncEngine) -> Sequence[Reversal]:
        async with engine.connect() as connection:
            await require_known(connection, store_id=store_id, item_id=item_id)
        return await reverse(
            engine, store_id=store_id, item_id=item_id, level_version=level_version, actor=actor, note=note, is_dry=is_dry
        )

    try:
        done = with_database(settings, work)
    except PosSyncError as error:
        raise click.ClickException(error.message) from error
    if as_json:
        show_json([{"is_dry": is_dry, **_document(one)} for one in done])
        return
    lead = "Nothing was changed. It would be: " if is_dry else ""
    for one in done:
        said = f"reversed by row {one.level_version}" if one.is_new else f"was reversed before, by row {one.level_version}"
        click.echo(f"{lead}Item {one.item_id} in store {one.store_id}: {said}. The stock after it: {to_plain(one.stock)}.")
        _show_correction(one.correction)


def _only(quantities: dict[str, Decimal | None]) -> tuple[PosKind, Decimal]:
    named = [(PosKind(name.removeprefix("as_")), quantity) for name, quantity in quantities.items() if quantity is not None]
    if len(named) != 1:
        raise click.UsageError(f"Name one of {', '.join(f'--{kind.value}' for kind in PosKind)}.")
    ((kind, quantity),) = named
    if not quantity and kind is not PosKind.COUNT:
        raise click.BadParameter("must not be 0: nothing would move.", param_hint=f"--{kind.value}")
    if kind is not PosKind.ADJUSTMENT:
        try:
            require_unsigned(quantity)
        except NotAQuantity as problem:
            raise click.BadParameter(f"{problem}.", param_hint=f"--{kind.value}") from None
    return kind, quantity


def _document(one: Recording | Reversal) -> dict[str, Any]:
    correction = None if one.correction is None else document_of(one.correction)
    return {**document_of(one), "correction": correction}


def _show_correction(correction: Correction | None) -> None:
    if correction is not None:
        click.echo(
            f"The count of {to_shown(correction.counted_at)} had held it already: corrected by "
            f"{to_signed(correction.amount)}, so the stock stays."
        )


def _parsed(parse: Callable[[str], _T], text: str, *, hint: str) -> _T:
    try:
        return parse(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}.", param_hint=hint) from None
