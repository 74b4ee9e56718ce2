"""The service's relays at work, as several replicas have them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from app.mipos.wiring import relay
from app.operations.metrics import Metrics
from app.settings import Settings
from app.storage.outbox import Backlog
from tests.support.postgres import database_of


class Observed(Metrics):
    """Counts how often a relay measured the backlog: in each turn, where `BACKLOG_SECONDS` is 0."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = 0

    def on_backlog(self, backlog: Backlog) -> None:
        super().on_backlog(backlog)
        self.turns += 1


@asynccontextmanager
async def relaying(settings: Settings, *, replicas: int = 2) -> AsyncIterator[Sequence[Observed]]:
    """Relays at work, each with an engine of its own; yields what observes them."""
    observers = [Observed() for _ in range(replicas)]

    async def work(observer: Observed) -> None:
        database = database_of(settings.database_url.get_secret_value())
        engine = database.create_engine()
        try:
            async with relay(settings, database, engine, observer=observer) as it:
                await it.run()
        finally:
            await engine.dispose()

    tasks = [asyncio.create_task(work(observer)) for observer in observers]
    try:
        yield observers
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [] == [result for result in results if not isinstance(result, asyncio.CancelledError)]
