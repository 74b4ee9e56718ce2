"""A relay of messages that keeps to the same protocol as the service's: claims, sends in order, marks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import SecretStr
from sqlalchemy import text

from app.mipos.answers import Answer, Done
from app.mipos.client import MiposClient
from app.mipos.token import AccessTokens
from app.stock.quantity import to_plain
from app.storage.leases import sync_lease
from app.storage.syncs import join_claiming
from tests.support.world import World

_CLAIM = """
UPDATE outbox_message SET claimed_until = now() + interval '30 seconds'
WHERE outbox_message_id = (
  SELECT outbox_message_id FROM outbox_message AS first
  WHERE state = 'pending' AND coalesce(claimed_until < now(), true)
  AND NOT EXISTS (SELECT FROM lease WHERE name = :prefix || store_id || ' ' || inventory_system_id AND held_until > now())
  AND NOT EXISTS (
    SELECT FROM outbox_message AS earlier WHERE earlier.state = 'pending' AND earlier.store_id = first.store_id
    AND earlier.inventory_system_id = first.inventory_system_id AND earlier.item_id = first.item_id
    AND earlier.level_version < first.level_version
  )
  ORDER BY outbox_message_id LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING *
"""
_MOVED = "SELECT * FROM stock_movement WHERE store_id = :store AND item_id = :item AND level_version = :version"


async def send_next(world: World, client: MiposClient, tokens: AccessTokens) -> bool:
    """Send one message, if one may be sent now."""
    prefix = sync_lease("", "").rstrip() + " "
    async with world.engine.begin() as connection:
        await join_claiming(connection)
        message = (await connection.execute(text(_CLAIM), {"prefix": prefix})).one_or_none()
    if message is None:
        return False
    async with world.engine.connect() as connection:
        key = {"store": message.store_id, "item": message.item_id, "version": message.level_version}
        moved = (await connection.execute(text(_MOVED), key)).one()
    body = {
        "user_id_tps": message.user_id_tps,
        "inventory_system_id": message.inventory_system_id,
        "current_stock": to_plain(moved.balance_after),
        "quantity": to_plain(moved.quantity),
        "date": "2026-05-30 12:45:03",
        "movement_type": moved.movement_type,
        "external_id": message.item_id,
    }

    async def send(token: SecretStr) -> Answer:
        return await client.update_stock(message.store_id, body, token=token)

    answer = await tokens.call(send)
    assert isinstance(answer, Done), answer
    await world.execute(
        f"UPDATE outbox_message SET state = 'sent', claimed_until = NULL WHERE outbox_message_id = {message.outbox_message_id}"
    )
    return True


@asynccontextmanager
async def relaying(world: World, client: MiposClient, tokens: AccessTokens) -> AsyncIterator[None]:
    """Two relays at work, as two replicas have them."""

    async def relay() -> None:
        while True:
            if not await send_next(world, client, tokens):
                await asyncio.sleep(0.01)

    tasks = [asyncio.create_task(relay()) for _ in range(2)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        failed = [result for result in results if not isinstance(result, asyncio.CancelledError)]
        assert [] == failed
