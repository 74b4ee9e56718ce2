"""The change feed in one worker: gives places to new rows, and wakes all who wait for one."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.errors.requests import CursorOfAnOlderEpoch, NoSuchStore
from app.storage import change_feed
from app.storage.catalog import find_store
from app.storage.ledger_rows import LedgerRow

MAX_WAIT = 60.0
"""Seconds: longer than that, proxies end a request."""
POLL_SECONDS = 0.5
IDLE_SECONDS = 5.0
"""Between two looks at whether the feed was switched on by another process."""


class ChangeFeed:
    """One poll of the database for all who wait in this worker. Nothing is numbered before somebody reads the feed."""

    def __init__(self, engine: AsyncEngine, *, on_lag: Callable[[float], None] = lambda _seconds: None) -> None:
        self._engine = engine
        self._on_lag = on_lag
        self._moved = asyncio.Event()
        self._asked = asyncio.Event()
        self._position = -1
        self._is_stopping = False

    def stop(self) -> None:
        """Answer all who wait, so that a stop of the service does not wait for them."""
        self._is_stopping = True
        self._moved.set()

    async def run(self) -> None:
        """Give places until it is cancelled."""
        while True:
            self._asked.clear()
            is_on = False
            with suppress(OSError, TimeoutError, SQLAlchemyError):
                # Without the database there is nothing to tell; the next turn looks again.
                is_on = await self._turn()
            if is_on:
                await asyncio.sleep(POLL_SECONDS)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(IDLE_SECONDS):
                    await self._asked.wait()

    async def read(self, store_id: str, *, after: int, limit: int, wait: float) -> list[tuple[int, LedgerRow]]:
        """Up to `limit` rows behind the place `after`; where there are none, those that come within `wait` seconds.

        Raises:
            NoSuchStore: there is no such store.
            CursorOfAnOlderEpoch: the place is of a time before a restore.
        """
        async with self._engine.begin() as connection:
            if await find_store(connection, store_id) is None:
                raise NoSuchStore(store_id)
            await change_feed.switch_on(connection)
        self._asked.set()
        deadline = asyncio.get_running_loop().time() + wait
        # At the first look, what was committed just now is there. Where very much has no place yet, `run` goes on.
        async with self._engine.begin() as connection:
            await change_feed.number(connection, waits=True)
        await self._wake()
        while True:
            moved = self._moved
            async with self._engine.connect() as connection:
                if 0 < after < await change_feed.first_position(connection, store_id):
                    raise CursorOfAnOlderEpoch
                found = await change_feed.read_changes(connection, store_id, after=after, limit=limit)
            if found or self._is_stopping:
                return found
            try:
                async with asyncio.timeout_at(deadline):
                    await moved.wait()
            except TimeoutError:
                return []

    async def _turn(self) -> bool:
        """Number what is new, and wake who waits; whether the feed is on."""
        has_more = True
        is_on = False
        while has_more:
            async with self._engine.begin() as connection:
                has_more = await change_feed.number(connection)
            is_on = await self._wake()
        return is_on

    async def _wake(self) -> bool:
        async with self._engine.connect() as connection:
            state = await change_feed.read_state(connection)
        if state is None:
            return False
        if state.lag_seconds is not None:
            self._on_lag(state.lag_seconds)
        if state.position != self._position:
            self._position = state.position
            moved, self._moved = self._moved, asyncio.Event()
            moved.set()
        return True
