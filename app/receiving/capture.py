"""Keeps unverified bodies while an operator has a capture on, beside the answers: a 401 neither waits for it nor knows of it.

What a worker does for bodies that anybody may send is bounded: it looks whether a capture is on at most once in `LOOK_SECONDS`
and only after a signature has failed, holds at most `MAX_WAITING` bodies meanwhile, and reads at most `MAX_A_SECOND`.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic

from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import Scope

from app.receiving.body import read_subject
from app.receiving.signature import HEADER
from app.storage import captures
from app.storage.captures import MAX_CAPTURED_BYTES, Unverified
from app.storage.transactions import DATABASE_FAILURES

LOOK_SECONDS = 2.0
MAX_WAITING = 16
MAX_A_SECOND = 16
FORGET_SECONDS = 600.0
"""Between two looks for what is older than a day"""
MAX_MARKS = 32
MAX_MARKED_BYTES = 4096
"""A larger body is no movement of mipOS, and is not searched for marks."""
MAX_HEADERS = 4
MAX_HEADER_LENGTH = 1024

_SIGNATURE = HEADER.lower().encode("ascii")
_LIKE_A_SIGNATURE = (b"signature", b"hmac", b"digest")


class CaptureTask:
    """One worker's part: `offer` is called where a signature failed, `run` is the background task."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._waiting: deque[tuple[bytes, Scope, float]] = deque()
        self._arrived = asyncio.Event()
        self._is_on = False
        self._marks: list[bytes] = []
        """While a capture is on: the ids of the inventory systems that this POS knows"""

    def offer(self, body: bytes, scope: Scope) -> None:
        """Have a body looked at that was not verified. Returns at once; what there is no room for is left.

        Where many come at once, one that holds the id of a known system takes the place of one that does not.
        """
        if len(body) > MAX_CAPTURED_BYTES:
            return
        if len(self._waiting) >= MAX_WAITING:
            if not self._is_marked(body):
                return
            other = next((number for number, one in enumerate(self._waiting) if not self._is_marked(one[0])), None)
            if other is None:
                return
            del self._waiting[other]
        self._waiting.append((body, scope, monotonic()))
        self._arrived.set()

    def _is_marked(self, body: bytes) -> bool:
        return len(body) <= MAX_MARKED_BYTES and any(mark in body for mark in self._marks)

    async def run(self) -> None:
        """Until it is cancelled. A database that is away is others' business: what waits then is dropped."""
        loop = asyncio.get_running_loop()
        forget_at = loop.time()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(forget_at):
                    await self._arrived.wait()
            if loop.time() >= forget_at:
                forget_at = loop.time() + FORGET_SECONDS
                with suppress(*DATABASE_FAILURES):
                    async with self._engine.begin() as connection:
                        await captures.forget(connection)
            if self._waiting:
                self._is_on, self._marks = False, []
                with suppress(*DATABASE_FAILURES):
                    await self._keep_waiting()
                # What is offered meanwhile waits, so nothing is missed that comes after the operator's command.
                await asyncio.sleep(MAX_WAITING / MAX_A_SECOND if self._is_on else LOOK_SECONDS)

    async def _keep_waiting(self) -> None:
        """Keep what waits if a capture is on, else drop it."""
        found, self._waiting = self._waiting, deque()
        self._arrived.clear()
        async with self._engine.begin() as connection:
            if not await captures.is_on(connection):
                return
            await captures.keep(connection, [_unverified(*one) for one in found])
            self._marks = [system.encode() for system in await captures.known_systems(connection, limit=MAX_MARKS)]
            self._is_on = True


def _unverified(body: bytes, scope: Scope, came_at: float) -> Unverified:
    subject = read_subject(body)
    client = scope.get("client")
    content_type = dict(scope["headers"]).get(b"content-type")
    return Unverified(
        raw_body=body,
        signatures=_signatures(scope["headers"]),
        content_type=None if content_type is None else _text(content_type),
        client=client[0] if client else None,
        store_id=subject.store_id,
        inventory_system_id=subject.inventory_system_id,
        seconds_ago=monotonic() - came_at,
    )


def _signatures(headers: Sequence[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    """The header of a signature, or where it is missing, those that are named like one. No other header is kept."""
    named = [(name, value) for name, value in headers if name == _SIGNATURE]
    found = named or [(name, value) for name, value in headers if any(word in name for word in _LIKE_A_SIGNATURE)]
    return tuple((_text(name), _text(value)) for name, value in found[:MAX_HEADERS])


def _text(value: bytes) -> str:
    return value[:MAX_HEADER_LENGTH].decode("latin-1").replace("\x00", "")
