"""Full synchronisations by the clock: every `SYNC_EVERY` hours for each enabled integration, one of all replicas at a time.

When one is due is decided from the runs in the database, so that replicas and restarts neither double nor miss one.
"""

import asyncio
from datetime import timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.errors.requests import CannotSync, SyncUnderWay
from app.mipos.client import MiposClient
from app.mipos.sync import Order, synchronise
from app.mipos.token import AccessTokens
from app.storage import syncs
from app.storage.syncs import State
from app.storage.transactions import why_failed

ACTOR = "SYNC_EVERY"
MAX_LOOK = timedelta(seconds=60)
"""How long one that is due may wait."""

_log = structlog.get_logger("pos_sync.sync")


class Schedule:
    """Synchronises what is due, one after the other, until it is cancelled."""

    def __init__(self, engine: AsyncEngine, client: MiposClient, tokens: AccessTokens, *, every: timedelta) -> None:
        self._engine = engine
        self._client = client
        self._tokens = tokens
        self._every = every

    async def run(self) -> None:
        """Until it is cancelled; no failure ends it."""
        while True:
            try:
                await self.look()
            except (OSError, TimeoutError, SQLAlchemyError) as error:
                _log.warning("synchronisations wait for the database", reason=why_failed(error))
            except Exception:  # noqa: BLE001 - one store's trouble must not end the schedule of all
                _log.exception("a synchronisation failed unexpectedly")
            await asyncio.sleep(min(MAX_LOOK, self._every / 10).total_seconds())

    async def look(self) -> None:
        """Synchronise everything that is due now."""
        async with self._engine.connect() as connection:
            due = await syncs.list_due(connection, self._every)
        for pair in due:
            order = Order(pair.store_id, ACTOR, inventory_system_id=pair.inventory_system_id, not_within=self._every)
            try:
                result = await synchronise(self._engine, self._client, self._tokens, order)
            except SyncUnderWay:
                # Another replica, or a person, was faster.
                continue
            except CannotSync as error:
                _log.warning("not synchronised", store_id=pair.store_id, reason=error.message)
            else:
                say = _log.info if result.state is State.DONE else _log.warning
                facts = {"items": result.items, "covered": result.covered, "mipos_says": result.words}
                say("synchronised", outcome=result.state.value, store_id=pair.store_id, **facts)
