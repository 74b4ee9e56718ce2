"""Raw bytes -> a report of a movement, or a refusal that names the field.

The readings are those of docs/reference/mipos-api.md, "Readings to take". Numbers keep every digit: a JSON number is read as
the text that was sent, never as a float. What two parsers could read differently is refused.
"""

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NoReturn

from app.errors import InvalidField, NotParseable, OtherPos, shown
from app.stock.movement import Movement, MovementType, reported_movement
from app.stock.quantity import NotAQuantity, parse_quantity
from app.stock.text import fault_in

DEEPEST_NESTING = 32
LONGEST_ID = 255
LONGEST_DATE = 64

_MOVEMENT_TYPES = {"1": MovementType.ADD, "2": MovementType.REMOVE}


class _Number(str):
    """A JSON number, as the text that was sent."""

    __slots__ = ()


class _Integer(_Number):
    """A JSON number without fraction or exponent."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Report:
    """What one delivery says: the movement, and which POS it was meant for."""

    pos_id: str
    movement: Movement


def read_report(raw: bytes) -> Report:
    """The report in a verified body. Unknown keys and the order of keys are ignored.

    Raises:
        NotParseable: not one JSON document in UTF-8 that every parser reads alike.
        InvalidField: a field is missing or out of its contract.
    """
    fields = _parse(raw)
    return Report(
        pos_id=_identifier(fields, "pos_id"),
        movement=reported_movement(
            inventory_system_id=_identifier(fields, "inventory_system_id"),
            store_id=_identifier(fields, "store_id"),
            item_id=_identifier(fields, "external_id"),
            movement_type=_movement_type(fields),
            quantity=_quantity(fields),
            reported_stock=_decimal(fields, "current_stock"),
            date_text=_date(fields, "date"),
            sent_text=_date(fields, "now"),
        ),
    )


def require_pos(report: Report, pos_id: str | None) -> None:
    """Refuse a report that was meant for another POS than the configured one; without a setting, any will do.

    Raises:
        OtherPos: the ids differ.
    """
    if pos_id is not None and report.pos_id != pos_id:
        raise OtherPos(report.pos_id)


def _parse(raw: bytes) -> dict[str, Any]:
    if not raw:
        raise NotParseable("it is empty")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise NotParseable("it is not UTF-8") from None
    if text[0] == "\ufeff":
        raise NotParseable("it starts with a byte order mark")
    if raw.count(b"{") + raw.count(b"[") > DEEPEST_NESTING and _deepest_nesting(text) > DEEPEST_NESTING:
        raise NotParseable(f"it is nested more than {DEEPEST_NESTING} levels deep")
    try:
        document = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise NotParseable(f"it is not JSON ({error.msg} at character {error.pos})") from None
    if not isinstance(document, dict):
        raise NotParseable("it is not a JSON object")
    return document


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise NotParseable(f"the key {shown(twice)} occurs twice, and parsers disagree on which one counts")
    return fields


def _refuse_constant(name: str) -> NoReturn:
    raise NotParseable(f"{name} is not a JSON number")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_without_duplicates, parse_float=_Number, parse_int=_Integer, parse_constant=_refuse_constant
)


def _deepest_nesting(text: str) -> int:
    """How deep brackets nest outside strings. Counted before parsing, so that the limit is ours and not the stack's."""
    depth = deepest = 0
    in_string = escaped = False
    for character in text:
        if in_string:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                in_string = False
        elif character == '"':
            in_string = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def _field(fields: dict[str, Any], name: str) -> Any:  # noqa: ANN401 - any JSON value
    try:
        value = fields[name]
    except KeyError:
        raise InvalidField(name, "is missing") from None
    if value is None:
        raise InvalidField(name, "must not be null")
    return value


def _text(value: str, name: str, *, longest: int) -> str:
    fault = fault_in(value, longest=longest)
    if fault is not None:
        raise InvalidField(name, fault)
    return value


def _identifier(fields: dict[str, Any], name: str) -> str:
    value = _field(fields, name)
    if isinstance(value, _Number):
        if not isinstance(value, _Integer):
            raise InvalidField(name, "must be text or a whole number")
        return _text(str(value), name, longest=LONGEST_ID)
    if not isinstance(value, str):
        raise InvalidField(name, "must be text or a whole number")
    return _text(value, name, longest=LONGEST_ID)


def _date(fields: dict[str, Any], name: str) -> str:
    value = _field(fields, name)
    if not isinstance(value, str) or isinstance(value, _Number):
        raise InvalidField(name, 'must be text such as "2020-05-30 12:45:03"')
    return _text(value, name, longest=LONGEST_DATE)


def _decimal(fields: dict[str, Any], name: str) -> Decimal:
    value = _field(fields, name)
    if not isinstance(value, str):
        raise InvalidField(name, 'must be a number such as "1.25"')
    try:
        return parse_quantity(value)
    except NotAQuantity as problem:
        raise InvalidField(name, str(problem)) from None


def _quantity(fields: dict[str, Any]) -> Decimal:
    value = _decimal(fields, "quantity")
    if value < 0:
        raise InvalidField("quantity", "must not be negative: movement_type 2 removes")
    return value


def _movement_type(fields: dict[str, Any]) -> MovementType:
    value = _field(fields, "movement_type")
    movement_type = _MOVEMENT_TYPES.get(value) if isinstance(value, str) else None
    if movement_type is None:
        raise InvalidField("movement_type", "must be 1 (add) or 2 (remove)")
    return movement_type
