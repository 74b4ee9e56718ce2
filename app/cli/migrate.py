"""`pos-sync migrate`."""

import click
from sqlalchemy.ext.asyncio import AsyncEngine

from app.cli.database import with_database
from app.settings import load_database_settings
from app.storage.migrating import migrate


@click.command()
@click.option("--grant-to", metavar="ROLE", help="An existing database role that gets the rights that the service needs.")
def command(grant_to: str | None) -> None:
    """Bring the database schema to the newest revision; safe when several start at once.

    Needs DATABASE_URL only, as a role that may create tables; connect to Postgres itself, not through a pooler. The service
    should run as another role: --grant-to gives it just the rights that it needs. It may read the ledger, and write it by
    calling one function.

    \b
    Example:  pos-sync migrate --grant-to pos_sync
    """
    settings = load_database_settings()

    async def work(engine: AsyncEngine) -> str | None:
        return await migrate(
            engine, grant_to=grant_to, on_wait=lambda: click.echo("Another migration is running. Waiting for it ...")
        )

    reached = with_database(settings, work, warns=False)
    click.echo(f"The schema is at revision {reached}.")
