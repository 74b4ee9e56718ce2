"""The bodies of POST /pos/stores/{store_id}/movements: what the POS asks, and what became of it.

One movement is `{"item_id", "kind": sale | count | receipt, "quantity", "happened_at"}`; several are `{"movements": [...]}`.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema

from app.errors import InvalidField
from app.stock.movement import Movement, PosKind, Source, pos_movement
from app.stock.pos_fields import parse_moment
from app.wire import NUMBER_SCHEMA, Identifier, one_of, parse_object, unsigned_quantity, validate

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
    ] = Field(description="0 or more, below 10^15, at most 14 decimals; a string keeps every digit.")
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
