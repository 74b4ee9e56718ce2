"""`pos-sync drift` and `reconcile`."""

import sys
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import click
from sqlalchemy.ext.asyncio import AsyncEngine

from app.cli.database import with_database
from app.cli.options import (
    MAX_ROWS,
    QuantityType,
    actor_option,
    item_option,
    json_option,
    note_option,
    store_option,
    system_option,
)
from app.cli.output import document_of, show_json, show_table, to_iso, to_shown
from app.cli.progress import progress
from app.cli.subjects import require_known
from app.operator.drift import DEFAULT_WINDOW, Adoption, CannotReconcile, DriftFilter, Reconciled, find_drifts, reconcile
from app.settings import load_database_settings
from app.stock.drift import Drift
from app.stock.quantity import EXACT, to_canonical, to_plain, to_signed


@click.command()
@store_option
@item_option
@system_option
@click.option("--all", "is_all", is_flag=True, help="Also show items that do not differ, and items that were never reported.")
@click.option(
    "--window",
    type=click.IntRange(2, MAX_ROWS),
    default=DEFAULT_WINDOW,
    show_default=True,
    help="How many of the newest movements of each item and store are looked at.",
)
@click.option("--exit-code", "tells_status", is_flag=True, help="End with status 1 where something differs or is not known.")
@json_option
def drift_command(  # noqa: PLR0913 - one parameter per option
    *,
    store_id: str | None,
    item_id: str | None,
    system_id: str | None,
    is_all: bool,
    window: int,
    tells_status: bool,
    as_json: bool,
) -> None:
    """Compare our stock with what the inventory systems are expected to have, and say why they differ.

    Theirs is the newest stock that is known of them (a report, or a full synchronisation that ended done), and the stock
    updates that they acknowledged since. Drift is ours minus theirs minus what waits to be sent. Its causes add up to it.
    "Not known" means that a stock update was sent whose answer was lost, or that a unit was changed.
    Drift is no failure: the exit status is 0. With --exit-code it is 1 where something differs or is not known.

    \b
    Example:  pos-sync drift --store 1
    """
    settings = load_database_settings()
    scope = DriftFilter(store_id=store_id, item_id=item_id, system_id=system_id, window=window)

    async def work(engine: AsyncEngine) -> list[Drift]:
        async with engine.connect() as connection:
            await require_known(connection, store_id=store_id, item_id=item_id)
        with progress("Comparing") as line:
            found = await find_drifts(engine, scope, settings.rules, on_progress=line.count)
        if not found:
            # One that was disconnected may have reported.
            async with engine.connect() as connection:
                await require_known(connection, store_id=store_id, system_id=system_id)
        return found

    found = with_database(settings, work)
    if as_json:
        show_json([_drift_document(one) for one in found])
    else:
        _show_drifts(found, is_all=is_all)
    if tells_status and any(one.theirs is not None and (one.drift or one.uncertain) for one in found):
        sys.exit(1)


def _show_drifts(found: Sequence[Drift], *, is_all: bool) -> None:
    shown = [one for one in found if is_all or one.drift or one.uncertain or one.notes]
    if shown:
        show_table(
            ["store", "item", "system", "ours", "theirs", "by", "waits", "drift", "why"],
            [line for one in shown for line in _drift_lines(one)],
            right=(3, 4, 6, 7),
        )
    compared = [one for one in found if one.theirs is not None]
    unknown = sum(1 for one in compared if one.uncertain)
    differing = sum(1 for one in compared if one.drift and not one.uncertain)
    click.echo(
        f"Compared: {len(compared)}; in sync: {len(compared) - differing - unknown}, different: {differing}, "
        f"not known: {unknown}. "
        f"Nothing known of theirs: {len(found) - len(compared)}."
    )


def _drift_lines(one: Drift) -> list[list[str]]:
    """The drift with its first cause, and a line for each further one."""
    reasons = [f"{to_signed(cause.amount)} {cause.kind.replace('_', ' ')}: {cause.words}" for cause in one.causes]
    reasons += one.notes
    line = [
        one.store_id,
        one.item_id,
        one.inventory_system_id,
        to_canonical(one.ours),
        "-" if one.theirs is None else to_canonical(one.theirs),
        _known_by(one),
        to_signed(one.pending) if one.pending else "",
        _drift_text(one),
        reasons[0] if reasons else "",
    ]
    return [line, *([*[""] * 8, reason] for reason in reasons[1:])]


def _known_by(one: Drift) -> str:
    if one.anchor is None or one.reported is None:
        return "-"
    told = f" {to_signed(one.told_since)} told" if one.told_since else ""
    return f"{one.anchor.value} {to_canonical(one.reported)}{told} ({one.as_of or to_shown(one.received_at)})"


def _drift_text(one: Drift) -> str:
    if one.theirs is None:
        return "-"
    if one.uncertain:
        return f"not known, by up to {to_canonical(one.uncertain)}"
    return to_signed(one.drift)


def _drift_document(one: Drift) -> dict[str, Any]:
    is_known = one.theirs is not None
    return {
        "store_id": one.store_id,
        "item_id": one.item_id,
        "inventory_system_id": one.inventory_system_id,
        "ours": to_canonical(one.ours),
        "theirs": to_canonical(one.theirs) if one.theirs is not None else None,
        "anchor": None if one.anchor is None else one.anchor.value,
        "reported": None if one.reported is None else to_canonical(one.reported),
        "told_since": to_canonical(one.told_since),
        "as_of": one.as_of,
        "received_at": to_iso(one.received_at),
        "pending": to_canonical(one.pending),
        "drift": to_canonical(one.drift) if is_known else None,
        "uncertain": to_canonical(one.uncertain) if is_known else None,
        "causes": [
            {"cause": cause.kind.value, "amount": to_canonical(cause.amount), "words": cause.words} for cause in one.causes
        ],
        "notes": list(one.notes),
    }


def _show_both(ours: Decimal, found: Drift | None) -> None:
    if found is not None and found.theirs is not None:
        click.echo(f"Ours: {to_canonical(ours)}. Theirs: {to_canonical(found.theirs)}, by {_known_by(found)}.")


def _say_nothing(_ours: Decimal, _found: Drift | None) -> None:
    """Of JSON, all is in one object at the end."""


@click.command()
@click.option("--store", "store_id", required=True, help="The store.")
@click.option("--item", "item_id", required=True, help="The item.")
@click.option("--adopt", "system_id", metavar="SYSTEM", help="Adopt the stock that this inventory system is expected to have.")
@click.option("--to", type=QuantityType(), help="Adopt this number, such as one that was counted.")
@note_option
@actor_option
@click.option("--dry-run", "is_dry", is_flag=True, help="Only show before and after; change nothing.")
@click.option(
    "--window",
    type=click.IntRange(2, MAX_ROWS),
    default=DEFAULT_WINDOW,
    show_default=True,
    help="How far back to look for a report.",
)
@json_option
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
    as_json: bool,
) -> None:
    """Adopt a number as our stock of one item in one store, by one row in the ledger that says who and why.

    --to is a count: the inventory systems are told the difference. --adopt takes the stock that the system is expected to
    have: what it reported last, or a synchronisation set, and what it was told since. It is refused where that number is not
    known, where stock updates are on their way, and where our count is newer. `pos-sync drift` shows no drift afterwards.
    Nothing is written if our stock is that number already.

    \b
    Example:  pos-sync reconcile --store 1 --item avcc123 --to 12 --note "counted on Monday"
    """
    if (system_id is None) == (to is None):
        raise click.UsageError("Name --adopt SYSTEM or --to QUANTITY.")
    settings = load_database_settings()
    adoption = Adoption(store_id=store_id, item_id=item_id, to=to, system_id=system_id, window=window)

    async def work(engine: AsyncEngine) -> Reconciled:
        async with engine.connect() as connection:
            await require_known(connection, store_id=store_id)
            # Of an item that only other stores have, the definition is copied.
            await require_known(connection, item_id=item_id)
        return await reconcile(
            engine,
            adoption,
            rules=settings.rules,
            actor=actor,
            note=note,
            is_dry=is_dry,
            on_known=_say_nothing if as_json else _show_both,
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
    if as_json:
        show_json({"store_id": store_id, "item_id": item_id, "is_dry": is_dry, **document_of(done)})
        return
    about = f"Item {item_id} in store {store_id}"
    if done.level_version is None:
        click.echo(f"{about} is at {to_plain(done.before)} already; nothing was written.")
        return
    change = EXACT.subtract(done.after, done.before)
    lead = "Nothing was changed. It would be: " if is_dry else ""
    steps = f"{to_plain(done.before)} before, {to_plain(done.after)} after ({to_signed(change)})"
    click.echo(f"{lead}{about}: {steps}, ledger row {done.level_version}.")
