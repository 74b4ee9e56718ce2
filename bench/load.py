"""The load: unique signed movements, sent by wrk where it is installed, else by an asyncio client of our own."""

import asyncio
import json
import math
import os
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from app.receiving.mipos_sender import DOCUMENTED_MOVEMENT, now_text, php_json, signed_headers

WEBHOOK_PATH = "/webhooks/stock"
SECRET = "a-secret-for-measuring-only"  # noqa: S105 - of a service that lives for a minute
STORES = 10
ITEMS = 100
LEVELS = STORES * ITEMS
_LUA = Path(__file__).with_name("requests.lua")


@dataclass(frozen=True, slots=True)
class Answers:
    """What a load came to: how many answers in how many seconds, how many of them not 2xx, and latencies in milliseconds."""

    seconds: float
    answers: int
    bad: int
    p50_ms: float
    p99_ms: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds


class Movements:
    """Movements of random items, each unlike every other ever made here."""

    def __init__(self) -> None:
        self._number = 0
        self._random = random.Random(1)  # noqa: S311 - the same load in each run

    def requests(self, count: int, *, levels: int = LEVELS) -> Iterator[bytes]:
        """`count` whole HTTP requests, of so many levels at random: one item more of each store with each `STORES` of them."""
        for _ in range(count):
            self._number += 1
            level = self._random.randrange(levels)
            sent = now_text()
            body = php_json(
                {
                    **DOCUMENTED_MOVEMENT,
                    "store_id": level % STORES,
                    "external_id": f"item{level // STORES}",
                    "movement_type": self._random.choice((1, 2)),
                    "quantity": f"{self._random.randrange(1, 1000) / 100}",
                    "current_stock": f"{self._number}.44",
                    "date": sent,
                    "now": sent,
                }
            )
            headers = "".join(f"{name}: {value}\r\n" for name, value in signed_headers(body, SECRET.encode()).items())
            yield b"POST %b HTTP/1.1\r\nHost: 127.0.0.1\r\n%bContent-Length: %d\r\n\r\n%b" % (
                WEBHOOK_PATH.encode(),
                headers.encode(),
                len(body),
                body,
            )

    def sales(self, count: int, *, api_key: str) -> Iterator[bytes]:
        """`count` whole HTTP requests by which a till records a sale."""
        for _ in range(count):
            self._number += 1
            item = f"item{self._random.randrange(ITEMS)}"
            body = f'{{"item_id":"{item}","kind":"sale","quantity":"{self._random.randrange(1, 1000) / 100}"}}'.encode()
            yield (
                b"POST /pos/stores/%d/movements HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                b"Authorization: Bearer %b\r\nIdempotency-Key: ticket-%d\r\nContent-Length: %d\r\n\r\n%b"
                % (self._random.randrange(STORES), api_key.encode(), self._number, len(body), body)
            )


def send_to_all(requests: Sequence[bytes], *, ports: Sequence[int], connections: int, seconds: float) -> Answers:
    """`send` to several replicas at once, with an equal share of the requests and connections each; rates add up."""
    share = len(requests) // len(ports)
    with ThreadPoolExecutor(len(ports)) as pool:
        sending = [
            pool.submit(
                send,
                requests[number * share : (number + 1) * share],
                port=port,
                connections=connections // len(ports),
                seconds=seconds,
            )
            for number, port in enumerate(ports)
        ]
    shares = [one.result() for one in sending]
    return Answers(
        seconds=max(one.seconds for one in shares),
        answers=sum(one.answers for one in shares),
        bad=sum(one.bad for one in shares),
        p50_ms=statistics.mean(one.p50_ms for one in shares),
        p99_ms=max(one.p99_ms for one in shares),
    )


def send(requests: Sequence[bytes], *, port: int, connections: int, seconds: float) -> Answers:
    """Send `requests`, each once, over `connections` for `seconds` (wrk: rounded up).

    Raises:
        RuntimeError: there were too few of them.
    """
    if shutil.which("wrk") is None:
        return asyncio.run(_send_by_asyncio(requests, port=port, connections=connections, seconds=seconds))
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"\0".join(requests))
        file.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{math.ceil(seconds)}s", "--timeout", "10s", "-s", str(_LUA)]
        finished = subprocess.run(  # noqa: S603 - a fixed command
            [*command, f"http://127.0.0.1:{port}{WEBHOOK_PATH}"],
            env={**os.environ, "POS_SYNC_BENCH_REQUESTS": file.name},
            capture_output=True,
            text=True,
            check=True,
        )
    result = json.loads(finished.stdout.partition("RESULT ")[2].partition("\n")[0])
    if result.pop("exhausted"):
        raise RuntimeError("the load ran out of movements; make more of them")
    return Answers(**result)


class _Client(asyncio.Protocol):
    """One connection that sends a request as soon as the last was answered."""

    def __init__(self, requests: Iterator[bytes], took: list[float], bad: list[bytes]) -> None:
        self._requests = requests
        self._took = took
        self._bad = bad
        self._started = 0.0
        self._buffer = b""
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send_next()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
        if len(rest) < int(length or 0):
            return
        self._took.append(time.perf_counter() - self._started)
        if head[9:10] != b"2":
            self._bad.append(head)
        self._buffer = b""
        self._send_next()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set_exception(exc) if exc else self.closed.set_result(None)

    def _send_next(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
            return
        self._started = time.perf_counter()
        self._transport.write(request)


async def _send_by_asyncio(requests: Sequence[bytes], *, port: int, connections: int, seconds: float) -> Answers:
    started = time.perf_counter()
    left = len(requests)

    def until_the_end() -> Iterator[bytes]:
        nonlocal left
        for request in requests:
            if time.perf_counter() - started > seconds:
                return
            left -= 1
            yield request

    took: list[float] = []
    bad: list[bytes] = []
    shared = until_the_end()
    loop = asyncio.get_running_loop()
    clients = [
        (await loop.create_connection(lambda: _Client(shared, took, bad), "127.0.0.1", port))[1] for _ in range(connections)
    ]
    await asyncio.gather(*(client.closed for client in clients))
    if not left:
        raise RuntimeError("the load ran out of movements; make more of them")
    percentiles = statistics.quantiles(took, n=100)
    return Answers(time.perf_counter() - started, len(took), len(bad), 1000 * percentiles[49], 1000 * percentiles[98])
