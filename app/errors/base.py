"""What every error is: the HTTP status and the reason on the class, a message for a person at the other end.

Every refusal of every layer is rendered by `render`, so that no answer leaves without a `message`.
"""

import json
from http import HTTPStatus
from typing import ClassVar

LONGEST_SHOWN_VALUE = 80


class PosSyncError(Exception):
    """Something that we say no to; `str()` of it is safe to show to the caller."""

    status: ClassVar[HTTPStatus] = HTTPStatus.INTERNAL_SERVER_ERROR
    reason: ClassVar[str] = "internal"
    """A short, stable name for metrics, logs and the `refused_delivery` table."""
    headers: ClassVar[dict[str, str]] = {}

    @property
    def message(self) -> str:
        """One sentence for a person: what is wrong and what to do."""
        return str(self)


class InternalError(PosSyncError):
    """A bug of ours. Says nothing of its cause to the caller."""

    def __init__(self) -> None:
        super().__init__("The POS failed unexpectedly. Send the request again; if it keeps failing, tell the POS operator.")


def shown(value: str) -> str:
    """`value` quoted for a message: cut to a length that a person reads, without line breaks."""
    cut = value if len(value) <= LONGEST_SHOWN_VALUE else value[: LONGEST_SHOWN_VALUE - 1] + "…"
    return '"' + "".join(character if character.isprintable() else "�" for character in cut) + '"'


def render(error: PosSyncError) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and JSON body of the answer for `error`; the one renderer for routes, middleware and protocol."""
    body = json.dumps({"message": error.message}).encode("ascii")
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    headers += [(name.lower().encode("ascii"), value.encode("ascii")) for name, value in error.headers.items()]
    return int(error.status), headers, body
