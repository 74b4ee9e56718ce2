"""A ping through PUBLIC_URL: it tells "nobody reaches us" from "we refuse", and it is no delivery."""

import asyncio
import secrets

import httpx2
import pytest
from starlette.responses import PlainTextResponse

from app.operator.ping import PingState, send_ping
from app.receiving.ping import ping_body
from tests.conftest import new_world, running, settings_for
from tests.support.commands import Run
from tests.support.mipos import listening
from tests.support.public_url import reached
from tests.support.sender import PATH, signed
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
