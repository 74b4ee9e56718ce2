"""What goes wrong is told in every place by one name: status, doctor, metric, rule, webhook. It is over when its cause ends."""

import asyncio
from collections import Counter
from datetime import timedelta

import httpx2
import pytest
from sqlalchemy import text

from app.operations import alerts, outage
from app.operations.ailment import Ailment
from app.operations.alert_message import AlertTarget
from app.operations.outage import Origin, Outage
from app.operator.drift import refresh
from app.operator.standing import look
from app.problems import judging, kinds
from app.problems.kinds import Severity
from app.stock.rules import Rules
from tests.conftest import running, settings_for
from tests.support.commands import Run
from tests.support.mipos import SYSTEM, mipos
from tests.support.outbox import connect_stores, messages, sell, settled, until
from tests.support.sender import PATH, body_of, signed
from tests.support.watched import ALERT_KEY, hurry, receiving, watched
from tests.support.world import World

PAIR = f"store 1, system {SYSTEM}"


async def deliver(client: httpx2.AsyncClient, *, secret: str | None = None, **changes: object) -> int:
    body = body_of(**changes)
    headers = signed(body) if secret is None else signed(body, secret=secret)
    return (await client.post(PATH, content=body, headers=headers)).status_code


@pytest.mark.slow
async def test_a_secret_that_was_replaced_at_mipos_is_told_within_three_deliveries(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "VERIFIED_LATELY", timedelta())
    async with watched(world, run, monkeypatch) as it:
        assert 204 == await deliver(it.client)
        assert 401 == await deliver(it.client, secret="the-secret-of-tomorrow", date="b")
        await it.shows(kinds.SIGNATURES, Severity.WARNING, PAIR)
        assert [401, 401] == [await deliver(it.client, secret="the-secret-of-tomorrow", date=date) for date in "cd"]
        await it.shows(kinds.SIGNATURES, Severity.CRITICAL, PAIR)

        assert 204 == await deliver(it.client, date="e")
        await it.is_over(kinds.SIGNATURES)


async def test_a_signature_that_gets_lost_on_the_way_is_told_too(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async with watched(world, run, monkeypatch) as it:
        for date in "abc":
            assert 401 == (await it.client.post(PATH, content=body_of(date=date))).status_code
        await it.shows(kinds.SIGNATURES, Severity.CRITICAL, PAIR)


@pytest.mark.slow
async def test_a_receiver_that_drips_holds_up_no_other_message(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "CALL_SECONDS", 0.5)
    async with watched(world, run, monkeypatch) as it:
        it.receiver.drips = 1
        assert 409 == await deliver(it.client, external_id="unknown")
        await it.shows(kinds.REFUSALS, Severity.WARNING, "unknown_item")
        assert 0 == it.receiver.drips


async def test_wrong_signatures_of_scanners_are_no_problem(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async with watched(world, run, monkeypatch) as it:
        for changes in ({"store_id": "99"}, {"inventory_system_id": "nobody"}):
            assert 401 == await deliver(it.client, secret="a-guess-of-a-scanner", **changes)
        assert 401 == (await it.client.post(PATH, content=b"{")).status_code
        counted = "SELECT sum(deliveries) FROM pos_sync.delivery_count WHERE outcome IN ('missing', 'wrong')"

        async def is_counted() -> bool:
            return await world.scalar(counted) == 3

        await until(is_counted)
        assert 0 == await it.metric(kinds.SIGNATURES, Severity.WARNING)


@pytest.mark.slow
async def test_mipos_that_is_away_and_messages_that_it_refuses(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "MAX_QUEUE_AGE", timedelta(seconds=0.2))
    await connect_stores(world)
    async with mipos() as remote, watched(world, run, monkeypatch, **remote.settings()) as it:
        remote.fail("stock_update", status=503, times=2)
        await sell(world, "1", "a")
        await it.shows(kinds.OUTBOX_LATE, Severity.WARNING, PAIR)
        await settled(world)
        await it.is_over(kinds.OUTBOX_LATE)

        remote.fail("stock_update", status=422, body='{"message": "No such integration.", "data": null}')
        await sell(world, "1", "b")
        await it.shows(kinds.OUTBOX_DEAD, Severity.WARNING, PAIR)
        (number,) = [one.outbox_message_id for one in await messages(world) if one.state == "dead"]
        assert 0 == (await run("outbox", "retry", str(number))).exit_code
        await it.is_over(kinds.OUTBOX_DEAD)


@pytest.mark.slow
async def test_a_database_that_only_reads(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    others = f"datname = '{world.database}' AND pid <> pg_backend_pid()"
    ends = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"
    async with watched(world, run, monkeypatch) as it:
        await until_looked(world)
        await world.execute(f"ALTER DATABASE {world.database} SET default_transaction_read_only = on")
        await world.execute(ends)
        await it.shows(kinds.DATABASE, Severity.CRITICAL)

        await world.execute("SET default_transaction_read_only = off", f"ALTER DATABASE {world.database} RESET ALL")
        await world.execute(ends)
        await it.is_over(kinds.DATABASE)

        async def is_counted() -> bool:
            return await world.scalar("SELECT outage FROM pos_sync.alert_state") >= 1

        await until(is_counted)


GONE = "ALTER SCHEMA pos_sync RENAME TO gone"
BACK = "ALTER SCHEMA gone RENAME TO pos_sync"
VERSION = "UPDATE pos_sync.alembic_version SET version_num = '{}', compatible_from = '{}'"


@pytest.mark.parametrize("goes", ["away", "newer", "older"])
async def test_a_schema_that_this_version_cannot_work_with(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch, goes: str
) -> None:
    was = await world.scalar("SELECT version_num FROM pos_sync.alembic_version")
    since = await world.scalar("SELECT compatible_from FROM pos_sync.alembic_version")
    breaks, restores = {
        "away": (GONE, BACK),
        "newer": (VERSION.format("9999", "9999"), VERSION.format(was, since)),
        "older": (VERSION.format("0008", "0008"), VERSION.format(was, since)),
    }[goes]
    async with watched(world, run, monkeypatch) as it:
        monkeypatch.setattr(outage, "MIN_RISE", timedelta(seconds=0.3))
        await until_looked(world)
        await world.execute(breaks)
        if goes == "away":
            assert 503 == await deliver(it.client)
        await it.shows(kinds.SCHEMA, Severity.CRITICAL)
        assert 0 == await it.metric(kinds.DATABASE, Severity.CRITICAL)

        await world.execute(restores)
        await it.is_over(kinds.SCHEMA)
        assert 0 == await it.metric(kinds.SCHEMA, Severity.CRITICAL)
        assert [] == it.receiver.told(kinds.DATABASE)
        assert 204 == await deliver(it.client)


async def until_looked(world: World) -> None:
    async def has_looked() -> bool:
        return await world.scalar("SELECT looked_at IS NOT NULL FROM pos_sync.alert_state") or False

    await until(has_looked)


async def test_drift(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async with watched(world, run, monkeypatch) as it:
        assert 204 == await deliver(it.client, current_stock="10")
        await it.shows(kinds.DRIFT, Severity.WARNING)

        choice = ("--item", "avcc123", "--adopt", SYSTEM, "--note", "counted", "--actor", "ana")
        adopted = await run("reconcile", "--store", "1", *choice)
        assert 0 == adopted.exit_code, adopted.output
        await it.is_over(kinds.DRIFT)


async def test_drift_is_told_once_its_report_is_older_than_a_stock_update_that_may_have_crossed_it(world: World) -> None:
    async with running(settings_for(world)) as (_, client):
        assert 204 == await deliver(client, current_stock="10")
    await refresh(world.engine, Rules(), limit=100)
    # As docs/runbook.md says. In one transaction now() stands still.
    age = text("UPDATE pos_sync.system_level SET anchored_at = now() - CAST(:age AS interval) WHERE item_id = 'avcc123'")
    told = []
    async with world.engine.begin() as connection:
        for later in (timedelta(seconds=-1), timedelta(), timedelta(microseconds=1)):
            await connection.execute(age, {"age": timedelta(seconds=30) + later})
            found = (await look(connection, settings_for(world))).found
            told.append([(one.problem.severity, one.problem.subject) for one in found if one.problem.kind is kinds.DRIFT])

    assert [[], [], [(Severity.WARNING, "store 1, opening_difference")]] == told


async def test_silence_where_deliveries_are_expected(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.execute(
        "INSERT INTO pos_sync.delivery_count (at, store_id, inventory_system_id, outcome, deliveries)"
        f" SELECT at, '1', '{SYSTEM}', 'applied', 10"
        " FROM generate_series(date_trunc('hour', now()) - interval '28 days', now() - interval '5 hours', '1 hour') AS at",
        "INSERT INTO pos_sync.pair_delivery (store_id, inventory_system_id, first_at, last_at)"
        f" VALUES ('1', '{SYSTEM}', now() - interval '28 days', now() - interval '4 hours')",
        f"UPDATE pos_sync.integration SET enabled = (store_id = '1' AND inventory_system_id = '{SYSTEM}')",
    )
    async with watched(world, run, monkeypatch) as it:
        await it.shows(kinds.SILENCE, Severity.CRITICAL, "all")
        assert 204 == await deliver(it.client)
        await it.is_over(kinds.SILENCE)


async def test_a_disk_that_fills(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    size = await world.scalar("SELECT pg_database_size(current_database())")
    async with watched(world, run, monkeypatch, database_disk_bytes=int(size * 1.4)) as it:
        await until_looked(world)
        assert 0 == await it.metric(kinds.DISK, Severity.WARNING)
        filling = (
            f"CREATE TABLE filling AS SELECT repeat(md5(n::text), 30) FROM generate_series(1, {int(size * 0.15 / 1000)}) AS n"
        )
        await world.execute(filling)
        await it.shows(kinds.DISK, Severity.WARNING)
        await world.execute("DROP TABLE filling")
        await it.is_over(kinds.DISK)


async def test_what_waits_for_a_person(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async with watched(world, run, monkeypatch) as it:
        assert 409 == await deliver(it.client, external_id="unknown")
        await it.shows(kinds.REFUSALS, Severity.WARNING, "unknown_item")
        number = await world.scalar("SELECT refused_delivery_id FROM pos_sync.refused_delivery")
        assert 0 == (await run("refused", "dismiss", str(number), "--note", "a test", "--actor", "ana")).exit_code
        await it.is_over(kinds.REFUSALS)

        assert 0 == (await run("item", "set", "--store", "1", "avcc123", "--low-stock", "20")).exit_code
        await it.shows(kinds.LOW_STOCK, Severity.WARNING)
        assert 0 == (await run("item", "set", "--store", "1", "avcc123", "--no-low-stock")).exit_code
        await it.is_over(kinds.LOW_STOCK)


async def test_a_registration_that_mipos_refuses(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async with mipos() as remote:
        remote.fail("manage", status=409, body='{"message": ["Invalid type."], "data": null}')
        async with watched(world, run, monkeypatch, **remote.settings()) as it:
            await it.shows(kinds.REGISTRATION, Severity.CRITICAL)
            assert 0 == (await run("register")).exit_code
            await it.is_over(kinds.REGISTRATION)


@pytest.mark.slow
async def test_after_an_outage_of_the_receiver_it_is_told_of_the_present(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched(world, run, monkeypatch) as it:
        it.receiver.answers = [500, 500]
        assert 409 == await deliver(it.client, external_id="unknown")

        async def was_tried() -> bool:
            return len(it.receiver.ids) >= 2

        await until(was_tried)
        assert 1 == len(set(it.receiver.ids))
        await it.shows(kinds.REFUSALS, Severity.WARNING, "unknown_item")
        assert it.receiver.beats == 1


async def test_the_alert_that_is_sent_on_demand(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async with watched(world, run, monkeypatch) as it:
        tested = await run("alerts", "test")
        assert 0 == tested.exit_code
        assert "problems.test" in [one["type"] for one in it.receiver.messages]
        assert 409 == await deliver(it.client, external_id="unknown")
        await it.shows(kinds.REFUSALS, Severity.WARNING)
        listed, acknowledged, none = [
            await run("alerts", *arguments)
            for arguments in (("list",), ("ack", "refusals", "--actor", "ana"), ("ack", "drift", "--actor", "ana"))
        ]
        assert "refusals" in listed.stdout
        assert (0, 1) == (acknowledged.exit_code, none.exit_code)


@pytest.mark.slow
async def test_workers_that_start_during_an_outage_repeat_it_and_tell_that_it_is_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was told of by workers that are gone."""
    hurry(monkeypatch)
    async with receiving() as receiver:
        target = AlertTarget(f"http://127.0.0.1:{receiver.port}/", ALERT_KEY, "pos")
        ailments: list[Ailment | None] = [Ailment(kinds.DATABASE, "It does not answer")]

        async def watch_until(told: list[tuple[str, str | None]]) -> None:
            outage = Outage(
                world.engine,
                target,
                ailment=lambda: ailments[0],
                on_ailment=lambda _: None,
                origin=Origin(world.database, "x"),
            )
            watching = asyncio.create_task(outage.run())

            async def is_told() -> bool:
                # By their ids: one that was sent, and not noted before its worker went, is sent again as the same message.
                return len(set(receiver.ids)) == len(told) and receiver.told(kinds.DATABASE)[-1:] == told[-1:]

            await until(is_told)
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

        await watch_until([("", "critical")])
        monkeypatch.setattr("app.operations.outage.REPEAT", timedelta(seconds=1))
        await watch_until([("", "critical")] * 2)
        monkeypatch.undo()
        hurry(monkeypatch)
        ailments[0] = None
        await watch_until([*[("", "critical")] * 2, ("", None)])

    assert 3 == len(set(receiver.ids))


async def test_what_takes_the_place_of_an_outage_is_told_by_its_own_name(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a database that comes back out of an old backup."""
    hurry(monkeypatch)
    monkeypatch.setattr(outage, "MIN_RISE", timedelta(seconds=0.3))
    ailment: Ailment | None = Ailment(kinds.DATABASE, "It does not answer")
    async with receiving() as receiver:
        target = AlertTarget(f"http://127.0.0.1:{receiver.port}/", ALERT_KEY, "pos")
        it = Outage(world.engine, target, ailment=lambda: ailment, on_ailment=lambda _: None, origin=Origin(world.database, "y"))
        watching = asyncio.create_task(it.run())

        async def told(**kinds_told: list[str | None]) -> None:
            async def is_told() -> bool:
                found = {name: [severity for _, severity in receiver.told(kinds.BY_NAME[name])] for name in kinds_told}
                return found == kinds_told

            await until(is_told)

        await told(database=["critical"], schema=[])
        ailment = Ailment(kinds.SCHEMA, "It is at an older revision")
        await told(database=["critical", None], schema=["critical"])
        ailment = Ailment(kinds.DATABASE, "It does not answer")
        await told(database=["critical", None, "critical"], schema=["critical", None])
        ailment = None
        await told(database=["critical", None, "critical", None], schema=["critical", None])
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    assert len(receiver.ids) == len(set(receiver.ids)) == 4


@pytest.mark.slow
async def test_replicas_tell_of_one_outage_by_one_id_whatever_their_hosts_are_called(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch)
    async with receiving() as receiver:
        url = f"http://127.0.0.1:{receiver.port}/"
        outages = [
            Outage(
                world.engine,
                AlertTarget(url, ALERT_KEY, host),
                ailment=lambda: Ailment(kinds.DATABASE, "It does not answer"),
                on_ailment=lambda _: None,
                origin=Origin(installation, host),
            )
            for host, installation in [("one", world.database), ("two", world.database), ("three", f"{world.database} other")]
        ]
        watching = [asyncio.create_task(outage.run()) for outage in outages]

        async def are_told() -> bool:
            return len(receiver.ids) == len(outages)

        await until(are_told)
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)

    assert [1, 2] == sorted(Counter(receiver.ids).values())
