"""Drift held against the true stock of the sandbox's inventory system: random days of sales, reports, losses and lost answers."""

import asyncio
import itertools
import os
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import httpx2
import pytest
from sqlalchemy import text

from app.mipos import answers
from app.mipos.client import MiposClient
from app.mipos.sync import Order, synchronise
from app.mipos.wiring import tokens_of
from app.operations.metrics import Metrics
from app.operator.drift import Adoption, CannotReconcile, DriftFilter, find_drifts, reconcile, refresh
from app.operator.drift_watch import DriftWatch
from app.operator.duplicates import apply_suspected
from app.operator.refusals import Verdict
from app.settings import Settings
from app.stock import drift, reader, reports
from app.stock.drift import CauseKind, Drift
from app.stock.quantity import to_plain, to_signed
from app.stock.rules import Rules
from app.storage.syncs import State
from tests.conftest import running, settings_for
from tests.support.mipos import SYSTEM, Remote, mipos
from tests.support.sender import PATH, body_of, signed
from tests.support.world import World

HISTORIES = int(os.environ.get("POS_SYNC_DAYS", "6"))
"""How many days are lived; `make proof` asks for many."""
EVENTS = 9
PATIENCE_SECONDS = 30
ITEM = "avcc123"
TRANSIT = timedelta(milliseconds=30)
"""How long a report may be on its way, in these days that pass fast."""


@dataclass
class Day:
    """A restaurant and its inventory system, and by how much what happened made them differ."""

    world: World
    remote: Remote
    settings: Settings
    client: httpx2.AsyncClient
    injected: dict[CauseKind, Decimal] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def theirs(self) -> Decimal:
        return Decimal(self.remote.platform.systems[SYSTEM].stock[ITEM])

    def move_theirs(self, change: Decimal) -> None:
        self.remote.platform.systems[SYSTEM].stock[ITEM] = to_plain(self.theirs + change)

    async def sells(self, quantity: Decimal) -> None:
        async with self.world.engine.begin() as connection:
            statement = text("SELECT pos_sync.record_movement('1', :item, 'sale', :quantity, :key)")
            await connection.execute(statement, {"item": ITEM, "quantity": quantity, "key": f"sale {next(self._numbers)}"})
        await self.until_told()

    async def sells_and_the_answer_is_lost(self, quantity: Decimal, *, arrived: bool) -> None:
        """The system's stock moved although the call seemed to fail; it is sent again."""
        self.remote.fail("stock_update", status=502, html=True)
        if arrived:
            self.move_theirs(-quantity)
            self.note(CauseKind.SENT_TWICE, quantity)
        await self.sells(quantity)

    async def sells_and_is_refused(self, quantity: Decimal) -> None:
        self.remote.fail("stock_update", status=409, body='{"message": ["No."], "data": null}')
        self.note(CauseKind.DEAD, -quantity)
        await self.sells(quantity)

    async def reports(self, change: Decimal, *, status: int = 204) -> None:
        self.move_theirs(change)
        now = datetime.now(UTC)
        body = body_of(
            movement_type=2 if change < 0 else 1,
            quantity=to_plain(abs(change)),
            current_stock=to_plain(self.theirs),
            date=f"{now:%Y-%m-%d %H:%M:%S.%f}",
            now=f"{now:%Y-%m-%d %H:%M:%S.%f}",
        )
        answer = await self.client.post(PATH, content=body, headers=signed(body))
        assert status == answer.status_code, answer.text

    async def reports_and_is_refused(self, change: Decimal) -> None:
        await self.world.execute("UPDATE pos_sync.integration SET enabled = false WHERE store_id = '1'")
        await self.reports(change, status=409)
        await self.world.execute("UPDATE pos_sync.integration SET enabled = true WHERE store_id = '1'")
        self.note(CauseKind.REFUSED, -change)

    async def loses(self, quantity: Decimal) -> None:
        self.move_theirs(-quantity)
        self.note(CauseKind.GAP, quantity)

    async def synchronises(self) -> None:
        async with MiposClient(self.remote.url, sync_seconds=5) as client:
            tokens = tokens_of(self.settings, self.world.engine, client)
            done = await synchronise(self.world.engine, client, tokens, Order("1", actor="Ana"))
        assert done.state is State.DONE
        self.injected.clear()

    def note(self, kind: CauseKind, amount: Decimal) -> None:
        self.injected[kind] = self.injected.get(kind, Decimal(0)) + amount

    async def until_told(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            waiting = text("SELECT count(*) FROM pos_sync.outbox_message WHERE state = 'pending'")
            while True:
                async with self.world.engine.connect() as connection:
                    if not await connection.scalar(waiting):
                        return
                await asyncio.sleep(0.02)

    async def passes(self) -> None:
        """So much time that nothing is on its way from before any more."""
        await asyncio.sleep(2 * TRANSIT.total_seconds())

    async def drift(self) -> Drift:
        scope = DriftFilter(store_id="1", item_id=ITEM, system_id=SYSTEM)
        (found,) = await find_drifts(self.world.engine, scope, Rules())
        return found

    async def ours(self) -> Decimal:
        level = await self.world.level(ITEM)
        assert level is not None
        return level


@pytest.fixture
async def day(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Day]:
    monkeypatch.setattr(answers, "MIN_PAUSE", timedelta(seconds=0.01))
    for module in (reports, drift, reader):
        monkeypatch.setattr(module, "IN_TRANSIT", TRANSIT)
    await world.execute("UPDATE pos_sync.store SET mipos_store_id = store_id")
    async with mipos() as remote:
        settings = settings_for(world, **remote.settings())
        async with running(settings) as (_, client):
            yield Day(world, remote, settings, client)


@pytest.mark.slow
async def test_the_drift_of_any_day_is_what_was_injected(day: Day) -> None:  # noqa: C901 - one case for each event
    randomness = random.Random(29)
    right = named = 0
    for _ in range(HISTORIES):
        await day.synchronises()
        assert Decimal(0) == (await day.drift()).drift
        for _ in range(EVENTS):
            await day.passes()
            quantity = Decimal(randomness.randint(1, 9999)) / 100
            match randomness.choices(range(7), [6, 6, 2, 1, 1, 1, 1])[0]:
                case 0:
                    await day.sells(quantity)
                case 1:
                    await day.reports(-quantity if randomness.random() < 0.7 else quantity)
                case 2:
                    await day.loses(quantity)
                case 3:
                    await day.sells_and_the_answer_is_lost(quantity, arrived=randomness.random() < 0.5)
                case 4:
                    await day.sells_and_is_refused(quantity)
                case 5:
                    await day.reports_and_is_refused(quantity)
                case 6:
                    await day.synchronises()
        await day.passes()
        # What they lost after their last report shows with the next one.
        await day.reports(Decimal(-1))
        found = await day.drift()

        difference = await day.ours() - day.theirs
        assert abs(found.drift - difference) <= found.uncertain, (found, day.injected)
        assert found.drift == sum((cause.amount for cause in found.causes), Decimal(0))
        if not found.uncertain:
            expected = {kind: amount for kind, amount in day.injected.items() if amount}
            causes = {kind: Decimal(0) for kind in (*expected, *(cause.kind for cause in found.causes))}
            for cause in found.causes:
                causes[cause.kind] += cause.amount
                # A loss and a message that arrived twice between the same two reports: only their sum can be known.
                doubled = expected.get(CauseKind.SENT_TWICE, Decimal(0))
                if cause.kind is CauseKind.GAP and f"may hold {to_signed(doubled.copy_negate())}, " in cause.words:
                    causes[CauseKind.GAP] -= doubled
                    causes[CauseKind.SENT_TWICE] += doubled
            named += len(causes)
            right += sum(expected.get(kind, Decimal(0)) == amount for kind, amount in causes.items())
    assert right >= named * 0.95


async def test_stock_updates_that_were_acknowledged_are_no_drift_and_a_loss_is_named_by_its_amount(day: Day) -> None:
    """The system reports -1, the POS sells 3, the system loses 0.5 and reports -1: the drift is 0.5."""
    await day.synchronises()
    await day.passes()
    await day.reports(Decimal(-1))
    await day.passes()
    await day.sells(Decimal(3))
    await day.passes()
    await day.loses(Decimal("0.5"))
    await day.reports(Decimal(-1))

    found = await day.drift()
    assert (Decimal("0.5"), day.theirs, False) == (found.drift, found.theirs, bool(found.uncertain)), found
    assert [(CauseKind.GAP, Decimal("0.5"))] == [(cause.kind, cause.amount) for cause in found.causes]

    adoption = Adoption(store_id="1", item_id=ITEM, system_id=SYSTEM, window=200)
    done = await reconcile(day.world.engine, adoption, rules=Rules(), actor="ana", note="they are right")
    assert day.theirs == done.after
    assert Decimal(0) == (await day.drift()).drift


async def test_after_a_synchronisation_the_drift_is_nothing_at_once(day: Day) -> None:
    await day.reports(Decimal(-2))
    await day.loses(Decimal(5))
    await day.passes()
    await day.reports(Decimal(-2))
    assert Decimal(0) != (await day.drift()).drift

    await day.synchronises()

    found = await day.drift()
    assert (Decimal(0), (), day.theirs) == (found.drift, found.causes, found.theirs)


async def test_a_lost_answer_makes_the_drift_not_known_until_the_next_report_and_nothing_is_adopted(day: Day) -> None:
    await day.synchronises()
    await day.passes()
    await day.sells_and_the_answer_is_lost(Decimal(3), arrived=True)

    found = await day.drift()
    assert Decimal(3) == found.uncertain
    adoption = Adoption(store_id="1", item_id=ITEM, system_id=SYSTEM, window=200)
    with pytest.raises(CannotReconcile, match="is not known by up to 3"):
        await reconcile(day.world.engine, adoption, rules=Rules(), actor="ana", note="x")

    await day.passes()
    await day.reports(Decimal(-1))
    found = await day.drift()
    assert (Decimal(0), Decimal(3)) == (found.uncertain, found.drift)
    assert [CauseKind.SENT_TWICE] == [cause.kind for cause in found.causes]


async def test_a_count_of_ours_that_is_newer_is_not_overwritten_by_their_number(day: Day) -> None:
    await day.synchronises()
    await day.passes()
    await day.loses(Decimal(2))
    await day.reports(Decimal(-1))
    await day.passes()
    async with day.world.engine.begin() as connection:
        await connection.execute(text(f"SELECT pos_sync.record_movement('1', '{ITEM}', 'count', 9, 'count')"))
    await day.until_told()

    adoption = Adoption(store_id="1", item_id=ITEM, system_id=SYSTEM, window=200)
    with pytest.raises(CannotReconcile, match="is newer than what is known"):
        await reconcile(day.world.engine, adoption, rules=Rules(), actor="ana", note="x")


async def test_our_own_movement_that_comes_back_is_an_echo(day: Day) -> None:
    """To the letter of what we sent: not applied, listed, no drift; and a person can book it all the same."""
    await day.synchronises()
    await day.passes()
    await day.sells(Decimal("1.25"))
    sent = next(one.body for one in reversed(day.remote.sandbox.received) if one.call == "stock_update")
    body = body_of(**{name: sent[name] for name in ("current_stock", "quantity", "date", "movement_type", "external_id")})
    before = await day.ours()
    answers_ = [await day.client.post(PATH, content=body, headers=signed(body)) for _ in range(2)]

    assert [204, 204] == [answer.status_code for answer in answers_]
    assert before == await day.ours()
    async with day.world.engine.connect() as connection:
        (row,) = list(await connection.execute(text("SELECT reason, attempts, state FROM pos_sync.suspected_duplicate")))
    assert ("echo", 2, "open") == tuple(row)
    found = await day.drift()
    assert (Decimal(0), ()) == (found.drift, found.causes)


async def test_an_echo_can_be_booked_by_a_person(day: Day) -> None:
    await day.sells(Decimal("1.25"))
    sent = next(one.body for one in reversed(day.remote.sandbox.received) if one.call == "stock_update")
    body = body_of(**{name: sent[name] for name in ("current_stock", "quantity", "date", "movement_type", "external_id")})
    await day.client.post(PATH, content=body, headers=signed(body))
    before = await day.ours()

    results = [await apply_suspected(day.world.engine, 1, actor="ana") for _ in range(2)]
    again = await day.client.post(PATH, content=body, headers=signed(body))

    assert [Verdict.APPLIED, Verdict.ALREADY_APPLIED] == [result.verdict for result in results]
    assert 204 == again.status_code
    assert before - Decimal("1.25") == await day.ours()


async def test_drift_is_a_metric_by_store_and_cause_that_is_0_when_it_is_over(day: Day) -> None:
    metrics = Metrics()
    watch = DriftWatch(day.world.engine, Rules(), on_drift=metrics.observe_drift)
    await day.synchronises()
    await day.passes()
    await day.loses(Decimal(2))
    await day.reports(Decimal(-1))
    await watch.look()
    during = metrics.exposition(waiting=0).decode()
    await day.synchronises()
    await watch.look()
    after = metrics.exposition(waiting=0).decode()

    labels = '{cause="gap",store_id="1"}'
    assert f"pos_sync_drift_items{labels} 1.0" in during
    assert f"pos_sync_drift_amount{labels} 2.0" in during
    assert f"pos_sync_drift_items{labels} 0.0" in after


async def test_two_watches_compare_a_level_once_and_only_when_something_has_changed(day: Day) -> None:
    await day.synchronises()
    counts = [await refresh(day.world.engine, Rules(), limit=50) for _ in range(2)]
    await day.sells(Decimal(1))
    later = [await refresh(day.world.engine, Rules(), limit=50) for _ in range(2)]

    # Store 2 is connected too: five levels, each once.
    assert ([5, 0], [1, 0]) == (counts, later)
