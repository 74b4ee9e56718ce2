"""How OpenAPI describes the recording of movements, which is no FastAPI function."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.stock.movement import PosKind

PATH = "/pos/stores/{store_id}/movements"


class PosMovementBody(BaseModel):
    """What the POS sold, received or counted. Several at once: {"movements": [...]}."""

    model_config = ConfigDict(
        title="PosMovement",
        json_schema_extra={
            "example": {"item_id": "avcc123", "kind": "sale", "quantity": "1.25", "happened_at": "2026-05-30T12:45:03-05:00"}
        },
    )

    item_id: str | int = Field(description="ID of the item in the POS.")
    kind: PosKind = Field(description="A sale removes, a receipt adds, a count says what there is.")
    quantity: str | float = Field(description="0 or more, below 10^15, at most 14 decimals; a string keeps every digit.")
    happened_at: datetime | None = Field(default=None, description="When, with its offset. Now, if not given.")


class RecordedLine(BaseModel):
    """What became of one movement."""

    item_id: str
    state: Literal["recorded", "known", "refused"] = Field(description="known: recorded before, with this key.")
    stock: str | None = Field(default=None, description="The stock after it.")
    level_version: int | None = Field(default=None, description="Its place in the item's ledger.")
    reason: str | None = None
    message: str | None = None


_ANSWERS = {
    "201": "Recorded; `movements` says what became of each.",
    "200": "All of it was recorded before, with this key.",
    "400": "Not readable as sent, or no Idempotency-Key.",
    "401": "The key of the POS is missing or wrong.",
    "409": "One of them cannot be applied: unknown store or item, or below zero where the store refuses it. The others are"
    " recorded; sent again with the same key, only that one is applied.",
    "422": "A field is missing or out of its contract, or the Idempotency-Key was used for another movement.",
    "503": "Not known to be recorded. Send it again, with the same key.",
}


def describe_recording(openapi: dict[str, Any]) -> None:
    """Add the call and its bodies to the OpenAPI document `openapi`."""
    schemas = openapi["components"]["schemas"]
    schemas["PosMovement"] = PosMovementBody.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(schemas["PosMovement"].pop("$defs", {}))
    schemas["RecordedLine"] = RecordedLine.model_json_schema()
    lines = {"type": "array", "items": {"$ref": "#/components/schemas/RecordedLine"}}
    done = {"application/json": {"schema": {"type": "object", "properties": {"movements": lines}}}}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    movement = {"$ref": "#/components/schemas/PosMovement"}
    several = {"type": "object", "required": ["movements"], "properties": {"movements": {"type": "array", "items": movement}}}
    openapi["components"]["securitySchemes"]["pos"] = {"type": "http", "scheme": "bearer", "description": "POS_API_KEY."}
    for path, operations in openapi["paths"].items():
        if path.startswith("/pos/"):
            for operation in operations.values():
                operation["security"] = [{"pos": []}]
    openapi["paths"].setdefault(PATH, {})["post"] = {
        "operationId": "record_pos_movements",
        "tags": ["POS"],
        "summary": "Record what the POS sold, received or counted.",
        "security": [{"pos": []}],
        "parameters": [
            {"name": "store_id", "in": "path", "required": True, "schema": {"type": "string"}},
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": True,
                "description": "1 to 255 visible ASCII characters by which it is known again, such as the ticket's number.",
                "schema": {"type": "string"},
            },
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"oneOf": [movement, several]}}}},
        "responses": {
            status: {"description": text, "content": done if status.startswith("2") else error}
            for status, text in _ANSWERS.items()
        },
    }
