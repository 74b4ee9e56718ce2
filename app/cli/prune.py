"""`pos-sync prune`: delete what is settled and old."""

import click
from sqlalchemy.ext.asyncio import AsyncEngine

from app.cli.database import with_database
from app.cli.options import actor_option, json_option
from app.cli.output import document_of, show_json
from app.cli.progress import progress
from app.operator import prune
from app.settings import load_database_settings
from app.storage.retention import Pruned


@click.command()
@click.option("--dry-run", "is_dry", is_flag=True, help="Only count what would be deleted; change nothing.")
@click.option("--fast", "is_fast", is_flag=True, help="Do not rest in between: deliveries are slower meanwhile.")
@json_option
@actor_option
def prune_command(*, is_dry: bool, is_fast: bool, as_json: bool, actor: str) -> None:
    """Delete what is settled and older than RETENTION_DAYS and OUTBOX_RETENTION_DAYS, as the service does once a day.

    Bodies of closed refusals and suspected duplicates, synchronisations that have ended, and stock updates that were sent,
    covered or dismissed. Never the ledger, what is open, or what waits. Between two parts it rests, so that deliveries keep their
    rate: a first prune of a million stock updates may take hours (--fast: minutes).

    \b
    Example:  pos-sync prune --dry-run
    """
    settings = load_database_settings()
    share = 1 if is_fast else prune.MAX_SHARE

    async def work(engine: AsyncEngine) -> Pruned:
        doing = "Counting" if is_dry else "Deleting"
        with progress(doing) as line:

            def show(part: prune.PrunePart, deleted: int) -> None:
                line.update(f"{doing} {part.value}", done=deleted)

            ages = prune.ages_of(settings)
            return await prune.prune(engine, ages, actor=actor, is_dry=is_dry, max_share=share, on_part=show)

    pruned = with_database(settings, work)
    if as_json:
        show_json({"is_dry_run": is_dry, **document_of(pruned)})
        return
    click.echo("Nothing was changed. It would delete:" if is_dry else "Deleted:")
    click.echo(f"  stock updates                   {pruned.messages}")
    click.echo(f"  bodies of refusals              {pruned.refusal_bodies}")
    click.echo(f"  bodies of suspected duplicates  {pruned.duplicate_bodies}")
    click.echo(f"  synchronisations                {pruned.sync_runs}")
