"""What is settled and old is deleted, and nothing else: by command, in the background, and under load."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg
import httpx2
import pytest
from sqlalchemy import Connection, event, make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from app.operations import problem_watch
from app.operations.metrics import Metrics
from app.operator import prune as pruning
from app.operator.drift import refresh
from app.operator.prune import Ages, Pruner, prune
from app.operator.standing import circumstances_of
from app.stock.rules import Rules
from app.storage import refusals
from app.storage.retention import Pruned
from tests.conftest import running, settings_for
from tests.support.commands import Run
from tests.support.mipos import SYSTEM
from tests.support.outbox import messages, sell, until
from tests.support.sender import PATH, SECRET, body_of, signed
from tests.support.world import World

AGES = Ages(outbox_days=100, days=30)
OLD_LEDGER = "UPDATE pos_sync.stock_movement SET received_at = received_at - interval '150 days'"
OLD_MESSAGES = (
    "UPDATE pos_sync.outbox_message"
    " SET created_at = created_at - interval '150 days', closed_at = closed_at - interval '150 days'"
)
KEPT = {
    "ledger": "SELECT count(*) FROM pos_sync.stock_movement",
    "identities": "SELECT count(dedupe_key) FROM pos_sync.stock_movement",
    "refusals": "SELECT count(*) FROM pos_sync.refused_delivery",
    "open": "SELECT count(*) FROM pos_sync.refused_delivery WHERE state = 'open' AND raw_body <> ''",
    "echoes": "SELECT count(*) FROM pos_sync.echo_identity",
    "waiting": "SELECT count(*) FROM pos_sync.outbox_message WHERE state IN ('pending', 'dead')",
}


async def deliver(client: httpx2.AsyncClient, **changes: Any) -> httpx2.Response:
    body = body_of(**changes)
    return await client.post(PATH, content=body, headers=signed(body))


async def close_messages(world: World, *states: str) -> None:
    """The messages in order of their rows, one in each state, and closed where the state is."""
    rows = await messages(world)
    for message, state in zip(rows, states, strict=True):
        closed_at = "NULL" if state == "pending" else "now()"
        await world.execute(
            f"UPDATE pos_sync.outbox_message SET state = '{state}', closed_at = {closed_at}"
            f" WHERE outbox_message_id = {message.outbox_message_id}"
        )


async def make_old(world: World) -> None:
    await world.execute_past_guards(OLD_LEDGER)
    await world.execute(OLD_MESSAGES)
    for table in ("refused_delivery", "suspected_duplicate"):
        await world.execute(f"UPDATE pos_sync.{table} SET closed_at = closed_at - interval '150 days'")


async def test_messages_go_once_they_are_settled_and_old_and_compared(world: World, run: Run) -> None:
    for number in range(5):
        await sell(world, "0.1", str(number))
    await close_messages(world, "sent", "covered", "dead", "dismissed", "sent")
    await make_old(world)
    uncompared = json.loads((await run("prune", "--json")).stdout)
    await refresh(world.engine, Rules(), limit=100)
    await sell(world, "0.1", "young")
    before = {name: await world.scalar(query) for name, query in KEPT.items()}

    counted = await run("prune", "--dry-run", "--json")
    first, deleted = [await run("prune", "--json", "--actor", "ana") for _ in range(2)]
    after = {name: await world.scalar(query) for name, query in KEPT.items()}

    assert (0, 4, 4, 0) == (
        uncompared["messages"],
        json.loads(counted.stdout)["messages"],
        json.loads(first.stdout)["messages"],
        json.loads(deleted.stdout)["messages"],
    )
    assert ["dead", "pending"] == [message.state for message in await messages(world)]
    assert before == after
    cut = await world.scalar("SELECT pruned_version FROM pos_sync.system_level WHERE item_id = 'avcc123' AND store_id = '1'")
    assert 6 == cut
    assert "ana" == await world.scalar("SELECT actor FROM pos_sync.prune_state")


async def test_nothing_goes_behind_a_message_that_waits(world: World) -> None:
    for number in range(3):
        await sell(world, "0.1", str(number))
    await close_messages(world, "sent", "pending", "covered")
    await make_old(world)
    await refresh(world.engine, Rules(), limit=100)

    assert 0 == (await prune(world.engine, AGES, actor="ana", max_share=1)).messages
    assert 3 == len(await messages(world))


async def test_the_service_can_delete_just_that(world: World) -> None:
    address = make_url(world.service_url).set(drivername="postgresql")
    connection = await asyncpg.connect(address.render_as_string(hide_password=False))
    try:
        for statement in ("DELETE FROM pos_sync.outbox_message", "DELETE FROM pos_sync.sync_run"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
        for statement in (
            "SELECT pos_sync.prune_outbox(6, 0, 1000, false)",
            "SELECT pos_sync.prune_outbox(NULL, 0, 1000, false)",
            "SELECT pos_sync.prune_outbox(100, 0, 100000, false)",
            "SELECT pos_sync.prune_sync_runs(0, 0, 1000, false)",
        ):
            with pytest.raises(asyncpg.PostgresError, match=r"kept for at least|At most"):
                await connection.execute(statement)
    finally:
        await connection.close()


async def test_a_body_that_was_deleted_is_said_and_its_row_stays(world: World, run: Run) -> None:
    async with running(settings_for(world)) as (_, client):
        assert 409 == (await deliver(client, external_id="new")).status_code
        assert 0 == (await run("refused", "dismiss", "1", "--note", "typed by hand")).exit_code
        assert 409 == (await deliver(client, external_id="open")).status_code
        await make_old(world)
        counted = await run("prune", "--dry-run")
        pruned = await run("prune")
        shown = json.loads((await run("refused", "show", "1", "--json")).stdout)
        read = await run("refused", "show", "1")
        replayed = await run("refused", "replay", "1")
        reopened = await run("refused", "reopen", "1", "--note", "it counts")
        folded = json.loads((await run("refused", "list", "--state", "folded", "--json")).stdout)
        again = await run("refused", "replay", "1")
        assert 409 == (await deliver(client, external_id="new", now="later")).status_code
        anew, still_open = await world.refused()

    assert "bodies of refusals              1" in counted.output
    assert "bodies of refusals              1" in pruned.output
    assert ("dismissed", "unknown_item", {}) == (shown["state"], shown["reason"], shown["fields"])
    assert (None, True) == (shown["body"], shown["pruned_at"].startswith("2"))
    assert "(It was deleted on 2" in read.output
    assert "Its body was deleted on 2" in replayed.output
    assert (1, 1) == (reopened.exit_code, len(folded)), reopened.output
    assert "It is applied when it comes again." in reopened.output
    assert "cannot be replayed" in again.output
    assert ("open", body_of(external_id="new", now="later"), None) == (anew.state, anew.raw_body, anew.pruned_at)
    assert ("open", body_of(external_id="open")) == (still_open.state, still_open.raw_body)


async def test_of_the_open_refusals_of_one_reason_the_oldest_are_folded_into_a_count(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "MAX_OPEN", 3)
    monkeypatch.setattr(problem_watch, "FOLDED", 2)
    monkeypatch.setattr(problem_watch, "MAX_FOLD_SHARE", 1)
    monkeypatch.setenv("MIPOS_CLIENT_SECRET", SECRET)
    watch = problem_watch.ProblemWatch(world.engine, own=circumstances_of(settings_for(world)), observer=Metrics().problems)
    async with running(settings_for(world)) as (_, client):
        for number in range(8):
            assert 409 == (await deliver(client, external_id=f"new {number}")).status_code
        await deliver(client, external_id="new", store_id=9)
        await watch.look()
        await world.execute("DELETE FROM pos_sync.lease", "UPDATE pos_sync.alert_state SET looked_at = NULL")
        await watch.look()
        status = await run("status")
        rows = await world.refused()
        # It is as if it came for the first time.
        assert 409 == (await deliver(client, external_id="new 0")).status_code
        first = (await world.refused())[0]

    assert ["folded"] * 5 + ["open"] * 4 == [row.state for row in rows]
    assert [b""] * 5 == [row.raw_body for row in rows if row.state == "folded"]
    assert "3 deliveries, the oldest" in status.output
    assert "5 older ones were folded into this count" in status.output
    assert ("open", body_of(external_id="new 0"), 2) == (first.state, first.raw_body, first.attempts)


async def test_a_refusal_and_a_suspected_duplicate_tell_the_request_that_brought_them(world: World, run: Run) -> None:
    async with running(settings_for(world)) as (_, client):
        body = body_of(external_id="new")
        await client.post(PATH, content=body, headers={**signed(body), "X-Request-ID": "request-17"})
        for change, stock, now in (("1", "18.69", "one"), ("2", "13.69", "two"), ("1", "18.69", "three")):
            body = body_of(movement_type=int(change), quantity="5", current_stock=stock, date="2026-05-30 12:45:03", now=now)
            await client.post(PATH, content=body, headers={**signed(body), "X-Request-ID": f"request-{now}"})

    shown = json.loads((await run("refused", "show", "1", "--json")).stdout)
    (suspected,) = json.loads((await run("duplicates", "list", "--json")).stdout)
    assert ("request-17", "request-three") == (shown["request_id"], suspected["request_id"])


async def test_synchronisations_go_but_for_the_newest_and_the_newest_that_is_done(world: World) -> None:
    for state in ("done", "done", "refused", "unknown"):
        await world.execute(
            "INSERT INTO pos_sync.sync_run (store_id, inventory_system_id, state, items, units, suppliers, words, actor,"
            f" started_at, ended_at) VALUES ('1', 'x', '{state}', 0, 0, 0, '', 'ana',"
            " now() - interval '50 days', now() - interval '50 days')"
        )
    pruned = await prune(world.engine, AGES, actor="ana", max_share=1)

    assert 2 == pruned.sync_runs
    assert "done unknown" == await world.scalar("SELECT string_agg(state, ' ' ORDER BY sync_run_id) FROM pos_sync.sync_run")


async def test_one_replica_prunes_in_the_background_once_a_day(world: World) -> None:
    await sell(world, "1", "a")
    await close_messages(world, "sent")
    await make_old(world)
    await refresh(world.engine, Rules(), limit=100)
    pruners = [asyncio.create_task(Pruner(world.engine, AGES, first=0, looks=0.01).run()) for _ in range(2)]
    try:

        async def is_pruned() -> bool:
            return await world.scalar("SELECT ended_at FROM pos_sync.prune_state") is not None

        await until(is_pruned)
        ended_at = await world.scalar("SELECT ended_at FROM pos_sync.prune_state")
        lease = await world.scalar("SELECT held_until > now() + interval '23 hours' FROM pos_sync.lease WHERE name = 'prune'")
    finally:
        for task in pruners:
            task.cancel()
        await asyncio.wait(pruners)

    assert lease
    assert [] == await messages(world)
    assert ended_at == await world.scalar("SELECT ended_at FROM pos_sync.prune_state")


async def test_nothing_open_is_lost_while_deliveries_come(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages, refusals and movements that come while a prune runs over a filled database are all there after it."""
    monkeypatch.setattr(pruning, "PART", 20)
    async with running(settings_for(world)) as (_, client):
        for number in range(60):
            await sell(world, "0.01", f"old {number}")
        await close_messages(world, *["sent"] * 60)
        await make_old(world)
        await refresh(world.engine, Rules(), limit=100)

        async def sells() -> None:
            for number in range(60):
                await sell(world, "0.01", f"new {number}")

        async def delivers(answers: list[int]) -> None:
            for number in range(60):
                answers.append((await deliver(client, quantity="0.01", date=f"day {number}")).status_code)
                answers.append((await deliver(client, external_id=f"new {number}")).status_code)

        answers: list[int] = []
        work = asyncio.gather(sells(), delivers(answers))
        deleted = 0
        while not work.done():
            deleted += (await prune(world.engine, AGES, actor="ana", max_share=1)).messages
        await work

    assert [204, 409] * 60 == answers
    assert 60 == deleted
    assert ["pending"] * 60 == [message.state for message in await messages(world)]
    assert 60 == await world.scalar("SELECT count(*) FROM pos_sync.refused_delivery WHERE state = 'open' AND raw_body <> ''")
    assert {} == await world.broken_invariants()


MANY = 20 * pruning.PART
FILLED = f"""
INSERT INTO pos_sync.item SELECT store_id, 'i' || n, 'x', purchase_unit_id, consumption_unit_id, supplier_id, cost
  FROM pos_sync.item, generate_series(1, 100) AS n WHERE item_id = 'avcc123' AND store_id = '1';
INSERT INTO pos_sync.stock_level SELECT '1', 'i' || n, {MANY // 100}, {MANY // 100} FROM generate_series(1, 100) AS n;
INSERT INTO pos_sync.stock_movement (store_id, item_id, level_version, source, movement_type, quantity, balance_after)
  SELECT '1', 'i' || n, v, 'pos_receipt', 1, 1, v FROM generate_series(1, 100) AS n, generate_series(1, {MANY // 100}) AS v;
INSERT INTO pos_sync.outbox_message (store_id, item_id, level_version, inventory_system_id, state, closed_at)
  SELECT store_id, item_id, level_version, '{SYSTEM}', 'sent', now() FROM pos_sync.stock_movement WHERE source = 'pos_receipt';
INSERT INTO pos_sync.refused_delivery (delivery_key, reason, status_code, message, raw_body, item_id, state, closed_at)
  SELECT decode(md5(n::text), 'hex'), 'unknown_item', 409, 'x', 'x', 'i' || n % 100 + 1,
    CASE WHEN n % 2 = 0 THEN 'open' ELSE 'dismissed' END, CASE WHEN n % 2 = 1 THEN now() END
  FROM generate_series(1, {MANY}) AS n;
INSERT INTO pos_sync.suspected_duplicate (store_id, dedupe_key, occurrence, item_id, inventory_system_id, sent_at_text, raw_body,
    after_version, state, closed_at)
  SELECT '1', decode(md5(n::text), 'hex'), 2, 'i' || n % 100 + 1, '{SYSTEM}', '', 'x', 1,
    CASE WHEN n % 2 = 0 THEN 'open' ELSE 'dismissed' END, CASE WHEN n % 2 = 1 THEN now() END
  FROM generate_series(1, {MANY}) AS n;
INSERT INTO pos_sync.sync_run (store_id, inventory_system_id, state, items, units, suppliers, words, actor, ended_at)
  SELECT '1', '{SYSTEM}', 'done', 0, 0, 0, '', 'ana', now() FROM generate_series(1, {MANY})
"""
"""Much of all that a prune looks at, and none of it old"""
_READ = (
    "SELECT relname::text, seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables WHERE schemaname = 'pos_sync'"
)


@contextmanager
def counting_reads(engine: AsyncEngine) -> Iterator[Counter[str]]:
    """The rows that transactions read, by table, whether by an index or not."""
    read: Counter[str] = Counter()

    def count(connection: Connection, sign: int) -> None:
        for table, rows in connection.exec_driver_sql(_READ):
            read[table] += sign * rows

    def begin(connection: Connection) -> None:
        # What the session has counted before may still be there.
        count(connection, -1)

    def end(connection: Connection) -> None:
        count(connection, 1)

    listeners = (("begin", begin), ("commit", end), ("rollback", end))
    for name, listener in listeners:
        event.listen(engine.sync_engine, name, listener)
    yield read
    for name, listener in listeners:
        event.remove(engine.sync_engine, name, listener)


@pytest.mark.parametrize("is_analyzed", [True, False])
async def test_where_there_is_nothing_to_delete_only_the_first_rows_are_looked_at(world: World, *, is_analyzed: bool) -> None:
    await world.execute(*FILLED.split(";"), *(["ANALYZE"] if is_analyzed else []))
    with counting_reads(world.engine) as read:
        assert Pruned() == await prune(world.engine, AGES, actor="ana", max_share=1)

    # A part of each, once to see how old it is, and once to see what of it is settled.
    assert pruning.PART <= read["outbox_message"]
    assert pruning.PART <= read["sync_run"]
    assert {} == {table: rows for table, rows in read.items() if rows > 3 * pruning.PART}
