"""JSON from outside, field by field, for every way in: what two parsers could read differently is refused.

Numbers keep every digit: a JSON number is read as the text that was sent, never as a float. Each reader of a field raises
`InvalidField` where it is missing or out of its contract.
"""

import json
from decimal import Decimal
from typing import Any, NoReturn

from app.errors import InvalidField, NotParseable, shown
from app.stock.quantity import NotAQuantity, parse_quantity
from app.stock.text import fault_in

DEEPEST_NESTING = 32
LONGEST_ID = 255
LONGEST_DATE = 64


class _Number(str):
    """A JSON number, as the text that was sent."""

    __slots__ = ()


class _Integer(_Number):
    """A JSON number without fraction or exponent."""

    __slots__ = ()


def parse_object(raw: bytes) -> dict[str, Any]:
    """The JSON object in `raw`.

    Raises:
        NotParseable: not one JSON object in UTF-8 that every parser reads alike.
    """
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


def field_of(fields: dict[str, Any], name: str) -> Any:  # noqa: ANN401 - any JSON value
    """The value of a field that must be there; a number is the text that was sent."""
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


def identifier(fields: dict[str, Any], name: str) -> str:
    """An id: text, or a whole number, which is the same id as its digits."""
    value = field_of(fields, name)
    if isinstance(value, _Number):
        if not isinstance(value, _Integer):
            raise InvalidField(name, "must be text or a whole number")
        return _text(str(value), name, longest=LONGEST_ID)
    if not isinstance(value, str):
        raise InvalidField(name, "must be text or a whole number")
    return _text(value, name, longest=LONGEST_ID)


def date_text(fields: dict[str, Any], name: str) -> str:
    """A date, as the text that was sent."""
    value = field_of(fields, name)
    if not isinstance(value, str) or isinstance(value, _Number):
        raise InvalidField(name, 'must be text such as "2020-05-30 12:45:03"')
    return _text(value, name, longest=LONGEST_DATE)


def decimal_number(fields: dict[str, Any], name: str) -> Decimal:
    """An exact number, from a string or a JSON number."""
    value = field_of(fields, name)
    if not isinstance(value, str):
        raise InvalidField(name, 'must be a number such as "1.25"')
    try:
        return parse_quantity(value)
    except NotAQuantity as problem:
        raise InvalidField(name, str(problem)) from None
