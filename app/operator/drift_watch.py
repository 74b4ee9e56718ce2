"""Drift as the metrics show it: one replica at a time compares the levels that have changed, a few at a time."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from time import monotonic

from sqlalchemy.ext.asyncio import AsyncEngine

from app.operations.periodic import repeat
from app.operator.drift import refresh
from app.stock.rules import Rules
from app.storage import leases, system_levels
from app.storage.system_levels import DriftSummary

LEASE = "drift"
LEASE_TIME = timedelta(seconds=90)
PAUSE_SECONDS = 15.0
MAX_LEVELS = 50
"""In a turn"""
MAX_SHARE = 0.03
"""Of the time, for comparing"""


class DriftWatch:
    """Keeps the drift of every level computed, and tells what it comes to."""

    def __init__(self, engine: AsyncEngine, rules: Rules, *, on_drift: Callable[[Sequence[DriftSummary]], None]) -> None:
        self._engine = engine
        self._rules = rules
        self._on_drift = on_drift
        self._rest = 0.0
        """Seconds to pause after the last comparing"""
        self._pause = PAUSE_SECONDS

    async def run(self) -> None:
        """Until it is cancelled; no failure of the database ends it. It begins late: at a start deliveries come first."""
        await asyncio.sleep(PAUSE_SECONDS)
        await repeat("drift", self._turn, pause=lambda: self._pause)

    async def _turn(self) -> None:
        self._pause = PAUSE_SECONDS
        has_more = await self.look()
        self._pause = max(0.0 if has_more else PAUSE_SECONDS, self._rest, min(1.0, PAUSE_SECONDS))

    async def look(self) -> bool:
        """Compare some levels, unless another replica does, and tell what all comes to; whether there are more to compare."""
        compared = 0
        async with leases.holding(self._engine, LEASE, lasts=LEASE_TIME) as is_held:
            if is_held:
                started = monotonic()
                compared = await refresh(self._engine, self._rules, limit=MAX_LEVELS)
                # What compares for a moment rests for long: deliveries come first.
                self._rest = (monotonic() - started) / MAX_SHARE
        async with self._engine.connect() as connection:
            self._on_drift(await system_levels.summarise(connection))
        return compared == MAX_LEVELS
