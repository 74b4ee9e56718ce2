"""What the POS sells, and what the store's inventory systems are told of it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import text

from app.sandbox.platform import InventorySystem
from tests.support.mipos import Remote
from tests.support.world import World

OTHER = "00000000-0000-4000-8000-0000000000b2"
PATIENCE_SECONDS = 60


async def connect_stores(world: World) -> None:
    await world.execute("UPDATE pos_sync.store SET mipos_store_id = store_id")


async def connect_other(world: World, remote: Remote) -> None:
    """Store 1 is connected to a second inventory system."""
    await world.execute(
        f"INSERT INTO pos_sync.integration (store_id, inventory_system_id, user_id_tps) VALUES ('1', '{OTHER}', '31')"
    )
    remote.platform.systems[OTHER] = InventorySystem("31", {"1"}, stock={"avcc123": "13.69", "tom001": "22.5"})


async def sell(world: World, quantity: str, key: str, *, item: str = "avcc123") -> None:
    """A sale that the POS records by SQL."""
    await world.execute(f"SELECT pos_sync.record_pos_movement('1', '{item}', 'sale', {quantity}, '{key}')")


async def messages(world: World) -> list[Any]:
    async with world.engine.connect() as connection:
        query = text("SELECT * FROM pos_sync.outbox_message ORDER BY inventory_system_id, store_id, item_id, level_version")
        return list(await connection.execute(query))


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await condition():  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.02)


async def settled(world: World) -> None:
    async def is_settled() -> bool:
        return all(message.state != "pending" for message in await messages(world))

    await until(is_settled)


def updates(remote: Remote) -> list[dict[str, Any]]:
    return [received.body for received in remote.sandbox.received if received.call == "stock_update"]
