"""When the alert webhook is told and the heartbeat called, and by which of several workers."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

import httpx2
import pytest

from app.operations import alerts, outage
from app.operations.ailment import Ailment
from app.operations.alert_message import AlertTarget, changes_of
from app.operations.alerts import Alerts
from app.operations.outage import Origin, Outage
from app.problems import kinds
from app.problems.kinds import Kind, Problem, Severity
from app.storage import problems
from app.storage.transactions import database_now
from tests.support.outbox import until
from tests.support.watched import ALERT_KEY, Receiver, hurry, receiving
from tests.support.world import World


async def find(world: World, *found: Kind, severity: Severity = Severity.WARNING) -> None:
    """As the service's look for problems does."""
    async with world.engine.begin() as connection:
        present = [Problem(kind, "", severity, "in a test") for kind in found]
        await problems.put(connection, present, now=await database_now(connection))


def told_by(receiver: Receiver) -> list[list[str]]:
    """The names in each message."""
    return [sorted(change["name"] for change in message["data"]["changes"]) for message in receiver.messages]


async def test_what_changes_in_the_pause_after_a_message_is_told_together(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    monkeypatch.setattr(alerts, "MIN_PAUSE", timedelta(hours=1))
    async with receiving() as receiver, httpx2.AsyncClient() as client:
        target = AlertTarget(f"http://127.0.0.1:{receiver.port}/", ALERT_KEY, "pos")
        # Of two replicas: the pause is between messages, and not of one sender.
        first, second = (Alerts(world.engine, target, heartbeat_url=None, on_sent=lambda _: None) for _ in range(2))
        await find(world, kinds.REFUSALS)
        await first.turn(client)
        await find(world, kinds.REFUSALS, kinds.DRIFT)
        await second.turn(client)
        await find(world, kinds.REFUSALS, kinds.DRIFT, kinds.DUPLICATES)
        await first.turn(client)
        in_the_pause = told_by(receiver)
        await world.execute("UPDATE pos_sync.alert_message SET sent_at = sent_at - interval '1 hour'")
        for one in (second, first):
            await one.turn(client)

    assert [["refusals"]] == in_the_pause
    assert [["refusals"], ["drift", "duplicates"]] == told_by(receiver)


async def test_a_heartbeat_is_called_again_after_its_time_and_only_while_somebody_looks_for_problems(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "HEARTBEAT", timedelta(hours=1))
    held = "UPDATE pos_sync.lease SET held_until = held_until - interval '{} minutes' WHERE name = 'heartbeat'"
    looked = "UPDATE pos_sync.alert_state SET looked_at = looked_at + interval '{} minutes'"
    async with receiving() as receiver, httpx2.AsyncClient() as client:
        url = f"http://127.0.0.1:{receiver.port}/"
        replicas = [Alerts(world.engine, None, heartbeat_url=url, on_sent=lambda _: None) for _ in range(2)]

        async def calls_after(*changes: str) -> int:
            """All calls, once each replica has had its turn."""
            await world.execute(*changes)
            for one in replicas:
                await one.turn(client)
            return receiver.beats

        assert 0 == await calls_after()
        await find(world)
        assert 1 == await calls_after()
        assert 1 == await calls_after(held.format(55))
        assert 1 == await calls_after(held.format(5), looked.format(-2))
        assert 2 == await calls_after(looked.format(1))


async def test_of_the_workers_of_a_replica_one_tells_of_an_outage_and_another_where_that_one_is_gone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch)
    monkeypatch.setattr(outage, "MIN_RISE", timedelta(seconds=0.3))
    ailment: Ailment | None = Ailment(kinds.DATABASE, "It does not answer")
    async with receiving() as receiver:
        target = AlertTarget(f"http://127.0.0.1:{receiver.port}/", ALERT_KEY, "pos")
        workers = [
            Outage(
                world.engine,
                target,
                ailment=lambda: ailment,
                on_ailment=lambda _: None,
                origin=Origin(world.database, "one replica"),
            )
            for _ in range(3)
        ]
        watching = [asyncio.create_task(worker.run()) for worker in workers]
        # Each of them has seen it and done its part.
        await until(lambda: have_told(workers, Severity.CRITICAL))
        began = list(receiver.ids)
        (sender,) = [number for number, worker in enumerate(workers) if worker._lock is not None]  # noqa: SLF001
        await end(watching.pop(sender))
        workers.pop(sender)
        ailment = None
        await until(lambda: have_told(workers, None))
        for task in watching:
            await end(task)

    assert 1 == len(began)
    assert [("", "critical"), ("", None)] == receiver.told(kinds.DATABASE)
    assert 2 == len(receiver.ids)


async def have_told(workers: Sequence[Outage], severity: Severity | None) -> bool:
    return all(worker._told is severity for worker in workers)  # noqa: SLF001 - one that leaves it to another tells nobody


async def end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_problem_begins_where_it_is_more_than_information_and_is_told_if_it_lasts(world: World) -> None:
    async def since(severity: Severity) -> tuple[datetime, bool]:
        """Since when it is, once a look has found it so; and whether the webhook is to be told."""
        await find(world, kinds.DISK, severity=severity)
        async with world.engine.connect() as connection:
            (known,) = await problems.read_all(connection)
            return known.since, bool(changes_of([known], now=await database_now(connection)))

    async def passes() -> None:
        await world.execute("UPDATE pos_sync.problem SET since = since - interval '1 hour'")

    started = await world.scalar("SELECT clock_timestamp()")
    await since(Severity.INFO)
    await passes()
    again = await since(Severity.INFO)
    risen = await since(Severity.WARNING)
    await passes()
    worse = await since(Severity.CRITICAL)
    await since(Severity.INFO)
    once_more = await since(Severity.CRITICAL)

    assert again[0] < started <= risen[0]
    # One that has just begun may be over at once.
    assert not risen[1]
    assert (risen[0] - timedelta(hours=1), True) == worse
    assert started < once_more[0]
