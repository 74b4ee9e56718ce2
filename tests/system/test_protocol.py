"""The deadline for the head of a request, which uvicorn has not: a server in this process, with a short one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from app.server import protocol
from tests.support.service import Connection, free_port

HEADER_SECONDS = 0.5
"""Not less: on a busy machine whole heads would miss it."""
REQUEST = b"GET / HTTP/1.1\r\nHost: pos\r\n\r\n"


async def answer_slowly(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
    await asyncio.sleep(1.5 * HEADER_SECONDS if scope["path"] == "/slow" else 0)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


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


async def test_a_slow_answer_and_an_idle_connection_outlive_the_deadline_of_heads(port: int) -> None:
    connection = await Connection.open(port)
    for path in (b"/slow", b"/", b"/slow"):
        await connection.send(REQUEST.replace(b"/ ", path + b" ", 1))
        assert 200 == (await connection.answer())[0]
        await asyncio.sleep(1.5 * HEADER_SECONDS)
    connection.close()


async def test_pipelined_requests_are_answered_in_order(port: int) -> None:
    connection = await Connection.open(port)
    await connection.send(REQUEST * 3)

    assert [200] * 3 == [(await connection.answer())[0] for _ in range(3)]
    connection.close()
