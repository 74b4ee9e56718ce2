"""`pos-sync register`."""

import sys

import click
from sqlalchemy.ext.asyncio import AsyncEngine

from app.cli.database import with_database
from app.mipos.wiring import registrar, why_not_registering
from app.receiving.middleware import WEBHOOK_PATH
from app.settings import load_settings
from app.storage.registrations import Registration, State


@click.command()
def command() -> None:
    """Register the webhook at mipOS now, and print what mipOS says.

    Needs PUBLIC_URL and a mipOS account in the settings. Ends with status 0 if the webhook is registered, 1 if mipOS
    refuses it (a person has to act), 3 if mipOS cannot be reached (try again later).

    \b
    Example:  pos-sync register
    """
    settings = load_settings().model_copy(update={"mipos_register_on_startup": True})
    why_not = why_not_registering(settings)
    if why_not is not None:
        raise click.UsageError(f"Cannot register: {why_not}.")

    async def work(engine: AsyncEngine) -> Registration:
        async with registrar(settings, engine, webhook_path=WEBHOOK_PATH) as it:
            return await it.register_now()

    registration = with_database(settings, work)
    click.echo(f"{registration.url}\nmipOS says: {registration.words}")
    sys.exit({State.REGISTERED: 0, State.FAILED: 1, State.PENDING: 3}[registration.state])
