"""Full synchronisation against the sandbox over real HTTP: set once, nothing lost, nothing counted twice."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select, text

from app.errors.requests import CannotSync, NoStoreToSync, SyncUnderWay, UnsendableCatalog
from app.mipos import answers
from app.mipos import outbox as relay
from app.mipos.client import MiposClient
from app.mipos.sync import Order, Phase, Synchronised, synchronise
from app.mipos.token import AccessTokens
from app.mipos.wiring import tokens_of
from app.sandbox.platform import InventorySystem
from app.settings import Settings
from app.storage import leases, outbox, syncs
from app.storage.leases import Lease, acquire, extend, sync_lease
from app.storage.mipos_tables import outbox_message, sync_run
from app.storage.syncs import State, SyncPair
from tests.conftest import settings_for
from tests.support.mipos import SYSTEM, Remote, mipos
from tests.support.postgres import SAMPLES
from tests.support.relay import relaying
from tests.support.world import World

DOCUMENTED = json.loads((SAMPLES / "store-2.json").read_text())
LEASE = sync_lease("1", SYSTEM)


@pytest.fixture
async def remote() -> AsyncIterator[Remote]:
    async with mipos() as it:
        yield it


@dataclass
class Outbound:
    """The service's own engine, and what it calls mipOS with."""

    world: World
    remote: Remote
    settings: Settings
    client: MiposClient
    tokens: AccessTokens

    async def synchronise(self, **changes: Any) -> Synchronised:
        order = replace(Order("1", actor="Ana"), **changes)
        return await synchronise(self.world.engine, self.client, self.tokens, order)

    async def moves(self, kind: str, quantity: str, key: str, *, item: str = "avcc123") -> None:
        """The POS records a movement."""
        async with self.world.engine.begin() as connection:
            statement = text("SELECT pos_sync.record_pos_movement('1', :item, :kind, CAST(:quantity AS numeric), :key)")
            await connection.execute(statement, {"item": item, "kind": kind, "quantity": quantity, "key": key})

    async def messages(self) -> list[tuple[int, str]]:
        async with self.world.engine.connect() as connection:
            query = select(outbox_message.c.level_version, outbox_message.c.state).order_by(outbox_message.c.outbox_message_id)
            return [tuple(row) for row in await connection.execute(query)]

    async def runs(self) -> list[Any]:
        async with self.world.engine.connect() as connection:
            return list(await connection.execute(select(sync_run).order_by(sync_run.c.sync_run_id)))

    async def send_all(self) -> None:
        async with relaying(self.settings, replicas=1), asyncio.timeout(60):
            while any(state == "pending" for _, state in await self.messages()):  # noqa: ASYNC110 - the database tells nobody
                await asyncio.sleep(0.02)

    def theirs(self, item: str = "avcc123") -> Decimal:
        return Decimal(self.remote.platform.systems[SYSTEM].stock[item])

    async def ours(self, item: str = "avcc123") -> Decimal:
        level = await self.world.level(item)
        assert level is not None
        return level


@pytest.fixture
async def outbound(world: World, remote: Remote, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Outbound]:
    monkeypatch.setattr(answers, "MIN_PAUSE", timedelta(seconds=0.01))
    await world.execute("UPDATE pos_sync.store SET mipos_store_id = store_id")
    settings = settings_for(world, **remote.settings())
    async with MiposClient(remote.url, sync_seconds=5) as client:
        yield Outbound(world, remote, settings, client, tokens_of(settings, world.engine, client))


async def is_free(world: World) -> bool:
    async with world.engine.connect() as connection:
        return not await leases.is_held(connection, LEASE)


async def test_the_documented_body_is_sent_from_the_catalogue_of_make_run(outbound: Outbound) -> None:
    system = DOCUMENTED["inventory_system_id"]
    outbound.remote.platform.systems[system] = InventorySystem("30", {"2"})

    result = await outbound.synchronise(store_id="2")

    received = outbound.remote.sandbox.received[-1]
    assert ("sync", "2", DOCUMENTED) == (received.call, received.store_id, received.body)
    assert list(DOCUMENTED) == list(received.body)
    assert [list(entry) for name in ("items", "units", "suppliers") for entry in DOCUMENTED[name]] == [
        list(entry) for name in ("items", "units", "suppliers") for entry in received.body[name]
    ]
    assert Synchronised("2", system, State.DONE, "Synchronization data was sent to the inventory system.", 2, 2, 1, 0) == result


async def test_the_path_holds_mipos_id_of_the_store(outbound: Outbound) -> None:
    await outbound.world.execute("UPDATE pos_sync.store SET mipos_store_id = 'm 9' WHERE store_id = '1'")
    outbound.remote.platform.stores["m 9"] = "1"

    assert State.DONE == (await outbound.synchronise()).state
    assert "m 9" == outbound.remote.sandbox.received[-1].store_id


async def test_a_run_is_recorded_and_its_lease_given_back(outbound: Outbound) -> None:
    await outbound.synchronise()

    (run,) = await outbound.runs()
    assert ("1", SYSTEM, "done", 3, 2, 2, "Ana") == (
        run.store_id,
        run.inventory_system_id,
        run.state,
        run.items,
        run.units,
        run.suppliers,
        run.actor,
    )
    assert run.ended_at is not None
    assert await is_free(outbound.world)


async def test_what_the_snapshot_holds_is_not_sent_again(outbound: Outbound) -> None:
    await outbound.moves("sale", "1", "a")
    await outbound.moves("sale", "2", "b")
    await outbound.world.execute("UPDATE pos_sync.outbox_message SET state = 'dead' WHERE level_version = 2")

    result = await outbound.synchronise()
    await outbound.moves("sale", "0.5", "c")

    assert 2 == result.covered
    assert [(2, "covered"), (3, "covered"), (4, "pending")] == await outbound.messages()
    await outbound.send_all()
    assert Decimal("10.19") == await outbound.ours() == outbound.theirs()


async def test_what_another_system_or_store_is_to_be_told_is_left(outbound: Outbound) -> None:
    await outbound.world.execute("INSERT INTO pos_sync.integration VALUES ('1', 'other', '31', true, now())")
    await outbound.moves("sale", "1", "a")

    await outbound.synchronise(inventory_system_id=SYSTEM)

    assert ["covered", "pending"] == sorted(state for _, state in await outbound.messages())


async def test_waits_for_the_message_that_is_on_its_way(outbound: Outbound) -> None:
    await outbound.synchronise()
    await outbound.moves("sale", "1", "a")
    outbound.remote.fail("stock_update", delay=0.3)

    sending = asyncio.create_task(outbound.send_all())
    while not outbound.remote.calls.get("stock_update"):  # noqa: ASYNC110 - the sandbox tells by a count
        await asyncio.sleep(0.005)
    result = await outbound.synchronise()
    await sending

    assert ["sync", "stock_update", "sync"] == [r.call for r in outbound.remote.sandbox.received if r.call != "token"]
    assert 0 == result.covered
    assert await outbound.ours() == outbound.theirs()


async def test_a_claim_that_is_not_yet_committed_is_waited_for(outbound: Outbound) -> None:
    pair = SyncPair("1", SYSTEM)
    await outbound.moves("sale", "1", "a")
    async with outbound.world.engine.connect() as claiming:
        await claiming.execute(text(outbox.CLAIMING))
        asking = asyncio.create_task(syncs.is_quiet(outbound.world.engine, pair))
        query = text(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'relation' AND NOT granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        while not await claiming.scalar(query):  # noqa: ASYNC110 - Postgres tells by a view
            await asyncio.sleep(0.005)
        await claiming.execute(text("UPDATE pos_sync.outbox_message SET claimed_until = now() + interval '1 minute'"))
        await claiming.commit()

    assert not await asking


class Held(MiposClient):
    """One whose full synchronisation ends when the test says so, however long that takes."""

    def __init__(self, base_url: str) -> None:
        super().__init__(base_url)
        self.is_answered, self.may_go_on = asyncio.Event(), asyncio.Event()

    async def sync(self, *arguments: Any, **named: Any) -> answers.Answer:
        answer = await super().sync(*arguments, **named)
        self.is_answered.set()
        await self.may_go_on.wait()
        return answer


async def test_no_message_is_sent_while_it_is_synchronised(outbound: Outbound, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "BACKLOG_SECONDS", 0)
    monkeypatch.setattr(relay, "POLL_SECONDS", 0.01)
    await outbound.synchronise()

    async with Held(outbound.remote.url) as client:
        syncing = asyncio.create_task(replace(outbound, client=client).synchronise())
        await client.is_answered.wait()
        await outbound.moves("sale", "1", "a")

        async with relaying(outbound.settings, replicas=1) as (observed,):
            while observed.turns < 3:  # noqa: ASYNC110 - the relay tells by a count
                await asyncio.sleep(0.005)
            assert not syncing.done()
            assert "stock_update" not in outbound.remote.calls

        client.may_go_on.set()
        assert 0 == (await syncing).covered
    await outbound.send_all()
    assert Decimal("12.69") == await outbound.ours() == outbound.theirs()


@pytest.mark.slow
async def test_under_load_nothing_is_lost_or_counted_twice(outbound: Outbound) -> None:
    await outbound.synchronise()
    outbound.remote.fail("sync", delay=0.1, times=100)
    items = ["avcc123", "tom001", "saf001"]
    is_over = asyncio.Event()

    async def sell(item: str) -> None:
        for number in itertools.count():
            await outbound.moves("sale" if number % 3 else "receipt", f"0.{number % 9 + 1}", f"{item} {number}", item=item)
            if is_over.is_set() and number % 9 == 8:
                return

    async with relaying(settings_for(outbound.world, **outbound.remote.settings())):
        selling = asyncio.gather(*(sell(item) for item in items))
        states = [(await outbound.synchronise()).state for _ in range(5)]
        is_over.set()
        await selling
        while "pending" in {state for _, state in await outbound.messages()}:  # noqa: ASYNC110 - the table tells
            await asyncio.sleep(0.01)

    assert {State.DONE} == set(states)
    assert {"sent", "covered"} == {state for _, state in await outbound.messages()}
    assert [await outbound.ours(item) for item in items] == [outbound.theirs(item) for item in items]
    assert {} == await outbound.world.broken_invariants()


async def test_refused_by_mipos_in_its_words_and_messages_stay(outbound: Outbound) -> None:
    await outbound.moves("sale", "1", "a")
    outbound.remote.platform.systems[SYSTEM].knows_store = False

    result = await outbound.synchronise()

    words = "External id not found for this store in the inventory system."
    assert (State.REFUSED, words) == (result.state, result.words)
    assert [("refused", words)] == [(run.state, run.words) for run in await outbound.runs()]
    assert [(2, "pending")] == await outbound.messages()
    assert await is_free(outbound.world)


async def test_mipos_map_of_fields_is_told_too(outbound: Outbound) -> None:
    outbound.remote.fail("sync", status=422, body='{"items": ["The items field is required."]}')

    result = await outbound.synchronise()

    assert (State.REFUSED, "The items field is required.") == (result.state, result.words)


async def test_an_unknown_outcome_is_tried_again_from_a_new_snapshot(outbound: Outbound) -> None:
    outbound.remote.fail("sync", cut=True)
    outbound.remote.fail("sync", status=503, html=True)
    await outbound.moves("sale", "1", "a")

    result = await outbound.synchronise()

    assert (State.DONE, 1) == (result.state, result.covered)
    assert 3 == outbound.remote.calls["sync"]
    assert await outbound.ours() == outbound.theirs()


async def test_an_outcome_that_stays_unknown_says_so_and_leaves_the_messages(outbound: Outbound) -> None:
    outbound.remote.fail("sync", hang=True, times=3)
    await outbound.moves("sale", "1", "a")

    async with MiposClient(outbound.remote.url, sync_seconds=0.2) as impatient:
        order = Order("1", actor="Ana")
        result = await synchronise(outbound.world.engine, impatient, outbound.tokens, order)

    assert State.UNKNOWN == result.state
    assert result.words.startswith("mipOS did not answer in time. Whether mipOS took the inventory is not known")
    assert [(2, "pending")] == await outbound.messages()
    assert await is_free(outbound.world)


async def test_an_expired_token_is_replaced_once(outbound: Outbound) -> None:
    await outbound.synchronise()
    outbound.remote.fail("sync", expired_token=True)

    assert State.DONE == (await outbound.synchronise()).state
    assert (3, 1) == (outbound.remote.calls["sync"], outbound.remote.calls["refresh"])


async def test_a_token_that_is_never_accepted_ends_refused(outbound: Outbound) -> None:
    outbound.remote.fail("sync", unauthorized=True, times=9)

    assert State.REFUSED == (await outbound.synchronise()).state
    assert 2 == outbound.remote.calls["sync"]


async def test_a_movement_of_the_system_itself_meanwhile_has_it_done_again(outbound: Outbound) -> None:
    outbound.remote.fail("sync", delay=0.2)
    syncing = asyncio.create_task(outbound.synchronise())
    while not outbound.remote.calls.get("sync"):  # noqa: ASYNC110 - the sandbox tells by a count
        await asyncio.sleep(0.005)
    await outbound.world.execute(
        "UPDATE stock_level SET quantity = quantity - 1, version = version + 1 WHERE store_id = '1' AND item_id = 'avcc123'",
        "INSERT INTO stock_movement (store_id, item_id, level_version, source, inventory_system_id, movement_type, quantity,"
        f" balance_after, reported_stock, date_text, sent_at_text, dedupe_key) VALUES ('1', 'avcc123', 2, 'inventory_system',"
        f" '{SYSTEM}', 2, 1, 12.69, 12.69, 'x', 'x', 'x' || substr(decode(repeat('00', 32), 'hex'), 2))",
    )

    assert State.DONE == (await syncing).state
    assert 2 == outbound.remote.calls["sync"]
    assert Decimal("12.69") == await outbound.ours() == outbound.theirs()


async def test_a_second_one_at_the_same_time_is_refused(outbound: Outbound) -> None:
    async with outbound.world.engine.begin() as connection:
        await leases.acquire(connection, LEASE, lasts=timedelta(minutes=1))

    with pytest.raises(SyncUnderWay, match="already, or was just now"):
        await outbound.synchronise()
    assert [] == await outbound.runs()


async def test_two_at_once_make_one_call(outbound: Outbound) -> None:
    outbound.remote.fail("sync", delay=0.2)

    results = await asyncio.gather(*(outbound.synchronise() for _ in range(5)), return_exceptions=True)

    assert 4 == sum(isinstance(result, SyncUnderWay) for result in results)
    assert 1 == outbound.remote.calls["sync"]


async def test_one_that_was_cut_off_blocks_nothing_and_is_told(outbound: Outbound) -> None:
    async with outbound.world.engine.begin() as connection:
        await syncs.start(connection, SyncPair("1", SYSTEM), actor="Ben")
        await leases.acquire(connection, LEASE, lasts=timedelta(seconds=-1))

    assert State.DONE == (await outbound.synchronise()).state
    assert ["unknown", "done"] == [run.state for run in await outbound.runs()]


async def test_one_that_is_stopped_gives_its_lease_back(outbound: Outbound) -> None:
    outbound.remote.fail("sync", hang=True)
    syncing = asyncio.create_task(outbound.synchronise())
    while not outbound.remote.calls.get("sync"):  # noqa: ASYNC110 - the sandbox tells by a count
        await asyncio.sleep(0.005)

    syncing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await syncing

    assert ["unknown"] == [run.state for run in await outbound.runs()]
    assert await is_free(outbound.world)


async def test_a_lease_is_extended_while_it_works(outbound: Outbound, monkeypatch: pytest.MonkeyPatch) -> None:
    # Long enough for a busy machine: a heartbeat comes each quarter of it.
    monkeypatch.setattr(leases, "SYNC_LEASE", timedelta(seconds=1.5))
    outbound.remote.fail("sync", delay=2)

    assert State.DONE == (await outbound.synchronise()).state
    assert 1 == outbound.remote.calls["sync"]


async def test_one_whose_lease_was_taken_covers_nothing(outbound: Outbound) -> None:
    await outbound.moves("sale", "1", "a")
    outbound.remote.fail("sync", delay=0.3)
    syncing = asyncio.create_task(outbound.synchronise())
    while not outbound.remote.calls.get("sync"):  # noqa: ASYNC110 - the sandbox tells by a count
        await asyncio.sleep(0.005)
    await outbound.world.execute("UPDATE pos_sync.lease SET held_until = now() + interval '1 hour'")

    assert State.UNKNOWN == (await syncing).state
    assert [(2, "pending")] == await outbound.messages()
    assert not await is_free(outbound.world)


async def test_a_lease_of_a_clock_that_went_back_is_cut_to_its_length_and_lost_to_its_holder(world: World) -> None:
    async with world.engine.begin() as connection:
        held = await acquire(connection, "x", lasts=timedelta(seconds=60))
    assert held is not None
    async with world.engine.begin() as connection:
        later = "UPDATE pos_sync.lease SET held_until = now() + interval '1 day' RETURNING held_until"
        held = Lease("x", await connection.scalar(text(later)))
    async with world.engine.begin() as connection:
        taken = await acquire(connection, "x", lasts=timedelta(seconds=60))
    async with world.engine.begin() as connection:
        left = await connection.scalar(text("SELECT held_until <= now() + interval '61 seconds' FROM pos_sync.lease"))
        extended = await extend(connection, held, lasts=timedelta(seconds=60))

    assert (None, True, None) == (taken, left, extended)


async def test_a_lease_that_has_lapsed_cannot_be_extended_and_one_that_was_taken_not_given_back(world: World) -> None:
    minute = timedelta(minutes=1)
    async with world.engine.begin() as connection:
        lapsed = await leases.acquire(connection, LEASE, lasts=-minute)
        assert lapsed is not None
        assert None is await leases.extend(connection, lapsed, lasts=minute)
        taken = await leases.acquire(connection, LEASE, lasts=minute)
        assert taken is not None
        assert None is await leases.acquire(connection, LEASE, lasts=minute)
        await leases.give_back(connection, lapsed)
        extended = await leases.extend(connection, taken, lasts=2 * minute)
        assert extended is not None
        assert extended.held_until > taken.held_until
        await leases.give_back(connection, extended)
        assert not await leases.is_held(connection, LEASE)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE pos_sync.store SET mipos_store_id = NULL", "pos-sync store set 1 --mipos-id ID"),
        ("UPDATE pos_sync.integration SET enabled = false", "Enabled for store 1: none"),
        ("INSERT INTO pos_sync.integration VALUES ('1', 'other', '31', true, now())", "Name one inventory system with --system."),
    ],
)
async def test_what_has_to_be_set_up_first_is_said(outbound: Outbound, statement: str, words: str) -> None:
    await outbound.world.execute(statement)

    with pytest.raises(CannotSync) as refused:
        await outbound.synchronise()

    assert words in refused.value.message
    assert {} == outbound.remote.calls


async def test_a_store_or_system_that_is_not_there_is_said(outbound: Outbound) -> None:
    with pytest.raises(NoStoreToSync):
        await outbound.synchronise(store_id="9")
    with pytest.raises(CannotSync, match=SYSTEM):
        await outbound.synchronise(inventory_system_id="nobody")
    await outbound.world.execute("UPDATE pos_sync.integration SET enabled = false")
    with pytest.raises(CannotSync, match="--enable"):
        await outbound.synchronise(inventory_system_id=SYSTEM)


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE pos_sync.item SET name = ' ' WHERE item_id = 'tom001'", 'Item 3 ("tom001"): name must not be blank.'),
        ("UPDATE pos_sync.item SET name = repeat('x', 256) WHERE item_id = 'tom001'", "is longer than 255 characters"),
        (
            "UPDATE pos_sync.unit SET short_name = E'k\\tg' WHERE unit_id = 'pos_kg'",
            "short_name holds the control character U+0009",
        ),
        ("UPDATE pos_sync.supplier SET name = E'\\n' WHERE supplier_id = 'pos_sup_market'", "Supplier 1"),
        (
            "UPDATE pos_sync.integration SET user_id_tps = '' WHERE store_id = '1'",
            "The catalogue: user_id_tps must not be blank.",
        ),
    ],
)
async def test_what_the_pos_wrote_past_us_is_named_and_nothing_is_sent(outbound: Outbound, statement: str, problem: str) -> None:
    await outbound.world.execute(statement)

    with pytest.raises(UnsendableCatalog) as refused:
        await outbound.synchronise()

    assert problem in refused.value.message
    assert {} == outbound.remote.calls
    assert ["refused"] == [run.state for run in await outbound.runs()]
    assert await is_free(outbound.world)


async def test_a_store_without_items_is_named(outbound: Outbound) -> None:
    await outbound.world.execute(
        "INSERT INTO pos_sync.store (store_id, name, timezone, mipos_store_id) VALUES ('7', 'x', 'UTC', '7')",
        f"INSERT INTO pos_sync.integration VALUES ('7', '{SYSTEM}', '30', true, now())",
    )

    with pytest.raises(UnsendableCatalog, match=r"has no items.*has no units.*has no suppliers"):
        await outbound.synchronise(store_id="7")


async def test_progress_tells_of_reading_checking_and_sending(outbound: Outbound) -> None:
    told: list[tuple[Phase, int, int]] = []

    await synchronise(
        outbound.world.engine,
        outbound.client,
        outbound.tokens,
        Order("1", actor="Ana"),
        on_progress=lambda phase, done, total: told.append((phase, done, total)),
    )

    assert [Phase.READING, Phase.CHECKING, Phase.SENDING] == list(dict.fromkeys(phase for phase, _, _ in told))
    assert all(done <= total for _, done, total in told)
    assert [(Phase.CHECKING, n, 3) for n in (1, 2, 3)] == [step for step in told if step[0] is Phase.CHECKING]
    assert told[-1][1] == told[-1][2] > 500
