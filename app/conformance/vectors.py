"""The vectors: cases of deliveries, with what a receiver has to answer and to do. Read from the file that the package holds.

docs/conformance/README.md explains the format.
"""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from importlib import resources
from typing import Any

FORMAT = 1
EXAMPLE_VALUES: Mapping[str, str] = {
    "pos": "1",
    "store": "1",
    "item": "avcc123",
    "system": "4344be8c-c6b9-4c51-88a6-d620144ab406",
    "date": "2026-01-01 12:45:03",
    "now": "2026-01-01 12:45:04",
    "tag": "417032",
}
"""The values with which the examples of the file are made."""

_VARIABLE = re.compile(r"\$\{([a-z_]+)\}")
_WHOLE_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")


class Expected(StrEnum):
    """What has to be answered."""

    ACCEPTED = "accepted"
    """204 without a body"""
    REFUSED = "refused"
    """4xx, and JSON with a text in `message`"""
    REFUSED_OR_CLOSED = "refused or closed"
    """The same; or the connection ends without an answer."""
    ANYTHING = "anything"


class Signing(StrEnum):
    """What is in X-Signature-Request."""

    VALID = "valid"
    NONE = "none"
    EMPTY = "empty"
    OF_ANOTHER_BODY = "of-another-body"
    OF_ANOTHER_SECRET = "of-another-secret"  # noqa: S105 - no secret
    CUT = "cut"
    NOT_ASCII = "not-ascii"
    TWICE = "twice"


class Stop(StrEnum):
    """How a body ends half-way."""

    CLOSED = "closed"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Request:
    """One request, or the same several times. Seconds and bytes."""

    body: str | None
    """A text with variables, or None where `raw_body` holds bytes"""
    raw_body: bytes
    expected: Expected
    here: int | None
    """The status with which this service answers what it refuses"""
    signing: Signing
    times: int
    copies: int
    """So many at once"""
    padding: int
    """Blanks at the end"""
    pieces: int
    pause: float
    """Between two pieces"""
    is_chunked: bool
    stop: Stop | None

    def bytes_with(self, values: Mapping[str, str]) -> bytes:
        """The body as it is sent."""
        body = self.raw_body if self.body is None else fill(self.body, values)
        return body + b" " * self.padding


@dataclass(frozen=True, slots=True)
class Case:
    """Some requests, and by how much the stock changes by all of them."""

    name: str
    about: str
    is_required: bool
    requests: tuple[Request, ...]
    at_once: bool
    effect: Decimal


def packaged() -> str:
    """The file, as text."""
    return resources.files("app").joinpath("samples/vectors.json").read_text(encoding="ascii")


def read_cases(text: str) -> list[Case]:
    """The cases in a file of vectors."""
    return [_case(case) for case in json.loads(text)["cases"]]


def fill(template: str, values: Mapping[str, str]) -> bytes:
    """The bytes of a body: each variable is written as the inside of a JSON string, `${store}` as a whole JSON value."""

    def value_of(found: re.Match[str]) -> str:
        name = found[1]
        if name == "store" and _WHOLE_NUMBER.fullmatch(values["store"]):
            return values["store"]
        escaped = json.dumps(values[name.removesuffix("_text")]).replace("/", "\\/")
        return escaped if name == "store" else escaped[1:-1]

    return _VARIABLE.sub(value_of, template).encode("utf-8", "surrogatepass")


def _case(case: dict[str, Any]) -> Case:
    return Case(
        name=case["name"],
        about=case["about"],
        is_required=case["required"],
        requests=tuple(_request(request) for request in case["requests"]),
        at_once=case.get("at_once", False),
        effect=Decimal(case["effect"]),
    )


def _request(request: dict[str, Any]) -> Request:
    return Request(
        body=request.get("body"),
        raw_body=base64.b64decode(request.get("body_base64", "")),
        expected=Expected(request["expect"]),
        here=request.get("here"),
        signing=Signing(request.get("signature", "valid")),
        times=request.get("times", 1),
        copies=request.get("copies", 1),
        padding=request.get("padding", 0),
        pieces=request.get("pieces", 1),
        pause=request.get("pause", 0.0),
        is_chunked=request.get("chunked", False),
        stop=Stop(request["stops"]) if "stops" in request else None,
    )
