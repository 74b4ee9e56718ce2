"""Pure ASGI before the webhook: size cap, receipt deadline, content type, signature. Only verified bytes pass.

The verified bytes travel in the scope, so that a route that is reached by any other way has nothing to work on.
"""

import asyncio
import time
from collections.abc import Callable, Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import PosSyncError, ShuttingDown, render
from app.errors.requests import BodyTooLarge, NotSigned, SlowBody, WrongMediaType
from app.receiving.claims import Claims
from app.receiving.ping import is_doctor_ping
from app.receiving.signature import HEADER, Key, verify
from app.scope import (
    BODY_ARRIVED,
    DEADLINE,
    DELIVERY_LOG,
    VERIFIED_BODY,
    DeliveryLog,
    DeliveryOutcome,
)

_SIGNATURE = HEADER.lower().encode("ascii")


CLOSING_SECONDS = 0.5
"""How long a body that is on its way when the service stops may still take: longer than between two packets of one body."""


class ClientGone(Exception):
    """The client left before its body was complete; there is nobody to answer."""


class Receipt:
    """How bodies are taken in: how large, by when, and not any more once the service is stopping."""

    def __init__(self, *, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._open: set[asyncio.Timeout] = set()
        self._is_closing = False

    def close(self) -> None:
        """Give half-sent bodies one more moment, now and from now on: they must not hold the exit."""
        self._is_closing = True
        last_moment = asyncio.get_running_loop().time() + CLOSING_SECONDS
        for timeout in self._open:
            # One that has just passed is about to be answered, and cannot be moved any more.
            if not timeout.expired():
                timeout.reschedule(min(last_moment, timeout.when() or last_moment))

    async def read(
        self,
        receive: Receive,
        *,
        declared_length: bytes | None,
        deadline: float,
        has_arrived: bool = False,
        max_body_bytes: int | None = None,
    ) -> bytes:
        """The whole body. With `has_arrived` it is known to be here, and needs no watching.

        A `max_body_bytes` that is larger than the cap of this receipt takes its place.

        Raises:
            BodyTooLarge: before reading where the length is declared, else as soon as the count is over the cap.
            SlowBody, ShuttingDown: it was not complete in time.
            ClientGone: the client left.
        """
        cap = max(self._max_body_bytes, max_body_bytes or 0)
        if declared_length is not None and declared_length.isdigit() and int(declared_length[:20]) > cap:
            raise BodyTooLarge(cap)
        if has_arrived:
            return await _collect(receive, cap)
        if self._is_closing:
            deadline = min(deadline, asyncio.get_running_loop().time() + CLOSING_SECONDS)
        timeout = asyncio.timeout_at(deadline)
        try:
            async with timeout:
                self._open.add(timeout)
                return await _collect(receive, cap)
        except TimeoutError:
            raise (ShuttingDown() if self._is_closing else SlowBody()) from None
        finally:
            self._open.discard(timeout)


class SignedBodyMiddleware:
    """Guards the webhook: `app` is called for a request that was signed, and for no other.

    `on_unverified` is told of the body and the scope of each other one, and must return at once.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        receipt: Receipt,
        secrets: Sequence[tuple[Key, bytes]],
        response_seconds: float,
        on_unverified: Callable[[bytes, Scope], None] = lambda _body, _scope: None,
    ) -> None:
        if not secrets or not all(secret for _, secret in secrets):
            raise ValueError("a verifier without a secret would let everything in")
        self._app = app
        self._receipt = receipt
        self._secrets = secrets
        self._response_seconds = response_seconds
        self._claims = Claims()
        self._on_unverified = on_unverified

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        deadline = asyncio.get_running_loop().time() + self._response_seconds
        log = scope[DELIVERY_LOG] = DeliveryLog()
        try:
            scope[VERIFIED_BODY] = await self._verified_body(scope, receive, deadline=deadline, log=log)
        except PosSyncError as error:
            if log.outcome is not DeliveryOutcome.PING:
                log.outcome, log.reason = DeliveryOutcome.NOT_RECEIVED, error.reason
            await refuse(error, send)
            return
        except ClientGone:
            log.outcome, log.reason = DeliveryOutcome.NOT_RECEIVED, "client_gone"
            return
        scope[DEADLINE] = deadline
        await self._app(scope, receive, send)

    async def _verified_body(self, scope: Scope, receive: Receive, *, deadline: float, log: DeliveryLog) -> bytes:
        signatures: list[bytes] = []
        declared_length = None
        for name, value in scope["headers"]:
            if name == _SIGNATURE:
                signatures.append(value)
            elif name == b"content-length":
                declared_length = value
            elif name == b"content-encoding":
                require_uncompressed(value)
        body = await self._receipt.read(
            receive,
            declared_length=declared_length,
            deadline=deadline,
            has_arrived=BODY_ARRIVED in scope,
        )
        # Two headers are one too many: a proxy could have looked at the other one.
        key = verify(body, signatures[0], self._secrets) if len(signatures) == 1 else None
        if key is None:
            if is_doctor_ping(body, [secret for _, secret in self._secrets], now=time.time()):
                log.outcome = DeliveryOutcome.PING
                raise NotSigned
            log.signature = "missing" if not signatures else "wrong"
            log.claimed = self._claims.read(body)
            self._on_unverified(body, scope)
            raise NotSigned
        log.signature = key.value
        return body


async def _collect(receive: Receive, cap: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > cap:
            raise BodyTooLarge(cap)
        if not message.get("more_body", False):
            return b"".join(chunks) + chunk if chunks else chunk
        chunks.append(chunk)


def require_uncompressed(encoding: bytes) -> None:
    """Refuse a body that is compressed, by a Content-Encoding of it. How a signed body is marked otherwise says nothing.

    Raises:
        WrongMediaType: it is.
    """
    if {coding.strip().lower() for coding in encoding.split(b",")} - {b"identity", b""}:
        raise WrongMediaType("The request body is compressed.")


def require_plain_json(headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Refuse a compressed body, and one that is marked as anything but JSON (`application/json` or `application/...+json`).

    Raises:
        WrongMediaType: it is.
    """
    for name, value in headers:
        if name == b"content-encoding":
            require_uncompressed(value)
    content_type = dict(headers).get(b"content-type")
    if content_type is None:
        return
    media_type = content_type.partition(b";")[0].strip().lower()
    if media_type != b"application/json" and not (media_type.startswith(b"application/") and media_type.endswith(b"+json")):
        raise WrongMediaType("The request body is not marked as JSON.")


async def refuse(error: PosSyncError, send: Send) -> None:
    """Send the answer for `error`."""
    status, headers, body = render(error)
    start: Message = {"type": "http.response.start", "status": status, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": body})
