"""POST /pos/stores/{store_id}/movements: what the POS records goes through the same group commit as deliveries."""

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.errors import DatabaseAway, IdempotencyKeyReused, InternalError, NoIdempotencyKey, NoSuchPage
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
from app.receiving.batching import GroupCommit
from app.receiving.middleware import Receipt, require_plain_json
from app.scope import BODY_ARRIVED
from app.stock.applying import AlreadyApplied, Applied, Outcome, Refused
from app.stock.movement import Movement
from app.stock.quantity import to_plain
from app.stock.text import fault_in
from app.storage import recorded
from app.storage.recorded import Recorded
from app.wire import MAX_ID_LENGTH, errors, request_body

_KEY = re.compile(rb"[!-~](?:[ -~]{0,253}[!-~])?")
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


def recording_router(  # noqa: PLR0913 - what the composition root puts together, each by name
    group_commit: GroupCommit,
    engine: AsyncEngine,
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
        key = headers.get(b"idempotency-key", b"")
        if not _KEY.fullmatch(key):
            raise NoIdempotencyKey
        # The router takes ".../movements%0A" for this path too.
        if fault_in(store_id, longest=MAX_ID_LENGTH) or not request.scope["path"].endswith("/movements"):
            raise NoSuchPage
        raw = await receipt.read(
            request.receive,
            declared_length=headers.get(b"content-length"),
            deadline=deadline,
            has_arrived=BODY_ARRIVED in request.scope,
            max_body_bytes=MAX_BODY_BYTES,
        )
        idempotency_key = key.decode("ascii")
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
        outcomes = await _apply(group_commit, asked)
        on_recorded()
        known = await _known(engine, asked, outcomes)
        lines = [_line(movement, outcome, known) for movement, outcome in zip(asked.movements, outcomes, strict=True)]
        refused = next((outcome.error for outcome in outcomes if isinstance(outcome, Refused)), None)
        if refused is not None:
            body = PartlyRecorded(message=refused.message, movements=lines)
            return JSONResponse(body.model_dump(exclude_none=True), status_code=int(refused.status))
        if not any(isinstance(outcome, Applied) for outcome in outcomes):
            response.status_code = int(HTTPStatus.OK)
        return RecordedMovements(movements=lines)

    return router


async def _apply(group_commit: GroupCommit, ticket: _Ticket) -> list[Outcome]:
    """What became of each movement; a refusal of one does not undo the others."""
    submitted = [group_commit.submit(None, movement=movement, deadline=ticket.deadline) for movement in ticket.movements]
    if len(submitted) == 1:
        return [await submitted[0]]
    results = await asyncio.gather(*submitted, return_exceptions=True)
    outcomes: list[Outcome] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        outcomes.append(result)
    return outcomes


async def _known(engine: AsyncEngine, ticket: _Ticket, outcomes: Sequence[Outcome]) -> dict[bytes | None, Recorded]:
    """What the ledger holds of those that were recorded before, and whether it is the same that is asked now."""
    pairs = zip(ticket.movements, outcomes, strict=True)
    repeated = [movement for movement, outcome in pairs if isinstance(outcome, AlreadyApplied)]
    if not repeated:
        return {}
    try:
        async with asyncio.timeout_at(ticket.deadline), engine.connect() as connection:
            rows = await recorded.find(connection, repeated)
    except (OSError, TimeoutError, SQLAlchemyError) as error:
        raise DatabaseAway from error
    for movement in repeated:
        row = rows.get(movement.dedupe_key)
        if row is None or not row.is_of(movement):
            raise IdempotencyKeyReused(ticket.idempotency_key)
    return rows


def _line(movement: Movement, outcome: Outcome, known: dict[bytes | None, Recorded]) -> RecordedMovement:
    match outcome:
        case Applied(row):
            state = "recorded"
        case AlreadyApplied():
            state, row = "known", known[movement.dedupe_key]
        case Refused(error):
            return RecordedMovement(item_id=movement.item_id, state="refused", reason=error.reason, message=error.message)
        case _:
            raise InternalError
    return RecordedMovement(
        item_id=movement.item_id, state=state, stock=to_plain(row.balance_after), level_version=row.level_version
    )
