"""A ping through PUBLIC_URL: it tells "nobody reaches us" from "we refuse", and it is no delivery."""

import asyncio
import json
import secrets
import time

import httpx2
import pytest
from starlette.responses import PlainTextResponse
from structlog.testing import capture_logs

from app.doctor import Verdict, _examine_public_url
from app.operator.ping import PingState, send_ping
from app.receiving.ping import MAX_PROOF_AGE, doctor_ping_body, ping_body
from tests.conftest import new_world, running, settings_for
from tests.support.commands import Run
from tests.support.mipos import listening
from tests.support.public_url import reached
from tests.support.sender import PATH, SECRET, signed
from tests.support.service import free_port
from tests.support.world import World

OTHER_SECRET = "another-secret-of-another-account"


async def test_it_comes_back_and_leaves_nothing_behind(world: World) -> None:
    async with reached(world) as settings:
        result = await send_ping(settings, world.engine)
        async with httpx2.AsyncClient() as client:
            metrics = (await client.get(f"{settings.public_url}/metrics")).text

    assert (PingState.RETURNED, "leads to this service") == (result.state, result.words.split(" ", 1)[1])
    assert "pos_sync_deliveries_total{outcome=" in metrics
    assert not [
        line for line in metrics.splitlines() if line.startswith("pos_sync_deliveries_total") and not line.endswith(" 0.0")
    ]
    assert ([], []) == (await world.ledger(), await world.refused())
    assert 0 == await world.scalar("SELECT count(*) FROM pos_sync.pair_delivery")
    assert "returned" == await world.scalar("SELECT state FROM pos_sync.ping")


async def test_what_answers_instead_is_named(world: World) -> None:
    async with reached(world) as settings, new_world() as other:
        nobody = await send_ping(settings.model_copy(update={"public_url": f"http://127.0.0.1:{free_port()}"}), world.engine)
        with_another_secret = settings_for(world, mipos_client_secret=OTHER_SECRET, public_url=settings.public_url)
        refused = await send_ping(with_another_secret, world.engine)
        elsewhere = await send_ping(settings, other.engine)
        async with listening(PlainTextResponse("Welcome to nginx!"), lifespan="off") as port:
            proxy = await send_ping(settings.model_copy(update={"public_url": f"http://127.0.0.1:{port}"}), world.engine)
        async with listening(PlainTextResponse("", status_code=204), lifespan="off") as port:
            liar = await send_ping(settings.model_copy(update={"public_url": f"http://127.0.0.1:{port}"}), world.engine)

    assert (PingState.LOST, True) == (nobody.state, "cannot be reached" in nobody.words)
    assert (PingState.REFUSED, True) == (refused.state, "another MIPOS_CLIENT_SECRET" in refused.words)
    assert (PingState.REFUSED, True) == (elsewhere.state, "another database" in elsewhere.words)
    assert (PingState.LOST, True) == (proxy.state, "answered by something else (200)" in proxy.words)
    assert PingState.LOST == liar.state


WRONG = {"X-Signature-Request": "0" * 64}


async def test_the_doctor_s_is_refused_and_counts_nowhere(world: World) -> None:
    async with reached(world) as settings, httpx2.AsyncClient() as client:
        with capture_logs() as lines:
            check = await _examine_public_url(settings)
        metrics = (await client.get(f"{settings.public_url}/metrics")).text

    assert Verdict.OK is check.verdict, check
    assert 'pos_sync_signature_failures_total{cause="wrong"} 0.0' in metrics
    assert not [
        line for line in metrics.splitlines() if line.startswith("pos_sync_deliveries_total") and not line.endswith(" 0.0")
    ]
    assert 0 == await world.scalar("SELECT count(*) FROM pos_sync.delivery_count")
    # Information may be left out of the log, as another test's level has it; a warning is not.
    assert [] == [line for line in lines if line.get("status") == 401 and line["log_level"] != "info"]


async def test_a_stranger_cannot_hide_behind_the_doctor_s(world: World) -> None:
    now = time.time()
    bodies = [
        doctor_ping_body(OTHER_SECRET.encode(), now=now),
        doctor_ping_body(SECRET.encode(), now=now - MAX_PROOF_AGE - 60),
        doctor_ping_body(SECRET.encode(), now=now + MAX_PROOF_AGE + 60),
        doctor_ping_body(SECRET.encode(), now=now) + b" ",
        b'{"doctor":"names no store, so its wrong signature is no problem"}',
    ]
    async with reached(world) as settings, httpx2.AsyncClient(base_url=settings.public_url or "") as client:
        answers = [await client.post(PATH, content=body, headers=WRONG) for body in bodies]
        as_signature = await client.post(PATH, content=str(int(now)).encode(), headers={**WRONG, **_proof_of(bodies[3])})
        metrics = (await client.get("/metrics")).text

    assert [401] * 6 == [answer.status_code for answer in [*answers, as_signature]]
    assert 'pos_sync_signature_failures_total{cause="wrong"} 6.0' in metrics


def _proof_of(body: bytes) -> dict[str, str]:
    return {"X-Signature-Request": json.loads(body)["proof"]}


async def test_no_redirect_is_followed(world: World) -> None:
    async with reached(world) as settings:
        moved = PlainTextResponse("", status_code=308, headers={"Location": f"{settings.public_url}{PATH}"})
        async with listening(moved, lifespan="off") as port:
            result = await send_ping(settings.model_copy(update={"public_url": f"http://127.0.0.1:{port}"}), world.engine)

    assert (PingState.LOST, "308") == (result.state, result.words[-4:-1])


async def test_only_who_knows_the_secret_and_the_nonce_gets_204(client: httpx2.AsyncClient, world: World) -> None:
    body = ping_body(secrets.token_hex(16))
    unsigned = await client.post(PATH, content=body)
    unknown = await client.post(PATH, content=body, headers=signed(body))
    # Not a ping, so a delivery, and no good one.
    long = body[:-2] + b'00"}'
    other = await client.post(PATH, content=long, headers=signed(long))

    assert [401, 409, 422] == [answer.status_code for answer in (unsigned, unknown, other)]
    assert "another deployment" in unknown.json()["message"]
    assert 1 == len(await world.refused())


async def test_the_command_says_what_came_of_it(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIPOS_CLIENT_SECRET", OTHER_SECRET)
    unset = await run("ping")
    async with reached(world, mipos_client_secret=OTHER_SECRET) as settings:
        monkeypatch.setenv("PUBLIC_URL", str(settings.public_url))
        reaches = await run("ping")
    lost = await run("ping")

    assert [2, 0, 1] == [ended.exit_code for ended in (unset, reaches, lost)]
    assert "PUBLIC_URL is not set" in unset.output
    assert "leads to this service." in reaches.output
    assert "cannot be reached" in lost.output


async def test_one_of_two_replicas_pings_again_and_again(world: World) -> None:
    async with reached(world, ping_every=1 / 600) as settings, running(settings):
        states = "SELECT count(*) FROM pos_sync.ping WHERE state = 'returned'"
        async with asyncio.timeout(60):
            while await world.scalar(states) < 3:  # noqa: ASYNC110 - the database tells nobody
                await asyncio.sleep(0.02)
