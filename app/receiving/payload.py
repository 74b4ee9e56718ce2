"""Raw bytes -> a report of a movement, or a refusal that names the field.

The readings are those of docs/reference/mipos-api.md, "Readings to take".
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from app.errors import InvalidField
from app.receiving.fields import date_text, decimal_number, field_of, identifier, parse_object
from app.stock.movement import Movement, MovementType, reported_movement

_MOVEMENT_TYPES = {"1": MovementType.ADD, "2": MovementType.REMOVE}


@dataclass(frozen=True, slots=True)
class Report:
    """What one delivery says, and which POS it was meant for."""

    pos_id: str
    movement: Movement


def read_report(raw: bytes) -> Report:
    """The report in a verified body. Unknown keys and the order of keys are ignored.

    Raises:
        NotParseable: not one JSON document in UTF-8 that every parser reads alike.
        InvalidField: a field is missing or out of its contract.
    """
    fields = parse_object(raw)
    pos_id = identifier(fields, "pos_id")
    return Report(
        pos_id,
        reported_movement(
            pos_id=pos_id,
            inventory_system_id=identifier(fields, "inventory_system_id"),
            store_id=identifier(fields, "store_id"),
            item_id=identifier(fields, "external_id"),
            movement_type=_movement_type(fields),
            quantity=_quantity(fields),
            reported_stock=decimal_number(fields, "current_stock"),
            date_text=date_text(fields, "date"),
            sent_at_text=date_text(fields, "now"),
        ),
    )


def _quantity(fields: dict[str, Any]) -> Decimal:
    value = decimal_number(fields, "quantity")
    if value < 0:
        raise InvalidField("quantity", "must not be negative: movement_type 2 removes")
    return value


def _movement_type(fields: dict[str, Any]) -> MovementType:
    value = field_of(fields, "movement_type")
    movement_type = _MOVEMENT_TYPES.get(value) if isinstance(value, str) else None
    if movement_type is None:
        raise InvalidField("movement_type", "must be 1 (add) or 2 (remove)")
    return movement_type
