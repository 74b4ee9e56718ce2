"""Token and registration by the real service against the sandbox over real HTTP."""

import asyncio
import json
from asyncio import CancelledError
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from app.doctor import Verdict, examine
from app.mipos.answers import Done, NeedsHuman, Transient
from app.mipos.client import Credentials, MiposClient
from app.mipos.registration import LEASE_NAME, Registrar
from app.mipos.token import AccessTokens
from app.mipos.wiring import account_of, registrar
from app.sandbox.platform import Account
from app.sandbox.server import Sandbox
from app.storage import leases
from app.storage.mipos_account import STOCK_WEBHOOK, Registration, RegistrationState, put_registration, put_token, read_token
from app.storage.transactions import database_now
from tests.conftest import running, settings_for
from tests.support.mipos import AUTHORIZED, CREDENTIALS, KEY, SETTINGS, SYSTEM, credentials_with, mipos, platform
from tests.support.postgres import database_of
from tests.support.sender import PATH, SECRET, body_of, signed
from tests.support.service import free_port, serving
from tests.support.world import World

OURS = "https://pos.example.com/webhooks/stock"


async def registration(client: httpx2.AsyncClient) -> dict[str, Any]:
    return dict((await client.get("/pos/status", headers=AUTHORIZED)).json()["registration"])


async def until(client: httpx2.AsyncClient, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The registration as /pos/status tells it, once `is_so` of it."""
    while not is_so(found := await registration(client)):  # noqa: ASYNC110 - seen from outside only
        await asyncio.sleep(0.05)
    return found


def is_registered(found: dict[str, Any]) -> bool:
    return bool(found["state"] == "registered")


def is_registered_as(url: str, found: dict[str, Any]) -> bool:
    return is_registered(found) and found["url"] == url


async def deliver(client: httpx2.AsyncClient, **changes: Any) -> int:
    body = body_of(**changes)
    return (await client.post(PATH, content=body, headers=signed(body))).status_code


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backoff and readiness as they are, only faster."""
    monkeypatch.setattr("app.mipos.answers.MIN_PAUSE", timedelta(seconds=0.02))
    monkeypatch.setattr("app.operations.readiness.FRESH_SECONDS", 0.0)


async def test_the_service_registers_its_own_url(world: World) -> None:
    async with mipos() as remote, running(settings_for(world, **remote.settings())) as (_, client):
        found = await until(client, is_registered)
        metrics = (await client.get("/metrics")).text

    assert {"3": OURS} == remote.platform.webhooks
    assert (OURS, "Webhook successfully created.") == (found["url"], found["message"])
    assert {"token": 1, "manage": 1} == remote.calls
    assert "pos_sync_registered 1.0" in metrics


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"public_url": None}, "PUBLIC_URL is not set"),
        ({"mipos_register_on_startup": False}, "MIPOS_REGISTER_ON_STARTUP is off"),
        ({"mipos_client_id": None, "mipos_email": None, "mipos_password": None}, "no mipOS account is set"),
    ],
)
async def test_without_what_it_needs_it_says_so_and_receives(world: World, changes: dict[str, Any], reason: str) -> None:
    async with mipos() as remote, running(settings_for(world, **remote.settings(**changes))) as (_, client):
        found = await registration(client)
        assert 204 == await deliver(client)

    assert "off" == found["state"]
    assert reason in found["message"]
    assert {} == remote.calls


async def test_started_while_mipos_is_down_it_receives_and_registers_once_it_is_up(world: World) -> None:
    port = free_port()
    settings = {"mipos_base_url": f"http://127.0.0.1:{port}", "public_url": "https://pos.example.com", "pos_api_key": KEY}
    account = {"mipos_client_id": "sandbox-client", "mipos_email": "pos@example.com", "mipos_password": "open sesame"}
    async with running(settings_for(world, **settings, **account)) as (_, client):
        found = await until(client, lambda found: found.get("attempts", 0) >= 2)
        assert "pending" == found["state"]
        assert "could not be reached" in found["message"]
        assert 200 == (await client.get("/readyz")).status_code
        assert 204 == await deliver(client)
        async with mipos(port=port) as remote:
            await until(client, is_registered)

    assert {"3": OURS} == remote.platform.webhooks
    assert 1 == remote.calls["manage"]


@pytest.mark.slow
async def test_it_gets_through_everything_that_passes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.mipos.client.CALL_SECONDS", 0.5)
    async with mipos() as remote:
        remote.fail("token", status=500)
        remote.fail("token", status=502, html=True)
        remote.fail("token", delay=20)
        remote.fail("token", status=200, body='{"message": "Access token.", "data": {}}')
        remote.fail("manage", cut=True)
        remote.fail("manage", hang=True)
        remote.fail("manage", status=503, body="\ufffd")
        remote.fail("manage", megabytes=10, status=500)
        remote.fail("manage", expired_token=True)
        async with running(settings_for(world, **remote.settings())) as (_, client):
            await until(client, is_registered)
            assert 204 == await deliver(client)

    assert {"3": OURS} == remote.platform.webhooks
    assert 1 == remote.calls["refresh"]
    assert 4 + 2 <= remote.calls["manage"]


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (409, {"message": ["Invalid type."], "data": None}, "Invalid type."),
        (422, {"url": ["The url field is required."]}, "The url field is required."),
        (404, {"message": "No such thing."}, "No such thing."),
    ],
)
async def test_a_refusal_is_shown_in_mipos_s_words_and_receiving_goes_on(
    world: World, capsys: pytest.CaptureFixture[str], status: int, body: dict[str, Any], words: str
) -> None:
    async with mipos() as remote:
        remote.fail("manage", status=status, body=json.dumps(body))
        async with running(settings_for(world, **remote.settings())) as (_, client):
            found = await until(client, lambda found: found["state"] == "failed")
            assert 204 == await deliver(client)
            assert 200 == (await client.get("/readyz")).status_code

    assert words == found["message"]
    printed = capsys.readouterr().out
    assert "a person has to act" in printed
    assert words in printed
    assert 1 == remote.calls["manage"]


ELSEWHERE = "https://elsewhere.example.com/webhooks/stock"
TAKEN = "Webhook successfully created."


@pytest.mark.parametrize(
    ("changes", "known", "verdict", "said"),
    [
        ({"public_url": None}, None, Verdict.WARNING, "PUBLIC_URL is not set"),
        ({"mipos_register_on_startup": False}, None, Verdict.WARNING, "MIPOS_REGISTER_ON_STARTUP is off"),
        ({}, None, Verdict.WARNING, "not tried yet"),
        (
            {},
            (RegistrationState.FAILED, None, "Invalid type."),
            Verdict.FAILED,
            f"mipOS has taken none yet, ours is {OURS}. mipOS says: Invalid type.",
        ),
        (
            {},
            (RegistrationState.REGISTERED, ELSEWHERE, TAKEN),
            Verdict.FAILED,
            f"mipOS has taken {ELSEWHERE}, ours is {OURS}. mipOS says: {TAKEN}",
        ),
        ({}, (RegistrationState.PENDING, OURS, "mipOS did not answer in time"), Verdict.FAILED, "mipOS did not answer in time"),
        (
            {"public_url": "http://pos"},
            (RegistrationState.REGISTERED, "http://pos/webhooks/stock", TAKEN),
            Verdict.WARNING,
            "http://pos/webhooks/stock is not https",
        ),
        ({}, (RegistrationState.REGISTERED, OURS, TAKEN), Verdict.OK, f"mipOS has {OURS}"),
    ],
    ids=["no URL", "off", "not tried", "refused", "elsewhere", "away", "not https", "registered"],
)
async def test_the_doctor_says_how_the_registration_stands(
    world: World,
    changes: dict[str, Any],
    known: tuple[RegistrationState, str | None, str] | None,
    verdict: Verdict,
    said: str,
) -> None:
    own = {**SETTINGS, "public_url": "https://pos.example.com", "mipos_base_url": "http://127.0.0.1:1", **changes}
    settings = settings_for(world, **own)
    if known is not None:
        state, url, words = known
        async with world.engine.begin() as connection:
            now = await database_now(connection)
            made = Registration(url or OURS, state, 1, words, now, None, url, now if url else None, account_of(settings))
            await put_registration(connection, STOCK_WEBHOOK, made)

    checks = examine(settings, world.engine, workers=1)
    assert isinstance(checks, AsyncGenerator)
    # It goes no further: what comes later is sent to the URL.
    async with aclosing(checks):
        check = await anext(check async for check in checks if check.name == "registration")

    assert (verdict, said) == (check.verdict, check.reason)
    assert (verdict is Verdict.OK) == (check.remedy == "")


async def test_bad_credentials_need_a_person(world: World) -> None:
    async with mipos() as remote, running(settings_for(world, **remote.settings(mipos_password="wrong"))) as (_, client):
        found = await until(client, lambda found: found["state"] == "failed")

    assert "Invalid credentials." == found["message"]


async def test_a_url_that_exists_already_is_fine_if_it_is_ours_and_loud_if_not(world: World) -> None:
    exists = json.dumps(
        {"message": ["The webhook url of this type already exists, use the update endpoint webhook."], "data": None}
    )
    async with mipos() as remote:
        async with running(settings_for(world, **remote.settings())) as (_, client):
            await until(client, is_registered)
        await world.execute("UPDATE pos_sync.webhook_registration SET registered_at = registered_at - interval '1 day'")
        remote.fail("manage", status=409, body=exists, times=2)
        async with running(settings_for(world, **remote.settings())) as (_, client):
            ours = await until(client, lambda found: is_registered(found) and "already exists" in found["message"])
        async with running(settings_for(world, **remote.settings(public_url="https://new.example.com"))) as (_, client):
            other = await until(client, lambda found: found["state"] == "failed")

    assert "registered" == ours["state"]
    assert "already exists" in other["message"]


async def test_a_changed_public_url_is_registered_again_and_an_unchanged_one_is_not(world: World) -> None:
    async with mipos() as remote:
        for name in ("one", "one", "two"):
            settings = settings_for(world, **remote.settings(public_url=f"https://{name}.example.com/"))
            ours = f"https://{name}.example.com/webhooks/stock"
            async with running(settings) as (_, client):
                await until(client, partial(is_registered_as, ours))

    assert 2 == remote.calls["manage"]
    assert {"3": "https://two.example.com/webhooks/stock"} == remote.platform.webhooks


@pytest.mark.slow
async def test_six_services_at_once_make_one_manage_call_and_one_token_call(world: World) -> None:
    async with mipos() as remote:
        remote.fail("manage", delay=0.3)
        settings = settings_for(world, **remote.settings())

        async def start() -> None:
            async with running(settings) as (_, client):
                await until(client, is_registered)

        await asyncio.gather(*(start() for _ in range(6)))

    assert {"token": 1, "manage": 1} == remote.calls


async def test_who_waited_for_the_lease_sees_what_its_holder_registered_meanwhile(world: World) -> None:
    account = b"an account"
    engine = database_of(world.service_url).create_engine()
    waiting = "SELECT count(*) FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) WHERE NOT granted AND datname = :name"
    async with mipos() as remote, MiposClient(remote.url) as client:
        tokens = access(world, client)
        late = Registrar(engine, client, tokens, url=OURS, account=account)
        async with world.engine.begin() as holder:
            held = await leases.acquire(holder, LEASE_NAME, lasts=timedelta(minutes=1))
            assert held is not None
            task = asyncio.create_task(late.register())
            async with world.engine.connect() as observer:
                # Only then: the late one has read its clock before the registration was made.
                while not await observer.scalar(text(waiting), {"name": world.database}):  # noqa: ASYNC110 - Postgres tells by a view
                    await asyncio.sleep(0.01)
            now = await database_now(holder)
            words = "Webhook successfully created."
            made = Registration(OURS, RegistrationState.REGISTERED, 0, words, now, None, OURS, now, account)
            await put_registration(holder, STOCK_WEBHOOK, made)
            await leases.give_back(holder, held)
        await task
    await engine.dispose()

    assert {} == remote.calls


async def test_stopping_during_a_call_or_a_pause_is_at_once(world: World) -> None:
    async with mipos() as remote:
        remote.fail("manage", delay=30)
        async with asyncio.timeout(25):
            async with running(settings_for(world, **remote.settings())) as (_, client):
                while "manage" not in remote.calls:  # noqa: ASYNC110 - counted by another server
                    await asyncio.sleep(0.01)
                assert 204 == await deliver(client)


async def test_an_answer_that_is_not_mipos_s_registers_nothing(world: World) -> None:
    async with mipos() as remote:
        remote.fail("manage", status=200, html=True)
        remote.fail("manage", status=200, megabytes=1)
        async with running(settings_for(world, **remote.settings())) as (_, client):
            await until(client, is_registered)

    assert 3 == remote.calls["manage"]
    assert {"3": OURS} == remote.platform.webhooks


async def test_another_mipos_or_another_account_is_another_registration(world: World) -> None:
    async with mipos() as one, mipos() as other:
        async with running(settings_for(world, **one.settings())) as (_, client):
            await until(client, is_registered)
        async with running(settings_for(world, **other.settings(mipos_password="wrong"))) as (_, client):
            wrong = await until(client, lambda found: found["state"] == "failed")
        async with running(settings_for(world, **other.settings())) as (_, client):
            await until(client, is_registered)

    assert "Invalid credentials." == wrong["message"]
    assert {"3": OURS} == one.platform.webhooks == other.platform.webhooks


@pytest.mark.slow
async def test_of_two_deployments_with_two_urls_the_later_one_wins_and_the_other_stops(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    async with mipos() as remote:
        remote.fail("manage", status=502)
        # A pause in which the new one registers: without it the old one can be done before the new one has begun.
        remote.fail("manage", status=502, retry_after=3)
        old = settings_for(world, **remote.settings(public_url="https://old.example.com"))
        new = settings_for(world, **remote.settings())
        async with running(old) as (_, old_client):
            await until(old_client, lambda found: found.get("attempts", 0) >= 2)
            async with running(new) as (_, client):
                await until(client, partial(is_registered_as, OURS))
                while "another deployment registers another URL" not in capsys.readouterr().out:  # noqa: ASYNC110 - printed
                    await asyncio.sleep(0.05)

    assert {"3": OURS} == remote.platform.webhooks
    assert remote.calls["manage"] <= 6


async def test_what_mipos_quotes_back_of_a_token_call_is_not_kept(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    async with mipos() as remote:
        remote.fail("token", status=422, body=json.dumps({"password": [f"open sesame is wrong, and so is {SECRET}."]}))
        async with running(settings_for(world, **remote.settings())) as (_, client):
            found = await until(client, lambda found: found["state"] == "failed")

    assert (
        "mipOS refused the token call in words that are not kept, since they may repeat what was sent (status 422)"
        == (found["message"])
    )
    assert "open sesame" not in capsys.readouterr().out


async def test_losing_the_database_during_a_call_does_not_swallow_the_order_to_stop(world: World) -> None:
    async with mipos() as remote:
        remote.fail("manage", delay=30)
        settings = settings_for(world, **remote.settings())
        engine = database_of(world.service_url).create_engine()
        async with registrar(settings, engine, webhook_path=PATH) as it:
            task = asyncio.create_task(it.run())
            while "manage" not in remote.calls:  # noqa: ASYNC110 - counted by another server
                await asyncio.sleep(0.01)
            await world.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE usename = 'pos_sync' AND datname = current_database()"
            )
            task.cancel()
            async with asyncio.timeout(25):
                assert [CancelledError] == [type(e) for e in await asyncio.gather(task, return_exceptions=True)]
        await engine.dispose()


async def test_no_transaction_is_open_while_mipos_takes_its_time(world: World) -> None:
    query = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND usename = 'pos_sync' AND state LIKE 'idle in transaction%'"
    )
    async with mipos() as remote:
        remote.fail("manage", delay=30)
        async with running(settings_for(world, **remote.settings())):
            while "manage" not in remote.calls:  # noqa: ASYNC110 - counted by another server
                await asyncio.sleep(0.01)
            async with world.engine.connect() as connection:
                assert 0 == await connection.scalar(query)


async def test_the_sandbox_refuses_odd_shapes_without_failing() -> None:
    async with mipos() as remote, MiposClient(remote.url) as client:
        fetched = await client.fetch_token(CREDENTIALS)
        assert isinstance(fetched, Done)
        token = SecretStr(fetched.data["token"])
        whole = {"items": [{"external_id": []}], "units": [{"external_id": {}}], "suppliers": [7], "user_id_tps": "30"}
        odd = await client.sync("1", {**whole, "inventory_system_id": SYSTEM}, token=token)
        no_list = await client.sync("1", {**whole, "inventory_system_id": SYSTEM, "items": 5}, token=token)
        update = {
            "user_id_tps": 30,
            "inventory_system_id": [],
            "current_stock": {},
            "quantity": 1,
            "date": 1,
            "movement_type": "1",
        }
        updated = await client.update_stock("1", {**update, "external_id": []}, token=token)

    assert isinstance(odd, NeedsHuman)
    assert NeedsHuman("The items must be an array.", 422) == no_list
    assert isinstance(updated, NeedsHuman)


async def test_the_sandbox_remembers_and_starts_anew_where_it_cannot(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    first = Sandbox(platform(), state_file=state)
    first.platform.webhooks["3"] = OURS
    first._save()  # noqa: SLF001 - without a call over HTTP

    assert {"3": OURS} == Sandbox(platform(), state_file=state).platform.webhooks
    assert 0o600 == state.stat().st_mode & 0o777
    state.write_text('{"token": ')
    assert {} == Sandbox(platform(), state_file=state).platform.webhooks


def access(
    world: World, client: MiposClient, *, credentials: Credentials | None = CREDENTIALS, fixed: SecretStr | None = None
) -> AccessTokens:
    given = [] if credentials is None else [credentials]
    return AccessTokens(world.engine, client, account="here", credentials=given, fixed=fixed)


async def test_a_token_is_shared_and_fetched_once(world: World) -> None:
    async with mipos() as remote, MiposClient(remote.url) as client:
        handed_out = await asyncio.gather(*(access(world, client).get() for _ in range(4)))

    assert 1 == len(set(handed_out))
    assert {"token": 1} == remote.calls


async def test_of_many_whose_token_was_rejected_one_refreshes_and_all_get_the_new_one(world: World) -> None:
    async with mipos() as remote, MiposClient(remote.url) as client:
        old = await access(world, client).get()
        assert isinstance(old, SecretStr)
        handed_out = await asyncio.gather(*(access(world, client).get(rejected=old) for _ in range(4)))

    assert 1 == len(set(handed_out))
    assert old not in handed_out
    assert {"token": 2, "refresh": 1} == remote.calls


async def test_a_rejected_token_that_somebody_has_replaced_is_not_fetched_again(world: World) -> None:
    async with mipos() as remote, MiposClient(remote.url) as client:
        await access(world, client).get()
        current = await access(world, client).get(rejected=SecretStr("an older one"))

    assert isinstance(current, SecretStr)
    assert {"token": 1} == remote.calls


async def test_an_expired_token_is_refreshed_only_if_the_token_call_hands_it_back_expired(world: World) -> None:
    async with mipos(token_seconds=1) as remote, MiposClient(remote.url) as client:
        await access(world, client).get()
        remote.platform.token_seconds = 3600
        current = await access(world, client).get()

    assert isinstance(current, SecretStr)
    assert remote.platform.is_authorized(f"Bearer {current.get_secret_value()}")
    assert 1 <= remote.calls["refresh"] <= 2


async def test_a_given_token_is_used_as_it_is_and_never_refreshed(world: World) -> None:
    async with mipos() as remote, MiposClient(remote.url) as client:
        given = access(world, client, fixed=SecretStr("given"))
        first, rejected = await given.get(), await given.get(rejected=SecretStr("given"))

    assert SecretStr("given") == first
    assert isinstance(rejected, NeedsHuman)
    assert "MIPOS_ACCESS_TOKEN" in rejected.words
    assert {} == remote.calls


async def test_why_there_is_no_token_is_said(world: World) -> None:
    async with mipos() as remote, MiposClient(remote.url) as client:
        bad = await access(world, client, credentials=credentials_with(password="x")).get()
        none = await access(world, client, credentials=None).get()
        remote.fail("token", status=500)
        away = await access(world, client).get()

    assert NeedsHuman("Invalid credentials.", 409) == bad
    assert isinstance(none, NeedsHuman)
    assert isinstance(away, Transient)


async def test_a_holder_whose_lease_has_lapsed_does_not_end_the_next_ones(world: World) -> None:
    async with mipos() as remote, MiposClient(remote.url) as client:
        for name, call, work in (
            ("token here", "token", access(world, client).get),
            (LEASE_NAME, "manage", Registrar(world.engine, client, access(world, client), url=OURS, account=b"x").register_now),
        ):
            remote.fail(call, delay=1)
            working = asyncio.create_task(work())
            while not remote.calls.get(call):  # noqa: ASYNC110 - the sandbox tells by a count
                await asyncio.sleep(0.005)
            await world.execute("UPDATE pos_sync.lease SET held_until = now() - interval '1 second'")
            async with world.engine.begin() as connection:
                assert await leases.acquire(connection, name, lasts=timedelta(minutes=1)) is not None
            await working
            async with world.engine.connect() as connection:
                assert await leases.is_held(connection, name), name


async def test_the_stored_token_is_not_shown(world: World) -> None:
    async with world.engine.begin() as connection:
        await put_token(connection, "c", token="a secret token", expires_at=datetime.now(UTC))
        stored = await read_token(connection, "c")

    assert "a secret token" not in repr(stored)


async def test_the_whole_loop_through_the_sandbox(world: World) -> None:
    """Registered, reported by an inventory system, signed, verified, applied, answered, and the answer relayed."""
    async with mipos() as remote:
        port = free_port()
        settings = remote.settings(public_url=f"http://127.0.0.1:{port}")
        with serving(world.service_url, port=port, **settings):
            while "3" not in remote.platform.webhooks:  # noqa: ASYNC110 - set by another process
                await asyncio.sleep(0.01)
            async with httpx2.AsyncClient(base_url=remote.url, timeout=30) as client:
                applied = await client.post("/sandbox/movements", json={"quantity": "1.25"})
                refused = await client.post("/sandbox/movements", json={"external_id": "unknown/é"})
                relayed = await client.post("/api/v1/inventory/system/store/1/pos/stock/update", json={})

    assert (204, b"") == (applied.status_code, applied.content)
    assert 409 == refused.status_code
    assert "unknown/é" in refused.json()["message"]
    assert 422 == relayed.status_code
    (row,) = await world.ledger()
    assert "12.44" == str(row.reported_stock)
    assert SECRET not in str(row)


async def test_the_sandbox_says_when_no_webhook_is_registered_or_it_cannot_be_reached() -> None:
    async with mipos() as remote, httpx2.AsyncClient(base_url=remote.url) as client:
        unregistered = await client.post("/sandbox/movements", json={})
        remote.platform.webhooks["3"] = f"http://127.0.0.1:{free_port()}/x"
        unreachable = await client.post("/sandbox/movements", json={})

    assert (409, 502) == (unregistered.status_code, unreachable.status_code)


async def test_the_sandbox_keeps_what_it_received_without_secrets(world: World) -> None:
    async with mipos() as remote, MiposClient(remote.url) as client:
        token = await access(world, client).get()
        assert isinstance(token, SecretStr)
        await client.manage_webhook(OURS, token=token)
        async with httpx2.AsyncClient(base_url=remote.url) as asking:
            text = (await asking.get("/sandbox/received")).text

    assert OURS in text
    for hidden in (SECRET, "open sesame", token.get_secret_value()):
        assert hidden not in text


async def test_whichever_side_knows_the_new_client_secret_first_calls_go_on(world: World) -> None:
    new = "f" * 40
    async with mipos() as remote:
        ours_first = settings_for(world, **remote.settings(mipos_client_secret=new, mipos_client_secret_previous=SECRET))
        async with registrar(ours_first, world.engine, webhook_path=PATH) as it:
            assert "registered" == (await it.register_now()).state
        account = remote.platform.account
        remote.platform.account = Account(account.client_id, new, account.email, account.password)
        remote.platform.expire_token()
        theirs_first = settings_for(world, **remote.settings(mipos_client_secret_previous=new))
        async with registrar(theirs_first, world.engine, webhook_path=PATH) as it:
            assert "registered" == (await it.register_now()).state


async def test_the_client_secret_is_replaced_in_the_documented_order_without_a_refused_call(world: World) -> None:
    """docs/deploying.md: the new one first beside the old one, since the old one is what mipOS's token call still asks for."""
    new = "f" * 40

    async def both_are_taken(client: httpx2.AsyncClient, step: str) -> None:
        for secret in (SECRET, new):
            body = body_of(date=f"{step} {secret}"[:30])
            assert 204 == (await client.post(PATH, content=body, headers=signed(body, secret=secret))).status_code

    async with mipos() as remote:
        first = settings_for(world, **remote.settings(mipos_client_secret_previous=new))
        async with running(first) as (_, client):
            await until(client, is_registered)
            await both_are_taken(client, "1")
        account = remote.platform.account
        remote.platform.account = Account(account.client_id, new, account.email, account.password)
        remote.platform.expire_token()
        second = settings_for(world, **remote.settings(mipos_client_secret=new, mipos_client_secret_previous=SECRET))
        async with running(second) as (_, client):
            await both_are_taken(client, "2")
            async with registrar(second, world.engine, webhook_path=PATH) as it:
                assert "registered" == (await it.register_now()).state


async def test_in_a_silence_of_all_the_call_is_repeated_once_a_day_by_one_of_two(world: World) -> None:
    engine = database_of(world.service_url).create_engine()
    async with mipos() as remote, MiposClient(remote.url) as client:
        tokens = access(world, client)
        keepers = [
            Registrar(engine, client, tokens, url=OURS, account=b"an account", keep=timedelta(seconds=0.05)) for _ in range(2)
        ]
        tasks = [asyncio.create_task(keeper.run()) for keeper in keepers]
        renewed = "SELECT registered_at > now() - interval '1 hour' FROM pos_sync.webhook_registration"
        while not await world.scalar(renewed):  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.01)
        await world.execute(
            "INSERT INTO pos_sync.problem (name, subject, severity, words, since, looked_at)"
            " VALUES ('silence', 'all', 'critical', '', now(), now())",
            "UPDATE pos_sync.webhook_registration SET registered_at = registered_at - interval '25 hours'",
        )
        while not await world.scalar(renewed):  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.01)
        # A second call would come with the next look.
        await asyncio.gather(*(keeper._renew() for keeper in keepers))  # noqa: SLF001 - a look now
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await engine.dispose()

    assert 2 == remote.calls["manage"]
