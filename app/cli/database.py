"""Running a command's work against the database of the settings, with failures that a person can read."""

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg
import click
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.database_settings import DatabaseSettings
from app.failure import UNKNOWN
from app.settings import load_database_settings
from app.stock.rules import Rules, differing
from app.storage.engine import COMMAND_NAME, Database, unreachable
from app.storage.rules import effective_rules
from app.storage.transactions import BUSY_SECONDS, NOT_LET_IN, NOT_LET_IN_REMEDY, Fault, classify, sqlstate
from app.storage.watch import MAX_COMMAND_SILENCE_SECONDS, SilentServer, ending_with_silence

Result = TypeVar("Result")


def database_of(settings: DatabaseSettings) -> Database:
    """The database of the settings, with connections that call themselves a command's."""
    return Database(
        settings.database_address,
        is_pooled=settings.is_pooled,
        schema=settings.database_schema,
        application_name=COMMAND_NAME,
    )


def with_database(settings: DatabaseSettings, work: Callable[[AsyncEngine], Awaitable[Result]], *, warns: bool = True) -> Result:
    """Return the result of `work`; a database that is away or refuses ends the command with one sentence.

    With `warns`, a rule that is set here to another value than the recorded one is said: the recorded one counts.
    """

    async def run() -> Result:
        database = database_of(settings)
        engine = database.create_engine()
        try:
            async with ending_with_silence(database):
                if warns and settings.model_fields_set & set(Rules.__dataclass_fields__):
                    await _warn_of_other_rules(settings, engine)
                return await work(engine)
        finally:
            await engine.dispose()

    try:
        return asyncio.run(run())
    except SilentServer as error:
        raise click.ClickException(
            f"The database has not answered for {MAX_COMMAND_SILENCE_SECONDS:g} seconds. Whether the command has done its work "
            "is not known. Run it again: what was done is not done twice."
        ) from error
    except (OSError, TimeoutError, asyncpg.InterfaceError) as error:
        if not _is_of_database(error):
            raise
        raise click.ClickException(f"{unreachable(settings.database_address, error)}. Check DATABASE_URL.") from error
    except (DBAPIError, asyncpg.PostgresError) as error:
        if classify(error) is Fault.BUSY:
            raise click.ClickException(
                f"Another session has held a row that this needs for more than {BUSY_SECONDS:g} seconds. Nothing was changed. "
                "Run it again when that session has ended."
            ) from error
        if sqlstate(error) == NOT_LET_IN:
            raise click.ClickException(NOT_LET_IN_REMEDY) from error
        refusal = error.orig if isinstance(error, DBAPIError) else error
        raise click.ClickException(f"The database refused: {_first_line(refusal)}") from error
    except SQLAlchemyError as error:
        raise click.ClickException(f"The database refused: {_first_line(error)}") from error


def in_transaction(work: Callable[[AsyncConnection], Awaitable[Result]]) -> Result:
    """Return the result of `work`, which gets a transaction of the database that is set; fails as `with_database` does."""

    async def run(engine: AsyncEngine) -> Result:
        async with engine.begin() as connection:
            return await work(connection)

    return with_database(load_database_settings(), run)


_ASKING = ("asyncpg", "sqlalchemy", "app.storage")
_OURS = (*_ASKING, "app", "click", "httpx2")


def _is_of_database(error: BaseException) -> bool:
    """Whether it was raised by talking to the database, and not by a file or the output of the command: by who called last."""
    frames = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    callers = [name for name in frames if name.startswith(_OURS)]
    return bool(callers) and callers[-1].startswith(_ASKING)


async def _warn_of_other_rules(settings: DatabaseSettings, engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        recorded = await effective_rules(connection, settings.rules)
    for name in differing(settings.rules, recorded):
        if name in settings.model_fields_set:
            click.echo(
                f"{name.upper()} is {getattr(settings.rules, name)} here, and {getattr(recorded, name)} is recorded, which "
                "counts. To change that: pos-sync rules --record",
                err=True,
            )


def _first_line(error: BaseException | None) -> str:
    text = str(error).strip().splitlines()[0] if str(error).strip() else UNKNOWN
    if "does not exist" in text and "relation" in text:
        return f"{text}. Run: pos-sync migrate"
    return text
