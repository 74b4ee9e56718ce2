"""`pos-sync duplicates list`, `show`, `apply` and `dismiss`."""

import click
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.cli.database import in_transaction, with_database
from app.cli.group import CommandGroup
from app.cli.options import actor_option, item_option, json_option, note_option, numbers_argument, state_option, store_option
from app.cli.output import kept_document, show_json, show_kept, show_results, show_table, to_shown
from app.cli.subjects import require_known
from app.operator.duplicates import apply_suspected, dismiss_suspected
from app.operator.refusals import OperatorResult
from app.settings import load_database_settings
from app.storage import duplicates
from app.storage.duplicates import State, SuspectedDuplicate


@click.group(cls=CommandGroup)
def command() -> None:
    """List suspected duplicates, and apply or dismiss them.

    Three kinds of deliveries are kept here for a person, and all were answered 204.

    repeated: It equals an applied movement in everything but `now`, and was not applied. Its stock follows from what the same
    system reported last, so it may be a movement of its own, such as the last of +5, -5, +5 under one date.

    echo: It equals a stock update that we sent to this system, and was not applied: our own movement came back.

    before count: It was applied, and its date lies before the newest count of the item, which may have held it already.

    \b
    Example:  pos-sync duplicates list
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

    async def work(connection: AsyncConnection) -> list[SuspectedDuplicate]:
        found = await duplicates.list_suspected(connection, state=chosen, store_id=store_id, item_id=item_id)
        if not found:
            await require_known(connection, store_id=store_id, item_id=item_id)
        return found

    suspected = in_transaction(work)
    if as_json:
        show_json([kept_document(one) for one in suspected])
        return
    documents = [kept_document(one, as_time=to_shown) for one in suspected]
    if not documents:
        click.echo("No such suspected duplicates." if state != "open" else "No suspected duplicates are open.")
        return
    names = ["number", "reason", "last_seen_at", "attempts", "state", "store_id", "item_id", "inventory_system_id"]
    fields = ["movement_type", "quantity", "current_stock", "date"]
    show_table(
        ["number", "why", "last seen", "times", "state", "store", "item", "system", "type", "quantity", "reported", "date"],
        [
            [*(str(one[name]).replace("_", " ") if name == "reason" else str(one[name]) for name in names)]
            + [str(one["fields"].get(name, "-")) for name in fields]
            for one in documents
        ],
        right=(0, 3, 9, 10),
    )


@command.command("show")
@click.argument("number", type=int)
@json_option
def show_command(number: int, *, as_json: bool) -> None:
    """Show one suspected duplicate whole: why it is one, fields, times, body.

    \b
    Example:  pos-sync duplicates show 3
    """
    found = in_transaction(lambda connection: duplicates.read(connection, number))
    if found is None:
        raise click.ClickException(f"There is no suspected duplicate {number}. `pos-sync duplicates list --state all` shows all.")
    show_kept(found, as_json=as_json)


@command.command("apply")
@numbers_argument
@actor_option
@json_option
def apply_command(numbers: tuple[int, ...], actor: str, *, as_json: bool) -> None:
    """Say that these deliveries count: they are applied, exactly once however often this is run.

    Of `before count` they are applied already, and only closed. Ends with status 1 if something could not be applied.

    \b
    Example:  pos-sync duplicates apply 3
    """
    settings = load_database_settings()

    async def work(engine: AsyncEngine) -> list[OperatorResult]:
        return [await apply_suspected(engine, number, actor=actor) for number in dict.fromkeys(numbers)]

    show_results(with_database(settings, work), as_json=as_json)


@command.command("dismiss")
@numbers_argument
@note_option
@actor_option
@json_option
def dismiss_command(numbers: tuple[int, ...], note: str, actor: str, *, as_json: bool) -> None:
    """Say that these deliveries do not count: they stay unapplied. Those of `before count` are taken back by a reversal.

    Ends with status 1 if something could not be dismissed.

    \b
    Example:  pos-sync duplicates dismiss 3 --note "one delivery note only"
    """
    settings = load_database_settings()

    async def work(engine: AsyncEngine) -> list[OperatorResult]:
        return [await dismiss_suspected(engine, number, actor=actor, note=note) for number in dict.fromkeys(numbers)]

    show_results(with_database(settings, work), as_json=as_json)
