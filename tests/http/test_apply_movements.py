"""The SQL function `apply_movements`, held against the model: the same outcomes, levels and ledger for any calls."""

import asyncio
import itertools
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import asyncpg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from app.stock.movement import (
    Applied,
    Busy,
    KeyReused,
    Known,
    Movement,
    MovementType,
    Outcome,
    Refused,
    Source,
    opening_movement,
    recounted_movement,
    reversing_movement,
)
from app.stock.pos import PosKind, receiving_half
from app.stock.rules import NegativeStock
from app.storage.ledger import apply_movements
from app.storage.transactions import sqlstate
from tests.support.ledger import HAPPENED, ITEMS, LARGEST, STORES, by_pos, in_a_loop, new_ledger, reported, reset
from tests.support.model import UNKNOWN_TIME, Entry, Level, Model, recorded_source, recorded_type
from tests.support.world import World

TREE = Path(__file__).parents[2]
QUANTITIES = ("0", "1.5", "1.50", "3", "0.00000000000001", "12.25", LARGEST)


def new_model(default: NegativeStock) -> Model:
    return Model(
        stores=STORES,
        items=set(ITEMS),
        integrations={(store, system): system == "on" for store in STORES for system in ("on", "off")},
        negative_stock=default,
        pos_id="8",
    )


async def assert_same(world: World, model: Model) -> None:
    """Hold the tables against the model, but for the samples of the template."""
    owner = await asyncpg.connect(world.owner_url)
    where = "WHERE store_id IN ('allows', 'refuses', 'default')"
    levels = await owner.fetch(f"SELECT store_id, item_id, quantity, version FROM pos_sync.stock_level {where}")
    rows = await owner.fetch(
        "SELECT store_id, item_id, level_version, source, movement_type, delta, balance_after, dedupe_key, occurrence,"
        f" happened_at, received_at FROM pos_sync.stock_movement {where} ORDER BY store_id, item_id, level_version"
    )
    queued = await owner.fetch(
        f"SELECT store_id, item_id, level_version, inventory_system_id FROM pos_sync.outbox_message {where} ORDER BY 1, 2, 3, 4"
    )
    await owner.close()
    assert model.levels == {(s, i): Level(quantity, version) for s, i, quantity, version in levels}
    entries = sorted(model.entries, key=lambda entry: (*entry.movement.key, entry.level_version))
    assert [
        (
            *entry.movement.key,
            entry.level_version,
            recorded_source(entry).value,
            recorded_type(entry),
            entry.delta,
            entry.balance_after,
            None if entry.correction_of else entry.movement.dedupe_key,
            1 if entry.correction_of else entry.movement.occurrence,
        )
        for entry in entries
    ] == [tuple(row)[:9] for row in rows]
    for entry, row in zip(entries, rows, strict=True):
        named = entry.place[0][1]
        if isinstance(named, datetime):
            assert named == row["happened_at"]
        elif entry.correction_of is None and entry.undone is None:
            assert row["received_at"] == row["happened_at"]
    for before, after in itertools.pairwise(rows):
        assert (
            before["store_id"] != after["store_id"]
            or before["item_id"] != after["item_id"]
            or (before["received_at"] <= after["received_at"])
        )
    assert [
        (*entry.movement.key, entry.level_version, "on")
        for entry in entries
        if recorded_source(entry) not in (Source.OPENING, Source.UNIT_CHANGE) and _teller(entry, entries) != "on"
    ] == [tuple(row) for row in queued]
    assert {} == await world.broken_invariants()


def _teller(entry: Entry, entries: Sequence[Entry]) -> str | None:
    """The system that the row came from, which is not told of it. A reversal comes from where its movement did."""
    if entry.movement.source is Source.REVERSAL:
        undone = next(e for e in entries if e.movement.key == entry.movement.key and e.level_version == entry.movement.refers_to)
        return undone.movement.inventory_system_id
    return entry.movement.inventory_system_id


stores = st.sampled_from([*STORES, "nowhere"])
items = st.sampled_from([*ITEMS[:2], "unknown"])
quantities = st.sampled_from(QUANTITIES)
reports = st.builds(
    reported,
    store_id=stores,
    item_id=items,
    movement_type=st.sampled_from(MovementType),
    quantity=quantities,
    system_id=st.sampled_from(["on", "on", "on", "off", "unheard-of"]),
    date=st.sampled_from(["d", "e", "2026-05-30 11:45:03", "2026-05-30 12:45:03.25", "2026-05-30T17:45:03-05:00", "2026-05-30"]),
    pos_id=st.sampled_from(["8", "8", "8", "9"]),
    occurrence=st.sampled_from([1, 1, 1, 2]),
)
KINDS = [kind for kind in PosKind if kind is not PosKind.TRANSFER]
NAMED = {timedelta(hours=hours) for hours in (-3, -1, 0, 2, 5)}
times = st.sampled_from([None, *sorted(HAPPENED + distance for distance in NAMED)])
recorded = st.builds(
    by_pos,
    store_id=stores,
    item_id=items,
    kind=st.sampled_from(KINDS),
    quantity=quantities,
    key=st.sampled_from(["k", "l", "m", "n", "o", "p", "q"]),
    happened_at=times,
)
reversals = st.builds(reversing_movement, store_id=stores, item_id=items, level_version=st.integers(min_value=1, max_value=6))
openings = st.builds(
    opening_movement, store_id=stores, item_id=items, stock=st.sampled_from([Decimal(q) for q in ("0", "7.5", "-2", LARGEST)])
)
movements = st.one_of(reports, recorded, recorded, openings)
recounts = st.builds(
    recounted_movement, store_id=stores, item_id=items, stock=st.sampled_from([Decimal(q) for q in ("0", "12500", "-2", LARGEST)])
)
# A reversal names a row that is there: it stands alone in its call.
calls = st.lists(
    st.one_of(st.lists(st.one_of(movements, recounts), min_size=1, max_size=12), st.lists(reversals, min_size=1, max_size=1)),
    min_size=1,
    max_size=8,
)


@st.composite
def with_units(draw: st.DrawFn) -> tuple[list[Movement], list[list[int]]]:
    """A call in which some movements are applied together or not at all, transfers among them."""
    asked: list[Movement] = []
    units: list[list[int]] = []
    for _ in range(draw(st.integers(1, 5))):
        if draw(st.booleans()):
            asked.append(draw(movements))
            continue
        if draw(st.booleans()):
            given = by_pos(
                store_id=draw(stores),
                item_id=draw(items),
                kind=PosKind.TRANSFER,
                quantity=draw(quantities),
                key=draw(st.sampled_from(["r", "s", "t", "u", "v"])),
                to_store_id=draw(st.sampled_from(["allows", "refuses", "default", "elsewhere"])),
                happened_at=draw(times),
            )
            together = [given, receiving_half(given)] if given.other_store_id != given.store_id else [draw(recorded)]
        else:
            together = draw(st.lists(recorded, min_size=1, max_size=3))
        units.append(list(range(len(asked), len(asked) + len(together))))
        asked += together
    return asked, units


def test_any_calls_with_transfers_and_atomic_tickets_come_to_what_the_model_says() -> None:
    with in_a_loop() as portal, portal.wrap_async_context_manager(new_ledger()) as (world, connection):

        async def run(asked: list[tuple[list[Movement], list[list[int]]]], default: NegativeStock) -> None:
            await reset(world, default)
            model = new_model(default)
            for call, units in asked:
                numbers: list[int | None] = [None] * len(call)
                for number, unit in enumerate(units):
                    for position in unit:
                        numbers[position] = number
                found = await apply_movements(connection, call, units=numbers if units else None)
                assert in_words(model.apply(call, units)) == in_words(found)
            await assert_same(world, model)

        @given(st.lists(with_units(), min_size=1, max_size=5), st.sampled_from(NegativeStock))
        @settings(deadline=None, suppress_health_check=list(HealthCheck))
        def hold(asked: list[tuple[list[Movement], list[list[int]]]], default: NegativeStock) -> None:
            portal.call(run, asked, default)

        hold()


def in_words(outcomes: Sequence[Outcome]) -> list[str]:
    return [repr(_without_clock(outcome)) for outcome in outcomes]


def _without_clock(outcome: Outcome) -> Outcome:
    """A count that named no time has the server's, which the model cannot know."""
    if isinstance(outcome, (Applied, Known)) and outcome.correction and outcome.correction.counted_at.year > HAPPENED.year - 1:
        is_named = outcome.correction.counted_at - HAPPENED in NAMED
        return outcome if is_named else replace(outcome, correction=replace(outcome.correction, counted_at=UNKNOWN_TIME))
    return outcome


def test_any_calls_come_to_what_the_model_says() -> None:
    with in_a_loop() as portal, portal.wrap_async_context_manager(new_ledger()) as (world, connection):

        async def run(asked: list[list[Movement]], default: NegativeStock, skips_locked: bool) -> None:  # noqa: FBT001
            await reset(world, default)
            model = new_model(default)
            for call in asked:
                found = await apply_movements(connection, call, skips_locked=skips_locked, actor="ana", note="a new unit")
                assert in_words(model.apply(call)) == in_words(found)
            await assert_same(world, model)

        @given(calls, st.sampled_from(NegativeStock), st.booleans())
        @example([[reported(pos_id="9"), reported(pos_id="8"), reported(pos_id="9")]], NegativeStock.ALLOW, False)
        @example([[reported(pos_id="8", system_id="off"), reported(pos_id="9", system_id="off")]], NegativeStock.ALLOW, False)
        @settings(deadline=None, suppress_health_check=list(HealthCheck))
        def hold(asked: list[list[Movement]], default: NegativeStock, skips_locked: bool) -> None:  # noqa: FBT001
            portal.call(run, asked, default, skips_locked)

        hold()


def test_callers_at_once_lose_and_double_nothing() -> None:
    with (
        in_a_loop() as portal,
        portal.wrap_async_context_manager(new_ledger()) as (world, _),
        portal.wrap_async_context_manager(new_callers(world, 5)) as callers,
    ):

        async def run(asked: list[list[Movement]]) -> None:
            await reset(world, NegativeStock.ALLOW)
            await assert_each_once(world, callers, asked)

        @given(st.lists(st.lists(movements, min_size=1, max_size=8), min_size=2, max_size=5))
        @settings(deadline=None, suppress_health_check=list(HealthCheck))
        def hold(asked: list[list[Movement]]) -> None:
            portal.call(run, asked)

        hold()


@asynccontextmanager
async def new_callers(world: World, count: int) -> AsyncIterator[list[asyncpg.Connection]]:
    """Connections that have planned their statements, so that calls really meet."""
    callers = [await asyncpg.connect(world.service_url) for _ in range(count)]
    for connection in callers:
        await apply_movements(connection, [reported(store_id="nowhere")])
    yield callers
    for connection in callers:
        await connection.close()


async def apply_again_on_conflict(connection: asyncpg.Connection, call: Sequence[Movement]) -> list[Outcome]:
    """As every caller does. Keys that are used for several items collide in the ledger's index, across the locks of levels."""
    while True:
        try:
            return await apply_movements(connection, call)
        except (asyncpg.UniqueViolationError, asyncpg.DeadlockDetectedError):
            continue


async def assert_each_once(world: World, callers: Sequence[asyncpg.Connection], asked: Sequence[Sequence[Movement]]) -> None:
    found = await asyncio.gather(*map(apply_again_on_conflict, callers, asked))

    assert {} == await world.broken_invariants()
    rows = await world.ledger()
    decided = [pair for call, outcomes in zip(asked, found, strict=True) for pair in zip(call, outcomes, strict=True)]
    applied = [m for m, outcome in decided if isinstance(outcome, Applied) and m.source is not Source.OPENING]
    assert len(applied) == sum(row.source != Source.CORRECTION for row in rows)
    identities = Counter((row.store_id, row.dedupe_key, row.occurrence) for row in rows)
    for movement, outcome in decided:
        if movement.dedupe_key is not None and isinstance(outcome, (Applied, Known)):
            assert 1 == identities[movement.store_id, movement.dedupe_key, movement.occurrence]


async def test_every_kind_of_movement_alone_comes_to_what_the_model_says() -> None:
    numbers = itertools.count()
    for default in NegativeStock:
        async with new_ledger(default) as (world, connection):
            model = new_model(default)
            for store_id, item_id, quantity in itertools.product([*STORES, "nowhere"], [*ITEMS, "unknown"], QUANTITIES):
                for movement_type, system_id in itertools.product(MovementType, ("on", "off", "unheard-of")):
                    report = reported(
                        store_id=store_id,
                        item_id=item_id,
                        movement_type=movement_type,
                        quantity=quantity,
                        system_id=system_id,
                        date=str(next(numbers)),
                    )
                    assert in_words(model.apply([report])) == in_words(await apply_movements(connection, [report]))
                for kind in KINDS:
                    sale = by_pos(store_id=store_id, item_id=item_id, kind=kind, quantity=quantity, key=str(next(numbers)))
                    assert in_words(model.apply([sale])) == in_words(await apply_movements(connection, [sale]))
            await assert_same(world, model)
            assert 100 < len(model.entries)


async def test_two_copies_for_an_unknown_store_are_two_refusals_and_never_known() -> None:
    async with new_ledger() as (_, connection):
        outcomes = await apply_movements(connection, [reported(store_id="nowhere"), reported(store_id="nowhere")])

    assert [Refused, Refused] == [type(outcome) for outcome in outcomes]


async def test_a_movement_without_an_identity_is_never_a_copy() -> None:
    unnamed = replace(reported(), source=Source.RECONCILE, reported_stock=None, dedupe_key=None)
    async with new_ledger() as (_, connection):
        outcomes = await apply_movements(connection, [unnamed, unnamed], actor="ana", note="twice")

    assert [Applied(1, Decimal(-1)), Applied(2, Decimal(-2))] == outcomes


async def test_a_refusal_leaves_no_level_behind() -> None:
    async with new_ledger() as (world, connection):
        (outcome,) = await apply_movements(connection, [reported(store_id="refuses")])

        assert isinstance(outcome, Refused)
        assert await world.level(store_id="refuses") is None


async def test_a_key_of_the_pos_that_was_used_for_something_else_is_reused() -> None:
    async with new_ledger() as (_, connection):
        together = await apply_movements(connection, [by_pos(), by_pos(), by_pos(quantity="2"), by_pos(kind=PosKind.RECEIPT)])
        later = await apply_movements(connection, [by_pos(quantity="1.0"), by_pos(item_id="tom001")])
        mixed = await apply_movements(connection, [by_pos(quantity="3"), by_pos()])

    assert [Applied(1, Decimal(-1)), Known(1, Decimal(-1)), KeyReused(), KeyReused()] == together
    assert [Known(1, Decimal(-1)), KeyReused()] == later
    assert [KeyReused(), Known(1, Decimal(-1))] == mixed


async def test_a_ticket_is_not_decided_where_one_of_its_levels_is_held() -> None:
    """Alone, the movements of other levels are."""
    asked = [by_pos(item_id=item, key=item) for item in ("avcc123", "tom001", "saf001")]
    async with new_ledger() as (world, connection):
        await apply_movements(connection, [by_pos(item_id=item, key=f"first {item}") for item in ITEMS])
        holder = await asyncpg.connect(world.owner_url)
        async with holder.transaction():
            await holder.execute("SELECT FROM pos_sync.stock_level WHERE store_id = 'allows' AND item_id = 'avcc123' FOR UPDATE")
            held = await apply_movements(connection, asked, tickets=[1, 1, 2], skips_locked=True)
        await holder.close()
        after = await apply_movements(connection, asked, tickets=[1, 1, 2], skips_locked=True)

    assert [Busy(), Busy(), Applied(2, Decimal(-2))] == held
    assert [Applied(2, Decimal(-2)), Applied(2, Decimal(-2)), Known(2, Decimal(-2))] == after


async def test_a_row_says_when_why_and_by_whom() -> None:
    reason = replace(by_pos(), reason="broken", reference="note 7")
    async with new_ledger() as (world, connection):
        await apply_movements(connection, [reason], actor="ana", note="seen")
        (row,) = await world.ledger()

    assert ("broken", "note 7", "ana", "seen", HAPPENED) == (row.reason, row.reference, row.actor, row.note, row.happened_at)


async def test_received_at_never_falls_below_that_of_the_row_before(world: World) -> None:
    """Whatever the clock says: after a failover it may have gone back."""
    await world.execute(
        "UPDATE pos_sync.stock_level SET updated_at = '2099-01-01T00:00:00Z' WHERE store_id = '1' AND item_id = 'avcc123'"
    )
    connection = await asyncpg.connect(world.service_url)
    await apply_movements(connection, [by_pos(store_id="1"), by_pos(store_id="1", key="l")])
    await connection.close()

    rows = await world.ledger()
    assert [2099, 2099] == [row.received_at.year for row in rows]


async def test_the_function_of_a_till_comes_to_what_the_model_says() -> None:
    """`record_movement` says with an error what the others say with an outcome."""
    codes = {"unknown_store": "23503", "unknown_item": "23503", "below_zero": "23514", "beyond_range": "22003"}
    numbers = itertools.count()
    for default in NegativeStock:
        async with new_ledger(default) as (world, _):
            model = new_model(default)
            till = await asyncpg.connect(world.owner_url)
            for store_id, item_id, kind, quantity in itertools.product(
                [*STORES, "nowhere"], [*ITEMS[:2], "unknown"], KINDS, QUANTITIES
            ):
                # Every third key was used before: for the same movement it is known, for another one it is refused.
                number = next(numbers)
                key = str(number - 1 if number % 3 == 2 else number)
                sale = by_pos(store_id=store_id, item_id=item_id, kind=kind, quantity=quantity, key=key)
                (expected,) = model.apply([sale])
                try:
                    found: str | Decimal = await till.fetchval(
                        "SELECT pos_sync.record_movement($1, $2, $3, $4, $5, $6, 'counted wrongly')",
                        *(store_id, item_id, kind.value, Decimal(quantity), key, HAPPENED),
                    )
                except asyncpg.PostgresError as error:
                    found = sqlstate(error)
                match expected:
                    case Applied(_, balance) | Known(_, balance):
                        assert balance == found
                    case KeyReused():
                        assert "23505" == found
                    case Refused(refusal):
                        assert codes[refusal.reason] == found
            await till.close()
            await assert_same(world, model)


def test_the_ledger_is_written_in_one_place() -> None:
    """In the application, and in the migrations from the one on that made the function."""
    sources = [*(TREE / "app").rglob("*.py"), *sorted((TREE / "migrations" / "versions").glob("*.py"))[5:]]
    written = re.compile(r"(INSERT INTO|UPDATE|DELETE FROM|insert\(|update\(|delete\()\s*(stock_movement|stock_level)\b")
    found = [(path.name, *match.groups()) for path in sources for match in written.finditer(path.read_text())]

    assert [
        ("0006_apply_movements.py", "INSERT INTO", "stock_level"),
        ("0006_apply_movements.py", "INSERT INTO", "stock_movement"),
        ("0006_apply_movements.py", "INSERT INTO", "stock_level"),
        ("0006_apply_movements.py", "DELETE FROM", "stock_level"),
        ("0007_true_numbers.py", "INSERT INTO", "stock_level"),
        ("0007_true_numbers.py", "INSERT INTO", "stock_movement"),
        ("0007_true_numbers.py", "INSERT INTO", "stock_level"),
        ("0007_true_numbers.py", "DELETE FROM", "stock_level"),
    ] == found


async def test_plans_do_not_depend_on_how_large_the_tables_were(world: World) -> None:
    """The settings stand on the function, so they hold for every session, a pooled one too."""
    async with world.engine.connect() as connection:
        settings = await connection.scalar(text("SELECT proconfig FROM pg_proc WHERE proname = 'apply_movements'"))

    expected = {
        "plan_cache_mode=force_generic_plan",
        "enable_seqscan=off",
        "enable_hashjoin=off",
        "enable_mergejoin=off",
        "enable_sort=off",
    }
    assert expected <= set(settings)


@pytest.mark.parametrize("rows", [0, 50, 175, 200, 400])
async def test_a_plan_that_was_made_on_a_small_ledger_probes_and_does_not_scan(world: World, rows: int) -> None:
    """Postgres plans once in a session. In a small ledger all ways of reading look cheap, and one of them reads a store."""
    async with world.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.exec_driver_sql("ALTER TABLE pos_sync.stock_movement DISABLE TRIGGER USER")
        await connection.exec_driver_sql("TRUNCATE stock_movement, suspected_duplicate")
        await connection.exec_driver_sql("UPDATE pos_sync.stock_level SET quantity = 0, version = 0")
        await connection.exec_driver_sql("VACUUM ANALYZE")
    earlier, till = [await asyncpg.connect(world.owner_url) for _ in range(2)]
    if rows:
        await apply_movements(earlier, [by_pos(store_id="1", key=f"earlier {number}") for number in range(rows)])
    async with till.transaction():
        for number in range(30):
            await apply_movements(till, [by_pos(store_id="1", key=f"{number} {copy}") for copy in range(10)])
        fetched = await till.fetchval("SELECT idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'stock_movement'")
    await earlier.close()
    await till.close()

    assert fetched == 0


async def test_who_waits_for_a_level_goes_by_what_its_holder_left() -> None:
    """The snapshot is taken after the lock: the next version, and a copy is known."""
    async with new_ledger() as (world, connection):
        await apply_movements(connection, [by_pos(key="first")])
        others = [await asyncpg.connect(world.service_url) for _ in range(2)]
        for other in others:
            await apply_movements(other, [reported(store_id="nowhere")])
        async with connection.transaction():
            await apply_movements(connection, [by_pos(key="second")])
            waiting = [
                asyncio.create_task(apply_movements(other, [by_pos(key=key)]))
                for other, key in zip(others, ("third", "second"), strict=True)
            ]
            query = "SELECT count(*) FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) WHERE NOT granted AND datname = $1"
            while (await connection.fetchval(query, world.database) or 0) < len(others):  # noqa: ASYNC110 - Postgres tells by a view
                await asyncio.sleep(0.005)
        found = await asyncio.gather(*waiting)
        for other in others:
            await other.close()

    assert [[Applied(3, Decimal(-3))], [Known(2, Decimal(-2))]] == found
