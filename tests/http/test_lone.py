"""The one statement for a delivery that is alone: it applies what `decide` applies, and leaves all else as it was."""

import itertools
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from decimal import Decimal

import asyncpg
import pytest

from app.stock.applying import AlreadyApplied, Applied, Knowledge, Level, NegativeStock, Outcome, decide
from app.stock.movement import Movement, MovementType, Source, reported_movement
from app.stock.quantity import ZERO
from app.storage import movements, refusals
from app.storage.lone import apply_plain
from app.storage.refusals import RefusedDelivery
from tests.support.world import World

LARGEST = "999999999999999.99999999999999"
STORED = """
INSERT INTO store (store_id, name, timezone, negative_stock) VALUES
  ('allows', 'A', 'UTC', 'allow'), ('refuses', 'R', 'UTC', 'refuse'), ('default', 'D', 'UTC', NULL)
"""
CONNECTED = """
INSERT INTO integration (store_id, inventory_system_id, user_id_tps, enabled)
SELECT store_id, 'on', '1', true FROM store UNION ALL SELECT store_id, 'off', '1', false FROM store
"""
STOCKED = """
INSERT INTO stock_level (store_id, item_id, quantity, version) VALUES
  ('allows', 'avcc123', 1.50, 3), ('refuses', 'avcc123', 1.50, 3), ('default', 'avcc123', 1.50, 3),
  ('allows', 'tom001', -2, 1), ('refuses', 'tom001', -2, 1), ('default', 'tom001', -2, 1),
  ('allows', 'saf001', 999999999999999.99999999999999, 9), ('refuses', 'saf001', -999999999999999.99999999999999, 9)
"""
STORES = ("allows", "refuses", "default", "nowhere")
ITEMS = ("avcc123", "tom001", "saf001", "unknown")
QUANTITIES = ("0", "1.5", "1.51", "3", "0.00000000000001", LARGEST)


@pytest.fixture
async def connection(world: World) -> AsyncIterator[asyncpg.Connection]:
    """The service's own, with its least rights."""
    await world.execute(STORED, CONNECTED, STOCKED)
    connection = await asyncpg.connect(world.service_url)
    yield connection
    await connection.close()


def every_kind_of_movement() -> Iterator[Movement]:
    for store_id, item_id, movement_type, quantity in itertools.product(STORES, ITEMS, MovementType, QUANTITIES):
        for system_id in ("on", "off", "unheard-of"):
            yield reported(
                store_id=store_id, item_id=item_id, movement_type=movement_type, quantity=quantity, system_id=system_id
            )
        by_pos = reported(store_id=store_id, item_id=item_id, movement_type=movement_type, quantity=quantity)
        of_pos = replace(by_pos, inventory_system_id=None, reported_stock=None, sent_text=None)
        if movement_type is MovementType.ADD:
            yield replace(of_pos, source=Source.POS_RECEIPT)
        else:
            yield replace(of_pos, source=Source.POS_SALE)


def reported(
    *,
    store_id: str = "allows",
    item_id: str = "avcc123",
    movement_type: MovementType = MovementType.REMOVE,
    quantity: str = "1",
    system_id: str = "on",
) -> Movement:
    return reported_movement(
        inventory_system_id=system_id,
        store_id=store_id,
        item_id=item_id,
        movement_type=movement_type,
        quantity=Decimal(quantity),
        reported_stock=ZERO,
        date_text="d",
        sent_text="now",
    )


@pytest.mark.parametrize("default", NegativeStock)
async def test_it_applies_what_the_rules_apply_and_leaves_all_else(
    connection: asyncpg.Connection, default: NegativeStock
) -> None:
    applied = 0
    for movement in every_kind_of_movement():
        transaction = connection.transaction()
        await transaction.start()
        knowledge = await movements.read_knowledge(connection, [movement], default_negative_stock=default)
        outcome = decide([movement], knowledge).outcomes[0]
        before = await rows_of(connection)

        entry = await apply_plain(connection, movement, default_negative_stock=default)

        if entry is not None:
            assert outcome == Applied(entry)
            level = await movements.read_knowledge(connection, [movement], default_negative_stock=default)
            assert {movement.key: Level(entry.balance_after, entry.level_version)} == level.levels
            applied += 1
        else:
            assert before == await rows_of(connection)
            assert not isinstance(outcome, Applied) or takes_more(movement, outcome, knowledge)
        await transaction.rollback()

    assert applied >= 100


def takes_more(movement: Movement, outcome: Applied, knowledge: Knowledge) -> bool:
    """What is right and not plain: the first movement makes its level, and below zero takes a second look."""
    stays_below_zero = outcome.entry.balance_after < ZERO and knowledge.stores[movement.store_id] is NegativeStock.REFUSE
    return movement.key not in knowledge.levels or stays_below_zero


async def test_it_leaves_what_is_in_the_ledger_already(connection: asyncpg.Connection) -> None:
    assert await apply_plain(connection, reported(), default_negative_stock=NegativeStock.ALLOW)
    before = await rows_of(connection)

    assert await apply_plain(connection, reported(), default_negative_stock=NegativeStock.ALLOW) is None
    assert before == await rows_of(connection)
    assert AlreadyApplied() == await decided(connection, reported())


async def test_it_leaves_what_was_refused_before_and_has_to_be_closed(connection: asyncpg.Connection) -> None:
    movement = reported()
    assert movement.dedupe_key is not None
    kept = RefusedDelivery(fingerprint=movement.dedupe_key, reason="unknown_item", http_status=409, message="m", raw_body=b"{}")
    await refusals.record(connection, [kept])

    assert await apply_plain(connection, movement, default_negative_stock=NegativeStock.ALLOW) is None
    assert isinstance(await decided(connection, movement), Applied)


async def decided(connection: asyncpg.Connection, movement: Movement) -> Outcome:
    knowledge = await movements.read_knowledge(connection, [movement], default_negative_stock=NegativeStock.ALLOW)
    return decide([movement], knowledge).outcomes[0]


async def rows_of(connection: asyncpg.Connection) -> list[asyncpg.Record]:
    return list(
        await connection.fetch(
            "SELECT store_id, item_id, version, quantity, '' AS source FROM stock_level"
            " UNION ALL SELECT store_id, item_id, level_version, quantity, source FROM stock_movement ORDER BY 1, 2, 3, 5"
        )
    )
