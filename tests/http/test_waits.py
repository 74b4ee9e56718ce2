"""A clock that goes back, as at a failover, makes no stored wait longer than it may be."""

import pytest
import structlog
from structlog.testing import capture_logs

from app.operations import problem_watch
from app.storage.leases import MARGIN, sync_lease
from app.storage.waits import MAX_CALL_PAUSE, WAITS, StoredWait, cut_waits
from tests.conftest import running, settings_for
from tests.support.mipos import SYSTEM
from tests.support.outbox import connect_stores, messages, sell, until
from tests.support.postgres import looking_engine
from tests.support.world import World

LATER = "now() + interval '2 days'"
ALERT = "INSERT INTO pos_sync.alert_message (message_id, body, {column}) VALUES ('a', '{{}}', {later})"
PROBLEM = """
INSERT INTO pos_sync.problem (name, subject, severity, words, since, looked_at)
VALUES ('outbox', '', 'warning', '', now(), now()) ON CONFLICT DO NOTHING
"""
MAKE_LONG = {
    "outbox_message.claimed_until": ["UPDATE pos_sync.outbox_message SET claimed_until = {later}"],
    "outbox_message.next_attempt_at": ["UPDATE pos_sync.outbox_message SET next_attempt_at = {later}"],
    "lease.held_until": [f"INSERT INTO pos_sync.lease (name, held_until) VALUES ('{sync_lease('1', SYSTEM)}', {{later}})"],
    "alert_message.next_attempt_at": [ALERT],
    "alert_message.sent_at": [ALERT],
    "page_failure.free_at": [
        "INSERT INTO pos_sync.page_failure (network, failures, failed_at, free_at) VALUES ('127.0.0.1', 3, now(), {later})"
    ],
    "problem.looked_at": [PROBLEM, "UPDATE pos_sync.problem SET looked_at = {later}"],
    "problem.since": [PROBLEM, "UPDATE pos_sync.problem SET since = {later}"],
    "problem.cleared_at": [PROBLEM, "UPDATE pos_sync.problem SET cleared_at = {later}"],
    "problem.told_at": [PROBLEM, "UPDATE pos_sync.problem SET told_at = {later}"],
    "pair_delivery.unsigned_at": [
        (
            "INSERT INTO pos_sync.pair_delivery (store_id, inventory_system_id, unsigned_at)"
            f" VALUES ('1', '{SYSTEM}', {{later}})"
            " ON CONFLICT (store_id, inventory_system_id) DO UPDATE SET unsigned_at = {later}"
        )
    ],
    "sync_run.started_at": [
        (
            "INSERT INTO pos_sync.sync_run"
            " (store_id, inventory_system_id, state, items, units, suppliers, words, actor, started_at)"
            f" VALUES ('1', '{SYSTEM}', 'running', 3, 2, 1, '', 'ana', {{later}})"
        )
    ],
    "capture.ends_at": [
        "INSERT INTO pos_sync.capture (started_at, ends_at, max_kept, actor) VALUES ({later}, {later}, 20, 'ana')"
    ],
    "page_job.beat_at": [
        "INSERT INTO pos_sync.page_job (job_id, kind, actor, asked, total, beat_at) VALUES ('j', 'sync', 'a', '{{}}', 1, {later})"
    ],
}


@pytest.fixture(autouse=True)
async def sold(world: World) -> None:
    await connect_stores(world)
    await sell(world, "1", "ticket")


async def make_long(world: World, wait: StoredWait, later: str = LATER) -> None:
    column = wait.time.name
    await world.execute(*(statement.format(column=column, later=later) for statement in MAKE_LONG[wait.name]))


async def cut(world: World) -> dict[str, int]:
    """As the service's role."""
    engine = looking_engine(world.service_url)
    try:
        return await cut_waits(engine)
    finally:
        await engine.dispose()


@pytest.mark.parametrize("wait", WAITS, ids=lambda wait: wait.name)
async def test_a_wait_is_cut_to_the_longest_that_it_may_be(world: World, wait: StoredWait) -> None:
    await make_long(world, wait)

    assert {wait.name: 1} == await cut(world)

    table, column = wait.name.split(".")
    seconds = await world.scalar(f"SELECT extract(epoch FROM max({column}) - now()) FROM pos_sync.{table}")
    assert -30 < float(seconds) - wait.longest.total_seconds() <= 0
    assert {} == await cut(world)


@pytest.mark.parametrize("wait", WAITS, ids=lambda wait: wait.name)
async def test_a_wait_as_long_as_it_may_be_stays(world: World, wait: StoredWait) -> None:
    longest = wait.longest + MARGIN / 2
    await make_long(world, wait, f"now() + interval '{longest.total_seconds()} seconds'")

    assert {} == await cut(world)


async def test_a_running_service_cuts_them_and_says_why(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problem_watch, "LOOK_SECONDS", 0.1)
    for wait in WAITS[:3]:
        await make_long(world, wait)
    structlog.reset_defaults()

    async def is_said() -> bool:
        return any("clock has gone back" in line["event"] for line in lines)

    with capture_logs() as lines:
        async with running(settings_for(world)):
            await until(is_said)

    ahead = await world.scalar("SELECT max(next_attempt_at) - now() FROM pos_sync.outbox_message")
    assert ahead <= MAX_CALL_PAUSE
    assert ["pending"] == [message.state for message in await messages(world)]
    (said,) = [line for line in lines if "clock has gone back" in line["event"]]
    assert {wait.name for wait in WAITS[:3]} <= set(said)
