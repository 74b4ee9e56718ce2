"""The service's relay of messages, step by step or at work."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from pydantic import SecretStr

from app.mipos.answers import Answer
from app.mipos.client import MiposClient
from app.mipos.stock_update import stock_update_body, verdict_of
from app.mipos.token import AccessTokens
from app.mipos.wiring import relay
from app.operations.metrics import Metrics
from app.settings import Settings
from app.storage import outbox
from tests.support.postgres import database_of
from tests.support.world import World


async def send_next(world: World, client: MiposClient, tokens: AccessTokens) -> bool:
    """Send one message with the relay's own parts, if one may be sent now."""
    async with world.engine.begin() as connection:
        claimed = await outbox.claim(connection, limit=1, lasts=timedelta(minutes=1))
    for message in claimed:

        async def send(token: SecretStr) -> Answer:
            return await client.update_stock("1", stock_update_body(message), token=token)  # noqa: B023 - called at once

        settled = verdict_of(await tokens.call(send), message, jitter=0)
        async with world.engine.begin() as connection:
            await outbox.settle(connection, [settled])
    return bool(claimed)


@asynccontextmanager
async def relaying(settings: Settings) -> AsyncIterator[None]:
    """Two relays at work, as two replicas have them."""

    async def work() -> None:
        database = database_of(settings.database_url.get_secret_value())
        engine = database.create_engine()
        try:
            async with relay(settings, database, engine, observer=Metrics()) as it:
                await it.run()
        finally:
            await engine.dispose()

    tasks = [asyncio.create_task(work()) for _ in range(2)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [] == [result for result in results if not isinstance(result, asyncio.CancelledError)]
