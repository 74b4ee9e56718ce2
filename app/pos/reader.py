"""Reads a store for the POS: lists from the standby where there is a fresh one, and all else from the primary."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import Response
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.errors.requests import NoSuchItem, NoSuchStore, NotReadable
from app.settings import Settings
from app.storage.catalog import find_store
from app.storage.engine import Database
from app.storage.items import has_item
from app.storage.standby import MAX_AGE_SECONDS, ReadThePrimary, Standby

MAX_READ_TIME = "5s"
"""Of a statement"""
AGE_HEADER = "X-Data-Age-Seconds"
ANSWER_WITH_AGE: dict[int | str, dict[str, Any]] = {
    200: {
        "headers": {
            AGE_HEADER: {
                "description": "The answer holds all that was committed up to so many seconds ago: 0 from the primary, more from "
                f"a standby (DATABASE_READ_URL), and never more than {MAX_AGE_SECONDS:g} and the time that reading took.",
                "schema": {"type": "number", "minimum": 0},
            }
        }
    }
}
"""FastAPI's `responses` for an answer that says how old it may be."""

_Found = TypeVar("_Found")


def reader_of(settings: Settings, database: Database, engine: AsyncEngine, *, on_age: Callable[[float], None]) -> "StoreReader":
    """A reader of the primary by `engine`, and of the standby that the settings name."""
    address = settings.standby_address
    return StoreReader(engine, None if address is None else Standby(database, database.at(address), on_age=on_age))


class StoreReader:
    """Reads a store that exists, each statement within `MAX_READ_TIME`."""

    def __init__(self, engine: AsyncEngine, standby: Standby | None = None) -> None:
        self._engine = engine
        self._standby = standby

    async def run(self) -> None:
        """Look whether the standby may be read, until it is cancelled; without one, return."""
        if self._standby is not None:
            await self._standby.run()

    async def read(
        self,
        store_id: str,
        work: Callable[[AsyncConnection], Awaitable[_Found]],
        *,
        answer: Response,
        item_id: str | None = None,
        of_now: bool = False,
    ) -> _Found:
        """What `work` finds; the header of `answer` says how old that may be. With `of_now` it is what is there now.

        Raises:
            NoSuchStore: there is no such store.
            NoSuchItem: `item_id` is named, and the store does not have it.
            NotReadable: the database is away, or too slow.
        """

        async def look(connection: AsyncConnection) -> _Found:
            if await find_store(connection, store_id) is None:
                raise NoSuchStore(store_id)
            if item_id is not None and not await has_item(connection, item_id, store_id=store_id):
                raise NoSuchItem(item_id, store_id)
            return await work(connection)

        try:
            found, age = await self._read(look, of_now=of_now)
        except (OSError, TimeoutError, SQLAlchemyError) as error:
            raise NotReadable from error
        answer.headers[AGE_HEADER] = f"{age:.1f}" if age else "0"
        return found

    async def _read(self, look: Callable[[AsyncConnection], Awaitable[_Found]], *, of_now: bool) -> tuple[_Found, float]:
        if self._standby is not None and not of_now:
            try:
                return await self._standby.read(look, limit=MAX_READ_TIME)
            except (ReadThePrimary, NoSuchStore, NoSuchItem):
                # What was made just now is on the primary only.
                pass
        async with self._engine.connect() as connection:
            await connection.execute(text(f"SET LOCAL statement_timeout = '{MAX_READ_TIME}'"))
            return await look(connection), 0.0
