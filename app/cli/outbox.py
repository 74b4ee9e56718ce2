"""`pos-sync outbox list`, `show`, `retry` and `dismiss`."""

from collections.abc import Sequence
from typing import Any

import click
from sqlalchemy.ext.asyncio import AsyncConnection

from app.cli.database import in_transaction
from app.cli.group import CommandGroup
from app.cli.options import (
    actor_option,
    item_option,
    json_option,
    limit_option,
    note_option,
    numbers_argument,
    store_option,
    system_option,
)
from app.cli.output import document_of, show_json, show_outcomes, show_table, to_shown
from app.cli.subjects import require_known
from app.stock.movement import MovementType
from app.stock.quantity import to_canonical, to_plain
from app.storage import messages
from app.storage.messages import ListedMessage
from app.storage.outbox import OutboxState
from app.visible_text import as_seen

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
@item_option
@system_option
@limit_option
@json_option
def list_command(  # noqa: PLR0913 - one parameter per option
    *,
    states: tuple[str, ...],
    is_all: bool,
    store_id: str | None,
    item_id: str | None,
    system_id: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show messages that wait to be sent, and those that are not sent any more.

    \b
    Example:  pos-sync outbox list --state dead
              pos-sync outbox list --all --item avcc123
    """
    chosen = [] if is_all else [OutboxState(state) for state in states or ("pending", "dead")]

    async def work(connection: AsyncConnection) -> list[ListedMessage]:
        await require_known(connection, store_id=store_id, item_id=item_id)
        found = await messages.find(
            connection, states=chosen, store_id=store_id, item_id=item_id, system_id=system_id, limit=limit + 1
        )
        if not found:
            await require_known(connection, store_id=store_id, system_id=system_id)
        return found

    listed = in_transaction(work)
    found = listed[:limit]
    if as_json:
        show_json([_fields(one) for one in found])
        return
    if not found:
        is_everything = not states and not is_all and (store_id, item_id, system_id) == (None, None, None)
        click.echo("Nothing: every stock update has been sent." if is_everything else "No such messages.")
        return
    show_table(
        ["number", "state", "store", "item", "system", "change", "stock", "created", "tries", "next try", "words"],
        [
            [
                str(one.outbox_message_id),
                one.state.value,
                one.store_id,
                one.item_id,
                one.inventory_system_id,
                _change(one),
                to_canonical(one.balance_after),
                to_shown(one.created_at) or "",
                str(one.attempts),
                to_shown(one.next_attempt_at) or "" if one.state is OutboxState.PENDING and one.waits_for is None else "",
                one.waits_for or one.words or "",
            ]
            for one in found
        ],
        right=(0, 5, 6, 8),
        colours={(row, 1): "red" for row, one in enumerate(found) if one.state is OutboxState.DEAD},
    )
    if len(listed) > limit:
        click.echo("... and later ones: --limit")


@command.command("show")
@click.argument("number", type=int)
@json_option
def show_command(number: int, *, as_json: bool) -> None:
    """Show one message whole.

    \b
    Example:  pos-sync outbox show 17
    """
    found = in_transaction(lambda connection: messages.find(connection, ids=[number], limit=1))
    if not found:
        raise click.ClickException(f"There is no message {number}. `pos-sync outbox list --all` shows all.")
    if as_json:
        show_json(_fields(found[0]))
        return
    times = {name: to_shown(getattr(found[0], name)) for name in ("created_at", "next_attempt_at", "closed_at")}
    for name, value in _fields(found[0]).items():
        shown = times[name] if name in times and value is not None else value
        click.echo(f"{name.replace('_', ' '):<20}{'-' if shown is None else as_seen(str(shown))}")


@command.command("retry")
@click.argument("numbers", type=int, nargs=-1)
@click.option("--dead", "is_all_dead", is_flag=True, help="All that are not sent any more.")
@actor_option
@json_option
def retry_command(numbers: tuple[int, ...], *, is_all_dead: bool, actor: str, as_json: bool) -> None:
    """Send messages now: dead and dismissed ones again, and pending ones without waiting for their next try.

    Ends with status 1 if a message cannot be sent again: it was sent already, or there is none with that number.

    \b
    Example:  pos-sync outbox retry --dead
    """
    if bool(numbers) == is_all_dead:
        raise click.UsageError("Name numbers, or --dead.")

    async def work(connection: AsyncConnection) -> dict[int, str]:
        asked = list(numbers)
        if is_all_dead:
            asked = [one.outbox_message_id for one in await messages.find(connection, states=[OutboxState.DEAD], limit=10**9)]
        return await _outcomes(connection, asked, await messages.retry(connection, asked, actor=actor), done="to be sent again")

    show_outcomes(in_transaction(work), done="to be sent again", as_json=as_json)


@command.command("dismiss")
@numbers_argument
@note_option
@actor_option
@json_option
def dismiss_command(numbers: tuple[int, ...], *, note: str, actor: str, as_json: bool) -> None:
    """Dismiss messages: they are not sent. The inventory system's stock then differs by them.

    \b
    Example:  pos-sync outbox dismiss 17 --note "corrected by hand in the inventory system"
    """

    async def work(connection: AsyncConnection) -> dict[int, str]:
        dismissed = await messages.dismiss(connection, numbers, actor=actor, note=note)
        return await _outcomes(connection, numbers, dismissed, done="dismissed")

    show_outcomes(in_transaction(work), done="dismissed", as_json=as_json)


_CLOSED = {
    OutboxState.PENDING: "on its way just now",
    OutboxState.SENT: "sent already",
    OutboxState.COVERED: "not needed any more: a full synchronisation has told it",
    OutboxState.DISMISSED: "dismissed before",
}


async def _outcomes(connection: AsyncConnection, asked: Sequence[int], did: Sequence[int], *, done: str) -> dict[int, str]:
    """What became of each that was asked for: `done`, or why not."""
    left = [number for number in asked if number not in set(did)]
    states = (
        {one.outbox_message_id: one.state for one in await messages.find(connection, ids=left, limit=len(left))} if left else {}
    )
    return {
        number: done if number in did else _CLOSED[states[number]] if number in states else "there is no such message"
        for number in asked
    }


def _change(one: ListedMessage) -> str:
    sign = "" if not one.quantity else "-" if one.movement_type == MovementType.REMOVE else "+"
    return sign + to_canonical(one.quantity)


def _fields(one: ListedMessage) -> dict[str, Any]:
    fields = document_of(one)
    for name in ("movement_type", "quantity", "balance_after"):
        del fields[name]
    waits = fields["next_attempt_at"] if one.state is OutboxState.PENDING else None
    return {**fields, "change": _change(one), "current_stock": to_plain(one.balance_after), "next_attempt_at": waits}
