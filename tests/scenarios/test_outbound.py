"""What goes out: sales while mipOS is down, two inventory systems on one store, a first day with a full synchronisation."""

import asyncio
from decimal import Decimal

import pytest
from sqlalchemy import text

from app.sandbox.platform import InventorySystem
from tests.conftest import running, settings_for
from tests.support.mipos import SYSTEM, mipos
from tests.support.outbox import connect_other, connect_stores, messages, sell, settled, updates
from tests.support.sender import PATH, body_of, signed
from tests.support.world import World

KEY = "the-key-of-the-till"
DISHES = 500


async def test_what_the_kitchen_sells_while_mipos_is_down_is_told_once_and_in_order_when_it_is_back(world: World) -> None:
    await connect_stores(world)
    async with mipos() as remote:
        port = remote.port
    settings = settings_for(world, **{**remote.settings(), "mipos_base_url": f"http://127.0.0.1:{port}"})
    async with running(settings) as (_, client):
        for ticket, quantity in enumerate(["1.25", "0.5", "0.25"]):
            await sell(world, quantity, f"ticket {ticket}")
        body = body_of(external_id="tom001", current_stock="21.25")
        assert 204 == (await client.post(PATH, content=body, headers=signed(body))).status_code
        async with mipos(port=port) as back:
            await settled(world)
            stock = back.platform.systems[SYSTEM].stock["avcc123"]

    told = [(body["quantity"], body["current_stock"]) for body in updates(back)]
    assert [("1.25", "12.44"), ("0.5", "11.94"), ("0.25", "11.69")] == told
    assert Decimal("11.69") == Decimal(stock) == await world.level()


async def test_two_inventory_systems_on_one_store_hear_of_each_other_and_never_of_themselves(world: World) -> None:
    await connect_stores(world)
    async with mipos() as remote:
        await connect_other(world, remote)
        async with running(settings_for(world, **remote.settings())) as (_, client):
            ours = body_of(current_stock="12.44")
            theirs = body_of(inventory_system_id="00000000-0000-4000-8000-0000000000b2", current_stock="12.44")
            for body in (ours, theirs):
                assert 204 == (await client.post(PATH, content=body, headers=signed(body))).status_code
            await settled(world)

    heard = [(body["inventory_system_id"] == SYSTEM, body["current_stock"]) for body in updates(remote)]
    assert [(False, "12.44"), (True, "11.19")] == sorted(heard)
    assert Decimal("11.19") == await world.level()


@pytest.mark.slow
async def test_on_the_first_day_500_dishes_are_synchronised_while_they_sell_and_both_stocks_agree_in_the_evening(
    world: World,
) -> None:
    await connect_stores(world)
    await world.execute(
        "INSERT INTO pos_sync.item SELECT '1', 'dish' || n, 'Dish', 'pos_kg', 'pos_kg', 'pos_sup_market', 1"
        f" FROM generate_series(1, {DISHES}) AS n",
        f"SELECT record_pos_movement('1', 'dish' || n, 'receipt', 100, 'delivery ' || n) FROM generate_series(1, {DISHES}) AS n",
        "UPDATE pos_sync.outbox_message SET state = 'dismissed', actor = 'test', note = 'before the first synchronisation'",
    )
    async with mipos() as remote:
        remote.platform.systems[SYSTEM] = InventorySystem("30", {"1"}, stock={})
        async with running(settings_for(world, outbox_parallel=16, **remote.settings(pos_api_key=KEY))) as (_, till):
            till.headers["Authorization"] = f"Bearer {KEY}"
            first = await till.post("/pos/stores/1/sync", timeout=60)
            selling = asyncio.create_task(_sell_all_day(world))
            runs = [await till.post("/pos/stores/1/sync", timeout=60) for _ in range(3)]
            await selling
            await settled(world)
        stock = remote.platform.systems[SYSTEM].stock

    assert {"done"} == {run.json()["state"] for run in [first, *runs]}
    async with world.engine.connect() as connection:
        levels = await connection.execute(text("SELECT item_id, quantity FROM pos_sync.stock_level WHERE store_id = '1'"))
        ours = {item: quantity for item, quantity in levels if item.startswith("dish")}
    assert ours == {item: Decimal(number) for item, number in stock.items() if item.startswith("dish")}
    assert {"sent", "covered", "dismissed"} >= {message.state for message in await messages(world)}


async def _sell_all_day(world: World) -> None:
    for hour in range(20):
        await world.execute(
            f"SELECT pos_sync.record_pos_movement('1', 'dish' || n, 'sale', 0.5, 'ticket {hour} ' || n)"
            f" FROM generate_series({hour + 1}, {DISHES}, 20) AS n"
        )
