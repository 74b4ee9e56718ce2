"""A mipOS that answers each call in 20 ms, and notes whether each pair's came in order."""

import asyncio
import json
import time
from decimal import Decimal

from starlette.types import Receive, Scope, Send

ANSWER_SECONDS = 0.02


class Mipos:
    """The token call, stock/update, and GET /bench for what it noted."""

    def __init__(self) -> None:
        self._latest: dict[tuple[str, str], Decimal] = {}
        self._calls = 0
        self._disorder = 0
        self._first: float | None = None
        self._last = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] != "http":
            return
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if scope["path"].endswith("/system/stock/update"):
            await self._update(scope["path"], json.loads(body))
            await _answer(send, 204, b"")
        elif scope["path"] == "/api/oauth/token":
            data = {"token": "t" * 40, "token_type": "bearer", "expires_in": str(int(time.time()) + 3600)}
            await _answer(send, 200, json.dumps({"message": "Access token.", "data": data}).encode())
        else:
            found = {
                "calls": self._calls,
                "disorder": self._disorder,
                "seconds": self._last - (self._first or 0.0),
            }
            await _answer(send, 200, json.dumps(found).encode())

    async def _update(self, path: str, body: dict[str, str]) -> None:
        started = time.perf_counter()
        if self._first is None:
            self._first = started
        pair = path, body["external_id"]
        # Each sale takes 1: what comes later of a pair has a lower stock.
        stock = Decimal(body["current_stock"])
        if pair in self._latest and stock != self._latest[pair] - 1:
            self._disorder += 1
        self._latest[pair] = stock
        await asyncio.sleep(ANSWER_SECONDS)
        self._calls += 1
        self._last = time.perf_counter()


async def _answer(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))] if body else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def application() -> Mipos:
    """The application; it needs no settings."""
    return Mipos()
