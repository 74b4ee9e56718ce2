"""GET /pos/stores/{store_id}/stock and /movements: pages of the stock and of the ledger."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.errors import InvalidField
from app.errors.requests import NoSuchStore, NotReadable
from app.pos.api_key import ApiKey, guarded_router
from app.stock.movement import MovementType, Source
from app.stock.quantity import to_plain
from app.stock.text import MAX_TEXT_LENGTH, fault_in, fault_in_id
from app.storage.catalog import find_store
from app.storage.ledger import list_rows
from app.storage.levels import list_levels
from app.wire import errors

MAX_ROWS = 1000
MAX_READ_TIME = "5s"
_ERRORS = errors(
    {404: "There is no such store.", 422: "A parameter is out of its contract.", 503: "The database is away. Ask again."}
)
_Number = Annotated[str, BeforeValidator(to_plain)]
_Moment = Annotated[str, BeforeValidator(datetime.isoformat), WithJsonSchema({"type": "string", "format": "date-time"})]
_Limit = Annotated[int, Query(ge=1, le=MAX_ROWS, description="Rows in a page.")]


class StockLevel(BaseModel):
    """The stock of one item."""

    model_config = ConfigDict(from_attributes=True)

    item_id: str
    name: str
    stock: _Number = Field(validation_alias="quantity")
    level_version: int = Field(validation_alias="version", description="The place of its newest movement in the item's ledger.")
    updated_at: _Moment


class LedgerMovement(BaseModel):
    """A row of the ledger."""

    model_config = ConfigDict(from_attributes=True)

    item_id: str
    level_version: int
    source: Source
    inventory_system_id: str | None
    movement_type: MovementType = Field(description="1 added, 2 removed.")
    quantity: _Number
    balance_after: _Number
    date: str | None = Field(validation_alias="date_text")
    received_at: _Moment
    actor: str | None
    note: str | None


class _Page(BaseModel):
    next: str | None = Field(description="The `after` of the next page; null where there is none.")


class StockPage(_Page):
    """A page of the stock."""

    stock: list[StockLevel]


class LedgerPage(_Page):
    """A page of the ledger."""

    movements: list[LedgerMovement]


def queries_router(engine: AsyncEngine, api_key: ApiKey) -> APIRouter:
    """The routes, guarded by the key."""

    async def connection_to(store_id: str) -> AsyncIterator[AsyncConnection]:
        _require_id("store_id", store_id)
        try:
            async with engine.connect() as connection:
                await connection.execute(text(f"SET LOCAL statement_timeout = '{MAX_READ_TIME}'"))
                if await find_store(connection, store_id) is None:
                    raise NoSuchStore(store_id)
                yield connection
        except (OSError, TimeoutError, SQLAlchemyError) as error:
            raise NotReadable from error

    router = guarded_router(api_key)
    connected = Annotated[AsyncConnection, Depends(connection_to)]

    @router.get("/stock", operation_id="read_stock", summary="The stock, in order of item ids.", responses=_ERRORS)
    async def stock(
        store_id: str, connection: connected, item_id: str | None = None, after: str | None = None, limit: _Limit = 100
    ) -> StockPage:
        _require_id("item_id", item_id)
        _require_after(after)
        levels = await list_levels(connection, store_id=store_id, item_id=item_id, after=after, limit=limit)
        rows = [StockLevel.model_validate(level) for level in levels]
        return StockPage(stock=rows, next=rows[-1].item_id if len(rows) == limit else None)

    @router.get(
        "/movements",
        operation_id="read_movements",
        summary="The ledger, in order of item ids and of each item's movements.",
        responses=_ERRORS,
    )
    async def movements(  # noqa: PLR0913, PLR0917 - one parameter per filter
        store_id: str,
        connection: connected,
        item_id: str | None = None,
        source: Source | None = None,
        after: Annotated[str | None, Query(description="The `next` of the page before.")] = None,
        limit: _Limit = 100,
    ) -> LedgerPage:
        _require_id("item_id", item_id)
        rows = await list_rows(connection, store_id, item_id=item_id, source=source, after=_cursor(after), limit=limit)
        listed = [LedgerMovement.model_validate(row) for row in rows]
        return LedgerPage(movements=listed, next=f"{rows[-1].level_version}:{rows[-1].item_id}" if len(rows) == limit else None)

    return router


def _cursor(after: str | None) -> tuple[str, int] | None:
    if after is None:
        return None
    version, found, item_id = after.partition(":")
    if not found or not version.isdecimal() or not version.isascii() or len(version) > len("9223372036854775807") - 1:
        raise InvalidField("after", "must be the `next` of a page")
    _require_after(item_id)
    return item_id, int(version)


def _require_id(name: str, value: str | None) -> None:
    """Refuse what can be nobody's id before the database does."""
    if value is not None and (fault := fault_in_id(value)):
        raise InvalidField(name, fault)


def _require_after(item_id: str | None) -> None:
    """Refuse what the database cannot take. It is the id of a row, also where another program wrote a strange one."""
    if item_id is not None and (fault := fault_in(item_id, max_length=MAX_TEXT_LENGTH)):
        raise InvalidField("after", fault)
