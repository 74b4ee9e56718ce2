"""What is wrong with a setting, in words that say what to write; pydantic's own words are for programmers."""

from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo

_KINDS = {
    "int": "must be a whole number",
    "float": "must be a number",
    "finite": "must be a number",
    "bool": "must be true or false",
    "string": "must be a text",
}
"""By the beginning of a fault's type"""
_BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


def problem_of(fault: Mapping[str, Any], field: FieldInfo | None) -> str:
    """What is wrong, to follow the name of the setting. It never holds what was written, which may be a secret."""
    kind, context = fault["type"], fault.get("ctx", {})
    if kind == "missing":
        return "is not set"
    if kind in {"literal_error", "enum"}:
        return f"must be {context['expected']}"
    if kind.startswith(("greater_than", "less_than")):
        return f"must be {_bounds_of(field)}"
    words = _KINDS.get(kind.partition("_")[0])
    if words is not None:
        bounds = _bounds_of(field)
        return f"{words}, {bounds}" if bounds else words
    problem = fault["msg"].removeprefix("Value error, ")
    return f"{problem[0].lower()}{problem[1:]}"


def _bounds_of(field: FieldInfo | None) -> str:
    """Such as: at least 0.5 and at most 60."""
    found: dict[str, Any] = {
        name: getattr(bound, name) for bound in (field.metadata if field else ()) for name in _BOUNDS if hasattr(bound, name)
    }
    return " and ".join(f"{words} {found[name]}" for name, words in _BOUNDS.items() if name in found)
