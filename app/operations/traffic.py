"""Counts deliveries in memory, and adds them to the database every few seconds: a delivery costs no statement for it."""

import asyncio
from collections import Counter
from contextlib import suppress

from sqlalchemy.ext.asyncio import AsyncEngine

from app.scope import DeliveryLog, DeliveryOutcome
from app.storage import delivery_counts
from app.storage.delivery_counts import UNSETTLED, UNVERIFIED, Key, Signs
from app.storage.transactions import DATABASE_FAILURES

FLUSH_SECONDS = 5.0
END_SECONDS = 1.0
MAX_KEYS = 10_000
"""Kept while the database is away; what comes beyond is only in the metrics."""


class Traffic:
    """What this worker has answered since it last told."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._counts: Counter[Key] = Counter()
        self._signs: dict[tuple[str, str], Signs] = {}

    def note(self, delivery: DeliveryLog) -> None:
        """Count an answered delivery. A ping is none."""
        if delivery.outcome is DeliveryOutcome.PING:
            return
        pair = (delivery.store_id or "", delivery.inventory_system_id or "")
        key = Key(*pair, _outcome_of(delivery))
        if key not in self._counts and len(self._counts) >= MAX_KEYS:
            return
        self._counts[key] += 1
        if delivery.signature in UNVERIFIED:
            if delivery.claimed is not None:
                self._sign(delivery.claimed).unsigned += 1
        elif delivery.signature is not None and all(pair):
            sign = self._sign(pair)
            sign.is_verified, sign.unsigned = True, 0
            sign.is_settled |= delivery.outcome not in (DeliveryOutcome.UNSETTLED, DeliveryOutcome.FAILED)

    def _sign(self, pair: tuple[str, str]) -> Signs:
        if pair not in self._signs and len(self._signs) >= MAX_KEYS:
            return Signs()
        return self._signs.setdefault(pair, Signs())

    async def run(self) -> None:
        """Until it is cancelled; then what is left is told too."""
        try:
            while True:
                await asyncio.sleep(FLUSH_SECONDS)
                with suppress(*DATABASE_FAILURES):
                    await self.flush()
        finally:
            with suppress(*DATABASE_FAILURES):
                async with asyncio.timeout(END_SECONDS):
                    await self.flush()

    async def flush(self) -> None:
        """Tell what was counted. Where the outcome is not known, it is told again: a count may be too high, never lost."""
        counts, signs = self._counts, self._signs
        if not counts and not signs:
            return
        self._counts, self._signs = Counter(), {}
        try:
            async with self._engine.begin() as connection:
                await delivery_counts.add(connection, counts, signs)
        except BaseException:
            self._counts += counts
            for pair, sign in signs.items():
                self._signs.setdefault(pair, sign)
            raise


def _outcome_of(delivery: DeliveryLog) -> str:
    if delivery.signature in UNVERIFIED:
        return delivery.signature
    if delivery.outcome is DeliveryOutcome.UNSETTLED:
        return UNSETTLED
    if delivery.outcome in (DeliveryOutcome.REFUSED, DeliveryOutcome.NOT_RECEIVED):
        return f"{delivery.outcome.value}: {delivery.reason}"
    return delivery.outcome.value
