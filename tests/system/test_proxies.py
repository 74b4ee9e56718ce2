"""Each shipped proxy configuration with the real proxy before two real services."""

import asyncio
import contextlib
import json
import re
import socket
from collections import Counter
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.operator.ping import PingState, send_ping
from tests.conftest import settings_for
from tests.support.page import PASSWORD
from tests.support.proxies import DEPLOY, PRODUCTS, Product
from tests.support.sender import PATH, body_of, raw_request, signed
from tests.support.service import Connection, Service, free_port, serving
from tests.support.world import World

RESTARTS = 2
MAX_OF_AN_ADDRESS = 200
"""sc0_conn_cur of the shipped configuration"""
TOO_MANY = 20
SENDERS = 8
BETWEEN_PACKETS_SECONDS = 0.01
"""Between head and body, so that a proxy gets them one after the other."""
SEEN_SECONDS = 2.0
"""In which each of the proxies has asked a new replica whether it is ready."""


# `make check` has Traefik beside its own tools.
pytestmark = pytest.mark.slow


def test_the_page_says_which_proxy_needs_a_drain_delay() -> None:
    page = (DEPLOY.parent / "docs" / "proxies.md").read_text(encoding="utf-8")
    said = {name.lower(): float(delay) for name, delay in re.findall(r"^\| (\w+) \| \[.*\| (\d+) \|$", page, re.MULTILINE)}
    heads = {path.parent.name for path in DEPLOY.glob("*/*") if path.is_file() and "DRAIN_DELAY=5" in path.read_text()}

    assert said == {product.name: product.drain_delay for product in PRODUCTS}
    assert heads == {product.name for product in PRODUCTS if product.drain_delay}


@pytest.fixture(params=PRODUCTS, ids=lambda product: product.name)
def product(request: pytest.FixtureRequest) -> Product:
    it: Product = request.param
    if it.program is None:
        pytest.skip(f"{it.name} is not installed ({it.install})")
    return it


class Replica:
    """A service on a port of its own that can be stopped and started again."""

    def __init__(self, world: World, drain_delay: float) -> None:
        self.port = free_port()
        self._world = world
        self._drain_delay = drain_delay
        self._context: contextlib.AbstractContextManager[Service] | None = None
        self._service: Service | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        context = serving(self._world.service_url, port=self.port, drain_delay=self._drain_delay, operator_password=PASSWORD)
        self._service = await asyncio.to_thread(context.__enter__)
        self._context = context

    async def stop(self) -> int | None:
        """Stop it as an orchestrator does; its exit status, None where it does not run."""
        if self._context is None or self._service is None:
            return None
        self._service.signal()
        status = await asyncio.to_thread(self._service.wait)
        self._context.__exit__(None, None, None)
        self._context = self._service = None
        return status

    async def deliveries(self) -> list[dict[str, Any]]:
        """The log lines of its deliveries; the last one is written just after its answer is."""
        assert self._service is not None
        await asyncio.sleep(0.1)
        lines = [json.loads(line) for line in self._service.log.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == "delivery"]


@contextlib.asynccontextmanager
async def replicated(world: World, drain_delay: float = 0) -> AsyncIterator[list[Replica]]:
    replicas = [Replica(world, drain_delay), Replica(world, drain_delay)]
    try:
        for replica in replicas:
            await replica.start()
        yield replicas
    finally:
        for replica in replicas:
            await replica.stop()


async def send(port: int, sender: int, statuses: Counter[int | str], stopped: asyncio.Event) -> None:
    """Deliver over one kept-alive connection until `stopped`, head and body in two packets."""
    connection = await Connection.open(port)
    number = 0
    while not stopped.is_set():
        number += 1
        body = body_of(date=f"sender {sender}, {number}")
        head, separator, body = raw_request(body, signed(body)).partition(b"\r\n\r\n")
        try:
            await connection.send(head + separator)
            await asyncio.sleep(BETWEEN_PACKETS_SECONDS)
            await connection.send(body)
            status, headers, answer = await connection.answer()
        except (OSError, asyncio.IncompleteReadError) as error:
            statuses[repr(error)] += 1
            headers = {"connection": "close"}
        else:
            statuses[status] += 1
            if status != 204:
                statuses[f"{status} {answer[:80]!r}"] += 1
        if headers.get("connection") == "close":
            connection.close()
            connection = await Connection.open(port)
        await asyncio.sleep(0.05)
    connection.close()


async def test_a_delivery_goes_through_unchanged_and_its_client_is_known(product: Product, world: World, tmp_path: Path) -> None:
    async with replicated(world) as replicas:
        with product.running(tmp_path, [replica.address for replica in replicas]) as port:
            url = f"http://127.0.0.1:{port}{PATH}"
            headers = {**signed(body_of()), "X-Forwarded-For": "203.0.113.7", "X-Request-ID": "chosen by the caller"}
            answer = httpx2.post(url, content=body_of(), headers=headers)
            forged = httpx2.post(url, content=body_of() + b" ", headers=signed(body_of()))
            refused = body_of(external_id="café / ☃")
            other = httpx2.post(url, content=refused, headers=signed(refused))
            large = httpx2.post(url, content=b"x" * 70000, headers=signed(b""))
            probes = [httpx2.get(f"http://127.0.0.1:{port}{path}").status_code for path in ("/livez", "/readyz")]
            lines = [line for replica in replicas for line in await replica.deliveries()]

    assert (204, b"") == (answer.status_code, answer.content)
    assert (401, 409, 413) == (forged.status_code, other.status_code, large.status_code)
    assert "65536" in large.json()["message"]
    assert [200, 200] == probes
    assert Decimal("12.44") == await world.level()
    assert {"127.0.0.1"} == {line["client"] for line in lines}
    assert answer.headers["x-request-id"] in {line["request_id"] for line in lines}
    assert "chosen by the caller" not in {line["request_id"] for line in lines}


INNER = [
    "/metrics",
    "/docs",
    "/openapi.json",
    "/pos/stores/1/stock",
    "/ui/",
    "/ui/login",
    "/",
    "/%6detrics",
    "/%70os/stores/1/stock",
    "//metrics",
    "/livez/",
    "/livez/../metrics",
    "/livez/..%2fmetrics",
    "/livez%2f..%2fmetrics",
    "/READYZ",
    "/webhooks/stock/",
    "/webhooks%2fstock",
    "/nothing/livez",
]


async def asked(port: int, request: bytes) -> tuple[int, dict[str, str], bytes]:
    connection = await Connection.open(port)
    try:
        await connection.send(request)
        return await connection.answer()
    finally:
        connection.close()


async def test_only_the_webhook_and_the_probes_are_let_out(product: Product, world: World, tmp_path: Path) -> None:
    async with replicated(world) as replicas:
        with product.running(tmp_path, [replica.address for replica in replicas]) as port:
            for path in INNER:
                status, headers, body = await asked(port, f"GET {path} HTTP/1.1\r\nHost: pos\r\n\r\n".encode())
                assert 404 == status, path
                assert headers["content-type"].startswith("application/json"), path
                assert json.loads(body)["message"], path
            status, _, body = await asked(port, b"GET /webhooks/stock HTTP/1.1\r\nHost: pos\r\n\r\n")

    assert 405 == status
    assert json.loads(body)["message"]


async def test_a_body_that_is_too_large_is_413_with_a_message(product: Product, world: World, tmp_path: Path) -> None:
    async with replicated(world) as replicas:
        with product.running(tmp_path, [replica.address for replica in replicas]) as port:
            status, headers, body = await asked(port, raw_request(b"x" * 200_000, {}))

    assert 413 == status
    assert headers["content-type"].startswith("application/json")
    assert json.loads(body)["message"]


async def test_a_body_that_stops_is_never_taken_for_delivered(product: Product, world: World, tmp_path: Path) -> None:
    request = b"POST /webhooks/stock HTTP/1.1\r\nHost: pos\r\nContent-Length: 100\r\n\r\n{"
    async with replicated(world) as replicas:
        with product.running(tmp_path, [replica.address for replica in replicas]) as port:
            try:
                status, headers, body = await asyncio.wait_for(asked(port, request), 30)
            except asyncio.IncompleteReadError:
                # nginx closes the connection.
                return

    assert status >= 400
    if product.answers_in_json:
        assert headers["content-type"].startswith("application/json")
        assert json.loads(body)["message"]


async def test_only_named_addresses_can_deliver_where_the_marked_lines_are_switched_on(
    product: Product, world: World, tmp_path: Path
) -> None:
    body = body_of()
    found, pings = {}, {}
    async with replicated(world) as replicas:
        for allowed in ("192.0.2.0/24", "127.0.0.0/8"):
            folder = tmp_path / allowed[:3]
            folder.mkdir()
            with product.running(folder, [one.address for one in replicas], allowed=allowed) as port:
                async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                    answer = await client.post(PATH, content=body, headers=signed(body))
                    found[allowed] = answer.status_code
                    assert 200 == (await client.get("/livez")).status_code
                pings[allowed] = await send_ping(settings_for(world, public_url=f"http://127.0.0.1:{port}"), world.engine)
            if answer.status_code != 204:
                assert answer.json()["message"]
                assert 0 == len(await world.ledger())

    stranger = 404 if product.name == "traefik" else 403
    assert {"192.0.2.0/24": stranger, "127.0.0.0/8": 204} == found
    # The service's own ping comes from its own address, which is to be named too.
    assert {"192.0.2.0/24": PingState.LOST, "127.0.0.0/8": PingState.RETURNED} == {
        allowed: ping.state for allowed, ping in pings.items()
    }
    assert pings["192.0.2.0/24"].words.endswith(f" is answered by something else ({stranger})")


async def test_one_address_does_not_take_every_connection_of_haproxy(world: World, tmp_path: Path) -> None:
    product = next(product for product in PRODUCTS if product.name == "haproxy")
    if product.program is None:
        pytest.skip(f"haproxy is not installed ({product.install})")
    head = b"POST /webhooks/stock HTTP/1.1\r\nHost: pos\r\nContent-Length: 100\r\n\r\n{"
    async with replicated(world) as replicas:
        with product.running(tmp_path, [replica.address for replica in replicas]) as port, contextlib.ExitStack() as stack:
            attackers = []
            for _ in range(MAX_OF_AN_ADDRESS + TOO_MANY):
                address = ("127.0.0.1", port)
                attacker = socket.create_connection(address, timeout=10, source_address=("127.0.0.2", 0))
                attackers.append(stack.enter_context(contextlib.closing(attacker)))
                attacker.sendall(head)
            delivered = httpx2.post(f"http://127.0.0.1:{port}{PATH}", content=body_of(), headers=signed(body_of()))
            # Which of them it refuses is a matter of its threads.
            answers = [attacker.recv(4096) for attacker in attackers]
    refused = [answer for answer in answers if answer.startswith(b"HTTP/1.1 429 ")]

    assert 204 == delivered.status_code
    assert len(refused) >= TOO_MANY
    assert all(b'{"message": ' in answer for answer in refused)


async def test_without_a_replica_the_answer_is_to_send_again(product: Product, tmp_path: Path) -> None:
    with product.running(tmp_path, [f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"]) as port:
        answer = httpx2.post(f"http://127.0.0.1:{port}{PATH}", content=body_of(), headers=signed(body_of()), timeout=15)

    assert answer.status_code in {502, 503}
    if product.answers_in_json:
        assert 503 == answer.status_code
        assert answer.headers["content-type"].startswith("application/json")
        assert "5" == answer.headers["retry-after"]
        assert "applied only once" in answer.json()["message"]


async def test_a_rolling_restart_of_two_replicas_gives_no_error(product: Product, world: World, tmp_path: Path) -> None:
    statuses: Counter[int | str] = Counter()
    stopped = asyncio.Event()
    async with replicated(world, product.drain_delay) as replicas:
        with product.running(tmp_path, [replica.address for replica in replicas]) as port:
            await asyncio.sleep(SEEN_SECONDS)
            senders = [asyncio.create_task(send(port, number, statuses, stopped)) for number in range(SENDERS)]
            ends = []
            for number in range(RESTARTS):
                replica = replicas[number % 2]
                await asyncio.sleep(SEEN_SECONDS)
                ends.append(await replica.stop())
                await replica.start()
            await asyncio.sleep(SEEN_SECONDS)
            stopped.set()
            await asyncio.gather(*senders)

    assert [204] == list(statuses), statuses
    assert [0] * RESTARTS == ends
    assert statuses[204] > 100
    assert statuses[204] == len(await world.ledger())
    assert {} == {name: count for name, count in (await world.broken_invariants()).items() if count}
