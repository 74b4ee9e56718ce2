"""Raw bytes -> the movement that they report, or a refusal that names the field.

The readings are those of docs/reference/mipos-api.md, "Readings to take".
"""

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from app.errors import NotParseable, Refusal
from app.receiving.mipos_sender import DOCUMENTED_MOVEMENT
from app.stock.movement import Movement, MovementType, Subject, reported_movement
from app.stock.quantity import to_plain
from app.wire import NUMBER_SCHEMA, DateText, Identifier, Quantity, one_of, parse, parse_object, read_id, unsigned_quantity

_MOVEMENT_TYPES: dict[str | int, MovementType] = {
    "1": MovementType.ADD,
    "2": MovementType.REMOVE,
    1: MovementType.ADD,
    2: MovementType.REMOVE,
}


class StockMovement(BaseModel):
    """The stock movement of one item, as mipOS relays it from an inventory system. Further keys are ignored."""

    model_config = ConfigDict(json_schema_extra={"example": dict(DOCUMENTED_MOVEMENT)})

    pos_id: Identifier = Field(description="ID of the POS.")
    inventory_system_id: Identifier = Field(description="ID of the inventory system that reports the movement.")
    store_id: Identifier = Field(description="ID of the store in the POS.")
    external_id: Identifier = Field(description="ID of the item in the POS.")
    movement_type: Annotated[
        MovementType, one_of(_MOVEMENT_TYPES, "must be 1 (add) or 2 (remove)"), WithJsonSchema({"enum": [1, 2, "1", "2"]})
    ] = Field(description="1 adds to the POS stock, 2 removes from it.")
    quantity: Annotated[Decimal, unsigned_quantity("movement_type 2 removes"), NUMBER_SCHEMA] = Field(
        description="How much moved: 0 or more, below 10^15. More than 14 decimals are rounded half-even to 14."
    )
    current_stock: Quantity = Field(
        description="Stock of the item in the inventory system, after the movement. Kept as a report, rounded as the quantity is."
    )
    date: DateText = Field(description="Date of the movement; kept as sent.")
    now: DateText = Field(description="When mipOS sent this delivery. A retry carries a new one.")


def read_subject(raw: bytes) -> Subject:
    """What a body is about, as far as it can be read; whatever else is wrong with it."""
    try:
        fields = parse_object(raw)
    except NotParseable:
        return Subject()
    return Subject(*(_id_in(fields.get(name)) for name in ("store_id", "external_id", "inventory_system_id")))


def _id_in(value: object) -> str | None:
    try:
        return read_id(value)
    except ValueError:
        return None


def read_delivery(raw: bytes) -> tuple[Movement | None, Refusal | None, Subject | None]:
    """What a verified body is: its movement; or why it is none, and what it is about."""
    try:
        return read_report(raw), None, None
    except Refusal as refusal:
        return None, refusal, read_subject(raw)


def read_fields(raw: bytes) -> dict[str, str | None]:
    """What a person is shown of a body, beside what it is about; empty where it cannot be read."""
    try:
        movement = read_report(raw)
    except Refusal:
        return {}
    return {
        "pos_id": movement.pos_id,
        "movement_type": movement.movement_type.name.lower(),
        "quantity": to_plain(movement.quantity),
        "current_stock": None if movement.reported_stock is None else to_plain(movement.reported_stock),
        "date": movement.date_text,
        "now": movement.sent_at_text,
    }


def read_report(raw: bytes) -> Movement:
    """Return the movement in a verified body. Unknown keys and the order of keys are ignored.

    Raises:
        NotParseable: not one JSON document in UTF-8 that every parser reads alike.
        InvalidField: a field is missing or out of its contract.
    """
    body = parse(raw, StockMovement)
    return reported_movement(
        pos_id=body.pos_id,
        inventory_system_id=body.inventory_system_id,
        store_id=body.store_id,
        item_id=body.external_id,
        movement_type=body.movement_type,
        quantity=body.quantity,
        reported_stock=body.current_stock,
        date_text=body.date,
        sent_at_text=body.now,
    )
