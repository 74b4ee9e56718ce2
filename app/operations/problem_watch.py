"""Looks for problems every 15 seconds: one replica looks, all of them show what it found."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from time import monotonic
from typing import Protocol

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.operations.periodic import repeat
from app.problems.judging import judge
from app.problems.kinds import Problem, Severity
from app.storage import delivery_counts, leases, problems, refusals
from app.storage.migrations import read_schema_state
from app.storage.problem_facts import Circumstances, Numbers, Profiles, learn_profiles, read_facts, read_numbers
from app.storage.problems import Known, Look
from app.storage.transactions import database_now
from app.storage.waits import cut_waits

LOOK_SECONDS = 15.0
START_SECONDS = 2.0
LEASE = "problems"
LEASE_TIME = timedelta(seconds=20)
"""Longer than a look takes. One that ended in the middle of it, with its process, holds up the others for no longer."""
FOLDED = 500
"""Refusals that are folded in one transaction"""
MAX_FOLD_SHARE = 0.2
"""Of the time, while more are refused than are kept"""
LEARN_TIME = timedelta(minutes=10)
"""How long what was learnt of quiet hours is used"""

_log = structlog.get_logger("pos_sync.problems")


class ProblemObserver(Protocol):
    """What wants to know."""

    def observe_problems(self, present: Sequence[Known], look: Look) -> None:
        """The present problems, and when the last look was."""

    def observe_numbers(self, numbers: Numbers) -> None:
        """What is counted beside them."""


class ProblemWatch:
    """Looks, and tells `observer` what all replicas know."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        own: Circumstances,
        observer: ProblemObserver,
        on_look: Callable[[BaseException | None], None] = lambda _error: None,
        on_schema: Callable[[str | None], None] = lambda _fault: None,
    ) -> None:
        self._engine = engine
        self._own = own
        self._observer = observer
        self._on_look = on_look
        self._on_schema = on_schema
        self._profiles: Profiles = {}
        self._learnt_at: datetime | None = None
        self._too_many: list[str] = []

    async def run(self) -> None:
        """Until it is cancelled. A database that is away is told by others."""
        # Late: at a start deliveries come first.
        await asyncio.sleep(min(START_SECONDS, LOOK_SECONDS))
        await repeat("problems", self.look, pause=lambda: LOOK_SECONDS, on_end=self._on_look)

    async def look(self) -> None:
        """Look, unless another replica has just done so, and tell. A schema of another version has no tables to look into."""
        async with self._engine.connect() as connection:
            fault = (await read_schema_state(connection)).fault
        self._on_schema(fault)
        if fault is not None:
            return
        async with leases.holding(self._engine, LEASE, lasts=LEASE_TIME) as is_held:
            if is_held and await self._is_due():
                await self._cut_waits()
                async with self._engine.begin() as connection:
                    await self._write(connection)
        await self._fold()
        async with self._engine.connect() as connection:
            known, look = await problems.read_all(connection), await problems.read_look(connection)
            numbers = await read_numbers(connection)
        self._observer.observe_problems([one for one in known if one.is_present], look)
        self._observer.observe_numbers(numbers)

    async def _cut_waits(self) -> None:
        if cut := await cut_waits(self._engine):
            _log.warning("waits were longer than they may be and are cut: the database's clock has gone back", **cut)

    async def _fold(self) -> None:
        """Fold what is refused by the ten thousands, a part at a time; what a look did not reach, the next one does."""
        reasons, self._too_many = self._too_many, []
        end = monotonic() + LOOK_SECONDS
        for reason in reasons:
            folded = FOLDED
            while folded == FOLDED and monotonic() < end:
                started = monotonic()
                async with self._engine.begin() as connection:
                    folded = await refusals.fold(connection, reason, keep=refusals.MAX_OPEN, limit=FOLDED)
                await asyncio.sleep((monotonic() - started) * (1 / MAX_FOLD_SHARE - 1))

    async def _write(self, connection: AsyncConnection) -> None:
        now = await database_now(connection)
        if self._learnt_at is None or not timedelta() <= now - self._learnt_at < LEARN_TIME:
            self._profiles = await learn_profiles(connection)
            await delivery_counts.forget(connection)
            self._learnt_at = now
        facts = await read_facts(connection, self._profiles, self._own)
        self._too_many = [one.reason for one in facts.refusals if one.number > refusals.MAX_OPEN]
        before = {one.key: one for one in await problems.read_all(connection) if one.is_present}
        found = judge(facts)
        await problems.put(connection, found, now=facts.now)
        _say(before, found)

    async def _is_due(self) -> bool:
        """Whether nobody has just looked."""
        async with self._engine.connect() as connection:
            last = (await problems.read_look(connection)).looked_at
            now = await database_now(connection)
        return last is None or not timedelta() <= now - last < timedelta(seconds=LOOK_SECONDS / 2)


def _say(before: Mapping[tuple[str, str], Known], found: Sequence[Problem]) -> None:
    """One log line for each problem that begins, changes its severity, or is over."""
    for one in found:
        was = before.get(one.key)
        if one.severity is not Severity.INFO and (was is None or was.severity is not one.severity):
            facts = {"name": one.kind.name, "subject": one.subject, "severity": one.severity.value, "words": one.words}
            _log.warning("problem", **facts, remedy=one.kind.remedy)
    present = {one.key for one in found}
    for key, was in before.items():
        if key not in present and was.severity is not Severity.INFO:
            _log.info("problem over", name=was.kind.name, subject=was.subject)
