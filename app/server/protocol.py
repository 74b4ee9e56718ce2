"""uvicorn's HTTP/1.1 protocol with a deadline and a cap for the head of a request, and errors with a `message`.

uvicorn has neither: a silent connection stays open without limit, a header may have any size, and its own 400 is plain text.
"""

import asyncio
from collections.abc import MutableMapping
from http import HTTPStatus
from typing import cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.errors import PosSyncError, render
from app.scope import BODY_ARRIVED

HEADER_SECONDS = 10.0
MAX_HEAD_BYTES = 65536


class BadRequest(PosSyncError):
    """uvicorn's own 400: the bytes are not HTTP."""

    status = HTTPStatus.BAD_REQUEST
    reason = "not_http"

    def __init__(self) -> None:
        super().__init__("The request is not valid HTTP.")


class UpgradeRefused(PosSyncError):
    """A request with a body that asks to go on in another protocol."""

    status = HTTPStatus.BAD_REQUEST
    reason = "upgrade_refused"

    def __init__(self) -> None:
        super().__init__("The POS speaks HTTP/1.1 only. Send the movement without the header Upgrade.")


class HeadTooLarge(PosSyncError):
    """The request line and headers are over the cap; the parser has none of its own."""

    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    reason = "head_too_large"

    def __init__(self) -> None:
        super().__init__(f"The request's headers are larger than {MAX_HEAD_BYTES} bytes.")


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol with a deadline and a cap for the head of a request, and errors with a `message`."""

    _head_timer: asyncio.TimerHandle | None = None
    _head_size = 0
    _is_in_head = False
    _head_received = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock: a connection on which nothing comes is closed."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Start the clock again where a further request has begun and is not complete."""
        if self._is_in_head:
            # The parser tells of a header only when it has all of it, and until then keeps what there is.
            self._head_received += len(data)
            if self._head_received > MAX_HEAD_BYTES:
                self._refuse(HeadTooLarge())
                return
        super().data_received(data)
        if self._head_timer is None and (self.cycle is None or self.cycle.response_complete):
            self._expect_head()

    def on_message_begin(self) -> None:
        """Count from zero."""
        self._head_size = self._head_received = 0
        self._is_in_head = True
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Count the request line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header."""
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Stop the clock; from here the body's own deadline counts."""
        self._is_in_head = False
        if self.transport.is_closing():
            return
        if self.parser.should_upgrade() and self.parser.get_method() not in {b"GET", b"HEAD"}:
            # The parser would leave the body to the other protocol, and its signature would be checked over nothing.
            self._refuse(UpgradeRefused())
            return
        self._stop_clock()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Drop the body of a request that was refused for its head."""
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that all of it is here; ignore the end of a request that was refused for its head."""
        if not self.transport.is_closing():
            cast(MutableMapping[str, object], self.scope)[BODY_ARRIVED] = True
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's signature
        """Refuse what is not HTTP, in our words."""
        self._refuse(BadRequest())

    def _count(self, size: int) -> None:
        self._head_size += size
        if self._head_size > MAX_HEAD_BYTES:
            self._refuse(HeadTooLarge())

    def _refuse(self, error: PosSyncError) -> None:
        if self.transport.is_closing():
            return
        status, headers, body = render(error)
        lines = [b"HTTP/1.1 %d %b" % (status, HTTPStatus(status).phrase.encode("ascii"))]
        lines += [name + b": " + value for name, value in [*headers, (b"connection", b"close")]]
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        self.transport.close()

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(HEADER_SECONDS, self._give_up)

    def _stop_clock(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        # Between two requests of a kept-alive connection the keep-alive time counts, not this one.
        if self.timeout_keep_alive_task is None and not self.transport.is_closing():
            self.transport.close()
