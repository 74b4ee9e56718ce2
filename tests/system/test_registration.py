"""Registration by real processes: replicas with workers, commands, signals; and the doctor."""

import asyncio
import json
import re
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from app.catalog_body import read_catalog
from app.operator.catalog import import_catalog
from app.storage.embedded_postgres import EmbeddedPostgres
from app.storage.migrations import migrate
from tests.support.mipos import AUTHORIZED, KEY, SYSTEM, Remote, mipos
from tests.support.postgres import SAMPLES, looking_engine, passable_folder
from tests.support.sender import SECRET
from tests.support.service import environment, free_port, run_command, serving
from tests.support.world import World

pytestmark = pytest.mark.slow

CONNECTIONS = re.compile(r"^(\d+ workers? uses?) up to (\d+) of \d+; more replicas, more of them$")


def variables(world: World, remote: Remote, **changes: Any) -> dict[str, str]:
    """The settings of a command, as environment variables."""
    settings = {"database_url": world.service_url, "mipos_client_secret": SECRET, **remote.settings(**changes)}
    return {name.upper(): str(value) for name, value in settings.items()}


async def run(*arguments: str, **values: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(run_command, *arguments, **values)


async def until_registered(url: str) -> None:
    async with httpx2.AsyncClient() as client:
        while (await client.get(f"{url}/pos/status", headers=AUTHORIZED)).json()["registration"]["state"] != "registered":  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_three_replicas_of_two_workers_make_one_manage_call_and_one_token_call(world: World) -> None:
    async with mipos() as remote:
        remote.fail("manage", delay=0.5)
        with ExitStack() as stack:
            starts = [
                asyncio.to_thread(stack.enter_context, serving(world.service_url, "--workers", "2", **remote.settings()))
                for _ in range(3)
            ]
            services = await asyncio.gather(*starts)
            await asyncio.gather(*(until_registered(service.url) for service in services))
            for service in services:
                service.signal()
            assert [0, 0, 0] == list(await asyncio.gather(*(asyncio.to_thread(service.wait) for service in services)))

    assert {"token": 1, "manage": 1} == remote.calls


async def test_sigterm_during_backoff_or_a_call_that_hangs_ends_at_once(world: World) -> None:
    async with mipos() as remote:
        remote.fail("token", hang=True)
        with serving(world.service_url, response_deadline="30", **remote.settings()) as service:
            while "token" not in remote.calls:  # noqa: ASYNC110 - counted by another server
                await asyncio.sleep(0.01)
            started = time.monotonic()
            service.signal()
            assert 0 == await asyncio.to_thread(service.wait)
            # Far less than any of the waits that it was in the middle of.
            assert time.monotonic() - started < 9


@pytest.mark.slow
async def test_register_tells_in_mipos_s_words_and_by_its_status(world: World) -> None:
    async with mipos() as remote:
        values = variables(world, remote)
        done = await run("register", **values)
        remote.fail("manage", status=409, body=json.dumps({"message": ["Invalid type."], "data": None}))
        refused = await run("register", **values)
        status = await run("status", **values)
        remote.fail("manage", status=500)
        away = await run("register", **values)
        unset = await run("register", **{name: value for name, value in values.items() if name != "PUBLIC_URL"})

    assert (0, 1, 3, 2) == (done.returncode, refused.returncode, away.returncode, unset.returncode)
    assert "mipOS says: Webhook successfully created." in done.stdout
    assert "https://pos.example.com/webhooks/stock" in done.stdout
    assert "mipOS says: Invalid type." in refused.stdout
    assert "failed" in status.stdout
    assert "Invalid type." in status.stdout
    assert "PUBLIC_URL is not set" in unset.stderr
    assert 3 == remote.calls["manage"]


async def test_status_tells_how_things_stand(world: World) -> None:
    async with mipos() as remote:
        values = variables(world, remote)
        before = await run("status", **values)
        await run("register", **values)
        after = json.loads((await run("status", "--json", **values)).stdout)
        shown = await run("status", **values)

    assert "pending" in before.stdout
    assert "none yet" in before.stdout
    assert ("registered", "https://pos.example.com/webhooks/stock", 2, 5) == (
        after["registration"],
        after["registered_url"],
        after["stores"],
        after["stock_levels"],
    )
    assert "valid" == after["token"]["state"]
    assert datetime.fromisoformat(after["token"]["expires_at"]) > datetime.now(UTC)
    assert "valid until 20" in shown.stdout


def verdicts(ended: subprocess.CompletedProcess[str]) -> dict[str, str]:
    return {line[8:].split("  ")[0].strip(): line.split()[0] for line in ended.stdout.splitlines()}


async def until_looked(world: World) -> None:
    """Until the service has looked for problems."""
    async with asyncio.timeout(30):
        while not await world.scalar("SELECT looked_at FROM pos_sync.alert_state"):  # noqa: ASYNC110 - another process looks
            await asyncio.sleep(0.05)


async def test_doctor_is_content_with_what_is_right(world: World) -> None:
    async with mipos() as remote:
        port = free_port()
        settings = remote.settings(public_url=f"http://127.0.0.1:{port}")
        with serving(world.service_url, port=str(port), **settings) as service:
            await until_registered(service.url)
            await until_looked(world)
            ended = await run("doctor", **variables(world, remote, public_url=settings["public_url"]))

    found = verdicts(ended)
    # The tests' own server has fsync off, and the public URL is not https: the doctor is to say so.
    # So it is to say that the schema belongs to the tests' superuser.
    assert {"durability": "failed", "registration": "warning", "owner": "warning"} == {
        k: v for k, v in found.items() if v != "ok"
    }
    assert 4 == ended.returncode
    assert "fsync, full_page_writes off" in ended.stdout
    assert "is not https" in ended.stdout
    assert {
        "settings", "database", "schema", "durability", "rights", "owner", "guards", "encryption", "connections", "timeouts",
        "invariants", "indexes", "dates",
        "clock", "token",
        "registration", "mipOS", "public URL", "problems",
    } == set(found)  # fmt: skip


async def test_doctor_misses_the_right_to_call_the_function_that_writes_the_ledger(world: World) -> None:
    await world.execute("REVOKE EXECUTE ON FUNCTION apply_movements FROM pos_sync")
    async with mipos() as remote:
        ended = await run("doctor", **variables(world, remote))

    assert "lacks EXECUTE on apply_movements" in ended.stdout


async def test_doctor_names_what_is_wrong_and_what_to_do(world: World) -> None:
    await world.execute("UPDATE pos_sync.stock_level SET quantity = quantity + 1 WHERE item_id = 'avcc123'")
    async with mipos() as remote:
        remote.fail("token", status=409, body=json.dumps({"message": ["Invalid credentials."], "data": None}))
        values = variables(world, remote, public_url=remote.url)
        ended = await run("doctor", "--json", **values, DATABASE_POOLER="none")

    found = {check["name"]: check for check in json.loads(ended.stdout)}
    assert 4 == ended.returncode
    assert "failed" == found["invariants"]["verdict"]
    assert found["invariants"]["reason"].endswith(", in 1 place")
    assert "Invalid credentials." in found["token"]["reason"]
    assert "MIPOS_PASSWORD" in found["token"]["remedy"]
    assert "warning" == found["registration"]["verdict"]
    assert "answers 404" in found["public URL"]["reason"]
    assert all(check["remedy"] for check in found.values() if check["verdict"] in {"failed", "warning"})


async def test_doctor_counts_workers_and_places_in_singular_and_plural(world: World) -> None:
    async with mipos() as remote:
        values = variables(world, remote, public_url=remote.url)
        await world.execute("UPDATE pos_sync.stock_level SET quantity = quantity + 1 WHERE item_id = 'avcc123'")
        one = await run("doctor", "--json", **values)
        await world.execute("UPDATE pos_sync.stock_level SET quantity = quantity + 1 WHERE item_id = 'tom001'")
        three = await run("doctor", "--json", "--workers", "3", **values)

    connections, invariants = (
        [next(check["reason"] for check in json.loads(ended.stdout) if check["name"] == name) for ended in (one, three)]
        for name in ("connections", "invariants")
    )
    ((users, number),), ((more_users, more),) = (CONNECTIONS.findall(reason) for reason in connections)
    assert ("1 worker uses", "3 workers use") == (users, more_users)
    assert 3 * int(number) == int(more)
    assert [", in 1 place", ", in 2 places"] == [reason[reason.rindex(", in") :] for reason in invariants]


@pytest.mark.slow
async def test_doctor_ends_with_3_on_warnings_and_with_4_on_nothing_but_a_broken_invariant() -> None:
    folder = passable_folder("pos-sync-doctor-")
    # A server of its own, with what makes a commit durable switched on: the tests' own has it off, and doctor fails for that.
    server = EmbeddedPostgres(folder)
    await asyncio.to_thread(server.start)
    try:
        world = World("postgres", looking_engine(server.url("postgres")))
        await migrate(world.engine)
        await import_catalog(world.engine, "1", read_catalog((SAMPLES / "store-1.json").read_text()))
        async with mipos() as remote:
            values = {**variables(world, remote), "DATABASE_URL": server.url("postgres")}
            del values["PUBLIC_URL"]
            well = await run("doctor", "--json", **values)
            await world.execute("UPDATE pos_sync.stock_level SET quantity = quantity + 1 WHERE item_id = 'avcc123'")
            broken = await run("doctor", "--json", **values)
        await world.engine.dispose()
    finally:
        await asyncio.to_thread(server.stop)
        shutil.rmtree(folder)

    failed = [[check["name"] for check in json.loads(ended.stdout) if check["verdict"] == "failed"] for ended in (well, broken)]
    assert [[], ["invariants"]] == failed
    assert (3, 4) == (well.returncode, broken.returncode)


@pytest.mark.slow
async def test_doctor_looks_further_where_one_thing_cannot_be_looked_at(world: World, empty_world: World) -> None:
    async with mipos() as remote:
        values = variables(world, remote, public_url=remote.url)
        await run("register", **values)
        empty = await run("doctor", "--json", **{**values, "DATABASE_URL": empty_world.owner_url})
        await world.execute("REVOKE SELECT ON webhook_registration FROM pos_sync")
        rightless = await run("doctor", "--json", **values)
    await world.execute("GRANT SELECT ON webhook_registration TO pos_sync")
    without_mipos = await run("doctor", "--json", **values)

    empty_found, rightless_found, without = (
        {check["name"]: check["verdict"] for check in json.loads(ended.stdout)} for ended in (empty, rightless, without_mipos)
    )
    assert ("failed", "skipped", "skipped") == tuple(empty_found[name] for name in ("schema", "token", "registration"))
    assert ("failed", "failed", "ok") == tuple(rightless_found[name] for name in ("rights", "registration", "token"))
    assert ("failed", "ok") == tuple(without[name] for name in ("mipOS", "invariants"))


@pytest.mark.slow
async def test_doctor_without_a_database_or_a_schema_or_mipos(world: World, empty_world: World) -> None:
    async with mipos() as remote:
        values = variables(world, remote, public_url=f"http://127.0.0.1:{free_port()}")
    away = await run("doctor", **{**values, "DATABASE_URL": "postgresql://nobody:hunter2@127.0.0.1:1/nothing"})
    empty = await run("doctor", **{**values, "DATABASE_URL": empty_world.owner_url})
    no_mipos = await run("doctor", **values)

    assert [4, 4, 4] == [ended.returncode for ended in (away, empty, no_mipos)]
    assert "failed" == verdicts(away)["database"]
    assert "skipped" == verdicts(away)["schema"]
    assert "hunter2" not in away.stdout + away.stderr
    assert "Run: pos-sync migrate" in empty.stdout
    assert {"failed"} == {verdicts(no_mipos)[name] for name in ("token", "mipOS", "public URL")}
    assert all("Traceback" not in ended.stderr for ended in (away, empty, no_mipos))


@pytest.mark.slow
async def test_the_sandbox_as_a_command_of_its_own(world: World) -> None:
    sandbox_port, port = free_port(), free_port()
    url = f"http://127.0.0.1:{sandbox_port}"
    sandbox = subprocess.Popen(  # noqa: ASYNC220 - starting it takes no time
        [sys.executable, "-m", "app", "sandbox", "--port", str(sandbox_port)],
        env=environment(MIPOS_CLIENT_SECRET=SECRET, MIPOS_PASSWORD="open sesame"),
        stdout=subprocess.DEVNULL,
    )
    try:
        settings = {
            "mipos_base_url": url,
            "public_url": f"http://127.0.0.1:{port}",
            "mipos_client_id": "sandbox-client",
            "mipos_email": "pos@example.com",
            "mipos_password": "open sesame",
            "pos_api_key": KEY,
        }
        with serving(world.service_url, port=str(port), **settings) as service:
            await until_registered(service.url)
            moved = await run("sandbox", "move", "--url", url, "--remove", "1.25", "--system", SYSTEM)
            page = httpx2.post(f"{url}/sandbox/faults", json={"call": "token"}, headers={"Origin": "https://evil.example"})
            rebound = httpx2.get(f"{url}/sandbox/received", headers={"Host": "evil.example"})
            named = httpx2.get(f"{url}/sandbox/received", headers={"Host": "sandbox:8090"})
            refused = await run("sandbox", "move", "--url", url, "--add", "1", "--item", "unknown")
    finally:
        sandbox.terminate()
        sandbox.wait(30)

    away = await run("sandbox", "move", "--url", url, "--remove", "1")
    neither = await run("sandbox", "move", "--url", url)
    no_secret = await run("sandbox", "--port", str(sandbox_port))
    assert (0, 1, 1, 2, 2) == tuple(e.returncode for e in (moved, refused, away, neither, no_secret))
    assert [403, 403, 200] == [page.status_code, rebound.status_code, named.status_code]
    assert "has applied the movement" in moved.stdout
    assert 'no item with external_id "unknown"' in refused.stderr
    assert "Is the sandbox running" in away.stderr
    assert 1 == len(await world.ledger())
