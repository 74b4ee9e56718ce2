"""The guards of `apply_movements`, each by itself: what it judges, and what two sessions that meet do to each other."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal

import asyncpg
import pytest
from sqlalchemy import text

from app.stock.movement import Applied, KeyReused, Known, Movement, MovementType, Outcome, Refused, opening_movement
from app.stock.pos import PosKind
from app.stock.rules import NegativeStock
from app.storage import refusals
from app.storage.ledger import apply_movements
from app.storage.refusals import RefusedDelivery
from tests.support.ledger import ITEMS, LARGEST, by_pos, new_ledger, reported
from tests.support.world import World


async def test_received_at_is_read_under_the_lock_and_without_its_own_time_a_movement_happened_then() -> None:
    async with new_ledger() as (world, connection):
        async with connection.transaction():
            began = await connection.fetchval("SELECT now()")
            await apply_movements(connection, [reported()])
        (row,) = await world.ledger()

    assert began < row.received_at == row.happened_at


async def test_every_digit_is_kept() -> None:
    added = reported(movement_type=MovementType.ADD, quantity=LARGEST)
    async with new_ledger() as (world, connection):
        outcomes = await apply_movements(connection, [added, reported(quantity="0.00000000000001")])
        rows = await world.ledger()

    assert [Applied(1, Decimal(LARGEST)), Applied(2, Decimal("999999999999999.99999999999998"))] == outcomes
    assert [Decimal(LARGEST), Decimal("-0.00000000000001")] == [row.delta for row in rows]


async def test_what_comes_after_a_count_or_a_refusal_is_judged_by_what_it_left() -> None:
    asked = [
        by_pos(store_id="refuses", kind=kind, quantity=quantity, key=f"{kind} {quantity}", happened_at=None)
        for kind, quantity in ((PosKind.COUNT, "5"), (PosKind.SALE, "6"), (PosKind.SALE, "4"), (PosKind.COUNT, "3"))
    ]
    async with new_ledger() as (_, connection):
        outcomes = await apply_movements(connection, asked)

    assert [Applied(1, Decimal(5)), Applied(2, Decimal(1)), Applied(3, Decimal(3))] == [*outcomes[:1], *outcomes[2:]]
    assert isinstance(outcomes[1], Refused)
    assert "the POS has 5" in outcomes[1].error.message


async def test_a_movement_past_the_largest_stock_is_refused() -> None:
    asked = [reported(movement_type=MovementType.ADD, quantity=LARGEST, date=date) for date in ("d", "e")]
    async with new_ledger() as (_, connection):
        applied, refused = await apply_movements(connection, asked)

    assert Applied(1, Decimal(LARGEST)) == applied
    assert isinstance(refused, Refused)
    assert "beyond_range" == refused.error.reason


async def test_a_level_is_opened_once_also_after_its_first_movement() -> None:
    opening = opening_movement(store_id="allows", item_id="avcc123", stock=Decimal("7.5"))
    late = replace(opening, item_id="tom001")
    async with new_ledger() as (_, connection):
        together = await apply_movements(connection, [opening, reported(item_id="tom001"), late])
        again = await apply_movements(connection, [opening, late])

    assert [Applied, Applied, Applied, Known, Known] == [type(outcome) for outcome in together + again]
    assert Applied(2, Decimal("7.5")) == together[2]


async def test_an_opening_below_zero_is_refused_by_the_store_s_own_rule_alone() -> None:
    asked = [opening_movement(store_id=store_id, item_id="avcc123", stock=Decimal(-2)) for store_id in ("default", "refuses")]
    async with new_ledger(NegativeStock.REFUSE) as (_, connection):
        outcomes = await apply_movements(connection, asked)

    assert [Applied, Refused] == [type(outcome) for outcome in outcomes]


async def test_each_occurrence_is_a_movement_of_its_own_whichever_comes_first() -> None:
    async with new_ledger() as (_, connection):
        found = [(await apply_movements(connection, [reported(occurrence=number)]))[0] for number in (2, 1, 2, 1)]

    assert [Applied(1, Decimal(-1)), Applied(2, Decimal(-2)), Known(1, Decimal(-1)), Known(2, Decimal(-2))] == found


async def test_an_opening_stock_is_not_told() -> None:
    async with new_ledger() as (world, connection):
        await apply_movements(connection, [opening_movement(store_id="allows", item_id="avcc123", stock=Decimal(1))])
        await apply_movements(connection, [by_pos(happened_at=None)])
        async with world.engine.connect() as owner:
            told = list(await owner.execute(text("SELECT level_version FROM pos_sync.outbox_message")))

    assert [(2,)] == told


async def test_an_applied_movement_closes_its_refusal() -> None:
    async with new_ledger() as (world, connection):
        await refusals.record(connection, [as_refused(reported()), as_refused(reported(date="another"))])
        await apply_movements(connection, [reported()])
        states = [kept.state for kept in await world.refused()]

    assert ["open", "resolved"] == sorted(states)


async def test_a_known_movement_closes_what_was_left_open_of_it() -> None:
    """It was refused by one replica and applied by another, neither of which saw what the other wrote."""
    async with new_ledger() as (world, connection):
        await apply_movements(connection, [reported()])
        await refusals.record(connection, [as_refused(reported())])
        assert ["resolved"] == [kept.state for kept in await world.refused()]
        await world.execute("UPDATE pos_sync.refused_delivery SET state = 'open', closed_at = NULL")

        (outcome,) = await apply_movements(connection, [reported()])
        (kept,) = await world.refused()

    assert (Known(1, Decimal(-1)), "resolved") == (outcome, kept.state)
    assert kept.closed_at is not None


def as_refused(movement: Movement) -> RefusedDelivery:
    assert movement.dedupe_key is not None
    return RefusedDelivery(movement.dedupe_key, "unknown_item", 409, "No such item.", b"{}", movement.store_id)


@asynccontextmanager
async def new_session(world: World) -> AsyncIterator[asyncpg.Connection]:
    """Another session, as the owner, who may lock rows."""
    connection = await asyncpg.connect(world.owner_url)
    try:
        yield connection
    finally:
        await connection.close()


async def until_it_waits(world: World, connection: asyncpg.Connection, call: asyncio.Task[list[Outcome]]) -> None:
    """Return once `call` waits for another session, or has ended without."""
    async with new_session(world) as observer:
        waits = "SELECT cardinality(pg_blocking_pids($1)) > 0"
        while not call.done() and not await observer.fetchval(waits, connection.get_server_pid()):
            pass


async def is_held(world: World, item_id: str) -> bool:
    """Whether a session has locked the level."""
    query = "SELECT true FROM pos_sync.stock_level WHERE store_id = 'allows' AND item_id = $1 FOR UPDATE SKIP LOCKED"
    async with new_session(world) as observer:
        return await observer.fetchval(query, item_id) is None


@pytest.mark.parametrize("is_new", [True, False], ids=["new", "used"])
async def test_two_sessions_that_move_one_level_follow_each_other(is_new: bool) -> None:  # noqa: FBT001
    async with new_ledger() as (world, connection), new_session(world) as other:
        if not is_new:
            await apply_movements(connection, [reported(date="before")])
        async with other.transaction():
            (first,) = await apply_movements(other, [reported(date="first")])
            call = asyncio.create_task(apply_movements(connection, [reported(date="second")]))
            await until_it_waits(world, connection, call)
        (second,) = await call

        assert {} == await world.broken_invariants()
    versions = (1, 2) if is_new else (2, 3)
    assert [Applied(version, Decimal(-version)) for version in versions] == [first, second]


async def test_one_key_for_two_items_in_two_sessions_is_recorded_once() -> None:
    """No lock is common to both: the key is unique in the ledger, and the second one is asked again."""
    async with new_ledger() as (world, connection), new_session(world) as other:
        await apply_movements(connection, [by_pos(item_id=item, key=f"first {item}") for item in ITEMS])
        async with other.transaction():
            await apply_movements(other, [by_pos()])
            call = asyncio.create_task(apply_movements(connection, [by_pos(item_id="tom001")]))
            await until_it_waits(world, connection, call)
        with pytest.raises(asyncpg.UniqueViolationError):
            await call

        assert [KeyReused()] == await apply_movements(connection, [by_pos(item_id="tom001")])


async def test_levels_are_locked_in_key_order_so_that_two_calls_cannot_deadlock() -> None:
    asked = [reported(item_id=item, date="asked") for item in ("tom001", "avcc123")]
    async with new_ledger() as (world, connection), new_session(world) as holder:
        await apply_movements(connection, [reported(item_id=item) for item in ITEMS])
        async with holder.transaction():
            await holder.execute("SELECT FROM pos_sync.stock_level WHERE store_id = 'allows' AND item_id = 'avcc123' FOR UPDATE")
            call = asyncio.create_task(apply_movements(connection, asked))
            await until_it_waits(world, connection, call)
            is_later_one_held = await is_held(world, "tom001")
        outcomes = await call

    assert not is_later_one_held
    assert [Applied(2, Decimal(-2))] * 2 == outcomes


async def test_known_is_said_under_the_lock_of_the_level() -> None:
    """So the transaction has written WAL, and under synchronous replication its commit waits as that of the first one did."""
    async with new_ledger() as (world, connection):
        await apply_movements(connection, [reported()])
        async with connection.transaction():
            (outcome,) = await apply_movements(connection, [reported()])
            is_level_held = await is_held(world, "avcc123")

    assert Known(1, Decimal(-1)) == outcome
    assert is_level_held


async def test_known_is_said_under_the_lock_of_a_level_that_was_made_while_the_others_were_waited_for() -> None:
    made = reported(item_id="tom001")
    async with new_ledger() as (world, connection), new_session(world) as holder, new_session(world) as maker:
        await apply_movements(connection, [reported()])
        async with connection.transaction():
            async with holder.transaction():
                await holder.execute(
                    "SELECT FROM pos_sync.stock_level WHERE store_id = 'allows' AND item_id = 'avcc123' FOR UPDATE"
                )
                call = asyncio.create_task(apply_movements(connection, [reported(date="e"), made]))
                await until_it_waits(world, connection, call)
                assert [Applied(1, Decimal(-1))] == await apply_movements(maker, [made])
            outcomes = await call
            is_level_held = await is_held(world, "tom001")

    assert [Applied(2, Decimal(-2)), Known(1, Decimal(-1))] == outcomes
    assert is_level_held


async def test_a_copy_that_is_a_count_goes_with_the_sale_whose_key_it_has() -> None:
    async with new_ledger() as (_, connection):
        sale, count = by_pos(item_id="unknown"), by_pos(item_id="unknown", kind=PosKind.COUNT)
        outcomes = await apply_movements(connection, [sale, count], units=[1, 1])

    assert ["Refused", "KeyReused"] == [type(outcome).__name__ for outcome in outcomes]
