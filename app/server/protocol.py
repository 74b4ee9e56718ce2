"""uvicorn's HTTP/1.1 protocol with a deadline and a cap for the head of a request, and errors with a `message`.

uvicorn has neither: a silent connection stays open without limit, a header may have any size, and its own 400 is plain text.
"""

import asyncio
import socket
import struct
import typing
from collections.abc import MutableMapping
from http import HTTPStatus
from typing import ClassVar, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.errors import PosSyncError, render
from app.errors.requests import HeadTooLarge, NotHttp, TooManyConnections
from app.scope import BODY_ARRIVED, PEER

HEADER_SECONDS = 10.0
MAX_HEAD_BYTES = 65536
MAX_UNREAD_SECONDS = 10.0
"""A client that does not read its answers is left after this time: each holds memory and a descriptor."""
MAX_CONNECTIONS = 4096
"""Of one worker. At the cap the one that was idle for longest is closed; deliveries beyond it are answered 503."""
PROBE_CONNECTIONS = 32
"""Beyond the cap, for probes only."""
PROBES = {b"/livez", b"/readyz", b"/metrics"}
_UPGRADE_HEADERS = {b"upgrade", b"http2-settings"}
_WHITE_SPACE = b" \t"
"""It may stand around a header's value, and is no part of it."""
_END_OF_HEAD = b"\r\n\r\n"


class ConnectionObserver(typing.Protocol):
    """Is told of this worker's connections."""

    def observe_connections(self, open_now: int) -> None:
        """How many there are, whenever that changes."""

    def observe_refused_connection(self) -> None:
        """One was refused at the cap, or a request on one that may only probe."""


class _Nobody:
    def observe_connections(self, open_now: int) -> None: ...

    def observe_refused_connection(self) -> None: ...


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol with a deadline and a cap for the head of a request, and errors with a `message`."""

    observer: ClassVar[ConnectionObserver] = _Nobody()
    _head_timer: asyncio.TimerHandle | None = None
    _unread_timer: asyncio.TimerHandle | None = None
    _head_size = 0
    _is_in_head = False
    _head_received = 0
    _is_in_body = False
    _is_upgrading = False
    _has_padded_coding = False
    """The head names its chunks in a way that the parser does not read: it has to be read again."""
    _newest = b""
    """The last bytes that came: the end of a head may come in two parts."""
    _takes_probes_only = False
    _running: RequestResponseCycle | None = None
    """The request that is being answered: `cycle` is the newest one, which may wait behind it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock: a connection on which nothing comes is closed."""
        super().connection_made(transport)
        self.observer.observe_connections(len(self.connections))
        self._make_room()
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_clock()
        super().connection_lost(exc)
        self.observer.observe_connections(len(self.connections))
        self.resume_writing()

    def pause_writing(self) -> None:
        """Leave a client that does not read."""
        super().pause_writing()
        if self._unread_timer is None:
            self._unread_timer = self.loop.call_later(MAX_UNREAD_SECONDS, self._leave)

    def resume_writing(self) -> None:
        """It reads again."""
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Start the clock again where a further request has begun and is not complete."""
        self._unset_keepalive_if_required()
        # The parser tells of a header only when it has all of it, and until then keeps what there is.
        self._head_received += len(data)
        self._feed_by_heads(data)
        if self._is_in_head and self._head_received > MAX_HEAD_BYTES:
            self._refuse(HeadTooLarge(MAX_HEAD_BYTES))
        if self._head_timer is None and (self.cycle is None or self.cycle.response_complete):
            self._expect_head()

    def _feed_by_heads(self, data: bytes) -> None:
        """Give the parser what ends with a head by itself: where it refuses a head, it does not tell where that ended."""
        known = len(self._newest)
        data = self._newest + data
        self._newest = data[1 - len(_END_OF_HEAD) :]
        begin = known
        while begin < len(data) and not self.transport.is_closing():
            found = -1 if self._is_in_body else data.find(_END_OF_HEAD, max(begin + 1 - len(_END_OF_HEAD), 0))
            end = len(data) if found < 0 else found + len(_END_OF_HEAD)
            self._feed(data[begin:end], ends_with_head=found >= 0)
            begin = end

    def _feed(self, data: bytes, *, ends_with_head: bool = False) -> None:
        """As uvicorn, but for an upgrade: it is ignored, as by every server that does not know the other protocol."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if not self.transport.is_closing():
                self._read_again(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            if self._has_padded_coding and ends_with_head and not self.transport.is_closing():
                self._read_again()
            else:
                self._refuse(NotHttp())

    def _read_again(self, rest: bytes = b"") -> None:
        """Let a new parser read the head, without what the first one stopped at, and then the `rest`.

        That is an upgrade, since it takes what follows for another protocol's; and a tab behind `chunked`.
        """
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode("ascii"))]
        for name, value in self.headers:
            kept = value
            if name == b"connection":
                tokens = (token.strip() for token in value.split(b","))
                kept = b", ".join(token for token in tokens if token.lower() not in _UPGRADE_HEADERS)
            if name not in _UPGRADE_HEADERS and (kept or name != b"connection"):
                lines.append(name + b": " + kept)
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._feed(b"\r\n".join(lines) + b"\r\n\r\n" + rest)

    def on_message_begin(self) -> None:
        """Count from zero."""
        self._head_size = self._head_received = 0
        self._is_in_head = True
        self._has_padded_coding = False
        super().on_message_begin()
        self.scope[PEER] = self.client  # type: ignore[typeddict-unknown-key]

    def on_url(self, url: bytes) -> None:
        """Count the request line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header, and take no white space around its value for a part of it; a trailer is never a header."""
        self._count(len(name) + len(value))
        if self._is_in_head:
            bare = value.strip(_WHITE_SPACE)
            if bare != value and name.lower() == b"transfer-encoding":
                # A blank the parser leaves out by itself, a tab not.
                self._has_padded_coding = b"\t" in value
            super().on_header(name, bare)

    def on_headers_complete(self) -> None:
        """Stop the clock; from here the body's own deadline counts."""
        self._is_in_head = False
        if self.transport.is_closing():
            return
        if self.parser.should_upgrade():
            self._is_upgrading = True
            if self.parser.get_method() == b"CONNECT":
                self._refuse(NotHttp())
            return
        if self._is_ambiguous():
            self._refuse(NotHttp())
            return
        if self._has_padded_coding:
            return
        if self._takes_probes_only and self.url not in PROBES:
            self.observer.observe_refused_connection()
            self._refuse(TooManyConnections())
            return
        self._stop_clock()
        self._is_in_body = True
        super().on_headers_complete()
        if not self.pipeline:
            self._running = self.cycle

    def on_response_complete(self) -> None:
        """Note which request is next."""
        self._running = self.pipeline[-1][0] if self.pipeline else None
        super().on_response_complete()

    def on_body(self, body: bytes) -> None:
        """Drop the body of a request that was refused for its head."""
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that all of it is here; ignore the end of a request that was refused for its head."""
        self._is_in_body = False
        if self._is_upgrading:
            # Of the head alone: it is read again.
            self._is_upgrading = False
        elif not self.transport.is_closing():
            cast(MutableMapping[str, object], self.scope)[BODY_ARRIVED] = True
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's signature
        """Refuse what is not HTTP, in our words."""
        self._refuse(NotHttp())

    def _is_ambiguous(self) -> bool:
        """Whether a proxy may have read the head in another way: not one Host, or a coding of the transfer besides chunked."""
        names = [name for name, _ in self.headers]
        codings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
        has_one_host = names.count(b"host") == 1 or (self.parser.get_http_version() == "1.0" and b"host" not in names)
        return not has_one_host or codings not in ([], [b"chunked"])

    def _make_room(self) -> None:
        """At the cap, close the connection that was idle for longest; where none is, this one is for probes only, or closed."""
        open_now = len(self.connections)
        if open_now <= MAX_CONNECTIONS:
            return
        idle = [
            (one.timeout_keep_alive_task.when(), number, one)
            for number, one in enumerate(self.connections)
            if isinstance(one, Protocol) and one.timeout_keep_alive_task is not None
        ]
        if idle:
            min(idle)[-1].transport.close()
        elif open_now > MAX_CONNECTIONS + PROBE_CONNECTIONS:
            self.observer.observe_refused_connection()
            self._refuse(TooManyConnections())
        else:
            self._takes_probes_only = True

    def _count(self, size: int) -> None:
        self._head_size += size
        if self._head_size > MAX_HEAD_BYTES:
            self._refuse(HeadTooLarge(MAX_HEAD_BYTES))

    def _refuse(self, error: PosSyncError) -> None:
        if self.transport.is_closing():
            return
        status, headers, body = render(error)
        lines = [b"HTTP/1.1 %d %b" % (status, HTTPStatus(status).phrase.encode("ascii"))]
        lines += [name + b": " + value for name, value in [*headers, (b"connection", b"close")]]
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        self.transport.close()

    def _leave(self) -> None:
        """Drop the connection, with what was written and not read: the system would keep that for minutes."""
        self.pipeline.clear()
        for cycle in (self.cycle, self._running):
            if cycle is not None:
                cycle.disconnected = True
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

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
