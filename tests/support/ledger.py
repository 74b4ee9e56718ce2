"""A ledger to apply movements to: three stores that differ in what they refuse, and movements of every kind for them."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import asyncpg
from anyio.from_thread import BlockingPortal, start_blocking_portal

from app.stock.movement import Movement, MovementType, reported_movement
from app.stock.pos import PosKind, pos_movement
from app.stock.rules import NegativeStock
from tests.conftest import new_world
from tests.support.world import World

SET_UP = """
INSERT INTO pos_sync.store (store_id, name, timezone, negative_stock) VALUES
  ('allows', 'A', 'UTC', 'allow'), ('refuses', 'R', 'UTC', 'refuse'), ('default', 'D', 'UTC', NULL);
INSERT INTO pos_sync.integration (store_id, inventory_system_id, user_id_tps, enabled)
SELECT store_id, 'on', '1', true FROM pos_sync.store UNION ALL SELECT store_id, 'off', '1', false FROM pos_sync.store;
INSERT INTO pos_sync.service_rule (pos_id, negative_stock, reported_stock, timezone, max_count_age_days)
VALUES ('8', 'allow', 'after', 'UTC', 3650);
INSERT INTO unit (store_id, unit_id, name, short_name) SELECT store_id, 'u', 'Unit', 'u' FROM store WHERE length(store_id) > 1;
INSERT INTO supplier (store_id, supplier_id, name) SELECT store_id, 's', 'S' FROM store WHERE length(store_id) > 1;
INSERT INTO pos_sync.item (store_id, item_id, name, purchase_unit_id, consumption_unit_id, supplier_id, cost)
SELECT store_id, item_id, item_id, 'u', 'u', 's', 1
FROM pos_sync.store CROSS JOIN unnest(ARRAY['avcc123', 'tom001', 'saf001']) AS item_id WHERE length(store_id) > 1
"""
STORES = {"allows": NegativeStock.ALLOW, "refuses": NegativeStock.REFUSE, "default": None}
ITEMS = ("avcc123", "tom001", "saf001")
LARGEST = "999999999999999.99999999999999"
HAPPENED = datetime(2026, 5, 30, 12, 45, 3, 250_000, tzinfo=UTC)


@asynccontextmanager
async def new_ledger(default: NegativeStock = NegativeStock.ALLOW) -> AsyncIterator[tuple[World, asyncpg.Connection]]:
    """A database with three stores, and a connection with the service's own, least rights."""
    async with new_world() as world:
        await world.execute(*SET_UP.split(";"))
        await reset(world, default)
        # A test that waits without end must fail, and say what it waited for.
        limits = {"lock_timeout": "5s", "statement_timeout": "10s"}
        connection = await asyncpg.connect(world.service_url, server_settings=limits)
        try:
            yield world, connection
        finally:
            await connection.close()


async def reset(world: World, default: NegativeStock) -> None:
    """Empty the ledger, past its guard, for the next example: a database for each takes longer than the example."""
    await world.execute_past_guards(
        "TRUNCATE stock_movement, outbox_message, stock_level, suspected_duplicate",
        f"UPDATE pos_sync.service_rule SET negative_stock = '{default}'",
    )


def reported(  # noqa: PLR0913 - what a report says
    *,
    store_id: str = "allows",
    item_id: str = "avcc123",
    movement_type: MovementType = MovementType.REMOVE,
    quantity: str = "1",
    system_id: str = "on",
    date: str = "d",
    pos_id: str = "8",
    occurrence: int = 1,
) -> Movement:
    movement = reported_movement(
        inventory_system_id=system_id,
        store_id=store_id,
        item_id=item_id,
        movement_type=movement_type,
        quantity=Decimal(quantity),
        reported_stock=Decimal(0),
        date_text=date,
        sent_at_text="now",
        pos_id=pos_id,
    )
    return replace(movement, occurrence=occurrence)


def by_pos(  # noqa: PLR0913 - what a till says
    *,
    store_id: str = "allows",
    item_id: str = "avcc123",
    kind: PosKind = PosKind.SALE,
    quantity: str = "1",
    key: str = "k",
    happened_at: datetime | None = HAPPENED,
    to_store_id: str | None = None,
) -> Movement:
    return pos_movement(
        store_id=store_id,
        item_id=item_id,
        kind=kind,
        quantity=Decimal(quantity),
        idempotency_key=key,
        happened_at=happened_at,
        recorded_at=HAPPENED,
        to_store_id=to_store_id,
    )


@contextmanager
def in_a_loop() -> Iterator[BlockingPortal]:
    """An event loop beside hypothesis, which calls plain functions; so all examples share one database."""
    with start_blocking_portal(backend_options={"use_uvloop": True}) as portal:
        yield portal
