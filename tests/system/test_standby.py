"""Reading from a standby: lists come from it and say how old they may be, as long as it is fresh and answers; so at the page."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from app.catalog_body import read_catalog
from app.operator.catalog import import_catalog
from app.pos.reader import AGE_HEADER
from app.storage.migrations import migrate
from app.storage.standby import MAX_AGE_SECONDS, SILENCE_SECONDS
from app.storage.watch import LOOK_SECONDS
from tests.support.debian_postgres import Server, binaries, with_standby
from tests.support.page import PASSWORD, Person
from tests.support.postgres import SAMPLES, looking_engine
from tests.support.sender import PATH, body_of, signed
from tests.support.service import Service, run_command, serving

PROGRAMS = binaries()
KEY = "till-key-of-2026-for-tests"
SECRET = "the client secret of the account"
LISTS = ["stock", "movements", "ledger"]
PATIENT_SECONDS = 60.0
PATIENT = f"""
from app.storage import standby
standby.MAX_AGE_SECONDS = {PATIENT_SECONDS}
"""
"""A service that reads on from a standby that is behind, so that all of a test is within its limit on a busy machine"""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAMS is None, reason="Debian's Postgres is not installed, or this is not root"),
]


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Server, Server]]:
    """A primary with a catalog and the service's role, and a standby that follows it."""
    with with_standby("fsync=off", fill=lambda primary: asyncio.run(_fill(primary))) as both:
        yield both


async def _fill(primary: Server) -> None:
    engine = looking_engine(primary.url)
    async with engine.begin() as connection:
        for role in ("pos_sync", "without_rights", "without_tables"):
            await connection.execute(text(f"CREATE ROLE {role} LOGIN"))
    await migrate(engine, grant_to="pos_sync")
    async with engine.begin() as connection:
        await connection.execute(text("GRANT USAGE ON SCHEMA pos_sync TO without_tables"))
    await import_catalog(engine, "1", read_catalog((SAMPLES / "store-1.json").read_text()))
    await engine.dispose()


def role_url(*servers: Server) -> str:
    """As the service's role, which has the least rights."""
    return f"postgresql://pos_sync@{','.join(f'127.0.0.1:{server.port}' for server in servers)}/postgres"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each service of the test is PATIENT."""
    # Each process of the service runs this before anything else.
    (tmp_path / "sitecustomize.py").write_text(PATIENT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@asynccontextmanager
async def till_of(primary: Server, *standbys: Server) -> AsyncIterator[tuple[httpx2.AsyncClient, Service]]:
    """A client of a service that reads from the first of `standbys` that is one."""
    address = role_url(*standbys)
    with serving(role_url(primary), pos_api_key=KEY, database_read_url=address) as service:
        headers = {"Authorization": f"Bearer {KEY}"}
        async with httpx2.AsyncClient(base_url=f"{service.url}/pos/stores/1/", headers=headers, timeout=30) as client:
            yield client, service


async def sell(till: httpx2.AsyncClient, key: str) -> None:
    sale = {"item_id": "avcc123", "kind": "sale", "quantity": "1"}
    assert 201 == (await till.post("movements", json=sale, headers={"Idempotency-Key": key})).status_code


async def version_in(till: httpx2.AsyncClient, path: str, **parameters: Any) -> int:
    answer = await till.get(path, params=parameters)
    assert 200 == answer.status_code, answer.text
    (level,) = [level for level in answer.json()["stock"] if level["item_id"] == "avcc123"]
    return int(level["level_version"])


async def age_of(till: httpx2.AsyncClient, path: str, **parameters: Any) -> float:
    answer = await till.get(path, params=parameters)
    assert 200 == answer.status_code, answer.text
    return float(answer.headers[AGE_HEADER])


async def until_read_from(till: httpx2.AsyncClient, *, standby: bool) -> None:
    async with asyncio.timeout(20):
        while (await age_of(till, "stock") > 0) is not standby:  # noqa: ASYNC110 - it has to be asked
            await asyncio.sleep(0.1)


async def on(server: Server, statement: str) -> Any:
    engine = looking_engine(server.url)
    try:
        async with engine.connect() as connection:
            return (await connection.execute(text(statement))).scalar()
    finally:
        await engine.dispose()


@asynccontextmanager
async def paused(primary: Server, standby: Server) -> AsyncIterator[None]:
    """The standby receives, and replays nothing."""
    await on(standby, "SELECT pg_wal_replay_pause()")
    try:
        yield
    finally:
        await on(standby, "SELECT pg_wal_replay_resume()")
        end = await on(primary, "SELECT CAST(pg_current_wal_lsn() AS text)")
        while not await on(standby, f"SELECT pg_last_wal_replay_lsn() >= '{end}'"):  # noqa: ASYNC110 - it has to be asked
            await asyncio.sleep(0.1)


@pytest.mark.usefixtures("patient")
async def test_a_list_is_read_from_the_standby_and_says_its_age_and_one_item_is_of_now(servers: tuple[Server, Server]) -> None:
    primary, standby = servers
    # Where the primary is among the hosts it is passed by.
    async with till_of(primary, primary, standby) as (till, _):
        await until_read_from(till, standby=True)
        before = await version_in(till, "stock")
        async with paused(primary, standby):
            await sell(till, "while it is paused")
            listed, single = await version_in(till, "stock"), await version_in(till, "stock", item_id="avcc123")
            ages = [await age_of(till, path) for path in LISTS]
            of_one = await age_of(till, "stock", item_id="avcc123")
            changes = (await till.get("changes")).json()["changes"]

    assert (before, before + 1) == (listed, single)
    assert all(0 < age <= PATIENT_SECONDS for age in ages)
    assert 0 == of_one
    assert before + 1 == max(change["level_version"] for change in changes if change["item_id"] == "avcc123")


async def test_a_store_that_the_standby_has_not_yet_is_found(servers: tuple[Server, Server]) -> None:
    primary, standby = servers
    async with till_of(primary, standby) as (till, _):
        await until_read_from(till, standby=True)
        async with paused(primary, standby):
            await on_primary_import(primary, "new")
            answer = await till.get(f"{till.base_url}/../../new/stock")

    assert 200 == answer.status_code
    assert "0" == answer.headers[AGE_HEADER]


async def on_primary_import(primary: Server, store_id: str) -> None:
    engine = looking_engine(primary.url)
    await import_catalog(engine, store_id, read_catalog((SAMPLES / "store-1.json").read_text()))
    await engine.dispose()


async def test_a_standby_that_is_behind_is_left_until_it_has_caught_up(servers: tuple[Server, Server]) -> None:
    primary, standby = servers
    async with till_of(primary, standby) as (till, service):
        await until_read_from(till, standby=True)
        async with paused(primary, standby):
            await sell(till, "before it is left")
            newest = await version_in(till, "stock", item_id="avcc123")
            seen: list[tuple[float, int]] = []
            async with asyncio.timeout(20):
                while not seen or seen[-1][0] > 0:
                    seen.append((await age_of(till, "stock"), await version_in(till, "stock")))
                    await asyncio.sleep(0.1)
            said = await metric(service, "pos_sync_standby_age_seconds")
        await until_read_from(till, standby=True)
        log = service.log

    assert all(age < MAX_AGE_SECONDS + 0.5 for age, _ in seen)
    assert newest == seen[-1][1]
    assert said > MAX_AGE_SECONDS - 1
    assert "behind the primary" in log


async def test_on_an_idle_primary_a_standby_stays_fresh(servers: tuple[Server, Server]) -> None:
    primary, standby = servers
    async with till_of(primary, standby) as (till, _):
        await until_read_from(till, standby=True)
        await asyncio.sleep(MAX_AGE_SECONDS + 2)
        # One look may be late on a busy machine. A standby that had grown old would not be read again, since nothing is written.
        await until_read_from(till, standby=True)


async def test_a_frozen_standby_holds_no_list_longer_than_a_moment(servers: tuple[Server, Server]) -> None:
    primary, standby = servers
    loop = asyncio.get_running_loop()
    async with till_of(primary, standby) as (till, service):
        await until_read_from(till, standby=True)
        standby.freeze()
        try:
            started = loop.time()
            answers = await asyncio.gather(*(till.get(path) for path in LISTS * 4))
            seconds = loop.time() - started
            await until_read_from(till, standby=False)
            ready = (await till.get(f"{service.url}/readyz")).status_code
        finally:
            standby.thaw()
        await until_read_from(till, standby=True)

    assert {200} == {answer.status_code for answer in answers}
    assert {"0"} == {answer.headers[AGE_HEADER] for answer in answers}
    # More than there are connections in the pool. A look and its silence, and then the reading itself.
    assert SILENCE_SECONDS / 2 < seconds < SILENCE_SECONDS + LOOK_SECONDS + 1.5
    assert 200 == ready


@pytest.mark.parametrize("kind", ["away", "primary"])
async def test_without_a_standby_the_primary_is_read_and_the_reason_is_logged(servers: tuple[Server, Server], kind: str) -> None:
    primary, _ = servers
    nobody = Server(debian_programs(), Path("/nonexistent"))
    async with till_of(primary, nobody if kind == "away" else primary) as (till, service):
        async with asyncio.timeout(20):
            while "reading from the primary" not in service.log:  # noqa: ASYNC110 - it has to be asked
                await asyncio.sleep(0.1)
        ages, log = [await age_of(till, path) for path in LISTS], service.log

    assert [0, 0, 0] == ages
    assert ("connection refused" if kind == "away" else "a primary, and no standby") in log


def debian_programs() -> Path:
    assert PROGRAMS is not None
    return PROGRAMS


async def metric(service: Service, name: str) -> float:
    async with httpx2.AsyncClient() as client:
        lines = (await client.get(f"{service.url}/metrics")).text.splitlines()
    (line,) = [line for line in lines if line.startswith(f"{name} ")]
    return float(line.split()[1])


AGED = "Read from a standby: up to "
STOCK, ITEM = "/ui/stock?store=1", "/ui/stores/1/items/avcc123"


@asynccontextmanager
async def person_of(primary: Server, standby: Server) -> AsyncIterator[Person]:
    """An operator at the page of a service that reads from `standby`, once it does."""
    with serving(role_url(primary), operator_password=PASSWORD, database_read_url=role_url(standby)) as service:
        async with httpx2.AsyncClient(base_url=service.url, timeout=30) as client:
            person = Person(client)
            await person.log_in()
            async with asyncio.timeout(20):
                while AGED not in person.text:
                    await person.open(STOCK)
            yield person


def stock_in(person: Person) -> str:
    """Of avcc123, in a list of the page."""
    row = next(row for row in re.findall("(?s)<tr.*?</tr>", person.html) if "items/avcc123" in row)
    return re.findall('<td class="number">([^<]*)</td>', row)[0]


@pytest.mark.usefixtures("patient")
async def test_the_page_lists_from_the_standby_with_its_age_and_shows_one_thing_as_it_is_now(
    servers: tuple[Server, Server],
) -> None:
    primary, standby = servers
    async with person_of(primary, standby) as person:
        await person.open("/ui/system")
        assert "Standby (DATABASE_READ_URL) read " in person.text
        await person.open(STOCK)
        before = stock_in(person)
        async with paused(primary, standby):
            await on_primary(primary, "SELECT pos_sync.record_pos_movement('1', 'avcc123', 'sale', 1, 'at the page')")
            await person.open(STOCK)
            listed, is_aged = stock_in(person), AGED in person.text
            (age,) = re.findall(f"{AGED}([0-9.]+) s old", person.text)
            await person.open(ITEM)
            shown = re.findall("<b>([0-9.-]+) kg</b>", person.html)

    assert (before, True) == (listed, is_aged)
    assert 0 <= float(age) <= PATIENT_SECONDS
    assert ([str(Decimal(before) - 1)], False) == (shown, AGED in person.text)


@pytest.mark.usefixtures("patient")
async def test_after_a_change_a_visitor_reads_from_the_primary_for_30_seconds(servers: tuple[Server, Server]) -> None:
    primary, standby = servers
    async with person_of(primary, standby) as person:
        await person.open(f"{ITEM}/count?to=77.5")
        action, fields = person.fields(f"{ITEM}/stock")
        async with paused(primary, standby):
            changed = await person.post(action, {**fields, "note": "counted"})
            await person.open(STOCK)
            own, is_aged = stock_in(person), AGED in person.text
            # As the browser does when they are over.
            person.client.cookies.delete("pos_sync_changed")
            await person.open(STOCK)
            later = stock_in(person)

    cookies = [SimpleCookie(one) for one in changed.headers.get_list("set-cookie")]
    (kept,) = [one["pos_sync_changed"] for one in cookies if "pos_sync_changed" in one]
    assert (303, "30", "/ui") == (changed.status_code, kept["max-age"], kept["path"])
    assert ("77.5", False) == (own, is_aged)
    assert (True, True) == (later != "77.5", AGED in person.text)


async def on_primary(primary: Server, statement: str) -> None:
    engine = looking_engine(primary.url)
    async with engine.begin() as connection:
        await connection.execute(text(statement))
    await engine.dispose()


def test_doctor_looks_at_the_standby(servers: tuple[Server, Server]) -> None:
    primary, standby = servers
    # Tests before this one hold up the replay.
    standby.wait_for(primary)
    nobody = Server(debian_programs(), Path("/nonexistent"))

    def check(read_url: str) -> tuple[str, str]:
        values = {"DATABASE_URL": role_url(primary), "DATABASE_READ_URL": read_url, "MIPOS_CLIENT_SECRET": SECRET}
        checks = json.loads(run_command("doctor", "--json", MIPOS_BASE_URL="http://127.0.0.1:1", **values).stdout)
        (found,) = [found for found in checks if found["name"] == "standby"]
        return found["verdict"], found["reason"]

    assert ("ok", "it follows the primary") == check(role_url(primary, standby))
    for read_url, words in [
        (role_url(nobody), "connection refused"),
        (role_url(primary), "a primary, and no standby"),
        (role_url(standby).replace("/postgres", "/template1"), "another database"),
        (role_url(standby).replace("pos_sync@", "without_rights@"), "refuses this service (42501)"),
        (role_url(standby).replace("pos_sync@", "without_tables@"), "lacks SELECT on store, SELECT on integration"),
    ]:
        verdict, reason = check(read_url)
        assert ("failed", True) == (verdict, words in reason), reason


async def test_a_service_that_is_led_to_the_standby_is_not_ready_and_the_key_shows_why(servers: tuple[Server, Server]) -> None:
    _primary, standby = servers
    body = body_of()
    with serving(role_url(standby), until="alive", pos_api_key=KEY) as service:
        async with httpx2.AsyncClient(base_url=service.url, timeout=30) as client:
            async with asyncio.timeout(60):
                while "read-only" not in (ready := await client.get("/readyz")).text:  # noqa: ASYNC110 - seen from outside
                    await asyncio.sleep(0.1)
            with_key = await client.get("/readyz", headers={"Authorization": f"Bearer {KEY}"})
            status = (await client.get("/pos/status", headers={"Authorization": f"Bearer {KEY}"})).json()
            refused = await client.post(PATH, content=body, headers=signed(body))

    words = "The database server is read-only: a standby, or a former primary. DATABASE_URL takes several hosts (h1,h2)."
    assert (503, {"message": words}) == (ready.status_code, ready.json())
    assert ready.content == with_key.content
    assert ("read-only", words) == (status["database"], status["message"])
    assert 503 == refused.status_code
