"""POST /pos/stores/{store_id}/movements: what the POS records goes through the same group commit as deliveries.

One movement is `{"item_id", "kind": sale | count | receipt, "quantity", "happened_at"}`; several are `{"movements": [...]}`.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema

from app.applying.group_commit import GroupCommit
from app.errors import InternalError, InvalidField
from app.errors.requests import IdempotencyKeyReused, InvalidIdempotencyKey, NoIdempotencyKey, NoSuchPage
from app.pos.api_key import ApiKey, guarded_router
from app.receiving.signed_body import Receipt, require_plain_json
from app.scope import BODY_ARRIVED
from app.stock.movement import Applied, KeyReused, Known, Movement, Outcome, PosKind, Refused, Source, pos_movement
from app.stock.quantity import to_plain
from app.stock.text import fault_in_id, parse_idempotency_header, parse_moment
from app.wire import NUMBER_SCHEMA, Identifier, errors, one_of, parse_object, request_body, unsigned_quantity, validate

MAX_MOVEMENTS = 500
MAX_BODY_BYTES = MAX_MOVEMENTS * 4096
"""Above that many movements with the longest ids, each character of them escaped."""


def _time(value: object) -> datetime | None:
    return None if value is None else parse_moment(value if isinstance(value, str) else "")


def _require_list(value: object) -> object:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_MOVEMENTS:
        raise ValueError(f"must be a list of 1 to {MAX_MOVEMENTS} movements")
    return value


class PosMovement(BaseModel):
    """What the POS sold, received or counted. Further keys are ignored."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"item_id": "avcc123", "kind": "sale", "quantity": "1.25", "happened_at": "2026-05-30T12:45:03-05:00"}
        }
    )

    quantity: Annotated[
        Decimal, unsigned_quantity("a sale removes, a receipt adds, a count says what there is"), NUMBER_SCHEMA
    ] = Field(description="0 or more, below 10^15. More than 14 decimals are rounded half-even to 14.")
    kind: Annotated[
        PosKind,
        one_of({kind.value: kind for kind in PosKind}, "must be sale, count or receipt"),
        WithJsonSchema({"type": "string", "enum": [kind.value for kind in PosKind]}),
    ] = Field(description="A sale removes, a receipt adds, a count says what there is.")
    item_id: Identifier = Field(description="ID of the item in the POS.")
    happened_at: Annotated[
        datetime | None, PlainValidator(_time), WithJsonSchema({"type": ["string", "null"], "format": "date-time"})
    ] = Field(default=None, description="When, with its offset. Now, if not given.")


class PosMovements(BaseModel):
    """Several movements at once, such as those of a ticket."""

    movements: Annotated[list[PosMovement], BeforeValidator(_require_list)] = Field(min_length=1, max_length=MAX_MOVEMENTS)


class RecordedMovement(BaseModel):
    """What became of one movement."""

    item_id: str
    state: Literal["recorded", "known", "refused"] = Field(description="known: recorded before, with this key.")
    stock: str | None = Field(default=None, description="The stock after it.")
    level_version: int | None = Field(default=None, description="Its place in the item's ledger.")
    reason: str | None = None
    message: str | None = None


class RecordedMovements(BaseModel):
    """What became of each movement, in the order of the request."""

    movements: list[RecordedMovement]


class PartlyRecorded(RecordedMovements):
    """At least one movement was refused; the message is that of the first."""

    message: str


def read_movements(raw: bytes, *, store_id: str, idempotency_key: str, now: datetime) -> list[Movement]:
    """Return the movements in a body, in order; `now` stands for their date where they do not say.

    Raises:
        NotParseable: not one JSON document in UTF-8 that every parser reads alike.
        InvalidField: a field is missing or out of its contract.
    """
    fields: dict[str, Any] = parse_object(raw)
    bodies = validate(fields, PosMovements).movements if "movements" in fields else [validate(fields, PosMovement)]
    movements = [
        pos_movement(
            store_id=store_id,
            item_id=body.item_id,
            kind=body.kind,
            quantity=body.quantity,
            idempotency_key=idempotency_key,
            happened_at=body.happened_at,
            recorded_at=now,
            number=number,
        )
        for number, body in enumerate(bodies)
    ]
    _require_order(movements)
    return movements


def _require_order(movements: Sequence[Movement]) -> None:
    """Refuse a count beside other movements of its item: nothing says which of them it already holds."""
    times = Counter(movement.item_id for movement in movements)
    for number, movement in enumerate(movements):
        if movement.source is Source.POS_COUNT and times[movement.item_id] > 1:
            raise InvalidField(
                f"movements[{number}].kind", "is a count of an item that occurs more than once here: send the count by itself"
            )


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


def _idempotency_key(headers: Iterable[tuple[bytes, bytes]]) -> str:
    values = [value for name, value in headers if name == b"idempotency-key"]
    if not values:
        raise NoIdempotencyKey
    if len(values) > 1:
        # A retry might send the other one alone, and be recorded once more.
        raise InvalidIdempotencyKey("is there more than once: send one")
    try:
        return parse_idempotency_header(values[0].decode("latin-1"))
    except ValueError as problem:
        raise InvalidIdempotencyKey(str(problem)) from None


@dataclass(frozen=True, slots=True)
class _Ticket:
    """What one request asks to record."""

    movements: Sequence[Movement]
    idempotency_key: str
    deadline: float


def movements_router(
    group_commit: GroupCommit,
    *,
    api_key: ApiKey,
    receipt: Receipt,
    response_seconds: float,
    on_recorded: Callable[[], None],
) -> APIRouter:
    """The route, guarded by the key; `on_recorded` is called when movements were written."""

    async def ticket(store_id: str, request: Request) -> _Ticket:
        deadline = asyncio.get_running_loop().time() + response_seconds
        headers = dict(request.scope["headers"])
        require_plain_json(headers)
        idempotency_key = _idempotency_key(request.scope["headers"])
        # The router takes ".../movements%0A" for this path too.
        if fault_in_id(store_id) or not request.scope["path"].endswith("/movements"):
            raise NoSuchPage
        raw = await receipt.read(
            request.receive,
            declared_length=headers.get(b"content-length"),
            deadline=deadline,
            has_arrived=BODY_ARRIVED in request.scope,
            max_body_bytes=MAX_BODY_BYTES,
        )
        movements = read_movements(raw, store_id=store_id, idempotency_key=idempotency_key, now=datetime.now(UTC))
        return _Ticket(movements, idempotency_key, deadline)

    router = guarded_router(api_key)

    @router.post(
        "/movements",
        operation_id="record_pos_movements",
        summary="Record what the POS sold, received or counted.",
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
        asked: Annotated[_Ticket, Depends(ticket)], response: Response
    ) -> RecordedMovements | JSONResponse:
        outcomes = await group_commit.submit_ticket(asked.movements, deadline=asked.deadline)
        on_recorded()
        if any(isinstance(outcome, KeyReused) for outcome in outcomes):
            raise IdempotencyKeyReused(asked.idempotency_key)
        lines = [_line(movement, outcome) for movement, outcome in zip(asked.movements, outcomes, strict=True)]
        refused = next((outcome.error for outcome in outcomes if isinstance(outcome, Refused)), None)
        if refused is not None:
            body = PartlyRecorded(message=refused.message, movements=lines)
            return JSONResponse(body.model_dump(exclude_none=True), status_code=int(refused.status))
        if not any(isinstance(outcome, Applied) for outcome in outcomes):
            response.status_code = int(HTTPStatus.OK)
        return RecordedMovements(movements=lines)

    return router


def _line(movement: Movement, outcome: Outcome) -> RecordedMovement:
    match outcome:
        case Applied(level_version, balance) | Known(level_version, balance):
            return RecordedMovement(
                item_id=movement.item_id,
                state="recorded" if isinstance(outcome, Applied) else "known",
                stock=to_plain(balance),
                level_version=level_version,
            )
        case Refused(error):
            return RecordedMovement(item_id=movement.item_id, state="refused", reason=error.reason, message=error.message)
        case _:
            raise InternalError
