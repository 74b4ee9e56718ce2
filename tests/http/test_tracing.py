"""Spans of a delivery, its commit, and the stock update that tells it: over real HTTP, with the SDK's exporter in memory."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app import tracing
from app.main import create_app
from tests.conftest import settings_for
from tests.support.mipos import AUTHORIZED, Remote, listening, mipos
from tests.support.outbox import connect_other, connect_stores, sell, settled, until
from tests.support.sender import PATH, body_of, signed
from tests.support.world import World

sdk = pytest.importorskip("opentelemetry.sdk.trace.export", reason="the extra 'tracing' is not installed")
memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")

TRACE, SENDER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
UNSAMPLED = f"00-{TRACE}-{SENDER}-00"
Spans = Callable[[str], list[Any]]


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    """Those with this name that have ended."""
    exporter = memory.InMemorySpanExporter()
    monkeypatch.setattr(tracing, "span_processor", lambda: sdk.SimpleSpanProcessor(exporter))
    return lambda name: [span for span in exporter.get_finished_spans() if span.name == name]


@asynccontextmanager
async def traced(world: World, sample: float) -> AsyncIterator[tuple[Remote, httpx2.AsyncClient]]:
    """A service that listens, with a second inventory system, and a client that calls it."""
    await connect_stores(world)
    async with mipos() as remote:
        await connect_other(world, remote)
        app = create_app(settings_for(world, trace_sample=sample, **remote.settings()))
        async with listening(app) as port, httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            yield remote, client


def given(remote: Remote) -> list[str | None]:
    """The traceparents that mipOS got with stock updates."""
    return [received.traceparent for received in remote.sandbox.received if received.call == "stock_update"]


async def deliver(client: httpx2.AsyncClient, *, traceparent: str | None = UNSAMPLED, **changes: Any) -> int:
    body = body_of(**changes)
    headers = signed(body, traceparent=traceparent, tracestate="vendor=1", baggage="user=ana")
    return (await client.post(PATH, content=body, headers=headers)).status_code


async def test_a_delivery_its_commit_and_the_stock_update_that_tells_it(world: World, spans: Spans) -> None:
    async with traced(world, 1) as (remote, client):
        assert 204 == await deliver(client)
        await until_sent(spans)
        await settled(world)
    (delivery,), (commit,), (send,) = spans("delivery"), spans("commit"), spans("stock update")

    # Below the sender's span, although that was not sampled; its state and its baggage go nowhere.
    assert (int(TRACE, 16), int(SENDER, 16)) == (delivery.context.trace_id, delivery.parent.span_id)
    assert not delivery.context.trace_state
    assert [delivery.context.span_id] == [link.context.span_id for link in commit.links]
    assert [delivery.context.span_id] == [link.context.span_id for link in send.links]
    assert [f"00-{send.context.trace_id:032x}-{send.context.span_id:016x}-01"] == given(remote)
    assert ("applied", "sent") == (delivery.attributes["pos_sync.outcome"], send.attributes["pos_sync.outcome"])
    told = " ".join(f"{span.attributes} {span.events}" for span in (delivery, commit, send))
    for hidden in ("ana", "vendor", "1.25", "INSERT", "SELECT"):
        assert hidden not in told


async def test_what_is_not_verified_names_no_trace_and_a_malformed_one_is_not_taken(world: World, spans: Spans) -> None:
    async with traced(world, 1) as (_, client):
        body = body_of()
        refused = await client.post(PATH, content=body, headers=signed(body, secret="a wrong one", traceparent=UNSAMPLED))
        unverified = spans("delivery")
        for number, malformed in enumerate((f"00-{'0' * 32}-{SENDER}-01", "ff" + UNSAMPLED[2:], "x" * 5000, "", None)):
            assert 204 == await deliver(client, traceparent=malformed, date=f"day {number}")

    assert (401, []) == (refused.status_code, unverified)
    assert [None] * 5 == [span.parent for span in spans("delivery")]


async def test_a_refusal_and_an_error_are_told_without_their_text(world: World, spans: Spans) -> None:
    async with traced(world, 1) as (_, client):
        assert 409 == await deliver(client, external_id="new")
        await world.execute("ALTER FUNCTION pos_sync.apply_movements RENAME TO gone")
        assert 503 == await deliver(client, date="later")
    refused, failed = spans("delivery")
    commit = spans("commit")[-1]

    assert ("refused", "unknown_item") == (refused.attributes["pos_sync.outcome"], refused.attributes["pos_sync.reason"])
    assert "database_not_set_up" == failed.attributes["pos_sync.reason"]
    assert ("UndefinedFunctionError", ()) == (commit.attributes["error.type"], commit.events)


async def test_a_call_of_the_pos_its_commit_and_the_stock_update_that_tells_it(world: World, spans: Spans) -> None:
    sale = {"item_id": "avcc123", "kind": "sale", "quantity": "1.25"}
    async with traced(world, 1) as (_, client):
        headers = {"Idempotency-Key": "a", "traceparent": UNSAMPLED}
        stranger = await client.post("/pos/stores/1/movements", json=sale, headers=headers)
        untraced = spans("POS call")
        recorded = await client.post("/pos/stores/1/movements", json=sale, headers={**headers, **AUTHORIZED})
        nowhere = await client.get("/pos/stores/9/stock", headers=AUTHORIZED)
        await settled(world)
        await until_sent(spans, number=2)
    call, refused = spans("POS call")
    (commit,), sent = spans("commit"), spans("stock update")

    assert ([401, 201, 404], []) == ([answer.status_code for answer in (stranger, recorded, nowhere)], untraced)
    assert (int(TRACE, 16), int(SENDER, 16)) == (call.context.trace_id, call.parent.span_id)
    assert [[call.context.span_id]] * 3 == [[link.context.span_id for link in span.links] for span in (commit, *sent)]
    assert ("record_pos_movements", "1") == (call.attributes["pos_sync.operation"], call.attributes["pos_sync.store_id"])
    assert refused.attributes["pos_sync.reason"]
    assert "error.type" not in refused.attributes
    assert "1.25" not in f"{call.attributes} {call.events}"


async def test_spans_reach_the_address_that_the_variables_name(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[tuple[str, str | None, bytes]] = []

    async def receiver(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        received.append((request.url.path, request.headers.get("x-shop"), await request.body()))
        await Response()(scope, receive, send)

    async with listening(receiver, lifespan="off") as port:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-shop=7")
        # As Compose hands on what is not set
        monkeypatch.setenv("OTEL_SERVICE_NAME", "")
        async with traced(world, 1) as (_, client):
            assert 204 == await deliver(client)
        # A service that stops sends what is left.
    assert {("/v1/traces", "7")} == {(path, shop) for path, shop, _ in received}
    assert any(b"pos-sync" in body and b"delivery" in body and bytes.fromhex(TRACE) in body for _, _, body in received)


async def test_off_nothing_is_traced_and_mipos_gets_no_traceparent(world: World, spans: Spans) -> None:
    async with traced(world, 0) as (remote, client):
        assert 204 == await deliver(client, traceparent=f"00-{TRACE}-{SENDER}-01")
        await settled(world)

    assert ([None], []) == (given(remote), spans("delivery"))
    assert 0 == await world.scalar("SELECT count(*) FROM pos_sync.outbox_trace")


async def test_a_sale_that_nobody_delivered_is_a_trace_of_its_own(world: World, spans: Spans) -> None:
    async with traced(world, 1) as (remote, _):
        await sell(world, "1", "a")
        await settled(world)
        await until_sent(spans, number=2)

    assert [(), ()] == [span.links for span in spans("stock update")]
    assert 2 == len({one for one in given(remote) if one is not None})


async def until_sent(spans: Spans, *, number: int = 1) -> None:
    async def is_sent() -> bool:
        return len(spans("stock update")) == number

    await until(is_sent)
