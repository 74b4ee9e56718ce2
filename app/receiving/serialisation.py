"""The ways in which programs write the same JSON document. A signature over one of them fits no other.

Numbers keep the digits that were sent, unless a form is about numbers; equal keys are kept too.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

MAX_DEPTH = 32


class Number(str):
    """A number as it was sent."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class _Layout:
    name: str
    item: str
    colon: str
    indent: str = ""


_LAYOUTS = (
    _Layout("compact", ",", ":"),
    _Layout("with a blank after commas and colons (Python)", ", ", ": "),
    _Layout("indented by four blanks (PHP's JSON_PRETTY_PRINT)", ",", ": ", "    "),
    _Layout("indented by two blanks", ",", ": ", "  "),
    _Layout("indented by tabs", ",", ": ", "\t"),
)


def _php(text: str) -> str:
    return json.dumps(text).replace("/", "\\/")


def _upper(text: str) -> str:
    return re.sub(r"\\u[0-9a-f]{4}", lambda found: "\\u" + found.group()[2:].upper(), json.dumps(text))


_ESCAPES: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("as PHP escapes it", _php),
    ("with letters escaped and slashes not", json.dumps),
    ("with slashes escaped and letters not", lambda text: json.dumps(text, ensure_ascii=False).replace("/", "\\/")),
    ("unescaped", lambda text: json.dumps(text, ensure_ascii=False)),
    ("with letters escaped in upper-case hexadecimal", _upper),
)


def _shortest(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    return Number(repr(float(value)).removesuffix(".0")) if isinstance(value, Number) and re.search("[.eE]", value) else value


def _as_text(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    return str(value) if isinstance(value, Number) else value


def _as_number(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    is_number = type(value) is str and re.fullmatch(r"-?(?:0|[1-9]\d*)(?:\.\d+)?", value, re.ASCII)
    return Number(value) if is_number else value


_NUMBERS: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("", lambda value: value),
    (", with numbers at their shortest", _shortest),
    (", with its numbers as texts", _as_text),
    (", with its texts that are numbers as numbers", _as_number),
)


TRIED = (
    "written again, and that sorted by its keys: each in every way that follows",
    *(layout.name for layout in _LAYOUTS),
    *(name for name, _ in _ESCAPES),
    *(name.removeprefix(", ") for name, _ in _NUMBERS if name),
)
"""What `serialisations` makes, for a person."""


def serialisations(body: bytes) -> Iterator[tuple[str, bytes]]:
    """Each form of the JSON document in `body`, with its name, the likeliest first; none where there is no such document."""
    try:
        document = json.loads(body.decode("utf-8-sig"), parse_int=Number, parse_float=Number, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        return
    if _depth(document, MAX_DEPTH) > MAX_DEPTH:
        return
    for order, ordered in (("written again", document), ("written again, sorted by its keys", _sorted(document))):
        for layout in _LAYOUTS:
            for escape, escaped in _ESCAPES:
                for numbers, number in _NUMBERS:
                    text = _write(ordered, layout, escaped, number, depth=0)
                    yield f"{order}, {layout.name}, {escape}{numbers}", text.encode("utf-8", "surrogatepass")


class _Pairs(list[tuple[str, Any]]):
    """An object, which may have a key twice."""


def _depth(value: Any, most: int) -> int:  # noqa: ANN401 - any JSON value
    parts = [part for _, part in value] if isinstance(value, _Pairs) else value if isinstance(value, list) else []
    return 1 + max((_depth(part, most - 1) for part in parts), default=0) if most >= 0 else 1


def _sorted(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, _Pairs):
        return _Pairs(sorted(((key, _sorted(part)) for key, part in value), key=lambda pair: pair[0]))
    return [_sorted(part) for part in value] if isinstance(value, list) else value


def _write(
    value: Any,  # noqa: ANN401 - any JSON value
    layout: _Layout,
    escaped: Callable[[str], str],
    number: Callable[[Any], Any],
    *,
    depth: int,
) -> str:
    if isinstance(value, _Pairs):
        parts = [f"{escaped(key)}{layout.colon}{_write(part, layout, escaped, number, depth=depth + 1)}" for key, part in value]
        return _enclosed("{}", parts, layout, depth)
    if isinstance(value, list):
        return _enclosed("[]", [_write(part, layout, escaped, number, depth=depth + 1) for part in value], layout, depth)
    value = number(value)
    if isinstance(value, Number):
        return str(value)
    return escaped(value) if isinstance(value, str) else json.dumps(value)


def _enclosed(brackets: str, parts: Sequence[str], layout: _Layout, depth: int) -> str:
    if not parts or not layout.indent:
        return f"{brackets[0]}{layout.item.join(parts)}{brackets[1]}"
    inner = "\n" + layout.indent * (depth + 1)
    return f"{brackets[0]}{inner}{f'{layout.item}{inner}'.join(parts)}\n{layout.indent * depth}{brackets[1]}"
