"""`pos-sync sync`."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import click
from sqlalchemy.ext.asyncio import AsyncEngine

from app.cli.database import with_database
from app.cli.options import actor_option
from app.cli.output import named_problems, show_json
from app.cli.progress import progress
from app.cli.subjects import unknown_store
from app.errors.requests import CannotSync, NoStoreToSync, UnsendableCatalog
from app.mipos.answers import attributed
from app.mipos.sync import OnProgress, Order, Phase, Synchronised, check, synchronise
from app.mipos.wiring import mipos_of, why_not_sending
from app.settings import Settings, load_database_settings, load_settings
from app.storage.syncs import State
from app.visible_text import as_seen

STATUS = {State.DONE: 0, State.REFUSED: 1, State.FAILED: 3, State.UNKNOWN: 3}


@click.command()
@click.option("--store", "store_id", required=True, help="The store, by the id that the POS gives it.")
@click.option("--system", "inventory_system_id", help="The inventory system, where the store has several.")
@click.option("--dry-run", is_flag=True, help="Only check it, and send nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object; of a dry run, the body that would be sent.")
@actor_option
def command(store_id: str, inventory_system_id: str | None, actor: str, *, dry_run: bool, as_json: bool) -> None:
    """Send a store's items, units, suppliers and stock, as they are now, to its inventory system.

    It sets the system's stock. You can keep selling: no movement is lost, and none is counted twice. Everything is first
    checked against mipOS's rules, and each bad entry is named before anything is sent.

    Ends with status 0 if mipOS took it, 1 if this service or mipOS refused it (a person has to act), 3 if mipOS could not be
    reached or the outcome is unknown (synchronise again).

    \b
    Example:  pos-sync sync --store 1 --dry-run
    """
    order = Order(store_id, actor=actor, inventory_system_id=inventory_system_id)
    try:
        if dry_run:
            _show_body(_check(order), store_id, as_json=as_json)
            return
        settings = load_settings()
        if (why_not := why_not_sending(settings)) is not None:
            raise click.UsageError(f"Cannot synchronise: {why_not}.")
        result = _synchronise(settings, order)
    except UnsendableCatalog as error:
        named = named_problems(error.problems)
        raise click.ClickException(f"The catalogue breaks mipOS's rules, and nothing was sent:\n{named}") from error
    except NoStoreToSync as error:
        raise unknown_store(store_id) from error
    except CannotSync as error:
        raise click.ClickException(error.message) from error
    if as_json:
        show_json(asdict(result))
    else:
        click.echo(
            f"Store {store_id} with {result.inventory_system_id}: {result.state.value}. items: {result.items}, "
            f"units: {result.units}, suppliers: {result.suppliers}; messages that it made superfluous: {result.covered}.\n"
            f"{as_seen(attributed(result.words))}"
        )
    sys.exit(STATUS[result.state])


def _check(order: Order) -> dict[str, Any]:
    async def work(engine: AsyncEngine) -> dict[str, Any]:
        with _progress() as on_progress:
            return await check(engine, order, on_progress=on_progress)

    return with_database(load_database_settings(), work)


def _synchronise(settings: Settings, order: Order) -> Synchronised:
    async def work(engine: AsyncEngine) -> Synchronised:
        with _progress() as on_progress:
            async with mipos_of(settings, engine) as (client, tokens):
                return await synchronise(engine, client, tokens, order, on_progress=on_progress)

    return with_database(settings, work)


def _show_body(body: dict[str, Any], store_id: str, *, as_json: bool) -> None:
    if as_json:
        show_json(body)
        return
    click.echo(
        f"Store {store_id} can be sent to {body['inventory_system_id']}: items: {len(body['items'])}, "
        f"units: {len(body['units'])}, suppliers: {len(body['suppliers'])}. Nothing was sent."
    )


_LABELS = {Phase.READING: "Reading the inventory", Phase.CHECKING: "Checking it", Phase.SENDING: "Sending it"}


@contextmanager
def _progress() -> Iterator[OnProgress]:
    """What it does, and for how long: mipOS may take minutes to answer, three times."""
    with progress("Waiting for stock updates that are on their way") as line:

        def show(phase: Phase, done: int, total: int) -> None:
            if phase is Phase.SENDING and done >= total:
                line.update("Waiting for mipOS's answer")
            else:
                line.update(_LABELS[phase], done=done, total=total)

        yield show
