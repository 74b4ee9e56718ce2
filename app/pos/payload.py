"""Raw bytes of a request of the POS -> its movements, or a refusal that names the field.

One movement is `{"item_id", "kind": sale | count | receipt, "quantity", "happened_at"}`; several are `{"movements": [...]}`.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from app.errors import InvalidField
from app.receiving.fields import decimal_number, field_of, identifier, parse_object
from app.stock.movement import Movement, PosKind, Source, pos_movement

MOST_MOVEMENTS = 500
_KINDS = {kind.value: kind for kind in PosKind}
_EARLIEST, _LATEST = datetime(1970, 1, 2, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
"""So that any timezone can show it."""
_OFFSET = 'must be a time with its offset, such as "2026-05-30T12:45:03-05:00"'


def read_movements(raw: bytes, *, store_id: str, idempotency_key: str, now: datetime) -> list[Movement]:
    """The movements in a body, in order; `now` is when they happened where they do not say.

    Raises:
        NotParseable: not one JSON document in UTF-8 that every parser reads alike.
        InvalidField: a field is missing or out of its contract.
    """
    document = parse_object(raw)
    if "movements" not in document:
        return [_movement(document, store_id=store_id, idempotency_key=idempotency_key, number=0, now=now)]
    listed = document["movements"]
    if not isinstance(listed, list) or not 1 <= len(listed) <= MOST_MOVEMENTS:
        raise InvalidField("movements", f"must be a list of 1 to {MOST_MOVEMENTS} movements")
    movements = []
    for number, fields in enumerate(listed):
        if not isinstance(fields, dict):
            raise InvalidField(f"movements[{number}]", "must be an object")
        try:
            movement = _movement(fields, store_id=store_id, idempotency_key=idempotency_key, number=number, now=now)
        except InvalidField as error:
            raise error.within(f"movements[{number}].") from None
        movements.append(movement)
    _require_order(movements)
    return movements


def _require_order(movements: Sequence[Movement]) -> None:
    """Refuse a count beside other movements of its item: they may be applied in any order, and a count is not the same in any."""
    times = Counter(movement.item_id for movement in movements)
    for number, movement in enumerate(movements):
        if movement.source is Source.POS_COUNT and times[movement.item_id] > 1:
            raise InvalidField(
                f"movements[{number}].kind", "is a count of an item that occurs more than once here: send the count by itself"
            )


def _movement(fields: dict[str, Any], *, store_id: str, idempotency_key: str, number: int, now: datetime) -> Movement:
    quantity = decimal_number(fields, "quantity")
    if quantity < 0:
        raise InvalidField("quantity", "must not be negative: a sale removes, a receipt adds, a count says what there is")
    kind = field_of(fields, "kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise InvalidField("kind", "must be sale, count or receipt")
    return pos_movement(
        store_id=store_id,
        item_id=identifier(fields, "item_id"),
        kind=_KINDS[kind],
        quantity=quantity,
        idempotency_key=idempotency_key,
        happened_at=_time(fields, now),
        number=number,
    )


def _time(fields: dict[str, Any], now: datetime) -> datetime:
    value = fields.get("happened_at")
    if value is None:
        return now
    if not isinstance(value, str):
        raise InvalidField("happened_at", _OFFSET)
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise InvalidField("happened_at", _OFFSET)
        moment = moment.astimezone(UTC)
        if not _EARLIEST <= moment < _LATEST:
            raise InvalidField("happened_at", "must be after 1970 and before 9999")
        return moment
    except (ValueError, OverflowError):
        raise InvalidField("happened_at", _OFFSET) from None
