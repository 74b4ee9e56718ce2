"""Waiting for a schema that somebody else migrates: `pos-sync migrate --wait`, for an init container."""

import asyncio

import click

from app.database_settings import DatabaseSettings
from app.operations.readiness import SchemaNotReady, wait_for_schema
from app.storage.engine import Database


def wait_until_ready(settings: DatabaseSettings, *, seconds: float) -> None:
    """Return when this version can run with the schema; the reasons for waiting are printed.

    Raises:
        click.ClickException: not within `seconds`.
    """

    async def run() -> None:
        database = Database(settings.database_address, is_pooled=settings.is_pooled, schema=settings.database_schema)
        async with database.engine() as engine:
            await wait_for_schema(engine, seconds=seconds, on_wait=lambda fault: click.echo(f"Waiting. {fault}"))

    try:
        asyncio.run(run())
    except SchemaNotReady as error:
        raise click.ClickException(str(error)) from error
