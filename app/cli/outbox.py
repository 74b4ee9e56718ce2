"""`pos-sync outbox list`, `show`, `retry` and `dismiss`."""

import sys
from typing import Any

import click
from sqlalchemy.ext.asyncio import AsyncConnection

from app.cli.database import in_transaction
from app.cli.group import CommandGroup
from app.cli.options import actor_option, json_option, limit_option, note_option, numbers_argument, store_option, system_option
from app.cli.output import document_of, show_json, show_table
from app.stock.movement import MovementType
from app.stock.quantity import to_plain
from app.storage import messages
from app.storage.messages import ListedMessage
from app.storage.outbox import OutboxState

_STATES = [state.value for state in OutboxState]


@click.group(cls=CommandGroup)
def command() -> None:
    """Stock updates for the inventory systems: what waits, what was refused, and what to do about it.

    \b
    Example:  pos-sync outbox list
    """


@command.command("list")
@click.option("--state", "states", type=click.Choice(_STATES), multiple=True, help="[default: pending and dead]")
@click.option("--all", "is_all", is_flag=True, help="In every state.")
@store_option
@system_option
@limit_option
@json_option
def list_command(  # noqa: PLR0913 - one parameter per option
    *,
    states: tuple[str, ...],
    is_all: bool,
    store_id: str | None,
    system_id: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show messages that wait to be sent, and those that mipOS refused.

    \b
    Example:  pos-sync outbox list --state dead
    """
    chosen = [] if is_all else [OutboxState(state) for state in states or ("pending", "dead")]
    found = in_transaction(
        lambda connection: messages.find(connection, states=chosen, store_id=store_id, system_id=system_id, limit=limit)
    )
    if as_json:
        show_json([_fields(one) for one in found])
        return
    if not found:
        click.echo("Nothing: every stock update has been sent.")
        return
    show_table(
        ["number", "state", "store", "item", "system", "change", "stock", "tries", "words"],
        [
            [
                str(one.outbox_message_id),
                one.state.value,
                one.store_id,
                one.item_id,
                one.inventory_system_id,
                _change(one),
                to_plain(one.balance_after),
                str(one.attempts),
                one.waits_for or one.words or "",
            ]
            for one in found
        ],
        right=(0, 5, 6, 7),
    )


@command.command("show")
@click.argument("number", type=int)
def show_command(number: int) -> None:
    """Show one message whole.

    \b
    Example:  pos-sync outbox show 17
    """
    found = in_transaction(lambda connection: messages.find(connection, ids=[number], limit=1))
    if not found:
        raise click.ClickException(f"There is no message {number}. `pos-sync outbox list --all` shows all.")
    for name, value in _fields(found[0]).items():
        click.echo(f"{name.replace('_', ' '):<20}{'-' if value is None else value}")


@command.command("retry")
@click.argument("numbers", type=int, nargs=-1)
@click.option("--dead", "is_all_dead", is_flag=True, help="All that mipOS refused.")
def retry_command(numbers: tuple[int, ...], *, is_all_dead: bool) -> None:
    """Send messages now: dead and dismissed ones again, and pending ones without waiting for their next try.

    Ends with status 1 if a message cannot be sent again: it was sent already, or there is none with that number.

    \b
    Example:  pos-sync outbox retry --dead
    """
    if bool(numbers) == is_all_dead:
        raise click.UsageError("Name numbers, or --dead.")

    async def work(connection: AsyncConnection) -> tuple[list[int], list[int]]:
        asked = list(numbers)
        if is_all_dead:
            asked = [one.outbox_message_id for one in await messages.find(connection, states=[OutboxState.DEAD], limit=10**9)]
        return asked, await messages.retry(connection, asked)

    _report(*in_transaction(work), done="to be sent again", not_done="sent already, or not found")


@command.command("dismiss")
@numbers_argument
@note_option
@actor_option
def dismiss_command(numbers: tuple[int, ...], *, note: str, actor: str) -> None:
    """Dismiss messages: they are not sent. The inventory system's stock then differs by them.

    \b
    Example:  pos-sync outbox dismiss 17 --note "corrected by hand in the inventory system"
    """
    dismissed = in_transaction(lambda connection: messages.dismiss(connection, numbers, actor=actor, note=note))
    _report(list(numbers), dismissed, done="dismissed", not_done="on its way or closed, or not found")


def _report(asked: list[int], done_numbers: list[int], *, done: str, not_done: str) -> None:
    left = [number for number in asked if number not in set(done_numbers)]
    click.echo(f"{done}: {len(done_numbers)}" + (f", {not_done}: {', '.join(map(str, left))}" if left else ""))
    sys.exit(1 if left else 0)


def _change(one: ListedMessage) -> str:
    return ("-" if one.movement_type == MovementType.REMOVE else "+") + to_plain(one.quantity)


def _fields(one: ListedMessage) -> dict[str, Any]:
    fields = document_of(one)
    for name in ("movement_type", "quantity", "balance_after"):
        del fields[name]
    waits = fields["next_attempt_at"] if one.state is OutboxState.PENDING else None
    return {**fields, "change": _change(one), "current_stock": to_plain(one.balance_after), "next_attempt_at": waits}
