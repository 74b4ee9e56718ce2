"""mipOS's side of a delivery: real bodies, really signed, with switches for everything that can be wrong about them."""

from collections.abc import Mapping
from typing import Any

from app.receiving.mipos_sender import DOCUMENTED_MOVEMENT, php_json
from app.receiving.signature import HEADER, sign

SECRET = "9468da7ccaed13055abcf183fb05c73e8cfc48c5"  # the documentation's own example
PATH = "/webhooks/stock"
MISSING = "(missing)"


def movement(**changes: Any) -> dict[str, Any]:
    """The documented movement with `changes`; a change to MISSING takes the key out."""
    document = {**DOCUMENTED_MOVEMENT, **changes}
    return {name: value for name, value in document.items() if value is not MISSING}


def body_of(**changes: Any) -> bytes:
    return php_json(movement(**changes))


def signed(body: bytes, *, secret: str = SECRET, **changes: str | None) -> dict[str, str]:
    """The headers that mipOS sends with `body`; `changes` by header name with underscores, None takes one out."""
    headers: dict[str, str | None] = {"Content-Type": "application/json", HEADER: sign(body, secret.encode())}
    headers.update({name.replace("_", "-"): value for name, value in changes.items()})
    return {name: value for name, value in headers.items() if value is not None}


def raw_request(body: bytes, headers: Mapping[str, str], *, path: str = PATH) -> bytes:
    """The bytes of a whole HTTP request."""
    lines = [f"POST {path} HTTP/1.1", "Host: pos", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
