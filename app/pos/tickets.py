"""The body of a ticket: what the POS sold, received, counted and moved, read into movements.

A transfer is one movement to the POS, and two to the ledger: a half in each store.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema

from app.errors import InvalidField
from app.stock.movement import Movement
from app.stock.pos import PosKind, pos_movement, receiving_half
from app.stock.text import MAX_TEXT_LENGTH, fault_in, parse_moment
from app.wire import NUMBER_SCHEMA, Identifier, Quantity, one_of, parse_object, read_id, validate

MAX_MOVEMENTS = 500
_KINDS = ", ".join(kind.value for kind in PosKind)


def _time(value: object) -> datetime | None:
    return None if value is None else parse_moment(value if isinstance(value, str) else "")


def _words(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError("must be text")  # noqa: TRY004 - pydantic collects ValueErrors
    if fault := fault_in(value, max_length=MAX_TEXT_LENGTH):
        raise ValueError(fault)
    return value


def _optional_id(value: object) -> str | None:
    return None if value is None else read_id(value)


def _require_list(value: object) -> object:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_MOVEMENTS:
        raise ValueError(f"must be a list of 1 to {MAX_MOVEMENTS} movements")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")  # noqa: TRY004 - pydantic collects ValueErrors
    return value


_Words = Annotated[str | None, PlainValidator(_words), WithJsonSchema({"type": ["string", "null"], "maxLength": MAX_TEXT_LENGTH})]


class PosMovement(BaseModel):
    """What the POS records of one item. Further keys are ignored."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"item_id": "avcc123", "kind": "sale", "quantity": "1.25", "happened_at": "2026-05-30T12:45:03-05:00"}
        }
    )

    quantity: Annotated[Quantity, NUMBER_SCHEMA] = Field(
        description="0 or more; only an adjustment may have a sign. 0, as of a line that was voided, changes no level: it is "
        "recorded and sent to the inventory systems all the same. Below 10^15; more than 14 decimals are rounded half-even."
    )
    kind: Annotated[
        PosKind,
        one_of({kind.value: kind for kind in PosKind}, f"must be one of {_KINDS}"),
        WithJsonSchema({"type": "string", "enum": [kind.value for kind in PosKind]}),
    ] = Field(
        description="A sale and waste remove, a receipt and a return add, a count says what there was, an adjustment adds (or "
        "with a sign removes), a transfer moves to another store."
    )
    item_id: Identifier = Field(description="ID of the item in the POS.")
    happened_at: Annotated[
        datetime | None, PlainValidator(_time), WithJsonSchema({"type": ["string", "null"], "format": "date-time"})
    ] = Field(
        default=None,
        description="When, with its offset. Now, if not given. What happened before a count is in it, whichever comes first.",
    )
    reason: _Words = Field(default=None, description="Why. An adjustment must have one.")
    reference: _Words = Field(default=None, description="What it belongs to, such as a delivery note.")
    to_store_id: Annotated[str | None, PlainValidator(_optional_id), WithJsonSchema({"type": ["string", "integer", "null"]})] = (
        Field(default=None, description="Of a transfer: the store that receives.")
    )


class PosMovements(BaseModel):
    """Several movements at once, such as those of a ticket."""

    movements: Annotated[list[PosMovement], BeforeValidator(_require_list)] = Field(min_length=1, max_length=MAX_MOVEMENTS)
    atomic: Annotated[bool, PlainValidator(_flag), WithJsonSchema({"type": "boolean"})] = Field(
        default=False, description="Record all of them or none."
    )


@dataclass(frozen=True, slots=True)
class Ticket:
    """The movements of one request. Each stands for one or two movements of the ledger."""

    movements: Sequence[Movement]
    """Of the ledger, in the order of the request"""
    units: Sequence[int | None]
    """For each of them the number of its unit, of which all are applied or none"""
    positions: Sequence[int]
    """For each of them its place in the request"""


def read_ticket(raw: bytes, *, store_id: str, idempotency_key: str, now: datetime) -> Ticket:
    """Return the movements in a body; `now` stands for their date where they do not say.

    Raises:
        NotParseable: not one JSON document in UTF-8 that every parser reads alike.
        InvalidField: a field is missing or out of its contract.
    """
    fields: dict[str, Any] = parse_object(raw)
    is_list = "movements" in fields
    asked = validate(fields, PosMovements) if is_list else PosMovements.model_construct(movements=[validate(fields, PosMovement)])
    _require_order(asked.movements)
    movements: list[Movement] = []
    units: list[int | None] = []
    positions: list[int] = []
    for number, body in enumerate(asked.movements):
        prefix = f"movements[{number}]." if is_list else ""
        _require_meaning(body, store_id=store_id, prefix=prefix)
        movement = pos_movement(
            store_id=store_id,
            item_id=body.item_id,
            kind=body.kind,
            quantity=body.quantity,
            idempotency_key=idempotency_key,
            happened_at=body.happened_at,
            recorded_at=now,
            number=number,
            reason=body.reason,
            reference=body.reference,
            to_store_id=body.to_store_id,
        )
        halves = [movement, receiving_half(movement)] if body.kind is PosKind.TRANSFER else [movement]
        movements += halves
        units += [0 if asked.atomic else number if body.kind is PosKind.TRANSFER else None] * len(halves)
        positions += [number] * len(halves)
    return Ticket(movements, units if any(unit is not None for unit in units) else (), positions)


def _require_meaning(body: PosMovement, *, store_id: str, prefix: str) -> None:
    if body.quantity.is_signed() and body.kind is not PosKind.ADJUSTMENT:
        raise InvalidField(f"{prefix}quantity", "must not be negative: the kind says whether it adds or removes")
    if body.kind is PosKind.ADJUSTMENT and body.reason is None:
        raise InvalidField(f"{prefix}reason", "is missing: an adjustment says why")
    if (body.kind is PosKind.TRANSFER) != (body.to_store_id is not None):
        raise InvalidField(f"{prefix}to_store_id", "belongs to a transfer, and every transfer has one")
    if body.to_store_id == store_id:
        raise InvalidField(f"{prefix}to_store_id", "must name another store")


def _require_order(movements: Sequence[PosMovement]) -> None:
    """Refuse a count beside other movements of its item where no times say which of them it already holds."""
    times = Counter(movement.item_id for movement in movements)
    timeless = {movement.item_id for movement in movements if movement.happened_at is None}
    for number, movement in enumerate(movements):
        if movement.kind is PosKind.COUNT and times[movement.item_id] > 1 and movement.item_id in timeless:
            raise InvalidField(
                f"movements[{number}].kind",
                "is a count of an item that occurs more than once here: send each with happened_at, or the count by itself",
            )
