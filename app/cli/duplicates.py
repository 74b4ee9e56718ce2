"""`pos-sync duplicates list`, `apply` and `dismiss`."""

from functools import partial

import click
from sqlalchemy.ext.asyncio import AsyncEngine

from app.cli.database import in_transaction, with_database
from app.cli.options import actor_option, item_option, json_option, note_option, numbers_argument, state_option, store_option
from app.cli.output import dismiss, kept_document, show_json, show_results, show_table
from app.operator.duplicates import apply_suspected
from app.operator.refusals import OperatorResult
from app.settings import load_database_settings
from app.storage import duplicates
from app.storage.duplicates import State


@click.group()
def command() -> None:
    """List suspected duplicates, and apply or dismiss them.

    A delivery that equals an applied movement in everything but `now` is taken for a retry: answered 204, not applied. Where
    the stock that it reports follows from what the same system reported in between, it may be a movement of its own, such as
    the last of +5, -5, +5 within one second. It is then kept here.
    """


@command.command("list")
@state_option(State)
@store_option
@item_option
@json_option
def list_command(*, state: str, store_id: str | None, item_id: str | None, as_json: bool) -> None:
    """List suspected duplicates, the oldest first, which is the order in which to apply them.

    \b
    Example:  pos-sync duplicates list --store 1
    """
    chosen = None if state == "all" else State(state)
    suspected = in_transaction(
        lambda connection: duplicates.list_suspected(connection, state=chosen, store_id=store_id, item_id=item_id)
    )
    documents = [kept_document(one) for one in suspected]
    if as_json:
        show_json(documents)
        return
    if not documents:
        click.echo("No such suspected duplicates." if state != "open" else "No suspected duplicates are open.")
        return
    names = ["number", "last_seen_at", "attempts", "state", "store_id", "item_id", "inventory_system_id"]
    fields = ["movement_type", "quantity", "current_stock", "date"]
    show_table(
        ["number", "last seen", "times", "state", "store", "item", "system", "type", "quantity", "reported", "date"],
        [[*(str(one[name]) for name in names), *(str(one["fields"].get(name, "-")) for name in fields)] for one in documents],
        right=(0, 2, 8, 9),
    )


@command.command("apply")
@numbers_argument
@actor_option
def apply_command(numbers: tuple[int, ...], actor: str) -> None:
    """Apply suspected duplicates as movements of their own, exactly once however often this is run.

    Ends with status 1 if something could not be applied.

    \b
    Example:  pos-sync duplicates apply 3
    """
    settings = load_database_settings()

    async def work(engine: AsyncEngine) -> list[OperatorResult]:
        return [await apply_suspected(engine, number, actor=actor) for number in dict.fromkeys(numbers)]

    show_results(with_database(settings, work))


@command.command("dismiss")
@numbers_argument
@note_option
@actor_option
def dismiss_command(numbers: tuple[int, ...], note: str, actor: str) -> None:
    """Dismiss suspected duplicates as retries: they are not applied.

    \b
    Example:  pos-sync duplicates dismiss 3 --note "one delivery note only"
    """
    dismiss(numbers, partial(duplicates.close, state=State.DISMISSED, actor=actor, note=note))
