"""Faults that can be switched on for the stand-in mipOS, call by call."""

import asyncio
from typing import Literal

from pydantic import BaseModel, Field
from starlette.types import Receive, Scope, Send

Call = Literal["token", "refresh", "manage", "sync", "stock_update"]
HTML = b"<!DOCTYPE html><html><head><style>b{color:red}</style></head><body><h1>502 Bad Gateway</h1></body></html>"
DRIP_SECONDS = 0.05
MAX_HANG_SECONDS = 3600


class Fault(BaseModel):
    """What one call does instead of working, for the next `times` calls. One of the kinds, after `delay` seconds."""

    call: Call
    times: int = Field(default=1, ge=1, description="How many calls it lasts.")
    delay: float = Field(default=0, ge=0, le=MAX_HANG_SECONDS, description="Seconds before it answers.")
    status: int | None = Field(default=None, ge=200, le=599, description="Answer this status, with `body` or HTML.")
    body: str | None = Field(default=None, description="The body that goes with `status`, as it is.")
    html: bool = Field(default=False, description="An HTML page as the body.")
    cut: bool = Field(default=False, description="Cut the connection in the middle of the answer.")
    hang: bool = Field(default=False, description="Never end the answer.")
    megabytes: int = Field(default=0, ge=0, le=100, description="So much garbage as the body.")
    unauthorized: bool = Field(default=False, description="401, whatever the token.")
    expired_token: bool = Field(default=False, description="Let the current token run out first; then work as usual.")
    retry_after: int | None = Field(default=None, ge=0, description="Seconds, in the header Retry-After.")

    @property
    def replaces_the_answer(self) -> bool:
        """Whether the call does not work as usual after the delay."""
        return self.status is not None or self.html or self.cut or self.hang or bool(self.megabytes) or self.unauthorized


class Faulty:
    """An ASGI answer that goes wrong as `fault` says."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - the ASGI signature
        """Answer badly (ASGI)."""
        fault = self._fault
        status = fault.status or (401 if fault.unauthorized else 502 if fault.html else 200)
        body = _body(fault)
        content_type = b"text/html" if fault.html else b"application/json"
        headers = [(b"content-type", content_type)]
        if fault.retry_after is not None:
            headers.append((b"retry-after", str(fault.retry_after).encode("ascii")))
        if fault.cut:
            headers.append((b"content-length", b"1000"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if fault.hang:
            for _ in range(int(MAX_HANG_SECONDS / DRIP_SECONDS)):
                await send({"type": "http.response.body", "body": b" ", "more_body": True})
                await asyncio.sleep(DRIP_SECONDS)
        for _ in range(fault.megabytes):
            await send({"type": "http.response.body", "body": b"\xff{<" * 349525, "more_body": True})
        await send({"type": "http.response.body", "body": body, "more_body": fault.cut})
        # With `more_body` and nothing more, the server closes the connection before the length that was promised.


def _body(fault: Fault) -> bytes:
    if fault.body is not None:
        return fault.body.encode()
    if fault.html:
        return HTML
    return b'"Unauthorized."' if fault.unauthorized else b""
