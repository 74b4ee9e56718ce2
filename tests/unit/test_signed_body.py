"""The guard before the webhook, driven with hand-made ASGI messages: was the inner app called, and with what?"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from app.receiving.signature import Key, sign
from app.receiving.signed_body import Receipt, SignedBodyMiddleware
from app.scope import BODY_ARRIVED, DELIVERY_LOG, VERIFIED_BODY, DeliveryOutcome

SECRET = b"a secret of the account"
BODY = b'{"store_id": 1}'


class Inner:
    """An app that notes the scopes that reach it."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        self.scopes.append(scope)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


class Exchange:
    """One request through the middleware."""

    def __init__(self, *, receipt: Receipt | None = None, response_seconds: float = 5) -> None:
        self.inner = Inner()
        self.receipt = receipt or Receipt(max_body_bytes=100)
        self.middleware = SignedBodyMiddleware(
            self.inner, receipt=self.receipt, secrets=[(Key.CURRENT, SECRET)], response_seconds=response_seconds
        )
        self.sent: list[Message] = []
        self.scope: Scope = {}

    async def run(
        self, receive: Callable[[], Awaitable[Message]], *, headers: dict[str, str] | None = None, **scope: Any
    ) -> None:
        given = {"x-signature-request": sign(BODY, SECRET), **(headers or {})}
        self.scope = {
            "type": "http",
            "method": "POST",
            "path": "/webhooks/stock",
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
            **scope,
        }

        async def send(message: Message) -> None:
            self.sent.append(message)

        await self.middleware(self.scope, receive, send)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def message(self) -> str:
        return str(json.loads(self.sent[1]["body"])["message"])


def chunks(*parts: bytes, then: Message | None = None) -> Callable[[], Awaitable[Message]]:
    """Receives `parts` one by one; the last one ends the body unless something follows it."""
    messages: list[Message] = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    if then is None:
        messages[-1]["more_body"] = False
    else:
        messages.append(then)
    waiting = iter(messages)

    async def receive() -> Message:
        for message in waiting:
            return message
        await asyncio.Event().wait()
        raise AssertionError

    return receive


def silent_after(*parts: bytes) -> Callable[[], Awaitable[Message]]:
    """Receives `parts`, and then nothing."""
    return chunks(*parts, then={"type": "http.request", "body": b"", "more_body": True})


async def test_a_verified_body_reaches_the_app_as_it_was_sent_however_it_was_cut() -> None:
    exchange = Exchange()

    await exchange.run(chunks(*[BODY[n : n + 1] for n in range(len(BODY))]))

    assert 204 == exchange.status
    assert [BODY] == [scope[VERIFIED_BODY] for scope in exchange.inner.scopes]
    assert "current" == exchange.scope[DELIVERY_LOG].signature


async def test_an_unverified_body_does_not_reach_the_app() -> None:
    exchange = Exchange()

    await exchange.run(chunks(BODY + b" "))

    assert 401 == exchange.status
    assert not exchange.inner.scopes
    assert ("wrong", DeliveryOutcome.NOT_RECEIVED) == (
        exchange.scope[DELIVERY_LOG].signature,
        exchange.scope[DELIVERY_LOG].outcome,
    )


async def test_of_a_burst_of_badly_signed_bodies_twenty_a_second_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.9
    monkeypatch.setattr("app.receiving.claims.time.monotonic", lambda: now)
    exchange = Exchange(receipt=Receipt(max_body_bytes=1000))
    body = b'{"store_id": 1, "inventory_system_id": "a"}'

    async def claims(count: int) -> list[Any]:
        found = []
        for _ in range(count):
            await exchange.run(chunks(body))
            found.append(exchange.scope[DELIVERY_LOG].claimed)
        return found

    first = await claims(50)
    now = 101.0
    second = await claims(50)

    # All of them are refused, whatever was read of them.
    assert {401} == {message["status"] for message in exchange.sent if "status" in message}
    assert first == second == [("1", "a")] * 20 + [None] * 30


async def test_a_body_that_came_with_its_head_is_verified_like_any_other() -> None:
    good, bad = Exchange(), Exchange()

    arrived: dict[str, Any] = {BODY_ARRIVED: True}
    await good.run(chunks(BODY), **arrived)
    await bad.run(chunks(BODY + b" "), **arrived)

    assert (204, 401) == (good.status, bad.status)
    assert not bad.inner.scopes


async def test_a_body_over_the_cap_is_refused_as_soon_as_it_is_counted() -> None:
    exchange = Exchange()

    await exchange.run(silent_after(b"x" * 60, b"x" * 41))

    assert 413 == exchange.status
    assert not exchange.inner.scopes


async def test_a_declared_length_over_the_cap_is_refused_before_reading() -> None:
    async def never() -> Message:
        raise AssertionError

    exchange = Exchange()
    await exchange.run(never, headers={"content-length": "101"})

    assert 413 == exchange.status


async def test_a_slow_body_is_refused_at_the_deadline() -> None:
    exchange = Exchange(response_seconds=0.05)

    await exchange.run(silent_after(b"{"))

    assert 408 == exchange.status
    assert (b"connection", b"close") in exchange.sent[0]["headers"]


async def test_a_client_that_leaves_mid_body_is_not_answered() -> None:
    exchange = Exchange()

    await exchange.run(chunks(b"{", then={"type": "http.disconnect"}))

    assert [] == exchange.sent
    assert "client_gone" == exchange.scope[DELIVERY_LOG].reason


async def test_stopping_ends_the_wait_for_a_half_sent_body() -> None:
    exchange = Exchange(response_seconds=3600)
    is_waited_for = asyncio.Event()
    first = silent_after(b"{")

    async def receive() -> Message:
        is_waited_for.set()
        return await first()

    request = asyncio.create_task(exchange.run(receive))
    await is_waited_for.wait()

    exchange.receipt.close()
    await request

    assert 503 == exchange.status
    assert "restarting" in exchange.message


async def test_stopping_still_takes_a_body_that_has_arrived() -> None:
    exchange = Exchange()
    exchange.receipt.close()

    await exchange.run(chunks(BODY))

    assert 204 == exchange.status


@pytest.mark.parametrize("secrets", [[], [(Key.CURRENT, b"")], [(Key.CURRENT, SECRET), (Key.PREVIOUS, b"")]])
def test_without_a_secret_there_is_no_guard_to_be_had(secrets: list[tuple[Key, bytes]]) -> None:
    with pytest.raises(ValueError, match="secret"):
        SignedBodyMiddleware(Inner(), receipt=Receipt(max_body_bytes=1), secrets=secrets, response_seconds=1)
