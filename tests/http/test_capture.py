"""Unverified bodies are kept only while an operator asks for it, are explained, and delivered only once they verify."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import event, text

from app.receiving import capture
from app.receiving.capture import CaptureTask
from app.receiving.signature import sign
from app.storage import captures
from app.storage.captures import Unverified
from tests.conftest import running, settings_for
from tests.support.commands import Run
from tests.support.postgres import database_of
from tests.support.sender import PATH, SECRET, body_of, signed
from tests.support.world import World

OTHER = "the-secret-that-mipos-has-since-this-morning"
PRINTED = "7c38c67ad234c4cdbe71425b5c961805ac3955d87de40d1d63e09f1f76d1ff61"
"""The signature of the type-3 example in docs/reference/pos-sync-inventory.md, which its body does not have"""
SYSTEM = "4344be8c-c6b9-4c51-88a6-d620144ab406"
CLOSED = {"message": "The signature in X-Signature-Request does not match the request body."}
Send = Callable[..., Awaitable[httpx2.Response]]


@pytest.fixture
async def client(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx2.AsyncClient]:
    monkeypatch.setattr(capture, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(capture, "MAX_A_SECOND", 800)
    async with running(settings_for(world)) as (_, it):
        yield it


async def send_wrong(client: httpx2.AsyncClient, body: bytes | None = None, *, secret: str = OTHER, **headers: Any) -> None:
    body = body_of() if body is None else body
    answer = await client.post(PATH, content=body, headers=signed(body, secret=secret, **headers))
    assert (401, CLOSED) == (answer.status_code, answer.json())


async def kept(run: Run, count: int) -> list[dict[str, Any]]:
    """What was captured, once there are so many."""
    while True:
        listed = json.loads((await run("capture", "list", "--json")).output)
        if len(listed) >= count:
            return list(listed)
        await asyncio.sleep(0.02)


async def count_of(world: World) -> int:
    async with world.engine.connect() as connection:
        return int(await connection.scalar(text("SELECT count(*) FROM captured_delivery")) or 0)


async def test_a_wrong_secret_is_captured_explained_corrected_and_delivered_once(
    world: World, client: httpx2.AsyncClient, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await send_wrong(client)
    started = await run("capture", "--for", "10m", "--max", "20", "--actor", "ana")
    await send_wrong(client, secret=OTHER + "\n")
    await send_wrong(client)
    first, second = sorted(await kept(run, 2), key=lambda one: one["number"])
    listed = (await run("capture", "list")).output
    monkeypatch.setenv("MIPOS_CLIENT_SECRET", SECRET)
    secret_file = tmp_path / "secret"
    secret_file.write_text(OTHER + "\n")

    unexplained = await run("explain-signature", "--capture", str(second["number"]))
    by_file = await run("explain-signature", "--capture", str(second["number"]), "--secret-file", str(secret_file))
    early = await run("capture", "deliver", str(second["number"]))
    monkeypatch.setenv("MIPOS_CLIENT_SECRET", OTHER)
    line_feed = await run("explain-signature", "--capture", str(first["number"]))
    verified = await run("explain-signature", "--capture", str(second["number"]))
    still = await run("capture", "deliver", str(first["number"]))
    done = await run("capture", "deliver", str(second["number"]), "--actor", "ana")
    again = await run("capture", "deliver", str(second["number"]), "--json")
    shown = (await run("capture", "show", str(second["number"]))).output

    assert [0, 1, 0, 1, 0, 0, 1, 0, 0] == [
        one.exit_code for one in (started, unexplained, by_file, early, line_feed, verified, still, done, again)
    ]
    assert "Until 20" in started.output
    assert "A capture is on until" in listed
    assert "UNVERIFIED" in listed
    assert ["yes", "yes"] == [first["known"], second["known"]]
    assert "Nothing matches" in unexplained.output
    assert "here: Set MIPOS_CLIENT_SECRET to that secret" in by_file.output.replace("\n", " ")
    assert "does not match" in early.output
    assert "the secret with a line feed after it" in line_feed.output
    assert "at the sender" in line_feed.output
    assert "It verifies, with MIPOS_CLIENT_SECRET" in verified.output
    assert "does not match" in still.output
    assert "verified with the current client secret: applied" in done.output
    delivered = json.loads(again.stdout)
    assert (second["number"], "current", True) == (delivered["number"], delivered["key"], delivered["is_good"])
    assert "already applied" in delivered["outcome"]
    assert "outcome" in shown
    assert "UNVERIFIED" in shown
    assert Decimal("12.44") == await world.level()
    assert 1 == len(await world.ledger())
    everything = "".join(one.output for one in (unexplained, by_file, early, line_feed, verified, done))
    assert not any(secret in everything for secret in (OTHER, SECRET, sign(body_of(), SECRET.encode())))


async def test_nothing_is_kept_without_a_capture_and_none_after_it_was_stopped(
    world: World, client: httpx2.AsyncClient, run: Run
) -> None:
    await send_wrong(client)
    assert "No capture is on." in (await run("capture", "list")).output
    await run("capture", "--for", "1m")
    await send_wrong(client, body_of(date="in it"))
    await kept(run, 1)
    stopped = await run("capture", "stop")
    await send_wrong(client, body_of(date="after it"))
    await run("capture", "--for", "1m")
    await send_wrong(client, body_of(date="in the next"))

    listed = await kept(run, 2)

    assert "The capture has ended." in stopped.output
    numbers = [str(one["number"]) for one in listed]
    bodies = [json.loads((await run("capture", "show", number, "--json")).output)["body"] for number in numbers]
    # Also where it has waited for the worker's next look, which found the next capture.
    assert {"in it", "in the next"} == {json.loads(body)["date"] for body in bodies}
    assert await world.refused() == []


async def test_what_is_kept_is_capped_in_number_and_size_and_the_known_displace_others(world: World) -> None:
    engine = database_of(world.service_url).create_engine()

    def unverified(number: int, system: str | None = None, body: bytes = b"x") -> Unverified:
        return Unverified(body + str(number).encode(), (), None, None, "1" if system else None, system)

    async with engine.begin() as connection:
        await captures.keep(connection, [unverified(0)])
        assert [] == await captures.list_kept(connection)
        await captures.start(connection, length=captures.MAX_CAPTURE_TIME, max_kept=3, actor="ana")

    # By two workers at once.
    async def keep(*found: Unverified) -> None:
        async with engine.begin() as connection:
            await captures.keep(connection, found)

    await asyncio.gather(keep(*map(unverified, range(4))), keep(*map(unverified, range(2, 6))))
    assert 3 == await count_of(world)
    await keep(unverified(10, SYSTEM), unverified(11, "no such system"), unverified(12, SYSTEM), unverified(12, SYSTEM))
    async with engine.connect() as connection:
        found = await captures.list_kept(connection)
    assert [True, True, False] == [one.names_known_pair for one in found]
    assert 2 == next(one.attempts for one in found if one.raw_body == b"x12")
    await keep(unverified(13, SYSTEM), unverified(14, SYSTEM))
    async with engine.connect() as connection:
        assert {b"x10", b"x12", b"x13"} == {one.raw_body for one in await captures.list_kept(connection)}
    await engine.dispose()


async def test_what_is_older_than_a_day_is_not_shown_and_goes(world: World, client: httpx2.AsyncClient, run: Run) -> None:
    await run("capture", "--for", "1h")
    await send_wrong(client)
    (one,) = await kept(run, 1)
    await world.execute("UPDATE captured_delivery SET first_seen_at = now() - interval '24 hours 1 second'")

    assert [] == await kept(run, 0)
    assert "gone after 24 hours" in (await run("capture", "show", str(one["number"]))).output
    assert 1 == await count_of(world)
    async with running(settings_for(world)):
        while await count_of(world):  # noqa: ASYNC110 - seen from outside only
            await asyncio.sleep(0.02)


async def test_the_header_of_another_name_is_kept_and_no_other_header(client: httpx2.AsyncClient, run: Run) -> None:
    await run("capture", "--for", "1m")
    body = body_of()
    headers = {"X-Hub-Signature-256": f"sha256={sign(body, SECRET.encode())}", "Authorization": "Bearer mine", "Cookie": "a=b"}
    assert 401 == (await client.post(PATH, content=body, headers=headers)).status_code
    (one,) = await kept(run, 1)

    shown = (await run("capture", "show", str(one["number"]))).output
    explained = await run("explain-signature", "--capture", str(one["number"]))

    assert "x-hub-signature-256: sha256=" in shown
    assert not any(word in shown for word in ("mine", "a=b"))
    assert "MIPOS_CLIENT_SECRET: is not set" in str(explained.exception)


async def test_signed_deliveries_and_large_ones_are_no_business_of_a_capture(
    world: World, client: httpx2.AsyncClient, run: Run
) -> None:
    await run("capture", "--for", "1m")
    body = body_of()
    assert 204 == (await client.post(PATH, content=body, headers=signed(body))).status_code
    await send_wrong(client, body_of(date="wrong"))

    (one,) = await kept(run, 1)

    assert "store" in one
    assert 1 == await count_of(world)


async def test_what_waits_is_bounded_and_looked_at_together(world: World) -> None:
    engine = database_of(world.service_url).create_engine()
    task = CaptureTask(engine)
    scope = {"headers": []}

    for number in range(1000):
        task.offer(str(number).encode(), scope)
    task.offer(b"x" * 70000, scope)

    assert capture.MAX_WAITING == len(task._waiting)  # noqa: SLF001 - seen nowhere else
    await engine.dispose()


async def test_among_many_at_once_those_of_a_known_system_are_kept(
    world: World, client: httpx2.AsyncClient, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    await run("capture", "--for", "1m", "--max", "2")
    await send_wrong(client, b"first")
    await kept(run, 1)
    # The worker knows of the capture, and its next turn is not yet.
    monkeypatch.setattr(capture, "MAX_A_SECOND", 32)
    await send_wrong(client, b"second")
    await kept(run, 2)
    for number in range(50):
        await send_wrong(client, b"flood %d" % number)
    await send_wrong(client)

    while "yes" not in [one["known"] for one in await kept(run, 2)]:  # noqa: ASYNC110 - seen from outside only
        await asyncio.sleep(0.02)
    assert 2 == await count_of(world)


async def test_many_wrong_signatures_are_one_look_and_none_without_them(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "LOOK_SECONDS", 60.0)
    async with running(settings_for(world)) as (app, client):
        looks: list[str] = []

        @event.listens_for(app.state.service.engine.sync_engine, "before_cursor_execute")
        def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            looks.extend([statement] if "capture" in statement and "DELETE" not in statement else [])

        body = body_of()
        assert 204 == (await client.post(PATH, content=body, headers=signed(body))).status_code
        assert [] == looks
        for number in range(100):
            await send_wrong(client, b"%d" % number)
        # Two turns of a loop that would look again.
        while not looks:  # noqa: ASYNC110 - seen from outside only
            await asyncio.sleep(0.01)
        await send_wrong(client)
        assert 1 == len(looks)
    assert 0 == await count_of(world)


@pytest.mark.parametrize("given", [("--for", "10"), ("--for", "25h"), ("--for", "0m"), (), ("--for", "1m", "list")])
async def test_a_capture_without_a_sensible_time_is_a_usage_error(run: Run, given: tuple[str, ...]) -> None:
    assert 2 == (await run("capture", *given)).exit_code


async def test_body_and_headers_of_files_are_explained(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MIPOS_CLIENT_SECRET", SECRET)
    body, request, headers = tmp_path / "body", tmp_path / "request", tmp_path / "headers"
    body.write_bytes(body_of())
    right = sign(body_of(), SECRET.encode())
    headers.write_text(f"Host: pos\nx-signature-request: sha256={right}\n")
    request.write_bytes(f"POST /webhooks/stock HTTP/1.1\r\nX-Signature-Request: {right}\r\n\r\n".encode() + body_of() + b"\n")

    example = await run("explain-signature", "--body", str(body), "--signature", PRINTED)
    prefixed = await run("explain-signature", "--body", str(body), "--headers", str(headers), "--json")
    blank = await run("explain-signature", "--request", str(request))
    neither = await run("explain-signature", "--body", str(body))

    assert [1, 0, 0, 2] == [one.exit_code for one in (example, prefixed, blank, neither)]
    assert "Nothing matches" in example.output
    assert "as base64" in example.output
    assert ["the digest comes after sha256="] == [one["what"] for one in json.loads(prefixed.output)["deviations"]]
    assert "without what is blank at its end" in blank.output
    assert right not in blank.output + prefixed.output

    monkeypatch.delenv("MIPOS_CLIENT_SECRET")
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    elsewhere = await run("explain-signature", "--body", str(body), "--signature", right, "--secret-file", str(secret))
    assert 0 == elsewhere.exit_code
    assert "Set MIPOS_CLIENT_SECRET to that secret" in elsewhere.output
