"""How the service stands now: the facts, and the problems in them. `status` and `doctor` show it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.mipos.wiring import why_not_registering
from app.problems import kinds
from app.problems.facts import Facts
from app.problems.judging import MAX_WATCH_AGE, judge
from app.problems.kinds import Problem, Severity, worst
from app.settings import Settings
from app.storage import delivery_counts, problems
from app.storage.delivery_counts import Total
from app.storage.problem_facts import Circumstances, learn_profiles, read_facts
from app.storage.transactions import database_now
from app.storage.watch import READ_ONLY

PAST = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Found:
    """A problem, and since when the service has seen it; None where its next look will see it first."""

    problem: Problem
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Standing:
    """One look."""

    facts: Facts
    found: Sequence[Found]
    looked_at: datetime | None
    """When a service last looked; None before the first"""
    totals: Sequence[Total]
    """Deliveries of the last 24 hours by outcome"""

    @property
    def severity(self) -> Severity | None:
        """The worst; None where there is no problem."""
        return worst([one.problem.severity for one in self.found])


def circumstances_of(settings: Settings) -> Circumstances:
    """What these settings say of what is to be looked for."""
    return Circumstances(
        is_registering=why_not_registering(settings) is None,
        public_url=settings.public_url,
        ping_every=timedelta(minutes=settings.ping_every),
        disk_bytes=settings.database_disk_bytes,
    )


def judge_watch(looked_at: datetime | None, *, now: datetime) -> Found | None:
    """The problem that nobody looks for problems, if so."""
    if looked_at is None:
        return Found(Problem(kinds.WATCH, "", Severity.WARNING, "No service has looked yet"), None)
    if looked_at - now > MAX_WATCH_AGE:
        words = (
            f"The last look was at {looked_at:%Y-%m-%d %H:%M:%S} UTC, which is yet to come: the database's clock has gone back"
        )
        return Found(Problem(kinds.WATCH, "", Severity.CRITICAL, words), None)
    if now - looked_at > MAX_WATCH_AGE:
        words = f"No service has looked since {looked_at:%Y-%m-%d %H:%M:%S} UTC"
        return Found(Problem(kinds.WATCH, "", Severity.CRITICAL, words), looked_at)
    return None


async def read_known(connection: AsyncConnection) -> tuple[list[Found], datetime | None]:
    """The problems as the service last found them, the worst first, and when that was: cheap, for pages that are often loaded."""
    found = [
        Found(Problem(one.kind, one.subject, one.severity, one.words), one.since)
        for one in await problems.read_all(connection)
        if one.is_present
    ]
    looked_at = (await problems.read_look(connection)).looked_at
    unwatched = judge_watch(looked_at, now=await database_now(connection))
    return [*([unwatched] if unwatched else []), *found], looked_at


def _since(found: Problem, known: problems.Known | None) -> datetime | None:
    """Since when it is known; what was information until now begins with the service's next look."""
    if known is None or (known.severity is Severity.INFO and found.severity is not Severity.INFO):
        return None
    return known.since


async def look(connection: AsyncConnection, settings: Settings) -> Standing:
    """Look now; it changes nothing. It tells more than the service's own last look where that is old."""
    facts = await read_facts(connection, await learn_profiles(connection), circumstances_of(settings))
    known = {one.key: one for one in await problems.read_all(connection) if one.is_present}
    last = (await problems.read_look(connection)).looked_at
    found = [Found(one, _since(one, known.get(one.key))) for one in judge(facts)]
    if await connection.scalar(text(READ_ONLY)):
        words = "It is read-only, such as a standby"
        found.insert(0, Found(Problem(kinds.DATABASE, "", Severity.CRITICAL, words), None))
    if (unwatched := judge_watch(last, now=facts.now)) is not None:
        found.insert(0, unwatched)
    return Standing(facts, found, last, await delivery_counts.read_totals(connection, past=PAST))
