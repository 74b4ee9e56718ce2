"""The one reader of JSON from outside: exact bytes into pydantic models, which OpenAPI describes too.

jiter parses, since pydantic's own parser is not exact: it sends numbers through a float and takes the last of two equal keys.
What two parsers could read differently is refused, and no number goes through a float.
"""

import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, TypeVar

import jiter
from pydantic import BaseModel, Field, PlainValidator, ValidationError, WithJsonSchema

from app.errors import InvalidField, NotParseable
from app.stock.quantity import parse_quantity, require_unsigned
from app.stock.text import MAX_TEXT_LENGTH, fault_in, fault_in_id
from app.visible_text import shown

MAX_NESTING = 32
MAX_DATE_LENGTH = 64

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_DUPLICATE_KEY = re.compile(r'Detected duplicate key "(.*)" at line (\d+) column (\d+)', re.DOTALL)
_LIKELY_NEGATIVE_ZERO = re.compile(rb"-0[\s,\]}]")
_PROBLEMS = {"missing": "is missing", "model_type": "must be an object"}

Model = TypeVar("Model", bound=BaseModel)


def parse(raw: bytes, model: type[Model]) -> Model:
    """The `model` in `raw`; unknown keys are ignored.

    Raises:
        NotParseable: not one JSON object in UTF-8 that every parser reads alike.
        InvalidField: a field is missing or out of its contract.
    """
    return validate(parse_object(raw), model)


def parse_object(raw: bytes) -> dict[str, Any]:
    """The JSON object in `raw`. A number with a fraction or an exponent is a `jiter.LosslessFloat`: the text that was sent.

    Raises:
        NotParseable: not one JSON object in UTF-8 that every parser reads alike.
    """
    try:
        # Not float_mode="decimal": a Decimal has lost how its number was written, and with it our bound on that.
        document = jiter.from_json(raw, allow_inf_nan=False, catch_duplicate_keys=True, float_mode="lossless-float")
    except ValueError as error:
        raise NotParseable(_syntax_problem(raw, str(error))) from None
    if not isinstance(document, dict):
        raise NotParseable("it is not a JSON object")
    if b"[" in raw or raw.find(b"{", 1) > 0:
        _require_shallow(document, MAX_NESTING)
    if _LIKELY_NEGATIVE_ZERO.search(raw):
        # jiter reads the whole number -0 as 0, so that the id -0 would become another one.
        document = json.loads(raw, parse_int=_whole_number, parse_float=_lossless)
    return document


def validate(fields: dict[str, Any], model: type[Model]) -> Model:
    """The `model` in `fields`, which `parse_object` read.

    Raises:
        InvalidField: a field is missing or out of its contract; it is named by its path, such as `movements[2].quantity`.
    """
    try:
        # What `model_validate` calls, without half a microsecond of looking at its options.
        return model.__pydantic_validator__.validate_python(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InvalidField(path_of(first["loc"]), problem_of(first)) from None


def path_of(location: Sequence[str | int]) -> str:
    """A pydantic location as a person writes it: `movements[2].quantity`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")


def problem_of(error: Mapping[str, Any]) -> str:
    """What is wrong with a field, to complete "The field name ..."."""
    problem = _PROBLEMS.get(error["type"])
    return problem or str(error.get("ctx", {}).get("error", f"is not usable: {error['msg']}"))


def _syntax_problem(raw: bytes, words: str) -> str:
    if not raw:
        return "it is empty"
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return "it is not UTF-8"
    if raw.startswith(_BYTE_ORDER_MARK):
        return "it starts with a byte order mark"
    duplicate = _DUPLICATE_KEY.fullmatch(words)
    if duplicate is not None:
        key, line, column = duplicate.groups()
        return f"the key {shown(key)} occurs twice (line {line}, column {column}), and parsers disagree on which one counts"
    if words.startswith("recursion limit exceeded"):
        return f"it is nested more than {MAX_NESTING} levels deep"
    return f"it is not JSON ({words})"


def _require_shallow(value: dict[str, Any] | list[Any], levels: int) -> None:
    if not levels:
        raise NotParseable(f"it is nested more than {MAX_NESTING} levels deep")
    for child in value.values() if isinstance(value, dict) else value:
        if isinstance(child, dict | list):
            _require_shallow(child, levels - 1)


def _whole_number(text: str) -> int | jiter.LosslessFloat:
    return _lossless(text) if text == "-0" else int(text)


def _lossless(text: str) -> jiter.LosslessFloat:
    return jiter.LosslessFloat(text.encode("ascii"))


def _null_or(value: object, problem: str) -> str:
    return "must not be null" if value is None else problem


def read_id(value: object) -> str:
    """The id in `value`: text, or a JSON whole number, which is the same id as its digits.

    Raises:
        ValueError: it is none. The message completes "The field external_id ...".
    """
    if type(value) is int:
        value = str(value)
    if not isinstance(value, str):
        raise ValueError(_null_or(value, "must be text or a whole number"))  # noqa: TRY004 - pydantic collects ValueErrors
    if fault := fault_in_id(value):
        raise ValueError(fault)
    return value


def _date_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(_null_or(value, 'must be text such as "2020-05-30 12:45:03"'))  # noqa: TRY004 - as above
    if fault := fault_in(value, max_length=MAX_DATE_LENGTH):
        raise ValueError(fault)
    return value


def read_quantity(value: object) -> Decimal:
    """The number in `value`: text or a JSON number, as `parse_quantity` reads it.

    Raises:
        ValueError: it is none. The message completes "The field quantity ...".
    """
    if isinstance(value, str):
        return parse_quantity(value)
    if type(value) is int or isinstance(value, jiter.LosslessFloat):
        return parse_quantity(str(value))
    raise ValueError(_null_or(value, 'must be a number such as "1.25"'))


def unsigned_quantity(problem: str) -> PlainValidator:
    """For a `Quantity` that has no sign; `problem` completes "must not be negative: ..."."""
    return PlainValidator(lambda value: require_unsigned(read_quantity(value), why=problem))


def one_of(values: dict[str | int, Any], problem: str) -> PlainValidator:
    """For a field that takes the keys of `values`, and is read as what they stand for; text and whole numbers only."""

    def find(value: object) -> Any:  # noqa: ANN401 - whatever the key stands for
        # The type itself: True is 1 to a dict, and no key here.
        if type(value) not in (str, int) or value not in values:
            raise ValueError(_null_or(value, problem))
        return values[value]

    return PlainValidator(find)


Identifier = Annotated[
    str,
    PlainValidator(read_id),
    WithJsonSchema({"type": ["string", "integer"], "minLength": 1, "maxLength": MAX_TEXT_LENGTH}),
]
"""What `read_id` reads."""

DateText = Annotated[
    str, PlainValidator(_date_text), WithJsonSchema({"type": "string", "minLength": 1, "maxLength": MAX_DATE_LENGTH})
]
"""A date, as the text that was sent."""

NUMBER_SCHEMA = WithJsonSchema({"type": ["string", "number"]})

Quantity = Annotated[Decimal, PlainValidator(read_quantity), NUMBER_SCHEMA]
"""What `read_quantity` reads: exact to 14 decimals."""


class ErrorBody(BaseModel):
    """What every answer says that is not a success."""

    message: str = Field(description="One sentence for a person: what is wrong and what to do.")


_HEADERS = {
    401: {"WWW-Authenticate": {"description": "What is asked for.", "schema": {"type": "string"}}},
    503: {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}},
}


def errors(described: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    """FastAPI's `responses` for answers with an `ErrorBody`, by status and description."""
    return {
        status: {"model": ErrorBody, "description": description, **({"headers": _HEADERS[status]} if status in _HEADERS else {})}
        for status, description in described.items()
    }


COMMON_ERRORS = errors(
    {
        400: "The request is not valid HTTP.",
        431: "The headers are larger than the service takes.",
        500: "A bug. The message says nothing of its cause.",
        503: "The service is stopping.",
    }
)
"""What any address may answer."""


def request_body(*models: type[BaseModel]) -> dict[str, Any]:
    """FastAPI's `openapi_extra` for a path function whose body, one of `models`, is read by `parse` and not by FastAPI."""
    schemas = [_inline(schema, schema.pop("$defs", {})) for schema in (model.model_json_schema() for model in models)]
    schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _inline(schema: Any, definitions: dict[str, Any]) -> Any:  # noqa: ANN401 - any JSON value
    """`schema` with each definition in the place where it is referred to: there is no `$defs` in an operation."""
    if isinstance(schema, list):
        return [_inline(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inline(definitions[schema["$ref"].removeprefix("#/$defs/")], definitions)
    return {name: _inline(value, definitions) for name, value in schema.items()}
