"""The table of problems: what the last look found, since when, and what the alert webhook was told of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.problems.kinds import BY_NAME, Kind, Problem, Severity
from app.storage.problem_tables import alert_state, problem

_PUT = text("""
INSERT INTO pos_sync.problem AS known (name, subject, severity, words, since, looked_at)
SELECT name, subject, severity, words, :now, :now
FROM unnest(CAST(:names AS text[]), CAST(:subjects AS text[]), CAST(:severities AS text[]), CAST(:words AS text[]))
  AS found (name, subject, severity, words)
ON CONFLICT (name, subject) DO UPDATE SET
  severity = excluded.severity, words = excluded.words, looked_at = excluded.looked_at, cleared_at = NULL,
  -- Since it has needed somebody: what was information until now begins now.
  since = CASE WHEN known.cleared_at IS NULL AND (known.severity <> 'info' OR excluded.severity = 'info')
    THEN known.since ELSE excluded.since END,
  -- What was acknowledged was less bad, or another time.
  acknowledged_at = CASE WHEN known.cleared_at IS NULL AND known.severity = excluded.severity THEN known.acknowledged_at END,
  acknowledged_by = CASE WHEN known.cleared_at IS NULL AND known.severity = excluded.severity THEN known.acknowledged_by END
""")
_CLEAR = text("""
UPDATE pos_sync.problem SET cleared_at = :now, looked_at = :now WHERE cleared_at IS NULL AND looked_at < :now
""")
# What the webhook was told of stays until it was told that it is over.
_FORGET = text("DELETE FROM pos_sync.problem WHERE cleared_at IS NOT NULL AND told_severity IS NULL AND cleared_at < :now")


@dataclass(frozen=True, slots=True)
class Known:
    """A problem as it is kept."""

    kind: Kind
    subject: str
    severity: Severity
    words: str
    since: datetime
    looked_at: datetime
    cleared_at: datetime | None
    told_severity: Severity | None
    told_at: datetime | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None

    @property
    def key(self) -> tuple[str, str]:
        """(name, subject)."""
        return self.kind.name, self.subject

    @property
    def is_present(self) -> bool:
        """Whether the last look found it."""
        return self.cleared_at is None


@dataclass(frozen=True, slots=True)
class Look:
    """The last look. `outage` counts how often the database was away."""

    looked_at: datetime | None
    outage: int


async def put(connection: AsyncConnection, found: Sequence[Problem], *, now: datetime) -> None:
    """Keep what a look at `now` found; what it did not find any more is over."""
    parameters = {
        "now": now,
        "names": [one.kind.name for one in found],
        "subjects": [one.subject for one in found],
        "severities": [one.severity.value for one in found],
        "words": [one.words for one in found],
    }
    if found:
        await connection.execute(_PUT, parameters)
    await connection.execute(_CLEAR, {"now": now})
    await connection.execute(_FORGET, {"now": now})
    looked = insert(alert_state).values(looked_at=now)
    await connection.execute(
        looked.on_conflict_do_update(index_elements=["is_only"], set_={"looked_at": looked.excluded.looked_at})
    )


async def read_all(connection: AsyncConnection) -> list[Known]:
    """All that is kept, the worst first; what is over too, as long as somebody has to be told."""
    columns = [problem.c[name] for name in ("name", "subject", *list(Known.__slots__)[2:])]
    rows = (await connection.execute(select(*columns))).all()
    known = [
        Known(BY_NAME[name], subject, Severity(severity), words, since, looked, cleared, told and Severity(told), *rest)
        for name, subject, severity, words, since, looked, cleared, told, *rest in rows
        # One of a newer release's kinds is its own business.
        if name in BY_NAME
    ]
    return sorted(known, key=lambda one: (-one.severity.rank, one.key))


async def is_present(connection: AsyncConnection, name: str, subject: str) -> bool:
    """Whether the last look found this problem."""
    query = select(problem.c.name).where(problem.c.name == name, problem.c.subject == subject, problem.c.cleared_at.is_(None))
    return await connection.scalar(query) is not None


async def read_look(connection: AsyncConnection) -> Look:
    """When the last look was."""
    row = (await connection.execute(select(alert_state.c.looked_at, alert_state.c.outage))).one_or_none()
    return Look(None, 0) if row is None else Look(*row)


async def end_outage(connection: AsyncConnection, outage: int) -> None:
    """Say that this outage of the database is over: the next one has another number. All replicas say it, one has the effect."""
    await connection.execute(update(alert_state).where(alert_state.c.outage == outage).values(outage=outage + 1))


async def mark_told(connection: AsyncConnection, told: Sequence[tuple[str, str, Severity | None]]) -> None:
    """Keep that the alert webhook knows these (name, subject, severity); None is that it is over."""
    statement = text(
        "UPDATE pos_sync.problem SET told_severity = told.severity, told_at = now()"
        " FROM unnest(CAST(:names AS text[]), CAST(:subjects AS text[]), CAST(:severities AS text[]))"
        " AS told (name, subject, severity) WHERE problem.name = told.name AND problem.subject = told.subject"
    )
    parameters = {
        "names": [name for name, _, _ in told],
        "subjects": [subject for _, subject, _ in told],
        "severities": [severity.value if severity else None for _, _, severity in told],
    }
    await connection.execute(statement, parameters)


async def acknowledge(connection: AsyncConnection, *, name: str | None, actor: str) -> int:
    """Note that `actor` knows of the present problems, of one kind or of all; how many there are."""
    statement = (
        update(problem)
        .where(problem.c.cleared_at.is_(None), *([] if name is None else [problem.c.name == name]))
        .values(acknowledged_at=text("now()"), acknowledged_by=actor)
    )
    return (await connection.execute(statement)).rowcount
