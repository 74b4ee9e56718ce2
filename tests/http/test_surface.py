"""What operators and orchestrators see: probes, metrics, logs, OpenAPI, request ids."""

import asyncio
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import httpx2
import pytest
import structlog
from starlette.routing import Mount

from app.main import create_app
from app.operations.logs import configure_logging
from app.receiving.mipos_sender import DOCUMENTED_MOVEMENT
from tests.conftest import new_world, running, settings_for
from tests.support.mipos import AUTHORIZED, KEY
from tests.support.page import PASSWORD
from tests.support.sender import PATH, SECRET, body_of, signed
from tests.support.world import World

OPENAPI = Path(__file__).parents[2] / "docs" / "openapi.json"


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Callable[[], str]]]:
    """Configure logging as the service does; later, what it printed."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def configure(log_format: Literal["json", "console"]) -> Callable[[], str]:
        configure_logging(log_format=log_format, log_level="DEBUG")
        return lambda: capsys.readouterr().out

    yield configure
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


async def deliver(client: httpx2.AsyncClient, **changes: Any) -> httpx2.Response:
    body = body_of(**changes)
    return await client.post(PATH, content=body, headers=signed(body))


async def test_ready_with_a_database_at_head(client: httpx2.AsyncClient) -> None:
    alive, ready = await client.get("/livez"), await client.get("/readyz")

    assert (200, 200) == (alive.status_code, ready.status_code)
    assert {"message": "Ready."} == ready.json()


async def test_the_parts_of_readiness_are_for_who_has_the_key(world: World) -> None:
    async with running(settings_for(world, pos_api_key=KEY)) as (_, client):
        stranger = await client.get("/pos/status")
        status = (await client.get("/pos/status", headers=AUTHORIZED)).json()

    assert 401 == stranger.status_code
    assert ("ok", "ok", False, "off") == (
        status["database"],
        status["schema"],
        status["draining"],
        status["registration"]["state"],
    )


async def test_alive_but_not_ready_without_a_database(world: World) -> None:
    async with running(settings_for(world, database_url="postgresql://nobody@127.0.0.1:1/nothing")) as (_, client):
        alive, ready = await client.get("/livez"), await client.get("/readyz")

    assert (200, 503) == (alive.status_code, ready.status_code)
    assert "The database does not answer." == ready.json()["message"]


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
async def test_a_probe_may_ask_by_head_and_for_its_methods(client: httpx2.AsyncClient, path: str) -> None:
    head, options = await client.head(path), await client.options(path)
    refused = await client.post(path)

    assert (200, b"") == (head.status_code, head.content)
    assert (204, b"", "GET, HEAD, OPTIONS") == (options.status_code, options.content, options.headers["allow"])
    assert (405, "GET, HEAD, OPTIONS") == (refused.status_code, refused.headers["allow"])


@pytest.mark.parametrize("database_url", [None, "postgresql://nobody@127.0.0.1:1/nothing"])
@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
async def test_head_of_a_probe_says_of_it_what_get_says(world: World, path: str, database_url: str | None) -> None:
    async with running(settings_for(world, database_url=database_url or world.service_url)) as (_, client):
        # The first answer that /metrics counts makes it longer.
        await client.get(path)
        asked, head = [await client.get(path), await client.get(path)], await client.head(path)

    said = [(it.status_code, it.headers["content-type"], len(it.headers["content-length"])) for it in (*asked, head)]
    assert said[0] == said[1] == said[2]
    assert b"" == head.content
    if path != "/metrics":
        assert asked[0].headers["content-length"] == head.headers["content-length"]


def routes_of(routes: Iterable[Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Path and method of each route, with those of what is included and mounted."""
    for route in routes:
        if hasattr(route, "original_router"):
            yield from routes_of(route.original_router.routes, above)
        elif isinstance(route, Mount):
            # The page is behind the layer that sets its headers.
            yield from routes_of(vars(route.app)["_app"].routes, above + route.path)
        else:
            yield from ((above + re.sub(r"{[^}]*}", "1", route.path), method) for method in route.methods)


async def test_a_405_allows_what_all_routes_of_its_path_take(world: World) -> None:
    async with running(settings_for(world, pos_api_key=KEY, operator_password=PASSWORD, operator_plain_http=True)) as (
        app,
        client,
    ):
        methods: dict[str, set[str]] = {}
        for path, method in routes_of(app.routes):
            methods.setdefault(path, set()).add(method)
        answers = {path: await client.request("BREW", path) for path in methods}

    assert {"/metrics", "/webhooks/stock", "/pos/status", "/openapi.json", "/ui", "/ui/login", "/ui/static/1"} < methods.keys()
    assert {405} == {answer.status_code for answer in answers.values()}
    assert methods == {path: set(answer.headers.get("allow", "").split(", ")) for path, answer in answers.items()}


async def test_not_ready_on_a_schema_that_is_not_at_head() -> None:
    async with new_world(template="template0") as world, running(settings_for(world)) as (_, client):
        ready = await client.get("/readyz")

    assert 503 == ready.status_code
    message = "This version cannot work with the database's schema. `pos-sync status` says what to do."
    assert {"message": message} == ready.json()


async def test_not_ready_where_the_database_refuses(world: World) -> None:
    async with running(settings_for(world, database_url=world.service_url.replace("pos_sync@", "nobody_at_all@"))) as (_, client):
        ready = await client.get("/readyz")

    assert 503 == ready.status_code
    assert {"message": "The database refuses this service. `pos-sync doctor` says why."} == ready.json()


async def test_not_ready_while_draining_and_still_receiving(world: World) -> None:
    async with running(settings_for(world)) as (app, client):
        app.state.service.drain()
        ready, alive, delivered = await client.get("/readyz"), await client.get("/livez"), await deliver(client)

    assert (503, 200, 204) == (ready.status_code, alive.status_code, delivered.status_code)
    assert {"message": "The service is stopping."} == ready.json()


async def test_metrics_count_what_happened(client: httpx2.AsyncClient) -> None:
    await deliver(client)
    await deliver(client)
    await deliver(client, external_id="no")
    await deliver(client, quantity="20", external_id="tom001", date="below")
    await deliver(client, quantity="x")
    await client.post(PATH, content=b"{}")
    await client.get("/nothing")

    text = (await client.get("/metrics")).text
    metrics = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))

    expected = {
        'pos_sync_deliveries_total{outcome="applied"}': 2,
        'pos_sync_deliveries_total{outcome="already_applied"}': 1,
        'pos_sync_deliveries_total{outcome="refused"}': 2,
        'pos_sync_deliveries_total{outcome="not_received"}': 1,
        'pos_sync_refusals_total{reason="unknown_item"}': 1,
        'pos_sync_refusals_total{reason="invalid_field"}': 1,
        'pos_sync_refusals_total{reason="not_signed"}': 1,
        'pos_sync_signature_failures_total{cause="missing"}': 1,
        'pos_sync_signatures_verified_total{key="current"}': 5,
        'pos_sync_requests_total{status="204"}': 3,
        'pos_sync_requests_total{status="404"}': 1,
        "pos_sync_batch_size_sum": 5,
        "pos_sync_commit_seconds_count": 5,
        "pos_sync_waiting_deliveries": 0,
        "pos_sync_below_zero_total": 0,
    }
    assert expected == {name: float(metrics[name]) for name in expected}


async def test_a_level_below_zero_is_flagged(client: httpx2.AsyncClient) -> None:
    await deliver(client, quantity="20")

    assert "pos_sync_below_zero_total 1.0" in (await client.get("/metrics")).text


async def test_one_log_line_per_delivery_with_its_outcome_and_no_secret(
    world: World, printed: Callable[..., Callable[[], str]]
) -> None:
    read = printed("json")
    async with running(settings_for(world)) as (_, client):
        await deliver(client)
        await deliver(client, external_id="no", user_id_tps="do not print me")
        body = body_of(user_id_tps="nor me")
        await client.post(PATH, content=body, headers=signed(body, secret="some other secret of somebody"))

    text = read()
    lines = [json.loads(line) for line in text.splitlines()]
    deliveries = [line for line in lines if line["event"] == "delivery"]
    assert [(204, "applied"), (409, "refused"), (401, "not_received")] == [
        (line["status"], line["outcome"]) for line in deliveries
    ]
    assert "unknown_item" == deliveries[1]["reason"]
    assert ("1", "avcc123", "remove", "1.25", "12.44") == tuple(
        deliveries[0][name] for name in ("store_id", "item_id", "movement_type", "quantity", "balance")
    )
    assert all(line["request_id"] and line["level"] and line["time"] for line in deliveries)
    for hidden in (SECRET, signed(body_of())["X-Signature-Request"], "do not print me", "nor me", world.service_url):
        assert hidden not in text


async def test_an_answer_that_a_person_should_see_is_a_warning_in_the_log(
    world: World, printed: Callable[..., Callable[[], str]]
) -> None:
    read = printed("json")
    async with running(settings_for(world, pos_api_key="a-key-of-the-pos-for-tests")) as (_, client):
        await deliver(client)
        await deliver(client, external_id="no")
        for headers in (signed(body_of(), secret="some other secret of somebody"), signed(body_of(), X_Signature_Request=None)):
            await client.post(PATH, content=body_of(), headers=headers)
        await client.get("/pos/stores/1/stock", headers={"Authorization": "Bearer of-nobody"})
        await client.get("/nothing")
        await client.get("/readyz")
        await world.execute("ALTER FUNCTION pos_sync.apply_movements RENAME TO another")
        await deliver(client, date="2026-11-24 08:00:00")

    lines = [json.loads(line) for line in read().splitlines()]
    assert [
        (204, "info"),
        (409, "info"),
        (401, "warning"),
        (401, "warning"),
        (401, "warning"),
        (404, "info"),
        (200, "debug"),
        (503, "warning"),
    ] == [(line["status"], line["level"]) for line in lines if line["event"] in {"delivery", "request"}]


async def test_a_long_path_is_cut_in_the_log(world: World, printed: Callable[..., Callable[[], str]]) -> None:
    read = printed("json")
    async with running(settings_for(world)) as (_, client):
        assert 404 == (await client.get(f"/{'a' * 60_000}")).status_code

    (line,) = [json.loads(line) for line in read().splitlines() if '"/aaa' in line]
    assert "/" + "a" * 255 == line["path"]


async def test_the_console_format_is_for_people(world: World, printed: Callable[..., Callable[[], str]]) -> None:
    read = printed("console")
    async with running(settings_for(world)) as (_, client):
        await deliver(client)

    assert "outcome=applied" in read()


async def test_a_bug_is_logged_with_its_traceback_and_not_told(
    world: World,
    client: httpx2.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    printed: Callable[..., Callable[[], str]],
) -> None:
    read = printed("json")

    def fail(_raw: bytes) -> None:
        raise RuntimeError("internals")

    monkeypatch.setattr("app.receiving.endpoint.read_delivery", fail)
    answer = await deliver(client)

    assert 500 == answer.status_code
    assert "internals" not in answer.text
    # Lines are flushed once in a turn of the loop.
    await asyncio.sleep(0)
    assert "RuntimeError: internals" in read()
    assert [] == await world.ledger()


async def test_a_request_id_is_taken_over_or_made(client: httpx2.AsyncClient) -> None:
    given = await client.get("/livez", headers={"X-Request-ID": "abc-123"})
    made = await client.get("/livez")
    harmful = await client.get("/livez", headers={"X-Request-ID": "a b\tc" + "x" * 100})

    assert "abc-123" == given.headers["x-request-id"]
    assert 32 == len(made.headers["x-request-id"])
    assert 32 == len(harmful.headers["x-request-id"])


async def test_openapi_describes_the_webhook_and_is_the_committed_document(world: World) -> None:
    async with running(settings_for(world, pos_api_key="a-key-of-the-till-2026")) as (_, client):
        document = (await client.get("/openapi.json")).json()
    operation = document["paths"][PATH]["post"]
    webhook = document["webhooks"]["stock-movement"]["post"]

    assert {"204", "400", "401", "408", "409", "413", "415", "422", "431", "500", "503"} == set(operation["responses"])
    assert "content" not in operation["responses"]["204"]
    assert operation["responses"] == webhook["responses"]
    assert {"signature", "pos"} == set(document["components"]["securitySchemes"])
    assert "X-Signature-Request" == document["components"]["securitySchemes"]["signature"]["name"]
    assert [{"signature": []}] == operation["security"] == webhook["security"]
    described = operation["requestBody"]["content"]["application/json"]["schema"]
    assert set(DOCUMENTED_MOVEMENT) == set(described["properties"]) == set(described["required"])
    assert {"$ref": "#/components/schemas/StockMovement"} == webhook["requestBody"]["content"]["application/json"]["schema"]
    assert {"get", "post"} == set(document["paths"]["/pos/stores/{store_id}/movements"])
    assert {("pos",)} == {
        tuple(operation["security"][0])
        for path, operations in document["paths"].items()
        for operation in operations.values()
        if path.startswith("/pos/")
    }
    assert "$defs" not in json.dumps(document)
    committed = json.loads(OPENAPI.read_text())
    assert committed == {**document, "info": {**document["info"], "version": committed["info"]["version"]}}


async def test_the_docs_are_a_page_of_our_own_and_can_be_switched_off(world: World) -> None:
    async with running(settings_for(world, pos_api_key="a-key-of-the-till-2026")) as (_, client):
        shown = await client.get("/docs")
    async with running(settings_for(world, docs_enabled=False)) as (_, client):
        hidden, document = await client.get("/docs"), await client.get("/openapi.json")

    assert (200, 404, 200) == (shown.status_code, hidden.status_code, document.status_code)
    assert "text/html; charset=utf-8" == shown.headers["content-type"]
    for words in ("POST /webhooks/stock", "GET /pos/stores/{store_id}/stock", "Idempotency-Key", "LedgerPage"):
        assert words in shown.text
    for loading in ("<script", "src=", "<link", "http://", "https://"):
        assert loading not in shown.text


async def test_the_path_of_the_webhook_takes_post_alone_and_nothing_unverified(world: World, client: httpx2.AsyncClient) -> None:
    body = body_of()

    wrong_method = await client.get(PATH)
    not_quite = await client.post(f"{PATH}%0A", content=body, headers=signed(body))

    assert (405, "POST") == (wrong_method.status_code, wrong_method.headers["allow"])
    assert 404 == not_quite.status_code
    assert [] == await world.ledger()


def test_the_app_connects_to_nothing_until_it_starts() -> None:
    class Nowhere:
        service_url = "postgresql://nobody@127.0.0.1:1/nothing"

    create_app(settings_for(Nowhere()))  # type: ignore[arg-type]
