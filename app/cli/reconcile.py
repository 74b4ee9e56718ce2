"""`pos-sync reconcile`."""

from decimal import Decimal

import click
from sqlalchemy.ext.asyncio import AsyncEngine

from app.cli.database import with_database
from app.cli.options import QuantityType, actor_option, note_option
from app.operator.drift import DEFAULT_WINDOW
from app.operator.reconcile import Adoption, CannotReconcile, Reconciled, reconcile
from app.settings import load_database_settings
from app.stock.quantity import EXACT, to_plain, to_signed


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
def command(  # noqa: PLR0913 - one parameter per option
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

    --adopt takes the system's last report and adds what others have moved since; after it, `pos-sync drift` shows none. Nothing
    is written where our stock is there already.

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
