"""The load: an asyncio client of its own that sends signed movements over many connections and keeps the book."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from proof.book import NO_CONTENT, Book, Sent

ANSWER_SECONDS = 30.0
"""No answer within this is a hang: many times any deadline that is configured here."""
SETTLE_SECONDS = 120.0
UNAVAILABLE = 503
CONNECTIONS = 16
COPIES = 0.1
"""The part of the load that is sent a second time: copies of movements that are on their way or were answered."""

Ports = Callable[[], int]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: status, headers in lower case, body, and seconds from sending."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    def fault(self, allowed: Collection[int]) -> str | None:
        """What is wrong about it, or None."""
        if self.status not in allowed:
            return f"answered {self.status} {self.body[:120].decode(errors='replace')}"
        if self.status == NO_CONTENT:
            return "204 with a body" if self.body else None
        try:
            has_message = bool(json.loads(self.body)["message"])
        except (ValueError, KeyError, TypeError):
            has_message = False
        if not has_message:
            return f"{self.status} without a message"
        if self.status == UNAVAILABLE and not self.headers.get("retry-after", "").isdigit():
            return "503 without Retry-After"
        return None


class Line:
    """One kept-alive connection; opened again where it was lost or the other side ended it."""

    def __init__(self, port: Ports) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, request: bytes) -> Answer:
        """Send, and wait for the answer.

        Raises:
            OSError, asyncio.IncompleteReadError: the connection was not made, or ended without an answer.
            TimeoutError: no answer came.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                if self._streams is None:
                    self._streams = await asyncio.open_connection("127.0.0.1", self._port())
                reader, writer = self._streams
                writer.write(request)
                await writer.drain()
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
        except BaseException:
            self.close()
            raise
        if headers.get("connection", "").lower() == "close":
            self.close()
        return Answer(int(head[0].split()[1]), headers, body, loop.time() - started)

    def close(self) -> None:
        """Close it; the next sending opens another."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class Sender:
    """Sends the movements of `book`. What the answers may be is set for a time by `may_answer` and `may_break`."""

    def __init__(self, book: Book, port: Ports, *, seed: int = 0) -> None:
        self.book = book
        self.may_answer: frozenset[int] = frozenset({NO_CONTENT})
        self.may_break = False
        self.slowest_allowed: float | None = None
        """Seconds; None where slowness is not looked at."""
        self.port = port
        self._random = random.Random(seed)  # noqa: S311 - which movements are copied is no secret

    async def deliver(self, sent: Sent, line: Line | None = None) -> Answer | None:
        """Send one movement once, and note what came of it; None where the connection broke."""
        own = line or Line(self.port)
        book = self.book
        try:
            answer = await own.send(sent.request)
        except TimeoutError:
            book.broken += 1
            book.problems[f"no answer within {ANSWER_SECONDS:g} s"] += 1
            return None
        except (OSError, asyncio.IncompleteReadError) as error:
            book.broken += 1
            if not self.may_break:
                book.problems[f"a connection ended without an answer ({type(error).__name__})"] += 1
            return None
        finally:
            if line is None:
                own.close()
        book.answers[answer.status] += 1
        book.slowest = max(book.slowest, answer.seconds)
        if answer.status == NO_CONTENT:
            sent.is_acknowledged = True
        fault = answer.fault(self.may_answer)
        if fault is not None:
            book.problems[fault] += 1
        if self.slowest_allowed is not None and answer.seconds > self.slowest_allowed:
            book.problems[f"an answer took longer than {self.slowest_allowed:g} s"] += 1
        return answer

    @asynccontextmanager
    async def load(self, connections: int = CONNECTIONS) -> AsyncIterator[None]:
        """New movements without a pause over `connections`, until the end of the block; then each waits for its answer."""
        stopping = asyncio.Event()
        tasks = [asyncio.create_task(self._keep_sending(stopping)) for _ in range(connections)]
        try:
            yield
        finally:
            stopping.set()
            await asyncio.gather(*tasks)

    async def _keep_sending(self, stopping: asyncio.Event) -> None:
        line = Line(self.port)
        recent: Sent | None = None
        while not stopping.is_set():
            copies = recent is not None and self._random.random() < COPIES
            sent = recent if copies and recent is not None else self.book.write()
            # Not its own last one, which is answered: the latest of all, which may be on its way on another connection.
            recent = self.book.movements[-1]
            answer = await self.deliver(sent, line)
            if answer is None:
                # Whatever was at the port is gone or starting; without a pause this loop would only burn the processor.
                await asyncio.sleep(0.02)
            elif answer.status == UNAVAILABLE:
                # Much sooner than Retry-After asks for.
                await asyncio.sleep(0.1)
        line.close()

    async def settle(self, movements: Sequence[Sent], *, connections: int = CONNECTIONS) -> None:
        """Send each of `movements` until it is answered 204, as mipOS's retries do."""
        waiting = list(reversed(movements))
        deadline = asyncio.get_running_loop().time() + SETTLE_SECONDS

        async def work() -> None:
            line = Line(self.port)
            while waiting and asyncio.get_running_loop().time() < deadline:
                sent = waiting.pop()
                answer = await self.deliver(sent, line)
                if answer is None or answer.status == UNAVAILABLE:
                    waiting.append(sent)
                    await asyncio.sleep(0.05)
            line.close()

        await asyncio.gather(*(work() for _ in range(connections)))
        if waiting:
            self.book.problems[f"not answered 204 within {SETTLE_SECONDS:g} s of sending again"] += len(waiting)
