"""The deadline for the head of a request, which uvicorn has not: a server in this process, with a short one."""

import asyncio
import select
import socket
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from app.operations.metrics import Metrics
from app.server import protocol
from tests.support.service import Connection, free_port

HEADER_SECONDS = 0.5
"""Not less: on a busy machine whole heads would miss it."""
REQUEST = b"GET / HTTP/1.1\r\nHost: pos\r\n\r\n"


_begun: list[str] = []
"""The paths that the server has begun to answer"""


async def answer_slowly(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
    _begun.append(scope["path"])
    await asyncio.sleep(1.5 * HEADER_SECONDS if scope["path"] == "/slow" else 0)
    body = b"x" * 100_000 if scope["path"] == "/large" else b""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(protocol, "HEADER_SECONDS", HEADER_SECONDS)
    port = free_port()
    config = uvicorn.Config(
        answer_slowly, port=port, http=protocol.Protocol, ws="none", lifespan="off", log_config=None, timeout_keep_alive=60
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve())  # noqa: SLF001 - without uvicorn's signal handlers
    while not server.started:  # noqa: ASYNC110 - uvicorn tells by a flag
        await asyncio.sleep(0.01)
    yield port
    server.should_exit = True
    with suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("sent", [b"", b"P", REQUEST[:-2], b"POST / HTTP/1.1\r\nX-Slow: "])
async def test_a_connection_without_a_whole_head_is_closed(port: int, sent: bytes) -> None:
    connection = await Connection.open(port)
    await connection.send(sent)

    assert await connection.is_closed()
    connection.close()


async def test_a_second_head_that_stays_half_is_closed_too(port: int) -> None:
    connection = await Connection.open(port)
    await connection.send(REQUEST)
    assert 200 == (await connection.answer())[0]
    await connection.send(REQUEST[:10])

    assert await connection.is_closed()
    connection.close()


async def test_the_rest_of_a_body_that_nobody_reads_is_not_waited_for(port: int) -> None:
    connection = await Connection.open(port)
    await connection.send(b"POST / HTTP/1.1\r\nHost: pos\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n")
    assert 200 == (await connection.answer())[0]
    await connection.send(b"x")

    assert await connection.is_closed()
    connection.close()


@pytest.mark.slow
async def test_a_slow_answer_and_an_idle_connection_outlive_the_deadline_of_heads(port: int) -> None:
    connection = await Connection.open(port)
    for path in (b"/slow", b"/", b"/slow"):
        await connection.send(REQUEST.replace(b"/ ", path + b" ", 1))
        assert 200 == (await connection.answer())[0]
        await asyncio.sleep(1.5 * HEADER_SECONDS)
    connection.close()


async def test_a_client_that_does_not_read_is_left(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MAX_UNREAD_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        # Their answers fill whatever lies between the two.
        connection.sendall(REQUEST.replace(b"/ ", b"/large ", 1) * 200)
        poll = select.poll()
        # For nothing but the end of the connection.
        poll.register(connection, 0)

        assert await asyncio.to_thread(poll.poll, 10_000)


async def test_at_the_cap_the_longest_idle_connection_gives_way_and_probes_still_come_in(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "MAX_CONNECTIONS", 2)
    monkeypatch.setattr(protocol, "PROBE_CONNECTIONS", 1)
    metrics = Metrics()
    monkeypatch.setattr(protocol.Protocol, "observer", metrics)
    _begun.clear()
    first, second = await Connection.open(port), await Connection.open(port)
    for connection in (first, second):
        await connection.send(REQUEST)
        assert 200 == (await connection.answer())[0]
        # So that the clock, which counts milliseconds, can tell which of them was idle first.
        await asyncio.sleep(0.01)
    third = await Connection.open(port)
    await third.send(REQUEST.replace(b"/ ", b"/slow ", 1))
    assert await first.is_closed()
    await second.send(REQUEST.replace(b"/ ", b"/slow ", 1))
    while _begun.count("/slow") < 2:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.01)

    # All are busy: one more may only probe, and the next one nothing.
    fourth, fifth = await Connection.open(port), await Connection.open(port)
    await fourth.send(REQUEST.replace(b"/ ", b"/livez ", 1))
    probed = await fourth.answer()
    refused = await fifth.answer()
    for connection in (first, second, third, fourth, fifth):
        connection.close()

    assert 200 == probed[0]
    assert (503, "5") == (refused[0], refused[1]["retry-after"])
    assert b"too many connections" in refused[2]
    told = metrics.exposition(waiting=0).decode()
    assert "pos_sync_connections_refused_total 1.0" in told
    assert "pos_sync_connections " in told


async def test_pipelined_requests_are_answered_in_order(port: int) -> None:
    connection = await Connection.open(port)
    await connection.send(REQUEST * 3)

    assert [200] * 3 == [(await connection.answer())[0] for _ in range(3)]
    connection.close()
