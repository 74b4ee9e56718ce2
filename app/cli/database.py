"""Running a command's work against the database of the settings, with failures that a person can read."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg
import click
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.settings import DatabaseSettings
from app.storage.engine import Database
from app.storage.migrating import WrongEncodingError

Result = TypeVar("Result")


def with_database(settings: DatabaseSettings, work: Callable[[AsyncEngine], Awaitable[Result]]) -> Result:
    """The result of `work`; a database that is away or refuses ends the command with one sentence."""

    async def run() -> Result:
        engine = Database(settings.sqlalchemy_url, is_pooled=settings.database_pooler == "transaction").create_engine()
        try:
            return await work(engine)
        finally:
            await engine.dispose()

    try:
        return asyncio.run(run())
    except (OSError, TimeoutError) as error:
        raise click.ClickException(f"The database does not answer ({type(error).__name__}). Check DATABASE_URL.") from error
    except (CommandError, WrongEncodingError) as error:
        raise click.ClickException(str(error)) from error
    except DBAPIError as error:
        raise click.ClickException(f"The database refused: {_first_line(error.orig)}") from error
    except (SQLAlchemyError, asyncpg.PostgresError) as error:
        raise click.ClickException(f"The database refused: {_first_line(error)}") from error


def _first_line(error: BaseException | None) -> str:
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "does not exist" in text and "relation" in text:
        return f"{text}. Run: pos-sync migrate"
    return text
