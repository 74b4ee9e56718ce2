"""Time decides: what happened before a count is in it, in whatever order the two arrive, by every door."""

import asyncio
import itertools
import os
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import httpx2
import hypothesis
import pytest
from sqlalchemy import text

from app.applying.reversal import reverse
from app.errors import NotReversible, UnknownRow
from app.stock.movement import Applied, Correction, Known, Movement, Refused, opening_movement
from app.stock.pos import PosKind, receiving_half
from app.stock.quantity import to_canonical
from app.stock.rules import NegativeStock
from app.storage.ledger import apply_movements
from tests.conftest import running, settings_for
from tests.support.commands import Run
from tests.support.ledger import by_pos, new_ledger, reported, reset
from tests.support.postgres import database_of
from tests.support.sender import PATH, body_of, signed
from tests.support.world import World

KEY = "till-key-of-2026-for-tests"
HISTORIES = int(os.environ.get("POS_SYNC_ORDERS", hypothesis.settings().max_examples * 6 // 10))
"""How many random orders of arrival are tried; `make proof` asks for many."""
TEN = (datetime.now(UTC) - timedelta(days=1)).replace(hour=10, minute=0, second=0, microsecond=0)


def hour(number: float) -> datetime:
    """A time of yesterday."""
    return TEN + timedelta(hours=number - 10)


@pytest.fixture
async def till(world: World) -> AsyncIterator[httpx2.AsyncClient]:
    async with running(settings_for(world, pos_api_key=KEY)) as (_, client):
        client.headers["Authorization"] = f"Bearer {KEY}"
        yield client


_keys = itertools.count()


async def record(till: httpx2.AsyncClient, kind: str, quantity: str, at: datetime, **more: Any) -> dict[str, Any]:
    body = {"item_id": "tom001", "kind": kind, "quantity": quantity, "happened_at": at.isoformat(), **more}
    answer = await till.post("/pos/stores/1/movements", json=body, headers={"Idempotency-Key": f"k{next(_keys)}"})
    assert 201 == answer.status_code, answer.text
    line: dict[str, Any] = answer.json()["movements"][0]
    return {**line, "stock": to_canonical(Decimal(line["stock"]))}


async def test_a_count_that_comes_late_keeps_what_was_sold_since(till: httpx2.AsyncClient) -> None:
    """Counted 10 at 22:00, 2 sold at 22:30 and told at once; the count comes at 23:00."""
    await record(till, "count", "12", hour(9))
    await record(till, "sale", "2", hour(22.5))

    assert "8" == (await record(till, "count", "10", hour(22)))["stock"]


async def test_a_till_that_was_offline_does_not_sell_twice_what_was_counted(till: httpx2.AsyncClient) -> None:
    await record(till, "count", "12", hour(9))
    await record(till, "count", "10", hour(22))

    sale = await record(till, "sale", "2", hour(21))

    assert ("10", "2", hour(22).isoformat()) == (sale["stock"], sale["correction"], sale["counted_at"])


@pytest.mark.parametrize("kind", ["sale", "receipt", "return", "waste", "adjustment"])
async def test_whatever_a_count_had_held_leaves_the_stock_as_it_was_counted(till: httpx2.AsyncClient, kind: str) -> None:
    await record(till, "count", "10", hour(22))

    assert "10" == (await record(till, kind, "3", hour(21), reason="found"))["stock"]


async def test_a_late_count_by_command_and_by_sql_comes_to_the_same(world: World, run: Run) -> None:
    at = ["--store", "1", "--item", "tom001", "--at"]
    await run("movement", *at, hour(9).isoformat(), "--count", "12")
    await run("movement", *at, hour(22.5).isoformat(), "--sale", "2")
    late = await run("movement", *at, hour(22).isoformat(), "--count", "10")
    again = await run("movement", *at, hour(21).isoformat(), "--sale", "4")
    async with world.engine.begin() as connection:
        query = "SELECT pos_sync.record_movement('1', 'avcc123', :kind, :quantity, :key, :at)"
        stocks = [
            await connection.scalar(text(query), {"kind": kind, "quantity": Decimal(quantity), "key": str(number), "at": at})
            for number, (kind, quantity, at) in enumerate(
                [("count", "12", hour(9)), ("sale", "2", hour(22.5)), ("count", "10", hour(22)), ("sale", "4", hour(21))]
            )
        ]

    assert "after it: 8" in late.output
    assert "after it: 8" in again.output
    assert "had held it already: corrected by +4" in again.output
    assert [12, 10, 8, 8] == stocks
    assert {} == await world.broken_invariants()


async def test_a_time_between_two_counts_keeps_what_was_counted_first() -> None:
    """Counts of 100 at 10 h and 80 at 20 h, then a sale of 3 from 5 h: as of 15 h there were 100."""
    async with new_ledger() as (world, connection):
        await apply_movements(connection, [count("100", hour(10))])
        await apply_movements(connection, [count("80", hour(20))])
        await apply_movements(connection, [by_pos(quantity="3", key="late", happened_at=hour(5))])

        assert [Decimal(100), Decimal(80)] == [await level_at(world, at) for at in (hour(15), hour(21))]
        assert Decimal(80) == await world.level("avcc123", "allows")


def count(quantity: str, at: datetime | None) -> Movement:
    return by_pos(kind=PosKind.COUNT, quantity=quantity, key=f"count {quantity} {at}", happened_at=at)


async def level_at(world: World, at: datetime, store_id: str = "allows") -> Decimal:
    async with world.engine.connect() as connection:
        asked = {"store": store_id, "at": at}
        found = await connection.scalar(text("SELECT pos_sync.level_at(:store, 'avcc123', :at)"), asked)
    return found or Decimal(0)


async def test_a_sale_in_the_moment_of_a_count_is_in_it() -> None:
    async with new_ledger() as (_, connection):
        await apply_movements(connection, [count("10", hour(10))])
        (outcome,) = await apply_movements(connection, [by_pos(quantity="3", key="same moment", happened_at=hour(10))])

    assert Applied(2, Decimal(10), Correction(Decimal(3), hour(10))) == outcome


async def test_a_sale_without_a_time_after_a_count_without_one_is_not_in_it() -> None:
    """Also in one batch, where both have the same clock."""
    asked = [count("10", None), by_pos(quantity="3", key="next", happened_at=None)]
    async with new_ledger() as (_, connection):
        outcomes = await apply_movements(connection, asked)

    assert [Applied(1, Decimal(10)), Applied(2, Decimal(7))] == outcomes


@dataclass(frozen=True)
class Event:
    """Something that happened in a store, at a time that nothing else happened at."""

    movement: Movement
    at: datetime


def new_history(randomness: random.Random) -> list[Event]:
    kinds = [PosKind.SALE] * 4 + [PosKind.COUNT] * 3 + [PosKind.RECEIPT, PosKind.RETURN, PosKind.WASTE, PosKind.ADJUSTMENT]
    times = randomness.sample(range(48 * 60), randomness.randint(3, 9))
    return [
        Event(
            by_pos(
                kind=kind,
                quantity=str(randomness.choice([0, 1, "2.5", 7, 12])),
                key=f"{minutes} {randomness.random()}",
                happened_at=(at := hour(0) - timedelta(days=1) + timedelta(minutes=minutes)),
            ),
            at,
        )
        for minutes in times
        for kind in [randomness.choice(kinds)]
    ]


def truth(history: Sequence[Event], at: datetime) -> Decimal:
    """What there is at a time, going through what happened in its order."""
    level = Decimal(0)
    for event in sorted(history, key=lambda one: one.at):
        if event.at <= at:
            level = event.movement.quantity if event.movement.is_count else level + event.movement.delta
    return level


async def test_any_order_of_arrival_comes_to_the_same_level_and_the_same_past() -> None:
    randomness = random.Random(20261129)
    async with new_ledger() as (world, connection):
        for _ in range(HISTORIES):
            history = new_history(randomness)
            for _ in range(2):
                await reset(world, NegativeStock.ALLOW)
                waiting = [event.movement for event in randomness.sample(history, len(history))]
                while waiting:
                    size = randomness.randint(1, 4)
                    outcomes = await apply_movements(connection, waiting[:size])
                    assert all(isinstance(outcome, Applied) for outcome in outcomes)
                    del waiting[:size]
                now = datetime.now(UTC)
                assert truth(history, now) == await world.level("avcc123", "allows")
                for event in history:
                    for at in (event.at, event.at - timedelta(microseconds=1)):
                        assert truth(history, at) == await level_at(world, at)
                assert {} == await world.broken_invariants()


async def test_what_is_reversed_is_as_if_it_had_never_been() -> None:
    """Of any kind, counts included, and whatever came before or after it."""
    randomness = random.Random(7)
    async with new_ledger() as (world, connection):
        for _ in range(HISTORIES):
            await reset(world, NegativeStock.ALLOW)
            history = new_history(randomness)
            for event in randomness.sample(history, len(history)):
                await apply_movements(connection, [event.movement])
            taken = randomness.choice(history)
            (row,) = [row for row in await world.ledger() if row.dedupe_key == taken.movement.dedupe_key]
            asked = {"store_id": "allows", "item_id": "avcc123", "level_version": row.level_version}
            engine = database_of(world.service_url).create_engine()
            await reverse(engine, **asked, actor="ana", note="a mistake")
            again = await reverse(engine, **asked, actor="ana", note="a mistake")
            await engine.dispose()

            left = [event for event in history if event is not taken]
            assert not again[0].is_new
            assert truth(left, datetime.now(UTC)) == await world.level("avcc123", "allows")
            for event in history:
                assert truth(left, event.at) == await level_at(world, event.at)
            # What comes afterwards goes by what is left.
            late = Event(by_pos(quantity="1", key="after", happened_at=hour(3)), hour(3))
            if late.at not in {event.at for event in history}:
                await apply_movements(connection, [late.movement])
                assert truth([*left, late], datetime.now(UTC)) == await world.level("avcc123", "allows")
            assert {} == await world.broken_invariants()


async def test_where_both_counts_are_reversed_it_is_as_if_neither_had_been() -> None:
    async with new_ledger() as (world, connection):
        await apply_movements(connection, [count("10", hour(20)), count("7", hour(22))])
        for version in (1, 2):
            await reverse(world.engine, store_id="allows", item_id="avcc123", level_version=version, actor="ana", note="oops")
        await apply_movements(connection, [by_pos(quantity="2", happened_at=hour(19))])

        assert Decimal(-2) == await world.level("avcc123", "allows")


async def test_a_late_sale_after_a_count_in_the_same_call_is_in_the_count() -> None:
    async with new_ledger() as (world, connection):
        outcomes = await apply_movements(connection, [count("10", hour(22)), by_pos(quantity="2", happened_at=hour(21))])

        assert Applied(2, Decimal(10), Correction(Decimal(2), hour(22))) == outcomes[1]
        assert Decimal(10) == await world.level("avcc123", "allows")


async def test_a_sale_of_before_a_count_is_reversed_without_moving_the_level() -> None:
    """A sale of 2 at 21:00, a count of 10 at 22:00, the sale reversed: 10."""
    async with new_ledger() as (world, connection):
        await apply_movements(connection, [by_pos(quantity="2", happened_at=hour(21))])
        await apply_movements(connection, [count("10", hour(22))])
        (done,) = await reverse(world.engine, store_id="allows", item_id="avcc123", level_version=1, actor="ana", note="oops")

        assert Decimal(10) == done.stock
        assert Correction(Decimal(-2), hour(22)) == done.correction


async def test_corrections_reversals_and_rows_that_are_not_there_cannot_be_reversed() -> None:
    async with new_ledger() as (world, connection):
        await apply_movements(connection, [count("10", hour(22))])
        await apply_movements(connection, [by_pos(quantity="2", happened_at=hour(21))])
        await reverse(world.engine, store_id="allows", item_id="avcc123", level_version=2, actor="ana", note="oops")
        for version, refusal in ((3, NotReversible), (4, NotReversible), (9, UnknownRow)):
            with pytest.raises(refusal):
                await reverse(
                    world.engine, store_id="allows", item_id="avcc123", level_version=version, actor="ana", note="again"
                )


async def test_two_who_reverse_the_same_row_at_once_reverse_it_once() -> None:
    async with new_ledger() as (world, connection):
        await apply_movements(connection, [by_pos(quantity="2", happened_at=None)])
        done = await asyncio.gather(
            *(
                reverse(world.engine, store_id="allows", item_id="avcc123", level_version=1, actor="ana", note="oops")
                for _ in range(5)
            )
        )

        assert 1 == sum(one.is_new for (one,) in done)
        assert Decimal(0) == await world.level("avcc123", "allows")


async def test_the_reversal_of_a_report_is_told_to_the_others_and_not_to_who_reported_it() -> None:
    async with new_ledger() as (world, connection):
        await world.execute(
            "INSERT INTO pos_sync.integration (store_id, inventory_system_id, user_id_tps) VALUES ('allows', 'other', '1')"
        )
        await apply_movements(connection, [reported()])
        await reverse(world.engine, store_id="allows", item_id="avcc123", level_version=1, actor="ana", note="came twice")
        async with world.engine.connect() as looking:
            told = await looking.execute(
                text("SELECT level_version, inventory_system_id FROM pos_sync.outbox_message ORDER BY 1")
            )

        assert [(1, "other"), (2, "other")] == [tuple(row) for row in told]


async def test_both_rows_of_a_late_sale_are_told_each_with_its_own_time() -> None:
    async with new_ledger() as (world, connection):
        await apply_movements(connection, [count("10", hour(22))])
        await apply_movements(connection, [by_pos(quantity="2", happened_at=hour(21))])
        async with world.engine.connect() as looking:
            query = (
                "SELECT m.level_version, m.delta, m.happened_at FROM pos_sync.outbox_message JOIN pos_sync.stock_movement AS m"
                " USING (store_id, item_id, level_version) ORDER BY 1"
            )
            told = [tuple(row) for row in await looking.execute(text(query))]

        assert [(1, Decimal(10), hour(22)), (2, Decimal(-2), hour(21)), (3, Decimal(2), hour(22))] == told


@pytest.mark.parametrize(("days", "words"), [(8, "too old"), (-1, "lies in the future")])
async def test_a_count_from_long_ago_or_from_the_future_is_refused_with_a_sentence(
    till: httpx2.AsyncClient, days: int, words: str
) -> None:
    at = datetime.now(UTC) - timedelta(days=days)
    body = {"item_id": "tom001", "kind": "count", "quantity": "3", "happened_at": at.isoformat()}
    answer = await till.post("/pos/stores/1/movements", json=body, headers={"Idempotency-Key": "old"})

    assert 409 == answer.status_code
    assert words in answer.json()["message"]


@pytest.mark.parametrize(("kind", "minutes"), [("count", 4), ("sale", 4), ("sale", 6000)])
async def test_a_clock_that_is_ahead_gives_way_to_ours(till: httpx2.AsyncClient, world: World, kind: str, minutes: int) -> None:
    await record(till, kind, "3", datetime.now(UTC) + timedelta(minutes=minutes))

    (row,) = await world.ledger()
    assert row.happened_at == row.received_at


async def test_a_repeated_count_is_known_by_what_was_counted(till: httpx2.AsyncClient) -> None:
    """Its own balance was another number, and the level has moved since."""
    await record(till, "sale", "2", hour(22))
    body = {"item_id": "tom001", "kind": "count", "quantity": "10", "happened_at": hour(21).isoformat()}
    answers = [
        await till.post("/pos/stores/1/movements", json=asked, headers={"Idempotency-Key": "c"})
        for asked in (body, body, {**body, "quantity": "8"})
    ]

    assert [201, 200, 422] == [answer.status_code for answer in answers]
    assert ["8.0", "8.0"] == [answer.json()["movements"][0]["stock"] for answer in answers[:2]]


async def test_a_late_sale_that_is_sent_again_says_again_what_was_corrected(till: httpx2.AsyncClient) -> None:
    await record(till, "count", "10", hour(22))
    body = {"item_id": "tom001", "kind": "sale", "quantity": "2", "happened_at": hour(21).isoformat()}
    first, again = [
        (await till.post("/pos/stores/1/movements", json=body, headers={"Idempotency-Key": "s"})).json()["movements"][0]
        for _ in range(2)
    ]

    assert {**first, "state": "known"} == again


async def test_a_store_that_refuses_negative_stock_judges_after_the_correction() -> None:
    """Sold 5 of the 3 that were there, by the books: but the count after it says 3, so nothing is below zero."""
    async with new_ledger() as (_, connection):
        await apply_movements(
            connection, [by_pos(store_id="refuses", kind=PosKind.COUNT, quantity="3", key="c", happened_at=hour(22))]
        )
        outcomes = [
            *await apply_movements(connection, [by_pos(store_id="refuses", quantity="5", key="late", happened_at=hour(21))]),
            *await apply_movements(connection, [by_pos(store_id="refuses", quantity="5", key="now", happened_at=None)]),
        ]

    assert Applied(2, Decimal(3), Correction(Decimal(5), hour(22))) == outcomes[0]
    assert isinstance(outcomes[1], Refused)


async def test_a_count_is_never_refused_as_negative() -> None:
    """Two were sold after it: by the count of 1 at 22:00 there is one less than nothing, and that is what it says."""
    async with new_ledger() as (_, connection):
        for asked in (
            by_pos(store_id="refuses", kind=PosKind.RECEIPT, quantity="2", key="r", happened_at=hour(21)),
            by_pos(store_id="refuses", quantity="2", key="s", happened_at=hour(23)),
        ):
            await apply_movements(connection, [asked])
        counted = by_pos(store_id="refuses", kind=PosKind.COUNT, quantity="1", key="c", happened_at=hour(22))
        (outcome,) = await apply_movements(connection, [counted])

    assert Applied(3, Decimal(-1)) == outcome


async def test_a_report_dated_before_the_newest_count_is_applied_and_shown_to_a_person(
    world: World, till: httpx2.AsyncClient, run: Run
) -> None:
    await record(till, "count", "10", hour(22))
    body = body_of(external_id="tom001", date=hour(21).strftime("%Y-%m-%d %H:%M:%S"))
    answer = await till.post(PATH, content=body, headers=signed(body))

    assert 204 == answer.status_code
    assert Decimal("8.75") == await world.level("tom001")
    assert "before count" in (await run("duplicates", "list")).output


@pytest.mark.parametrize("date", ["2026-05-30", "2026-05-30 00:00:00", "Saturday", "2099-01-01 10:00:00"])
async def test_a_reported_date_that_says_no_time_counts_as_now(date: str) -> None:
    async with new_ledger() as (world, connection):
        await apply_movements(connection, [reported(date=date)])
        (row,) = await world.ledger()

    assert row.happened_at == row.received_at
    assert date == row.date_text


async def test_a_reported_date_is_read_in_the_time_zone_of_its_store() -> None:
    async with new_ledger() as (world, connection):
        await world.execute("UPDATE pos_sync.store SET timezone = 'America/Guayaquil' WHERE store_id = 'allows'")
        await apply_movements(connection, [reported(date="2026-05-30 12:00:00"), reported(date="2026-05-30T12:00:00Z")])
        rows = await world.ledger()

    assert [17, 12] == [row.happened_at.hour for row in rows]


async def test_an_opening_is_a_count_at_the_time_that_it_names() -> None:
    """A first delivery of -1 has started the level; the import says that there were 12.5 yesterday at 22:00."""
    opening = opening_movement(store_id="allows", item_id="avcc123", stock=Decimal("12.5"), as_of=hour(22))
    async with new_ledger() as (_, connection):
        await apply_movements(connection, [by_pos(key="before", happened_at=hour(21))])
        await apply_movements(connection, [by_pos(key="after", happened_at=hour(23))])
        opened = await apply_movements(connection, [opening])
        again = await apply_movements(connection, [opening])

    assert [Applied(3, Decimal("11.5"))] == opened
    assert isinstance(again[0], Known)


async def test_a_transfer_moves_between_two_stores_or_not_at_all() -> None:
    given = by_pos(kind=PosKind.TRANSFER, quantity="4", to_store_id="default", happened_at=hour(22))
    lost = by_pos(kind=PosKind.TRANSFER, quantity="4", key="lost", to_store_id="nowhere", happened_at=hour(22))
    async with new_ledger() as (world, connection):
        both = [given, receiving_half(given)]
        first = await apply_movements(connection, both, tickets=[1, 1], units=[1, 1])
        again = await apply_movements(connection, both, tickets=[1, 1], units=[1, 1])
        refused = await apply_movements(connection, [lost, receiving_half(lost)], tickets=[1, 1], units=[1, 1])

        assert [Applied(1, Decimal(-4)), Applied(1, Decimal(4))] == first
        assert [Known(1, Decimal(-4)), Known(1, Decimal(4))] == again
        assert "NotRecorded()" == repr(refused[0])
        assert isinstance(refused[1], Refused)
        assert [Decimal(-4), Decimal(4)] == [await world.level("avcc123", store) for store in ("allows", "default")]
        done = await reverse(world.engine, store_id="default", item_id="avcc123", level_version=1, actor="ana", note="no")
        assert 2 == len(done)
        assert [Decimal(0), Decimal(0)] == [await world.level("avcc123", store) for store in ("allows", "default")]


async def test_the_halves_of_a_transfer_are_each_before_or_after_the_count_of_its_own_store() -> None:
    given = by_pos(kind=PosKind.TRANSFER, quantity="4", to_store_id="default", happened_at=hour(21))
    async with new_ledger() as (world, connection):
        counted = by_pos(store_id="default", kind=PosKind.COUNT, quantity="9", key="c", happened_at=hour(22))
        await apply_movements(connection, [counted])
        await apply_movements(connection, [given, receiving_half(given)], tickets=[1, 1], units=[1, 1])

        assert [Decimal(-4), Decimal(9)] == [await world.level("avcc123", store) for store in ("allows", "default")]


async def test_a_transfer_between_stores_that_measure_differently_is_refused(world: World, till: httpx2.AsyncClient) -> None:
    await world.execute("UPDATE pos_sync.unit SET name = 'Gram', short_name = 'g' WHERE store_id = '2'")
    copied = (
        "INSERT INTO pos_sync.item SELECT '2', 'tom001', name, i2.purchase_unit_id, i2.consumption_unit_id, i2.supplier_id, cost"
    )
    await world.execute(
        f"{copied} FROM (SELECT name, cost FROM pos_sync.item WHERE store_id = '1' AND item_id = 'tom001') AS i1,"
        " (SELECT purchase_unit_id, consumption_unit_id, supplier_id FROM pos_sync.item WHERE store_id = '2' LIMIT 1) AS i2"
    )
    body = {"item_id": "tom001", "kind": "transfer", "quantity": "1", "to_store_id": "2"}
    answer = await till.post("/pos/stores/1/movements", json=body, headers={"Idempotency-Key": "t"})

    assert 409 == answer.status_code
    assert 'another unit in store "1" than in store "2": pos_kg (Kilogram) and ' in answer.json()["message"]
    assert "(Gram). " in answer.json()["message"]
    assert [] == await world.ledger()


async def test_a_late_count_that_finds_what_was_known_corrects_nothing(world: World, till: httpx2.AsyncClient) -> None:
    await record(till, "count", "7", hour(12))
    late = await record(till, "count", "22.5", hour(11))

    assert late.keys() & {"correction", "counted_at"} <= {name for name, value in late.items() if value is None}
    assert ["pos_count", "pos_count"] == [row.source for row in await world.ledger("tom001")]
    assert Decimal(7) == await world.level("tom001")


async def test_an_atomic_ticket_records_all_or_none(world: World, till: httpx2.AsyncClient) -> None:
    good = {"item_id": "tom001", "kind": "sale", "quantity": "1"}
    bad = {"item_id": "nothing", "kind": "sale", "quantity": "1"}
    path, headers = "/pos/stores/1/movements", {"Idempotency-Key": "atomic"}
    refused = await till.post(path, json={"atomic": True, "movements": [good, bad]}, headers=headers)
    left = await world.ledger()
    done = await till.post(path, json={"atomic": True, "movements": [good, {**good, "item_id": "avcc123"}]}, headers=headers)
    again = await till.post(path, json={"atomic": True, "movements": [good, {**good, "item_id": "avcc123"}]}, headers=headers)

    assert 409 == refused.status_code
    assert ["not_recorded", "refused"] == [line["state"] for line in refused.json()["movements"]]
    assert [] == left
    assert [201, 200] == [done.status_code, again.status_code]
    assert 2 == len(await world.ledger())


async def test_a_reversal_over_http_says_what_is_left(world: World, till: httpx2.AsyncClient) -> None:
    sale = await record(till, "sale", "2", hour(22))
    order = {"item_id": "tom001", "level_version": sale["level_version"], "note": "came back", "actor": "ana"}
    answers = [await till.post("/pos/stores/1/reversals", json=order) for _ in range(2)]
    missing = await till.post("/pos/stores/1/reversals", json={**order, "level_version": 99})
    unsaid = await till.post("/pos/stores/1/reversals", json={"item_id": "tom001", "level_version": 1})

    assert [201, 200, 404, 422] == [answer.status_code for answer in (*answers, missing, unsaid)]
    assert "22.5" == answers[0].json()["reversals"][0]["stock"]
    assert [("pos_sale", None), ("reversal", "ana")] == [(row.source, row.actor) for row in await world.ledger()]


async def test_a_level_from_before_there_were_times_takes_counts_and_late_sales() -> None:
    """Its rows have no `happened_at`, and its level no `newest_at`: they are read as of their receipt."""
    async with new_ledger() as (world, connection):
        await apply_movements(connection, [by_pos(quantity="5", kind=PosKind.RECEIPT, key="r", happened_at=None)])
        await apply_movements(connection, [count("7", None)])
        await world.execute_past_guards(
            "UPDATE pos_sync.stock_movement SET happened_at = NULL, counted = NULL",
            "UPDATE pos_sync.stock_level SET newest_at = NULL, counted_at = NULL",
        )
        (late,) = await apply_movements(connection, [by_pos(quantity="2", key="late", happened_at=hour(3))])
        (now,) = await apply_movements(connection, [by_pos(quantity="2", key="now", happened_at=None)])

    assert isinstance(late, Applied)
    assert (Decimal(7), Decimal(2)) == (late.balance, late.correction and late.correction.amount)
    assert Applied(5, Decimal(5)) == now


async def test_a_count_of_long_ago_reads_only_what_came_since() -> None:
    """The rows since are found by halves, not by reading the level's whole ledger."""
    async with new_ledger() as (world, connection):
        for _ in range(8):
            await apply_movements(connection, [by_pos(quantity="1", key=f"{next(_keys)}", happened_at=None) for _ in range(250)])
        await world.execute_past_guards(
            "UPDATE pos_sync.stock_movement SET received_at = now() - (2001 - level_version) * interval '1 minute',"
            " happened_at = now() - (2001 - level_version) * interval '1 minute'",
            "UPDATE pos_sync.stock_level SET newest_at = now() - interval '1 minute'",
        )
        reader = await asyncpg.connect(world.owner_url)
        async with reader.transaction():
            at = datetime.now(UTC) - timedelta(minutes=30)
            (outcome,) = await apply_movements(reader, [by_pos(kind=PosKind.COUNT, quantity="100", key="late", happened_at=at)])
            fetched = await reader.fetchval("SELECT idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'stock_movement'")
        await reader.close()

    assert isinstance(outcome, Applied)
    assert Decimal(71) <= outcome.balance <= Decimal(70) + 1
    assert fetched < 400
