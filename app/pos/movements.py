"""POST /pos/stores/{store_id}/movements: what the POS records goes through the same group commit as deliveries."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse

from app.applying.group_commit import GroupCommit
from app.errors import IdempotencyKeyReused, InternalError, NoIdempotencyKey, NoSuchPage
from app.pos.bearer import ApiKey, guarded_router
from app.pos.body import (
    MAX_BODY_BYTES,
    PartlyRecorded,
    PosMovement,
    PosMovements,
    RecordedMovement,
    RecordedMovements,
    read_movements,
)
from app.receiving.middleware import Receipt, require_plain_json
from app.scope import BODY_ARRIVED
from app.stock.movement import Movement
from app.stock.outcome import Applied, KeyReused, Known, Outcome, Refused
from app.stock.pos_fields import parse_idempotency_key
from app.stock.quantity import to_plain
from app.stock.text import MAX_TEXT_LENGTH, fault_in
from app.wire import errors, request_body

_IDEMPOTENCY_KEY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "description": "1 to 255 visible ASCII characters by which it is known again, such as the ticket's number.",
    "schema": {"type": "string", "pattern": "^[!-~]([ -~]{0,253}[!-~])?$"},
}


@dataclass(frozen=True, slots=True)
class _Ticket:
    """What one request asks to record."""

    movements: Sequence[Movement]
    idempotency_key: str
    deadline: float


def recording_router(
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
        try:
            idempotency_key = parse_idempotency_key(headers.get(b"idempotency-key", b"").decode("latin-1"))
        except ValueError:
            raise NoIdempotencyKey from None
        # The router takes ".../movements%0A" for this path too.
        if fault_in(store_id, longest=MAX_TEXT_LENGTH) or not request.scope["path"].endswith("/movements"):
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
                    400: "Not readable as sent, or no Idempotency-Key.",
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
