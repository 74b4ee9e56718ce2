"""POST /webhooks/stock: verified bytes in, 204 or a refusal out; and how OpenAPI describes it."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Receive, Scope, Send

from app.applying.group_commit import GroupCommit
from app.errors import NoSuchPage, PosSyncError, Refusal, TryAgain
from app.receiving.middleware import WEBHOOK_PATH, refuse
from app.receiving.payload import read_report
from app.receiving.sender import DOCUMENTED_MOVEMENT
from app.receiving.signature import HEADER
from app.scope import DEADLINE, FACTS, VERIFIED_BODY
from app.stock.movement import Movement
from app.stock.outcome import Applied, Known, Outcome, Refused
from app.stock.quantity import ZERO, to_plain

_NO_CONTENT: tuple[dict[str, Any], dict[str, Any]] = (
    {"type": "http.response.start", "status": 204, "headers": []},
    {"type": "http.response.body", "body": b""},
)


class StockWebhook:
    """The ASGI endpoint of the webhook.

    A bare ASGI endpoint and no FastAPI function: on the hot path there is no dependency to solve and nothing to serialise.
    """

    def __init__(self, group_commit: GroupCommit) -> None:
        self._group_commit = group_commit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - the ASGI signature
        """Answer one request (ASGI)."""
        if VERIFIED_BODY not in scope:
            # The router lets paths through that are not the webhook's to the letter ("/webhooks/stock%0A").
            raise NoSuchPage
        raw_body: bytes = scope[VERIFIED_BODY]
        facts: dict[str, object] = scope[FACTS]
        movement: Movement | None = None
        refusal: Refusal | None = None
        try:
            movement = read_report(raw_body).movement
            _note_movement(facts, movement)
        except Refusal as error:
            refusal = error
        try:
            outcome = await self._group_commit.submit(raw_body, movement=movement, refusal=refusal, deadline=scope[DEADLINE])
        except PosSyncError as error:
            facts["outcome"] = "unsettled" if isinstance(error, TryAgain) else "failed"
            facts["reason"] = error.reason
            await refuse(error, send)
            return
        _note_outcome(facts, outcome)
        if isinstance(outcome, Refused):
            await refuse(outcome.error, send)
            return
        for message in _NO_CONTENT:
            await send(message)


def _note_movement(facts: dict[str, object], movement: Movement) -> None:
    facts["inventory_system_id"] = movement.inventory_system_id
    facts["store_id"] = movement.store_id
    facts["item_id"] = movement.item_id
    facts["movement_type"] = movement.movement_type.name.lower()
    facts["quantity"] = to_plain(movement.quantity)


def _note_outcome(facts: dict[str, object], outcome: Outcome) -> None:
    match outcome:
        case Applied(level_version, balance):
            facts["outcome"] = "applied"
            facts["balance"] = to_plain(balance)
            facts["level_version"] = level_version
            if balance < ZERO:
                facts["is_negative"] = True
        case Known():
            facts["outcome"] = "already_applied"
        case Refused(error):
            facts["outcome"] = "refused"
            facts["message"] = error.message
            facts["reason"] = error.reason
        case _:
            raise AssertionError("a delivery of mipOS is answered only once it is decided, and has no idempotency key")


class StockMovementBody(BaseModel):
    """The stock movement of one item, as mipOS relays it from an inventory system. Further keys are ignored."""

    model_config = ConfigDict(
        title="StockMovement",
        json_schema_extra={
            "example": dict(DOCUMENTED_MOVEMENT),
        },
    )

    pos_id: str | int = Field(description="ID of the POS.")
    inventory_system_id: str | int = Field(description="ID of the inventory system that reports the movement.")
    current_stock: str | float = Field(
        description="Stock of the item in the inventory system, after the movement. Kept as a report."
    )
    quantity: str | float = Field(description="How much moved: 0 or more, below 10^15, at most 14 decimals.")
    date: str = Field(max_length=64, description="Date of the movement; kept as sent.")
    movement_type: Literal[1, 2, "1", "2"] = Field(description="1 adds to the POS stock, 2 removes from it.")
    external_id: str | int = Field(description="ID of the item in the POS.")
    now: str = Field(max_length=64, description="When mipOS sent this delivery. A retry carries a new one.")
    store_id: str | int = Field(description="ID of the store in the POS.")


class ErrorBody(BaseModel):
    """What every answer but 204 says."""

    model_config = ConfigDict(title="Error")

    message: str = Field(description="One sentence for a person: what is wrong and what to do.")


_ANSWERS = {
    "204": "Applied, or already applied before. No body.",
    "400": "Not readable as sent: not JSON, not UTF-8, a byte order mark, a duplicate key, NaN, nested too deep, trailing bytes.",
    "401": "The signature is missing, malformed or wrong. Nothing is stored.",
    "408": "The body did not arrive in time.",
    "409": "This POS cannot apply it: unknown store or item, no enabled integration with that inventory system,"
    " another POS's pos_id, or below zero where the store refuses it. Kept, to be applied later.",
    "413": "The body is over the cap.",
    "415": "A Content-Encoding, or a type that is not JSON.",
    "422": "A field is missing or out of its contract; the message names it.",
    "500": "A bug. The message says nothing of its cause.",
    "503": "The database is away, too much at once, the deadline passed, or the outcome is unknown. Sending again is safe.",
}


def describe_webhook(openapi: dict[str, Any]) -> None:
    """Add the webhook, its header, its body and each answer to the OpenAPI document `openapi`."""
    schemas = openapi.setdefault("components", {}).setdefault("schemas", {})
    schemas["StockMovement"] = StockMovementBody.model_json_schema()
    schemas["Error"] = ErrorBody.model_json_schema()
    openapi["components"]["securitySchemes"] = {
        "signature": {
            "type": "apiKey",
            "in": "header",
            "name": HEADER,
            "description": "Lower-case hex HMAC-SHA256 of the raw request body; the key is the mipOS client secret.",
        }
    }
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    responses: dict[str, Any] = {}
    for status, description in _ANSWERS.items():
        responses[status] = {"description": description} if status == "204" else {"description": description, "content": error}
    responses["503"]["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    openapi["paths"][WEBHOOK_PATH] = {
        "post": {
            "operationId": "receive_stock_movement",
            "summary": "Receive a stock movement (mipOS webhook, type 3)",
            "description": "Applies the movement to the POS stock exactly once, however often it is sent.",
            "security": [{"signature": []}],
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/StockMovement"}}},
            },
            "responses": responses,
        }
    }
