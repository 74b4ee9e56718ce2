"""Pure ASGI around everything: gives each request an id, one log line and metrics, and each error a message."""

import asyncio
import itertools
import re
import secrets
import time
from collections.abc import Awaitable
from http import HTTPStatus

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import InternalError, PosSyncError, ShuttingDown, render
from app.errors.requests import ReadStopped
from app.operations.logs import write_line
from app.operations.metrics import Metrics
from app.operations.traffic import Traffic
from app.scope import DELIVERY_LOG, LINK_PATH, REQUEST_ID, DeliveryLog, DeliveryOutcome

REQUEST_ID_HEADER = "x-request-id"

_REQUEST_ID = REQUEST_ID_HEADER.encode("ascii")
_USABLE_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,64}")
_PROBES = {"/livez", "/readyz", "/metrics"}
_FIRST_FAILURE = 500
MAX_PATH_LENGTH = 256
"""Of a path in the log"""
_CLIENT_CLOSED_REQUEST = 499
"""What the log says where nobody was left to answer; never sent."""

_log = structlog.get_logger("pos_sync.request")


class AccessLogMiddleware:
    """The outermost of our own layers."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, traffic: Traffic) -> None:
        self._app = app
        self._metrics = metrics
        self._traffic = traffic
        self._process_id = secrets.token_hex(8)
        self._numbers = itertools.count(1)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer one request (ASGI)."""
        if scope["type"] != "http":
            return self._app(scope, receive, send)
        if b"%" in scope["raw_path"]:
            # Matched as it was sent: an encoded letter is another path than the letter, for a proxy's rules and for ours.
            scope["path"] = scope["raw_path"].decode("latin-1")
        return _Observation(self, scope, send).observe(self._app, receive)

    def request_id(self, scope: Scope) -> str:
        """The caller's X-Request-ID where it is harmless to print, else a new one."""
        for name, value in scope["headers"]:
            if name == _REQUEST_ID and _USABLE_REQUEST_ID.fullmatch(value):
                return str(value, "ascii")
        return f"{self._process_id}{next(self._numbers):016x}"

    def note(self, scope: Scope, *, request_id: str, status: int, seconds: float) -> None:
        """One line and the metrics of an answered request."""
        delivery: DeliveryLog | None = scope.get(DELIVERY_LOG)
        self._metrics.observe_request(status=status, seconds=seconds, delivery=delivery)
        path = _shown(scope["path"])
        is_our_ping = delivery is not None and delivery.outcome is DeliveryOutcome.PING
        is_strange = status >= _FIRST_FAILURE or (status == HTTPStatus.UNAUTHORIZED and not is_our_ping)
        level = "debug" if path in _PROBES else "warning" if is_strange else "info"
        client = scope.get("client")
        fields: dict[str, object] = {
            "request_id": request_id,
            "method": scope["method"],
            "path": path,
            "status": status,
            "milliseconds": round(seconds * 1000, 1),
            "client": client[0] if client else None,
        }
        if delivery is not None:
            self._traffic.note(delivery)
            delivery.add_to(fields)
        write_line(level, "request" if delivery is None else "delivery", fields)

    def note_bug(self, scope: Scope, *, request_id: str) -> None:
        """The error that is being handled, which no layer has turned into an answer."""
        _log.exception("request failed", request_id=request_id, path=_shown(scope["path"]))


def _shown(path: str) -> str:
    """The path as the log has it: cut, and without what logs somebody in."""
    return f"{LINK_PATH}..." if path.startswith(LINK_PATH) else path[:MAX_PATH_LENGTH]


class _Observation:
    """One request: its state lives here, not on the shared middleware."""

    __slots__ = ("_middleware", "_request_id", "_scope", "_send", "_status")

    def __init__(self, middleware: AccessLogMiddleware, scope: Scope, send: Send) -> None:
        self._middleware = middleware
        self._scope = scope
        self._send = send
        self._status: int | None = None
        self._request_id = scope[REQUEST_ID] = middleware.request_id(scope)

    async def observe(self, app: ASGIApp, receive: Receive) -> None:
        started = time.perf_counter()
        try:
            await app(self._scope, receive, self._send_with_id)
        except Exception:  # noqa: BLE001 - the last layer of ours: nothing may leave without a message
            self._middleware.note_bug(self._scope, request_id=self._request_id)
            self._note_failure(DeliveryOutcome.FAILED, InternalError.reason)
            await self._refuse(InternalError())
        except asyncio.CancelledError:
            # The server gave up waiting for this request to end; its own answer would be plain text.
            self._note_failure(DeliveryOutcome.UNSETTLED, ShuttingDown.reason)
            await self._refuse(ReadStopped() if self._scope["method"] == "GET" else ShuttingDown())
            raise
        seconds = time.perf_counter() - started
        status = _CLIENT_CLOSED_REQUEST if self._status is None else self._status
        self._middleware.note(self._scope, request_id=self._request_id, status=status, seconds=seconds)

    def _note_failure(self, outcome: DeliveryOutcome, reason: str) -> None:
        delivery: DeliveryLog | None = self._scope.get(DELIVERY_LOG)
        if delivery is not None:
            delivery.outcome, delivery.reason = outcome, reason

    async def _refuse(self, error: PosSyncError) -> None:
        if self._status is None:
            status, headers, body = render(error)
            await self._send_with_id({"type": "http.response.start", "status": status, "headers": headers})
            await self._send_with_id({"type": "http.response.body", "body": body})

    def _send_with_id(self, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = [*message.get("headers", ()), (_REQUEST_ID, self._request_id.encode("ascii"))]
            message = {**message, "headers": headers}
        return self._send(message)
