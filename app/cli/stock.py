"""`pos-sync stock`, `drift` and `reconcile`."""

from decimal import Decimal
from typing import Any

import click
from sqlalchemy.ext.asyncio import AsyncEngine

from app.cli.database import in_transaction, with_database
from app.cli.options import QuantityType, actor_option, item_option, json_option, note_option, store_option, system_option
from app.cli.output import document_of, show_json, show_table, to_utc
from app.operator.drift import DEFAULT_WINDOW, Adoption, CannotReconcile, DriftFilter, Reconciled, find_drifts, reconcile
from app.settings import load_database_settings
from app.stock.drift import Drift
from app.stock.quantity import EXACT, ZERO, to_canonical, to_plain, to_signed
from app.storage.levels import list_levels


@click.command()
@store_option
@item_option
@json_option
def stock_command(store_id: str | None, item_id: str | None, *, as_json: bool) -> None:
    """Show stock levels.

    \b
    Example:  pos-sync stock --store 1
    """
    levels = in_transaction(lambda connection: list_levels(connection, store_id=store_id, item_id=item_id))
    if as_json:
        show_json([document_of(level) for level in levels])
        return
    if not levels:
        click.echo("No stock here. A store's first stock comes from: pos-sync catalog import --store ID FILE")
        return
    show_table(
        ["store", "item", "name", "stock", "movements", "updated", ""],
        [
            [
                level.store_id,
                level.item_id,
                level.name,
                to_plain(level.quantity),
                str(level.version),
                to_utc(level.updated_at) or "",
                "below zero" if level.quantity < ZERO else "",
            ]
            for level in levels
        ],
        right=(3, 4),
    )


@click.command()
@store_option
@item_option
@system_option
@click.option("--all", "is_all", is_flag=True, help="Also show items that do not differ, and items that were never reported.")
@click.option(
    "--window",
    type=click.IntRange(2),
    default=DEFAULT_WINDOW,
    show_default=True,
    help="How many of the newest movements of each item and store are looked at.",
)
@json_option
def drift_command(  # noqa: PLR0913 - one parameter per option
    *, store_id: str | None, item_id: str | None, system_id: str | None, is_all: bool, window: int, as_json: bool
) -> None:
    """Compare our stock with what the inventory systems reported last, and say why they differ.

    Drift is our stock minus the system's last reported stock, minus the movements by others that this report does not hold.
    Drift is no failure: the exit status is 0.

    \b
    Example:  pos-sync drift --store 1
    """
    settings = load_database_settings()
    scope = DriftFilter(store_id=store_id, item_id=item_id, system_id=system_id, window=window)

    async def work(engine: AsyncEngine) -> list[Drift]:
        return await find_drifts(engine, scope, settings.rules)

    found = with_database(settings, work)
    if as_json:
        show_json([_drift_document(one) for one in found])
        return
    shown = [one for one in found if is_all or one.drift]
    if shown:
        show_table(
            ["store", "item", "system", "ours", "theirs", "as of", "not told", "drift", "why"],
            [line for one in shown for line in _drift_lines(one)],
            right=(3, 4, 6, 7),
        )
    compared = [one for one in found if one.theirs is not None]
    differing = sum(1 for one in compared if one.drift)
    click.echo(
        f"Compared: {len(compared)}; in sync: {len(compared) - differing}, different: {differing}. "
        f"Never reported in the last {window} movements: {len(found) - len(compared)}."
    )


def _drift_lines(one: Drift) -> list[list[str]]:
    """The drift with its first cause, and a line for each further one."""
    reasons = [f"{to_signed(cause.amount)} {cause.kind.replace('_', ' ')}: {cause.words}" for cause in one.causes]
    theirs = "-" if one.theirs is None else to_canonical(one.theirs)
    line = [
        one.store_id,
        one.item_id,
        one.inventory_system_id,
        to_canonical(one.ours),
        theirs,
        one.as_of or "-",
        to_signed(one.not_told) if one.not_told else "",
        to_signed(one.drift) if one.theirs is not None else "-",
        reasons[0] if reasons else "",
    ]
    return [line, *([*[""] * 8, reason] for reason in reasons[1:])]


def _drift_document(one: Drift) -> dict[str, Any]:
    return {
        "store_id": one.store_id,
        "item_id": one.item_id,
        "inventory_system_id": one.inventory_system_id,
        "ours": to_canonical(one.ours),
        "theirs": None if one.theirs is None else to_canonical(one.theirs),
        "as_of": one.as_of,
        "received_at": to_utc(one.received_at),
        "not_told": to_canonical(one.not_told),
        "drift": None if one.theirs is None else to_canonical(one.drift),
        "causes": [
            {"cause": cause.kind.value, "amount": to_canonical(cause.amount), "words": cause.words} for cause in one.causes
        ],
    }


@click.command()
@click.option("--store", "store_id", required=True, help="The store.")
@click.option("--item", "item_id", required=True, help="The item.")
@click.option("--adopt", "system_id", metavar="SYSTEM", help="Adopt this inventory system's stock.")
@click.option("--to", type=QuantityType(), help="Adopt this number, such as one that was counted.")
@note_option
@actor_option
@click.option("--dry-run", "is_dry", is_flag=True, help="Only show before and after; change nothing.")
@click.option(
    "--window", type=click.IntRange(2), default=DEFAULT_WINDOW, show_default=True, help="How far back to look for a report."
)
def reconcile_command(  # noqa: PLR0913 - one parameter per option
    *,
    store_id: str,
    item_id: str,
    system_id: str | None,
    to: Decimal | None,
    note: str,
    actor: str,
    is_dry: bool,
    window: int,
) -> None:
    """Adopt a number as our stock of one item in one store, by one row in the ledger that says who and why.

    --adopt takes the system's last reported stock and adds the movements of others since then. `pos-sync drift` shows no drift
    afterwards. Nothing is written if our stock is that number already.

    \b
    Example:  pos-sync reconcile --store 1 --item avcc123 --to 12 --note "counted on Monday"
    """
    if (system_id is None) == (to is None):
        raise click.UsageError("Name --adopt SYSTEM or --to QUANTITY.")
    settings = load_database_settings()
    adoption = Adoption(store_id=store_id, item_id=item_id, to=to, system_id=system_id, window=window)

    async def work(engine: AsyncEngine) -> Reconciled:
        return await reconcile(
            engine,
            adoption,
            rules=settings.rules,
            actor=actor,
            note=note,
            is_dry=is_dry,
        )

    try:
        done = with_database(settings, work)
    except CannotReconcile as error:
        raise click.ClickException(str(error)) from error
    if done.waiting:
        click.echo(
            f"Careful: deliveries about this item that still wait: {done.waiting} (pos-sync drift names them). Applied later, "
            "they come on top of the number: dismiss them, or apply them and adopt again.",
            err=True,
        )
    about = f"Item {item_id} in store {store_id}"
    if done.level_version is None:
        click.echo(f"{about} is at {to_plain(done.before)} already; nothing was written.")
        return
    change = EXACT.subtract(done.after, done.before)
    lead = "Nothing was changed. It would be: " if is_dry else ""
    steps = f"{to_plain(done.before)} before, {to_plain(done.after)} after ({to_signed(change)})"
    click.echo(f"{lead}{about}: {steps}, ledger row {done.level_version}.")
