"""POST /pos/stores/{store_id}/reversals: take back one row of the ledger."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, PlainValidator, WithJsonSchema
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.applying.reversal import Reversal, reverse
from app.errors import DatabaseAway, Refusal
from app.errors.requests import NoSuchPage
from app.pos.api_key import ApiKey, guarded_router
from app.pos.movements import read_json_body
from app.receiving.signed_body import Receipt
from app.stock.quantity import to_plain
from app.stock.text import MAX_TEXT_LENGTH, fault_in, fault_in_id
from app.wire import Identifier, errors, parse, request_body

ACTOR = "POS over HTTP"
MAX_BODY_BYTES = 16384


def _words(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text")  # noqa: TRY004 - pydantic collects ValueErrors
    if fault := fault_in(value, max_length=MAX_TEXT_LENGTH):
        raise ValueError(fault)
    return value


def _version(value: object) -> int:
    if type(value) is not int or not 0 < value < 2**63:
        raise ValueError("must be the level_version of a row")
    return value


_Words = Annotated[str, PlainValidator(_words), WithJsonSchema({"type": "string", "maxLength": MAX_TEXT_LENGTH})]


class ReversalOrder(BaseModel):
    """Which row to take back, and why."""

    item_id: Identifier = Field(description="ID of the item in the POS.")
    level_version: Annotated[int, PlainValidator(_version), WithJsonSchema({"type": "integer", "minimum": 1})] = Field(
        description="The row's place in the item's ledger."
    )
    note: _Words = Field(description="Why.")
    actor: _Words = Field(default=ACTOR, description="Who.")


class ReversedRow(BaseModel):
    """A row that was taken back."""

    store_id: str
    item_id: str
    level_version: int = Field(description="Of the new row, which is the opposite of the old one.")
    stock: str = Field(description="The stock after it.")
    correction: str | None = Field(default=None, description="What a later count had held already: the stock stays.")


class ReversedRows(BaseModel):
    """What was taken back: of a transfer both halves."""

    reversals: list[ReversedRow]


def reversals_router(engine: AsyncEngine, api_key: ApiKey, receipt: Receipt, *, on_recorded: Callable[[], None]) -> APIRouter:
    """The route, guarded by the key; `on_recorded` is called when a row was written."""
    router = guarded_router(api_key)

    @router.post(
        "/reversals",
        operation_id="reverse_movement",
        summary="Take back one row of the ledger, once. Sent again, it changes nothing.",
        status_code=int(HTTPStatus.CREATED),
        response_model=ReversedRows,
        response_model_exclude_none=True,
        openapi_extra=request_body(ReversalOrder),
        responses={
            200: {"model": ReversedRows, "description": "It was taken back before."},
            **errors(
                {
                    400: "Not readable as sent.",
                    404: "There is no such store or row.",
                    408: "The body did not arrive in time.",
                    409: "A correction or a reversal, or the store refuses what would be left.",
                    413: "The body is over the cap.",
                    415: "A Content-Encoding, or a type that is not JSON.",
                    422: "A field is missing or out of its contract.",
                    503: "Not known to be taken back. Send it again.",
                }
            ),
        },
    )
    async def reverse_movement(store_id: str, request: Request, response: Response) -> ReversedRows:
        if fault_in_id(store_id) or not request.scope["path"].endswith("/reversals"):
            raise NoSuchPage
        order = parse(await read_json_body(request, receipt, max_body_bytes=MAX_BODY_BYTES), ReversalOrder)
        try:
            done = await reverse(
                engine,
                store_id=store_id,
                item_id=order.item_id,
                level_version=order.level_version,
                actor=order.actor,
                note=order.note,
                permit=api_key.scope_of(request.scope["headers"]).require,
            )
        except Refusal:
            raise
        except (OSError, TimeoutError, SQLAlchemyError) as error:
            raise DatabaseAway from error
        on_recorded()
        if not any(one.is_new for one in done):
            response.status_code = int(HTTPStatus.OK)
        return ReversedRows(reversals=[_row(one) for one in done])

    return router


def _row(one: Reversal) -> ReversedRow:
    return ReversedRow(
        store_id=one.store_id,
        item_id=one.item_id,
        level_version=one.level_version,
        stock=to_plain(one.stock),
        correction=None if one.correction is None else to_plain(one.correction.amount),
    )
