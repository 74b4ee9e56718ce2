"""`pos-sync drift`."""

from typing import Any

import click
from sqlalchemy.ext.asyncio import AsyncEngine

from app.cli.database import with_database
from app.cli.options import item_option, json_option, store_option, system_option
from app.cli.output import show_json, show_table, to_utc
from app.operator.drift import DEFAULT_WINDOW, Scope, find_drifts
from app.settings import load_database_settings
from app.stock.drift import Drift
from app.stock.quantity import to_canonical, to_signed


@click.command()
@store_option
@item_option
@system_option
@click.option("--all", "is_all", is_flag=True, help="Also what does not differ, and what was never reported.")
@click.option(
    "--window",
    type=click.IntRange(2),
    default=DEFAULT_WINDOW,
    show_default=True,
    help="How many of the newest movements of each item and store are looked at.",
)
@json_option
def command(  # noqa: PLR0913 - one parameter per option
    *, store_id: str | None, item_id: str | None, system_id: str | None, is_all: bool, window: int, as_json: bool
) -> None:
    """Compare our stock with what the inventory systems reported last, and say why they differ.

    Drift is ours less theirs, less what that system has not been told of (movements by others since its report). It is no
    failure: the exit status is 0.

    \b
    Example:  pos-sync drift --store 1
    """
    settings = load_database_settings()
    scope = Scope(store_id=store_id, item_id=item_id, system_id=system_id, window=window)

    async def work(engine: AsyncEngine) -> list[Drift]:
        return await find_drifts(engine, scope, settings.rules)

    found = with_database(settings, work)
    if as_json:
        show_json([_to_document(one) for one in found])
        return
    shown = [one for one in found if is_all or one.drift]
    if shown:
        show_table(
            ["store", "item", "system", "ours", "theirs", "as of", "not told", "drift", "why"],
            [line for one in shown for line in _to_lines(one)],
            right=(3, 4, 6, 7),
        )
    compared = [one for one in found if one.theirs is not None]
    differing = sum(1 for one in compared if one.drift)
    click.echo(
        f"Compared: {len(compared)}; in sync: {len(compared) - differing}, different: {differing}. "
        f"Never reported in the last {window} movements: {len(found) - len(compared)}."
    )


def _to_lines(one: Drift) -> list[list[str]]:
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


def _to_document(one: Drift) -> dict[str, Any]:
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
