"""POST /pos/stores/{store_id}/movements: what the POS records goes through the same group commit as deliveries.

One movement is `{"item_id", "kind", "quantity", "happened_at"}`; several are `{"movements": [...]}` (`app.pos.tickets`).
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.applying.group_commit import GroupCommit
from app.errors import DatabaseAway, InternalError
from app.errors.requests import IdempotencyKeyReused, InvalidIdempotencyKey, NoIdempotencyKey, NoSuchPage
from app.pos.api_key import ApiKey, guarded_router
from app.pos.tickets import MAX_MOVEMENTS, PosMovement, PosMovements, Ticket, read_ticket
from app.receiving.signed_body import Receipt, require_plain_json
from app.scope import BODY_ARRIVED, TRACE
from app.stock.movement import Applied, KeyReused, Known, Movement, NotRecorded, Outcome, Refused
from app.stock.quantity import to_plain
from app.stock.text import fault_in_id, parse_idempotency_header
from app.storage.ledger_rows import is_recorded
from app.wire import errors, request_body

RECEIPT_SECONDS = 4.0
MAX_BODY_BYTES = MAX_MOVEMENTS * 8192
"""Above that many movements with the longest texts, each character of them escaped."""


class RecordedMovement(BaseModel):
    """What became of one movement."""

    item_id: str
    state: Literal["recorded", "known", "refused", "not_recorded"] = Field(
        description="known: recorded before, with this key. not_recorded: another member of the atomic ticket was refused."
    )
    stock: str | None = Field(default=None, description="The stock after it.")
    level_version: int | None = Field(default=None, description="Its place in the item's ledger.")
    to_store_stock: str | None = Field(default=None, description="Of a transfer: the stock in the store that received.")
    correction: str | None = Field(
        default=None, description="What was taken back, since a later count had held the movement: the stock stays."
    )
    counted_at: str | None = Field(default=None, description="When that count was made.")
    reason: str | None = None
    message: str | None = None


class RecordedMovements(BaseModel):
    """What became of each movement, in the order of the request."""

    movements: list[RecordedMovement]


class PartlyRecorded(RecordedMovements):
    """At least one movement was refused; the message is that of the first."""

    message: str


_IN_QUOTES = r'(?:[!#-\[\]-~]|\\["\\])'
_IDEMPOTENCY_KEY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "description": "1 to 255 visible ASCII characters by which it is known again, such as the ticket's number. In double quotes,"
    ' with \\" and \\\\ for these characters, it is the same key.',
    "schema": {
        "type": "string",
        "pattern": rf'^(?:[!#-~](?:[ -~]{{0,253}}[!-~])?|"{_IN_QUOTES}(?:(?: |{_IN_QUOTES}){{0,253}}{_IN_QUOTES})?")$',
    },
}


async def read_json_body(request: Request, receipt: Receipt, *, max_body_bytes: int, deadline: float | None = None) -> bytes:
    """The body of a call of the POS, which has to say that it is JSON; by `deadline` in the event loop's time."""
    require_plain_json(request.scope["headers"])
    headers = dict(request.scope["headers"])
    return await receipt.read(
        request.receive,
        declared_length=headers.get(b"content-length"),
        deadline=asyncio.get_running_loop().time() + RECEIPT_SECONDS if deadline is None else deadline,
        has_arrived=BODY_ARRIVED in request.scope,
        max_body_bytes=max_body_bytes,
    )


def _idempotency_key(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, str]:
    """The key, and the header as it was sent."""
    values = [value for name, value in headers if name == b"idempotency-key"]
    if not values:
        raise NoIdempotencyKey
    if len(values) > 1:
        # A retry might send the other one alone, and be recorded once more.
        raise InvalidIdempotencyKey("is there more than once: send one")
    try:
        sent = values[0].decode("latin-1")
        return parse_idempotency_header(sent), sent
    except ValueError as problem:
        raise InvalidIdempotencyKey(str(problem)) from None


@dataclass(frozen=True, slots=True)
class _Asked:
    """What one request asks to record."""

    ticket: Ticket
    idempotency_key: str
    deadline: float
    trace: str | None


async def _was_recorded(engine: AsyncEngine, ticket: Ticket, deadline: float) -> bool:
    keys = [movement.dedupe_key for movement in ticket.movements if movement.dedupe_key is not None]
    try:
        async with asyncio.timeout_at(deadline), engine.connect() as connection:
            return await is_recorded(connection, ticket.movements[0].store_id, keys)
    except (OSError, TimeoutError, SQLAlchemyError) as error:
        raise DatabaseAway from error


def movements_router(  # noqa: PLR0913 - what one route needs
    group_commit: GroupCommit,
    engine: AsyncEngine,
    *,
    api_key: ApiKey,
    receipt: Receipt,
    response_seconds: float,
    on_recorded: Callable[[], None],
) -> APIRouter:
    """The route, guarded by the key; `on_recorded` is called when movements were written."""

    async def ticket(store_id: str, request: Request) -> _Asked:
        deadline = asyncio.get_running_loop().time() + response_seconds
        # Before the key, since the first thing wrong is what is said.
        require_plain_json(request.scope["headers"])
        idempotency_key, sent = _idempotency_key(request.scope["headers"])
        # The router takes ".../movements%0A" for this path too.
        if fault_in_id(store_id) or not request.scope["path"].endswith("/movements"):
            raise NoSuchPage
        raw = await read_json_body(request, receipt, max_body_bytes=MAX_BODY_BYTES, deadline=deadline)
        now = datetime.now(UTC)
        read = read_ticket(raw, store_id=store_id, idempotency_key=idempotency_key, now=now)
        # A transfer writes another store's stock as well.
        api_key.scope_of(request.scope["headers"]).require(movement.store_id for movement in read.movements)
        if sent != idempotency_key:
            # Before revision 0007, the quotes were a part of the key.
            former = read_ticket(raw, store_id=store_id, idempotency_key=sent, now=now)
            if await _was_recorded(engine, former, deadline):
                return _Asked(former, sent, deadline, request.scope.get(TRACE))
        return _Asked(read, idempotency_key, deadline, request.scope.get(TRACE))

    router = guarded_router(api_key)

    @router.post(
        "/movements",
        operation_id="record_pos_movements",
        summary="Record what the POS sold, received, counted or moved.",
        status_code=int(HTTPStatus.CREATED),
        response_model=RecordedMovements,
        response_model_exclude_none=True,
        response_description="Recorded; `movements` says what became of each.",
        openapi_extra={"parameters": [_IDEMPOTENCY_KEY], **request_body(PosMovement, PosMovements)},
        responses={
            200: {"model": RecordedMovements, "description": "All of it was recorded before, with this key."},
            **errors(
                {
                    400: "Not readable as sent, or not one Idempotency-Key.",
                    404: "No store has such an id.",
                    408: "The body did not arrive in time.",
                    413: "The body is over the cap.",
                    415: "A Content-Encoding, or a type that is not JSON.",
                    422: "A field is missing or out of its contract, or the Idempotency-Key was used for another movement.",
                    503: "Not known to be recorded. Send it again, with the same key.",
                }
            ),
            409: {
                "model": PartlyRecorded,
                "description": "One of them cannot be applied: unknown store or item, or below zero where the store refuses it."
                " The others are recorded; sent again with the same key, only that one is applied.",
            },
        },
    )
    async def record_pos_movements(
        asked: Annotated[_Asked, Depends(ticket)], response: Response
    ) -> RecordedMovements | JSONResponse:
        ticket, trace = asked.ticket, asked.trace
        outcomes = await group_commit.submit_ticket(ticket.movements, deadline=asked.deadline, units=ticket.units, trace=trace)
        on_recorded()
        if any(isinstance(outcome, KeyReused) for outcome in outcomes):
            raise IdempotencyKeyReused(asked.idempotency_key)
        lines = _lines(asked.ticket, outcomes)
        refused = next((outcome.error for outcome in outcomes if isinstance(outcome, Refused)), None)
        if refused is not None:
            body = PartlyRecorded(message=refused.message, movements=lines)
            return JSONResponse(body.model_dump(exclude_none=True), status_code=int(refused.status))
        if not any(isinstance(outcome, Applied) for outcome in outcomes):
            response.status_code = int(HTTPStatus.OK)
        return RecordedMovements(movements=lines)

    return router


def _lines(ticket: Ticket, outcomes: Sequence[Outcome]) -> list[RecordedMovement]:
    """One line for each movement of the request. The halves of a transfer stand or fall together."""
    halves: dict[int, list[RecordedMovement]] = {}
    for movement, position, outcome in zip(ticket.movements, ticket.positions, outcomes, strict=True):
        halves.setdefault(position, []).append(_line(movement, outcome))
    lines: list[RecordedMovement] = []
    for given, *received in halves.values():
        if received and received[0].state == "refused":
            lines.append(received[0])
        else:
            lines.append(given.model_copy(update={"to_store_stock": received[0].stock}) if received else given)
    return lines


def _line(movement: Movement, outcome: Outcome) -> RecordedMovement:
    match outcome:
        case Applied() | Known():
            correction = outcome.correction
            return RecordedMovement(
                item_id=movement.item_id,
                state="recorded" if isinstance(outcome, Applied) else "known",
                stock=to_plain(outcome.balance),
                level_version=outcome.level_version,
                correction=None if correction is None else to_plain(correction.amount),
                counted_at=None if correction is None else correction.counted_at.isoformat(),
            )
        case Refused(error):
            return RecordedMovement(item_id=movement.item_id, state="refused", reason=error.reason, message=error.message)
        case NotRecorded():
            return RecordedMovement(item_id=movement.item_id, state="not_recorded")
        case _:
            raise InternalError
