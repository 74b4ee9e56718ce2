"""GET /pos/stores/{store_id}/stock and /movements: pages of the stock and of the ledger."""

import re
from datetime import UTC, datetime
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, field_validator

from app.errors import InvalidField
from app.pos.api_key import ApiKey, guarded_router
from app.pos.reader import ANSWER_WITH_AGE, StoreReader
from app.stock.movement import MovementType, Source
from app.stock.quantity import to_plain
from app.stock.text import MAX_TEXT_LENGTH, fault_in, fault_in_id, parse_moment
from app.storage.ledger_rows import list_rows
from app.storage.levels import list_levels
from app.wire import errors

MAX_ROWS = 1000
ERRORS = errors(
    {
        404: "There is no such store or item.",
        422: "A parameter is out of its contract.",
        503: "The database is away. Ask again.",
    }
)
ANSWERS = ANSWER_WITH_AGE | ERRORS
"""Of a route that lists"""
ERRORS_OF_THE_FEED = ERRORS | errors({410: "The cursor is of a time before a restore. Read again from the beginning."})
Number = Annotated[str, BeforeValidator(lambda value: value if value is None else to_plain(value))]
Moment = Annotated[
    str,
    BeforeValidator(lambda value: value if value is None else value.isoformat()),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
Limit = Annotated[int, Query(ge=1, le=MAX_ROWS, description="Rows in a page.")]


class StockLevel(BaseModel):
    """The stock of one item."""

    model_config = ConfigDict(from_attributes=True)

    item_id: str
    name: str
    stock: Number = Field(validation_alias="quantity")
    level_version: int | None = Field(
        validation_alias="version", description="The place of its newest movement in the item's ledger; null with `at`."
    )
    updated_at: Moment | None = Field(description="When that was received; null with `at`.")
    retired: bool = Field(validation_alias="retired_at", description="Whether it is left out of exports and synchronisations.")
    copied_from: str | None = Field(description="The store whose definition it has: it has moved here, and was never imported.")

    @field_validator("retired", mode="before")
    @classmethod
    def _is_retired(cls, value: object) -> bool:
        return value is not None


class LedgerMovement(BaseModel):
    """A row of the ledger."""

    model_config = ConfigDict(from_attributes=True)

    item_id: str
    level_version: int
    source: Source
    inventory_system_id: str | None
    movement_type: MovementType = Field(description="1 added, 2 removed.")
    quantity: Number
    balance_after: Number = Field(description="The level when the row was written. Rows are not written in order of time.")
    date: str | None = Field(validation_alias="date_text")
    happened_at: Moment
    received_at: Moment
    counted: Number | None = Field(description="Of a count: what was counted.")
    refers_to: int | None = Field(description="Of a correction: the row of its count. Of a reversal: the row that it takes back.")
    other_store_id: str | None = Field(description="Of a transfer: the store at its other end.")
    reason: str | None
    reference: str | None
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


def queries_router(reader: StoreReader, api_key: ApiKey) -> APIRouter:
    """The routes, guarded by the key."""
    router = guarded_router(api_key)

    @router.get("/stock", operation_id="read_stock", summary="The stock, in order of item ids.", responses=ANSWERS)
    async def stock(  # noqa: PLR0913, PLR0917 - one parameter per filter
        store_id: str,
        answer: Response,
        item_id: str | None = None,
        at: Annotated[str | None, Query(description="As it was at this time (with its offset).")] = None,
        after: str | None = None,
        limit: Limit = 100,
    ) -> StockPage:
        require_id("store_id", store_id)
        require_id("item_id", item_id)
        _require_after(after)
        moment = read_moment("at", at)
        if moment is not None and moment > datetime.now(UTC):
            raise InvalidField("at", "must not lie in the future")
        listed = partial(list_levels, store_id=store_id, item_id=item_id, after=after, limit=limit, at=moment)
        # Who asks for one item has perhaps just changed it.
        levels = await reader.read(store_id, listed, answer=answer, item_id=item_id, of_now=item_id is not None)
        rows = [StockLevel.model_validate(level) for level in levels]
        return StockPage(stock=rows, next=rows[-1].item_id if len(rows) == limit else None)

    @router.get(
        "/movements",
        operation_id="read_movements",
        summary="The ledger, in order of item ids and of each item's movements.",
        responses=ANSWERS,
    )
    async def movements(  # noqa: PLR0913, PLR0917 - one parameter per filter
        store_id: str,
        answer: Response,
        item_id: str | None = None,
        source: Source | None = None,
        after: Annotated[str | None, Query(description="The `next` of the page before.")] = None,
        limit: Limit = 100,
    ) -> LedgerPage:
        require_id("store_id", store_id)
        require_id("item_id", item_id)
        wanted = partial(list_rows, store_id=store_id, item_id=item_id, source=source, after=read_cursor(after), limit=limit)
        rows = await reader.read(store_id, wanted, answer=answer, item_id=item_id)
        listed = [LedgerMovement.model_validate(row) for row in rows]
        return LedgerPage(movements=listed, next=f"{rows[-1].level_version}:{rows[-1].item_id}" if len(rows) == limit else None)

    return router


def read_moment(name: str, value: str | None) -> datetime | None:
    """The time in a parameter, or None where it was not given.

    Raises:
        InvalidField: it is none.
    """
    if value is None:
        return None
    try:
        # A + that was not written as %2B arrives as a blank.
        return parse_moment(re.sub(r" (?=\d\d:?\d\d$)", "+", value) if "T" in value else value)
    except ValueError as error:
        raise InvalidField(name, str(error)) from None


def read_cursor(after: str | None) -> tuple[str, int] | None:
    """(item_id, level_version) in the `next` of a page, or None where it was not given.

    Raises:
        InvalidField: it is none.
    """
    if after is None:
        return None
    version, found, item_id = after.partition(":")
    if not found or not version.isdecimal() or not version.isascii() or len(version) > len("9223372036854775807") - 1:
        raise InvalidField("after", "must be the `next` of a page")
    _require_after(item_id)
    return item_id, int(version)


def require_id(name: str, value: str | None) -> None:
    """Refuse what can be nobody's id before the database does.

    Raises:
        InvalidField: it names the parameter.
    """
    if value is not None and (fault := fault_in_id(value)):
        raise InvalidField(name, fault)


def _require_after(item_id: str | None) -> None:
    """Refuse what the database cannot take. It is the id of a row, also where another program wrote a strange one."""
    if item_id is not None and (fault := fault_in(item_id, max_length=MAX_TEXT_LENGTH)):
        raise InvalidField("after", fault)
