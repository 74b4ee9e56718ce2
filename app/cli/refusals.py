"""`pos-sync refused list`, `show`, `replay` and `dismiss`."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import click
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.cli.database import in_transaction, with_database
from app.cli.group import CommandGroup
from app.cli.options import (
    actor_option,
    item_option,
    json_option,
    limit_option,
    note_option,
    numbers_argument,
    state_option,
    store_option,
)
from app.cli.output import kept_document, show_json, show_kept, show_outcomes, show_results, show_table, to_shown
from app.cli.progress import progress
from app.cli.subjects import require_known
from app.errors import BusinessRefusal, Refusal
from app.operator.refusals import OperatorResult, body_deleted, dismiss, preview, reopen, replay
from app.settings import load_database_settings
from app.storage import refusals
from app.storage.refusals import KeptDelivery, Selection, State

MAX_CELL_LENGTH = 90


def _kinds(kind: type[Refusal]) -> Iterator[type[Refusal]]:
    for one in kind.__subclasses__():
        yield one
        yield from _kinds(one)


_reason_option = click.option(
    "--reason",
    type=click.Choice(sorted({kind.reason for kind in _kinds(Refusal)} - {BusinessRefusal.reason})),
    metavar="REASON",
    help="Only with this reason, such as unknown_item.",
)


@click.group(cls=CommandGroup)
def command() -> None:
    """List refused deliveries, and replay or dismiss them.

    \b
    Example:  pos-sync refused list
    """


@command.command("list")
@state_option(State)
@_reason_option
@store_option
@item_option
@limit_option
@json_option
def list_command(  # noqa: PLR0913 - one parameter per option
    *, state: str, reason: str | None, store_id: str | None, item_id: str | None, limit: int, as_json: bool
) -> None:
    """List refused deliveries, the last seen first.

    \b
    Example:  pos-sync refused list --reason unknown_item
    """
    selection = Selection(state=None if state == "all" else State(state), reason=reason, store_id=store_id, item_id=item_id)

    async def work(connection: AsyncConnection) -> tuple[list[KeptDelivery], int]:
        found = await refusals.list_newest(connection, selection, limit=limit)
        if not found:
            await _require_subject(connection, selection)
        return found, await refusals.count(connection, selection)

    kept, total = in_transaction(work)
    if as_json:
        show_json([kept_document(delivery) for delivery in kept])
        return
    if not kept:
        click.echo("No such refused deliveries." if selection != Selection() else "No refused deliveries are open.")
        return
    show_table(
        ["number", "last seen", "times", "state", "reason", "store", "item", "message"],
        [
            [
                str(delivery.refused_delivery_id),
                to_shown(delivery.last_seen_at) or "",
                str(delivery.attempts),
                delivery.state,
                delivery.reason,
                delivery.store_id or "-",
                delivery.item_id or "-",
                _short(delivery.replay_message or delivery.message),
            ]
            for delivery in kept
        ],
        right=(0, 2),
    )
    if total > len(kept):
        click.echo(f"... and {total - len(kept)} older ones: --limit {total}")


@command.command("show")
@click.argument("number", type=int)
@json_option
def show_command(number: int, *, as_json: bool) -> None:
    """Show one refused delivery whole: message, fields, times, body.

    \b
    Example:  pos-sync refused show 17
    """
    delivery = in_transaction(lambda connection: refusals.read(connection, [number])).get(number)
    if delivery is None:
        raise click.ClickException(f"There is no refused delivery {number}. `pos-sync refused list --state all` shows all.")
    show_kept(delivery, as_json=as_json)


async def _require_subject(connection: AsyncConnection, selection: Selection) -> None:
    """A store or item is an error where there is none, unless something was refused about it: it may be refused for that."""
    if not await refusals.count(connection, replace(selection, state=None, reason=None)):
        await require_known(connection, store_id=selection.store_id, item_id=selection.item_id)


@command.command("replay")
@click.argument("numbers", type=int, nargs=-1)
@click.option("--all", "is_all", is_flag=True, help="Every open one, oldest first; with --reason, --store, --item only those.")
@_reason_option
@store_option
@item_option
@click.option(
    "--counted",
    "was_counted",
    flag_value=True,
    type=bool,
    default=None,
    help="Of movements from before the newest count of their item: the count held them. Close them.",
)
@click.option(
    "--not-counted", "was_counted", flag_value=False, type=bool, help="Of the same: the count did not hold them. Apply them."
)
@click.option("--yes", is_flag=True, help="With --all: do not ask.")
@click.option("--dry-run", "is_dry", is_flag=True, help="Only count what would be applied; change nothing.")
@actor_option
@json_option
def replay_command(  # noqa: PLR0913 - one parameter per option
    *,
    numbers: tuple[int, ...],
    is_all: bool,
    reason: str | None,
    store_id: str | None,
    item_id: str | None,
    was_counted: bool | None,
    yes: bool,
    is_dry: bool,
    actor: str,
    as_json: bool,
) -> None:
    """Apply refused deliveries, each exactly once however often this is run.

    Each is read and decided as if it had just arrived; what is refused again stays open and says why. A movement from before
    the newest count of its item may be in that count: it stays open until --counted or --not-counted says so. --all asks
    first. Ends with status 1 if something could not be applied.

    \b
    Example:  pos-sync refused replay --all --reason unknown_item --dry-run
    """
    if bool(numbers) == is_all or (numbers and (reason or store_id or item_id)):
        raise click.UsageError("Name the numbers of deliveries, or --all with or without --reason, --store and --item.")
    settings = load_database_settings()

    async def work(engine: AsyncEngine) -> list[OperatorResult]:
        ids = list(dict.fromkeys(numbers))
        if is_all:
            async with engine.connect() as connection:
                selection = Selection(reason=reason, store_id=store_id, item_id=item_id)
                ids = await refusals.list_ids(connection, selection)
                if not ids:
                    await _require_subject(connection, selection)
        if is_dry:
            return await preview(engine, ids, was_counted=was_counted)
        if is_all and ids and not yes:
            click.confirm(f"Replay {len(ids)} refused deliveries?", abort=True, err=True)
        with progress("Replaying") as line:
            return await replay(engine, ids, actor=actor, was_counted=was_counted, on_progress=line.count)

    replays = with_database(settings, work)
    if not replays and not as_json:
        click.echo("Nothing to replay.")
        return
    show_results(replays, lead="Nothing was changed. It would be: " if is_dry else "", as_json=as_json)


@command.command("dismiss")
@numbers_argument
@note_option
@actor_option
@json_option
def dismiss_command(numbers: tuple[int, ...], note: str, actor: str, *, as_json: bool) -> None:
    """Dismiss refused deliveries: they are not replayed, and stay listed as dismissed.

    Such a movement is not applied when it comes again, either: the answer is 409 and says who dismissed it. `pos-sync refused
    reopen` takes that back.

    \b
    Example:  pos-sync refused dismiss 17 18 --note "typed by hand on Monday"
    """

    async def work(connection: AsyncConnection) -> dict[int, str]:
        done = await dismiss(connection, numbers, actor=actor, note=note)
        return await _outcomes(connection, done, word=_DISMISSED)

    show_outcomes(in_transaction(work), done=_DISMISSED, as_json=as_json)


@command.command("reopen")
@numbers_argument
@note_option
@actor_option
@json_option
def reopen_command(numbers: tuple[int, ...], note: str, actor: str, *, as_json: bool) -> None:
    """Open dismissed deliveries again. Until then, such a movement is not applied when it comes again: it is answered 409.

    \b
    Example:  pos-sync refused reopen 17 --note "it was not typed by hand"
    """

    async def work(engine: AsyncEngine) -> dict[int, str]:
        opened = {one.refused_delivery_id: one for one in await reopen(engine, numbers, actor=actor, note=note)}
        async with engine.connect() as connection:
            found = await _outcomes(connection, {number: number in opened for number in numbers}, word=_REOPENED)
        for number, one in opened.items():
            if one.state is State.FOLDED:
                found[number] = f"{body_deleted(one.pruned_at)} It is applied when it comes again."
        return found

    show_outcomes(with_database(load_database_settings(), work), done=_REOPENED, as_json=as_json)


_DISMISSED, _REOPENED = "dismissed", "reopened"


async def _outcomes(connection: AsyncConnection, done: Mapping[int, bool], *, word: str) -> dict[int, str]:
    """`word` for each that was done, and how each other one stands."""
    kept = await refusals.read(connection, [number for number, was_done in done.items() if not was_done])
    left = {number: f"left as it is: {one.state.value}" for number, one in kept.items()}
    return {number: word if was_done else left.get(number, "there is none with this number") for number, was_done in done.items()}


def _short(text: str) -> str:
    return text if len(text) <= MAX_CELL_LENGTH else text[: MAX_CELL_LENGTH - 1] + "…"
