"""`pos-sync serve` as a real process: starting, refusing to start, uvicorn's own errors, stopping."""

import asyncio
import json
import signal
import socket
from decimal import Decimal

import httpx2
import pytest
from sqlalchemy import text

from app.server import run
from app.server.run import CannotListen
from tests.support.mipos import AUTHORIZED, KEY
from tests.support.postgres import rename_database
from tests.support.sender import PATH, SECRET, body_of, raw_request, signed
from tests.support.service import Connection, run_command, serving
from tests.support.world import World

GOOD = {"DATABASE_URL": "postgresql://u:hunter2@127.0.0.1:1/pos", "MIPOS_CLIENT_SECRET": SECRET}


def post(url: str, **changes: object) -> httpx2.Response:
    body = body_of(**changes)
    return httpx2.post(f"{url}{PATH}", content=body, headers=signed(body), timeout=30)


async def test_a_delivery_over_a_real_connection(world: World) -> None:
    with serving(world.service_url) as service:
        answer = post(service.url)
        refused = post(service.url, external_id="no")

    assert 204 == answer.status_code
    assert b"" == answer.content
    assert "content-length" not in answer.headers
    assert "server" not in answer.headers
    assert 409 == refused.status_code
    assert refused.json()["message"]
    assert Decimal("12.44") == await world.level()


def test_bad_settings_are_one_message_that_names_every_fault() -> None:
    ended = run_command("serve", DATABASE_URL="mysql://root:hunter2@x/y", MIPOS_CLIENT_SECRET="short", PORT="x")

    assert 2 == ended.returncode
    assert all(f"  {name}: " in ended.stderr for name in ("DATABASE_URL", "MIPOS_CLIENT_SECRET", "PORT"))
    assert "Traceback" not in ended.stderr
    assert "hunter2" not in ended.stdout + ended.stderr
    assert "short\n" not in ended.stdout + ended.stderr


async def test_a_schema_that_is_not_at_head_is_refused(empty_world: World) -> None:
    ended = run_command("serve", **{**GOOD, "DATABASE_URL": empty_world.owner_url})

    assert 1 == ended.returncode
    assert "Run: pos-sync migrate" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
async def test_a_newer_schema_that_says_so_is_served(world: World) -> None:
    await world.execute("UPDATE alembic_version SET version_num = '9999', compatible_from = '0008'")
    with serving(world.service_url) as service:
        ready = httpx2.get(f"{service.url}/readyz")
        answer = post(service.url)

    assert (200, 204) == (ready.status_code, answer.status_code)


@pytest.mark.slow
@pytest.mark.parametrize("compatible_from", ["'9999'", "NULL"])
async def test_a_newer_schema_that_it_cannot_work_with_is_not_served(world: World, compatible_from: str) -> None:
    await world.execute(f"UPDATE alembic_version SET version_num = '9999', compatible_from = {compatible_from}")
    ended = run_command("serve", **{**GOOD, "DATABASE_URL": world.service_url})

    assert 1 == ended.returncode
    assert "The database schema is at revision 9999, which this version cannot work with" in ended.stderr
    assert "Deploy that version." in ended.stderr
    assert "Traceback" not in ended.stderr


async def test_a_port_in_use_ends_it_with_a_message(world: World) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ended = run_command("serve", "--port", str(taken.getsockname()[1]), **{**GOOD, "DATABASE_URL": world.service_url})

    assert 1 == ended.returncode
    assert "in use" in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr


def test_of_two_that_start_at_once_on_one_port_the_second_ends() -> None:
    first = run._listen("127.0.0.1", 0)  # noqa: SLF001 - what both do before either serves
    with first, pytest.raises(CannotListen, match="in use"):
        run._listen("127.0.0.1", first.getsockname()[1])  # noqa: SLF001


@pytest.mark.slow
async def test_without_a_database_it_starts_and_recovers_by_itself(world: World) -> None:
    away = f"{world.database}_away"
    await rename_database(world.database, away)
    try:
        with serving(world.service_url, until="alive", response_deadline="1") as service:
            assert 503 == httpx2.get(f"{service.url}/readyz").status_code
            assert 503 == post(service.url).status_code
            await rename_database(away, world.database)
            await asyncio.to_thread(service.wait_until_ready)
            assert 204 == post(service.url).status_code
    finally:
        await rename_database(away, world.database)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
async def test_it_ends_with_status_0_and_answers_what_it_has_received(world: World, number: int, workers: str) -> None:
    with serving(world.service_url, "--workers", workers) as service:
        async with world.engine.connect() as other:
            await other.execute(text("LOCK TABLE pos_sync.stock_level"))
            connection = await Connection.open(service.port)
            await connection.send(raw_request(body_of(), signed(body_of())))
            await waiting_for_a_lock(world)
            service.signal(number)
            await other.rollback()
        status, _, body = await connection.answer()
        connection.close()

        assert (204, b"") == (status, body)
        assert 0 == await asyncio.to_thread(service.wait)
    assert Decimal("12.44") == await world.level()


async def waiting_for_a_lock(world: World) -> None:
    """Return once a delivery waits in Postgres."""
    query = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
    async with world.engine.connect() as connection:
        while not await connection.scalar(query):
            await connection.rollback()
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
async def test_a_signal_right_after_it_listens_is_not_lost(world: World, workers: str) -> None:
    with serving(world.service_url, "--workers", workers, until="listening") as service:
        service.signal()
        assert 0 == await asyncio.to_thread(service.wait)


@pytest.mark.slow
async def test_a_half_sent_body_does_not_hold_the_exit(world: World) -> None:
    with serving(world.service_url, response_deadline="30") as service:
        half, silent, idle = [await Connection.open(service.port) for _ in range(3)]
        await half.send(raw_request(body_of(), signed(body_of()))[:-10])
        await idle.send(b"GET /livez HTTP/1.1\r\nHost: pos\r\n\r\n")
        assert 200 == (await idle.answer())[0]

        service.signal()
        status, headers, body = await half.answer()

        assert 503 == status
        assert "restarting" in json.loads(body)["message"]
        assert "1" == headers["retry-after"]
        assert await silent.is_closed()
        assert await idle.is_closed()
        assert 0 == await asyncio.to_thread(service.wait)
        for connection in (half, silent, idle):
            connection.close()
    assert [] == await world.ledger()


@pytest.mark.slow
async def test_while_draining_it_says_not_ready_and_still_takes_deliveries(world: World) -> None:
    with serving(world.service_url, drain_delay="60") as service:
        service.signal()
        while httpx2.get(f"{service.url}/readyz").status_code != 503:  # noqa: ASYNC110 - another process drains
            await asyncio.sleep(0.01)
        ready = httpx2.get(f"{service.url}/readyz").json()
        answer = post(service.url)

        await asyncio.sleep(1.1)  # a second signal within a second is the first one's echo
        service.signal()
        assert 0 == await asyncio.to_thread(service.wait)

    assert {"message": "The service is stopping."} == ready
    assert 204 == answer.status_code


@pytest.mark.slow
async def test_a_movement_goes_on_when_its_sender_has_left(world: World) -> None:
    with serving(world.service_url) as service:
        async with world.engine.connect() as other:
            await other.execute(text("LOCK TABLE pos_sync.stock_level"))
            connection = await Connection.open(service.port)
            await connection.send(raw_request(body_of(), signed(body_of())))
            await waiting_for_a_lock(world)
            connection.close()
            await other.rollback()
        while not await world.ledger():  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.01)
        assert 200 == httpx2.get(f"{service.url}/livez").status_code
        assert "Traceback" not in service.log


GARBAGE = {
    "not http": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40 + b"\r\n\r\n",
    "bad version": b"POST /webhooks/stock HTTP/9.9\r\nHost: pos\r\n\r\n",
    "bad header": b"POST /webhooks/stock HTTP/1.1\r\nHost pos\r\n\r\n",
    "length and chunks": (
        b"POST /webhooks/stock HTTP/1.1\r\nHost: pos\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "two lengths": b"POST /webhooks/stock HTTP/1.1\r\nHost: pos\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "negative length": b"POST /webhooks/stock HTTP/1.1\r\nHost: pos\r\nContent-Length: -1\r\n\r\n",
    "bad chunk": b"POST /webhooks/stock HTTP/1.1\r\nHost: pos\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "large head": b"POST /webhooks/stock HTTP/1.1\r\nHost: pos\r\nX-Large: " + b"a" * 70000 + b"\r\n\r\n",
    "many headers": b"POST /webhooks/stock HTTP/1.1\r\nHost: pos\r\n" + b"X-Many: 1\r\n" * 20000 + b"\r\n",
    "an endless header": b"POST /webhooks/stock HTTP/1.1\r\nHost: pos\r\nX-Large: " + b"a" * 1_000_000,
    "no host": b"GET /livez HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /livez HTTP/1.1\r\nHost: pos\r\nHost: pos\r\n\r\n",
    "a coding beside chunked": b"POST /webhooks/stock HTTP/1.1\r\nHost: pos\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "connect": b"CONNECT pos:80 HTTP/1.1\r\nHost: pos\r\n\r\n",
    "large path": b"POST /" + b"a" * 70000 + b" HTTP/1.1\r\nHost: pos\r\n\r\n",
}


@pytest.mark.slow
async def test_uvicorn_s_own_errors_have_a_message_too(world: World) -> None:
    with serving(world.service_url) as service:
        for name, garbage in GARBAGE.items():
            connection = await Connection.open(service.port)
            await connection.send(garbage)
            status, headers, body = await connection.answer()
            assert status in {400, 401, 431}, name
            assert "application/json" == headers["content-type"], name
            assert json.loads(body)["message"], name
            connection.close()
        assert 204 == post(service.url).status_code
        assert "Traceback" not in service.log


async def test_an_upgrade_that_nobody_wants_is_ignored(world: World) -> None:
    """As a Java client sends it that would rather speak HTTP/2 (h2c)."""
    upgrade = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAEAAEAAAAIAAAABAAMAAABkAAQBAAAA"}
    with serving(world.service_url) as service:
        connection = await Connection.open(service.port)
        answers = []
        for date in ("one packet", "two packets"):
            body = body_of(date=date)
            raw = raw_request(body, {**signed(body), **upgrade})
            for part in [raw] if date == "one packet" else [raw[: -len(body)], raw[-len(body) :]]:
                await connection.send(part)
                await asyncio.sleep(0.05)
            answers.append((await connection.answer())[0])
        await connection.send(b"GET /livez HTTP/1.1\r\nHost: pos\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" * 2)
        answers += [(await connection.answer())[0] for _ in range(2)]
        connection.close()

    assert [204, 204, 200, 200] == answers
    assert 2 == len(await world.ledger())


async def test_a_trailer_is_no_header_and_white_space_is_no_part_of_one(world: World) -> None:
    body = body_of()
    signature = signed(body)["X-Signature-Request"].encode()
    head = b"POST /webhooks/stock HTTP/1.1\r\nHost: pos\r\nTransfer-Encoding: chunked\r\n"
    chunk = b"%x\r\n%b\r\n0\r\n" % (len(body), body)
    with serving(world.service_url) as service:
        connection = await Connection.open(service.port)
        await connection.send(head + b"\r\n" + chunk + b"X-Signature-Request: " + signature + b"\r\n\r\n")
        in_trailer = (await connection.answer())[0]
        await connection.send(
            head
            + b"X-Signature-Request: \t"
            + signature
            + b" \t\r\n\r\n"
            + chunk
            + b"Content-Encoding: gzip\r\nX-Request-ID: forged\r\n\r\n"
        )
        status, headers, _ = await connection.answer()
        connection.close()

    assert (401, 204) == (in_trailer, status)
    assert "forged" != headers["x-request-id"]


async def test_white_space_around_the_coding_of_the_transfer_is_no_part_of_it_either(world: World) -> None:
    body = body_of(note="\r\n\r\n")
    chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    answers = []
    with serving(world.service_url) as service:
        connection = await Connection.open(service.port)
        for coding in (" chunked ", "\tchunked", "chunked\t", "\t chunked \t", "chunked\t "):
            lines = ["POST /webhooks/stock HTTP/1.1", "Host: pos", "X-Empty:", f"Transfer-Encoding:{coding}"]
            lines += [f"{name}:\t{value}\t" for name, value in signed(body).items()]
            head = "\r\n".join(lines).encode() + b"\r\n\r\n"
            whole = head + chunk
            for parts in ([whole], [head[:-2], head[-2:] + chunk], [head, chunk], [whole[i : i + 1] for i in range(len(whole))]):
                for part in parts:
                    await connection.send(part)
                answers.append((coding, (await connection.answer())[0]))
        await connection.send(head.replace(b"chunked", b"gzip") + chunk)
        refused = (await connection.answer())[0]
        connection.close()

    assert [204] * 20 == [status for _, status in answers]
    assert 400 == refused


async def test_a_delivery_that_comes_with_the_end_of_its_head_is_not_counted_as_head(world: World) -> None:
    body = body_of(note="x" * 64_000)
    raw = raw_request(body, signed(body))
    with serving(world.service_url) as service:
        connection = await Connection.open(service.port)
        await connection.send(raw[:20])
        await asyncio.sleep(0.05)
        await connection.send(raw[20:])
        status = (await connection.answer())[0]
        connection.close()

    assert 204 == status


@pytest.mark.slow
async def test_a_413_keeps_the_connection_open(world: World) -> None:
    with serving(world.service_url) as service:
        connection = await Connection.open(service.port)
        await connection.send(raw_request(b"x" * 70000, signed(b"")))
        refused = await connection.answer()
        await connection.send(raw_request(body_of(), signed(body_of())))
        taken = await connection.answer()
        connection.close()

    assert 413 == refused[0]
    assert "connection" not in refused[1]
    assert 204 == taken[0]


@pytest.mark.slow
async def test_who_is_told_to_continue_and_sends_nothing_is_left_at_the_deadline(world: World) -> None:
    headers = {**signed(body_of()), **AUTHORIZED, "Idempotency-Key": "ticket", "Expect": "100-continue"}
    with serving(world.service_url, response_deadline="0.5", pos_api_key=KEY) as service:
        for path in (PATH, "/pos/stores/1/movements"):
            connection = await Connection.open(service.port)
            await connection.send(raw_request(body_of(), headers, path=path).removesuffix(body_of()))
            told = (await connection.answer())[0]
            status, answered, body = await connection.answer()

            assert (100, 408, "close") == (told, status, answered["connection"]), path
            assert "did not arrive in time" in json.loads(body)["message"]
            assert await connection.is_closed()
            connection.close()


@pytest.mark.slow
async def test_forwarded_addresses_are_believed_from_configured_proxies_only(world: World) -> None:
    headers = {**signed(body_of()), "X-Forwarded-For": "203.0.113.7"}
    for allowed, seen in (("127.0.0.1", "203.0.113.7"), ("10.0.0.0/8", "127.0.0.1")):
        with serving(world.service_url, forwarded_allow_ips=allowed) as service:
            assert 204 == httpx2.post(f"{service.url}{PATH}", content=body_of(), headers=headers).status_code
            assert seen == (await service.delivery_line())["client"]


@pytest.mark.slow
async def test_metrics_of_all_workers_are_told_by_any(world: World) -> None:
    with serving(world.service_url, "--workers", "2") as service:
        for number in range(20):
            assert 204 == post(service.url, date=str(number), quantity="0.1").status_code
        for _ in range(5):
            assert 'pos_sync_deliveries_total{outcome="applied"} 20.0' in httpx2.get(f"{service.url}/metrics").text
