"""Deleting what is settled and older than the settings say: by command, and once a day in the background.

Never the ledger, an identity, a refusal's row, or what is open. Between two parts it rests, so that deliveries keep their rate.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from time import monotonic

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from app.database_settings import DatabaseSettings
from app.operations.periodic import repeat
from app.storage import leases, retention
from app.storage.retention import BodyPart, Key, Pair, Pruned
from app.storage.transactions import database_now

LEASE = "prune"
EVERY = timedelta(days=1)
FIRST_SECONDS = 300.0
"""After a start: deliveries come first."""
LOOK_SECONDS = 1800.0
"""Between two looks at the lease"""
PART = 1000
"""Rows that are looked at in one transaction"""
COUNTED = 500
"""Pairs whose messages are counted in one statement"""
MAX_SHARE = 0.03
"""Of the time, for deleting"""

_log = structlog.get_logger("pos_sync.prune")


@dataclass(frozen=True, slots=True)
class Ages:
    """How many days what is settled is kept."""

    outbox_days: int
    days: int
    """Of bodies and synchronisations; 0: nothing is deleted"""


def ages_of(settings: DatabaseSettings) -> Ages:
    """As the settings say."""
    return Ages(outbox_days=settings.outbox_retention_days, days=settings.retention_days)


class PrunePart(StrEnum):
    """What is deleted, in this order."""

    MESSAGES = "stock updates"
    REFUSALS = "bodies of refusals"
    DUPLICATES = "bodies of suspected duplicates"
    RUNS = "synchronisations"


OnPart = Callable[[PrunePart, int], None]
"""Told what is being deleted, and how many of it are."""


def _say_nothing(_part: PrunePart, _deleted: int) -> None:
    pass


async def prune(  # noqa: PLR0913 - each by name
    engine: AsyncEngine,
    ages: Ages,
    *,
    actor: str,
    is_dry: bool = False,
    max_share: float = MAX_SHARE,
    on_part: OnPart = _say_nothing,
) -> Pruned:
    """Delete what is older; what was deleted, or with `is_dry` would be. Two at once delete each row once.

    Raises:
        OSError, TimeoutError, SQLAlchemyError: the database cannot be used. What was deleted before stays deleted.
    """
    run = _Prune(engine, is_dry=is_dry, max_share=max_share, on_part=on_part)
    messages = await run.messages(ages.outbox_days)
    refusals = duplicates = runs = 0
    if ages.days:
        async with engine.connect() as connection:
            before = await database_now(connection) - timedelta(days=ages.days)
        refusals = await run.bodies(PrunePart.REFUSALS, retention.prune_refusal_bodies, before)
        duplicates = await run.bodies(PrunePart.DUPLICATES, retention.prune_duplicate_bodies, before)
        runs = await run.sync_runs(ages.days)
    pruned = Pruned(messages, refusals, duplicates, runs)
    if not is_dry:
        async with engine.begin() as connection:
            await retention.put_last(connection, pruned, actor=actor)
    return pruned


class _Prune:
    def __init__(self, engine: AsyncEngine, *, is_dry: bool, max_share: float, on_part: OnPart) -> None:
        self._engine = engine
        self._is_dry = is_dry
        self._max_share = max_share
        self._on_part = on_part

    async def messages(self, days: int) -> int:
        deleted = after = 0
        cuts: dict[Pair, int] = {}
        is_done = False
        while not is_done:
            started = monotonic()
            async with self._engine.begin() as connection:
                part = await retention.prune_outbox(connection, days=days, after=after, limit=PART, is_dry=self._is_dry)
            deleted, after, is_done = deleted + part.messages, part.last_id, part.is_done
            self._on_part(PrunePart.MESSAGES, deleted)
            if self._is_dry:
                cuts.update(part.cuts)
            await self._rest(started, is_done=is_done)
        kept = list(cuts.items())
        for start in range(0, len(kept), COUNTED):
            async with self._engine.connect() as connection:
                deleted += await retention.count_outbox(connection, kept[start : start + COUNTED])
        return deleted

    async def bodies(self, kind: PrunePart, prune_part: Callable[..., Awaitable[BodyPart]], before: datetime) -> int:
        deleted = 0
        after: Key | None = None
        while True:
            started = monotonic()
            async with self._engine.begin() as connection:
                part = await prune_part(connection, before=before, after=after, limit=PART, is_dry=self._is_dry)
            deleted, after = deleted + part.bodies, part.last
            self._on_part(kind, deleted)
            if after is None:
                return deleted
            await self._rest(started)

    async def sync_runs(self, days: int) -> int:
        deleted = after = 0
        is_done = False
        while not is_done:
            started = monotonic()
            async with self._engine.begin() as connection:
                part = await retention.prune_sync_runs(connection, days=days, after=after, limit=PART, is_dry=self._is_dry)
            deleted, after, is_done = deleted + part.runs, part.last_id, part.is_done
            self._on_part(PrunePart.RUNS, deleted)
            await self._rest(started, is_done=is_done)
        return deleted

    async def _rest(self, started: float, *, is_done: bool = False) -> None:
        if not is_done:
            await asyncio.sleep((monotonic() - started) * (1 / self._max_share - 1))


class Pruner:
    """Prunes once a day, one replica for all."""

    def __init__(self, engine: AsyncEngine, ages: Ages, *, first: float = FIRST_SECONDS, looks: float = LOOK_SECONDS) -> None:
        self._engine = engine
        self._ages = ages
        self._first = first
        self._looks = looks

    async def run(self) -> None:
        """Until it is cancelled."""
        await asyncio.sleep(self._first)
        await repeat("prune", self._turn, pause=lambda: self._looks)

    async def _turn(self) -> None:
        if await leases.take_turn(self._engine, LEASE, every=EVERY):
            pruned = await prune(self._engine, self._ages, actor="pos-sync serve")
            _log.info(
                "pruned",
                messages=pruned.messages,
                refusal_bodies=pruned.refusal_bodies,
                duplicate_bodies=pruned.duplicate_bodies,
                sync_runs=pruned.sync_runs,
            )
