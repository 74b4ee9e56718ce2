"""POST /webhooks/stock: verified bytes in, 204 or a refusal out."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Security
from fastapi.security import APIKeyHeader
from starlette.types import ASGIApp, Receive, Scope, Send

from app.applying.group_commit import GroupCommit
from app.errors import PosSyncError, TryAgain
from app.errors.requests import NoSuchPage
from app.receiving.body import StockMovement, read_delivery
from app.receiving.ping import answer_ping, read_ping
from app.receiving.signature import HEADER
from app.receiving.signed_body import refuse
from app.scope import DEADLINE, DELIVERY_LOG, REQUEST_ID, VERIFIED_BODY, WEBHOOK_PATH, DeliveryLog, DeliveryOutcome
from app.stock.movement import Applied, Echo, Known, Movement, Outcome, Refused, Subject
from app.stock.quantity import ZERO, to_plain
from app.tracing import Tracing
from app.wire import COMMON_ERRORS, errors, request_body

_NO_CONTENT: tuple[dict[str, Any], dict[str, Any]] = (
    {"type": "http.response.start", "status": 204, "headers": []},
    {"type": "http.response.body", "body": b""},
)


class WebhookShortcut:
    """Pure ASGI before the framework: a delivery goes to `webhook` at once, and everything else to `app`.

    To route, to solve dependencies and to serialise costs more than all of a delivery's own work.
    """

    def __init__(self, app: ASGIApp, *, webhook: ASGIApp) -> None:
        self._app = app
        self._webhook = webhook

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer one request (ASGI)."""
        if scope["type"] == "http" and scope["path"] == WEBHOOK_PATH and scope["method"] == "POST":
            return self._webhook(scope, receive, send)
        return self._app(scope, receive, send)


class StockWebhook:
    """The ASGI endpoint behind the shortcut and the check of the signature."""

    def __init__(
        self, group_commit: GroupCommit, *, on_ping: Callable[[str], Awaitable[bool]], tracing: Tracing | None = None
    ) -> None:
        self._group_commit = group_commit
        self._on_ping = on_ping
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - the ASGI signature
        """Answer one request (ASGI)."""
        if self._tracing is None:
            await self._answer(scope, send)
            return
        # Only here, behind the check of the signature, is anybody's traceparent taken.
        with self._tracing.delivery(scope["headers"]) as span:
            await self._answer(scope, send, trace=span.traceparent)
            log: DeliveryLog = scope[DELIVERY_LOG]
            span.tell(
                outcome=log.outcome.value,
                reason=log.reason,
                store_id=log.store_id,
                inventory_system_id=log.inventory_system_id,
                item_id=log.item_id,
                level_version=log.level_version,
                request_id=scope.get(REQUEST_ID),
            )

    async def _answer(self, scope: Scope, send: Send, *, trace: str | None = None) -> None:
        raw_body: bytes = scope[VERIFIED_BODY]
        log: DeliveryLog = scope[DELIVERY_LOG]
        nonce = read_ping(raw_body)
        if nonce is not None:
            await self._answer_ping(nonce, log, send)
            return
        movement, refusal, subject = read_delivery(raw_body)
        if movement is not None:
            _note_movement(log, movement)
        elif subject is not None:
            _note_subject(log, subject)
        try:
            outcome = await self._group_commit.submit(
                raw_body,
                movement=movement,
                refusal=refusal,
                subject=subject,
                deadline=scope[DEADLINE],
                request_id=scope.get(REQUEST_ID),
                trace=trace,
            )
        except PosSyncError as error:
            log.outcome = DeliveryOutcome.UNSETTLED if isinstance(error, TryAgain) else DeliveryOutcome.FAILED
            log.reason = error.reason
            await refuse(error, send)
            return
        _note_outcome(log, outcome)
        if isinstance(outcome, Refused):
            await refuse(outcome.error, send)
            return
        for message in _NO_CONTENT:
            await send(message)

    async def _answer_ping(self, nonce: str, log: DeliveryLog, send: Send) -> None:
        log.outcome = DeliveryOutcome.PING
        try:
            await answer_ping(nonce, self._on_ping)
        except PosSyncError as error:
            log.reason = error.reason
            await refuse(error, send)
            return
        for message in _NO_CONTENT:
            await send(message)


def _note_subject(log: DeliveryLog, subject: Subject | Movement) -> None:
    log.inventory_system_id = subject.inventory_system_id
    log.store_id = subject.store_id
    log.item_id = subject.item_id


def _note_movement(log: DeliveryLog, movement: Movement) -> None:
    _note_subject(log, movement)
    log.movement_type = movement.movement_type.name.lower()
    log.quantity = to_plain(movement.quantity)


def _note_outcome(log: DeliveryLog, outcome: Outcome) -> None:
    match outcome:
        case Applied(level_version, balance):
            log.outcome = DeliveryOutcome.APPLIED
            log.balance = to_plain(balance)
            log.level_version = level_version
            log.is_negative = balance < ZERO
        case Known():
            log.outcome = DeliveryOutcome.ALREADY_APPLIED
        case Echo():
            log.outcome = DeliveryOutcome.ECHO
        case Refused(error):
            log.outcome = DeliveryOutcome.REFUSED
            log.message = error.message
            log.reason = error.reason
        case _:
            raise AssertionError("a delivery of mipOS is answered only once it is decided, and has no idempotency key")


_DESCRIPTION: dict[str, Any] = {
    "operation_id": "receive_stock_movement",
    "summary": "Receive a stock movement (mipOS webhook, type 3).",
    "description": "Applies the movement to the POS stock exactly once, however often it is sent.",
    "tags": ["webhook"],
    "status_code": 204,
    "response_description": "Applied, or already applied before. No body.",
    "dependencies": [
        Security(
            APIKeyHeader(
                name=HEADER,
                scheme_name="signature",
                description="Lower-case hex HMAC-SHA256 of the raw request body; the key is the mipOS client secret.",
                auto_error=False,
            )
        )
    ],
    "responses": errors(
        {
            400: "Not readable as sent: not JSON, not UTF-8, a byte order mark, a duplicate key, NaN, nested too deep,"
            " trailing bytes.",
            401: "The signature is missing, malformed or wrong. Nothing is stored.",
            408: "The body did not arrive in time.",
            409: "This POS cannot apply it: unknown store or item, no enabled integration with that inventory system,"
            " another POS's pos_id, or below zero where the store refuses it. Kept, to be applied later.",
            413: "The body is over the cap.",
            415: "A Content-Encoding, or a type that is not JSON.",
            422: "A field is missing or out of its contract; the message names it.",
            503: "The database is away, too much at once, the deadline passed, or the outcome is unknown. Sending again is safe.",
        }
    ),
}


def webhook_router() -> APIRouter:
    """The webhook as the framework knows it: for OpenAPI, and for 405."""
    router = APIRouter()

    @router.post(WEBHOOK_PATH, openapi_extra=request_body(StockMovement), **_DESCRIPTION)
    async def receive_stock_movement() -> None:
        # What comes here was not verified, and fails closed: the router also takes "/webhooks/stock%0A" for this path.
        raise NoSuchPage

    return router


def describe_webhook(webhooks: APIRouter) -> None:
    """Describe in `webhooks` (of an OpenAPI document) what mipOS sends."""

    @webhooks.post(
        "stock-movement",
        **(_DESCRIPTION | {"operation_id": "stock_movement", "responses": {**COMMON_ERRORS, **_DESCRIPTION["responses"]}}),
    )
    async def stock_movement(movement: StockMovement) -> None:
        """Never called: OpenAPI's webhooks are descriptions."""
