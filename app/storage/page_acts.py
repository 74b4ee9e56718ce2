"""What people do at the operator page: each act once, and long ones as jobs with progress."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, literal_column, select, tuple_, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.page_tables import page_act, page_job

KEEP_ACTS, KEEP_JOBS = timedelta(days=365), timedelta(days=30)
"""An act is the record of who did what; a job holds results as large as a file."""
CUT_OFF = timedelta(seconds=60)
"""A job that has shown no sign of life for so long has ended with its process."""


@dataclass(frozen=True, slots=True)
class Done:
    """An act that was done: where its page is, and what it said."""

    location: str
    words: str


async def claim(connection: AsyncConnection, act_id: str, *, actor: str, location: str, words: str) -> bool:
    """Note the act in the transaction that does it; False where it was done before. Waits for one that is being done."""
    await connection.execute(delete(page_act).where(page_act.c.done_at < func.now() - KEEP_ACTS))
    values = {"act_id": act_id, "actor": actor, "location": location, "words": words}
    statement = upsert(page_act).values(values).on_conflict_do_nothing().returning(page_act.c.act_id)
    return await connection.scalar(statement) is not None


async def reword(connection: AsyncConnection, act_id: str, words: str) -> None:
    """Say what became of it, where that is known only afterwards."""
    await connection.execute(update(page_act).where(page_act.c.act_id == act_id).values(words=words))


async def read_act(connection: AsyncConnection, act_id: str, *, within: timedelta = KEEP_ACTS) -> Done | None:
    """None where it was not done, or longer ago."""
    is_recent = page_act.c.done_at > func.now() - within
    query = select(page_act.c.location, page_act.c.words).where(page_act.c.act_id == act_id, is_recent)
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else Done(*row)


@dataclass(frozen=True, slots=True)
class RecordedAct:
    """One that was done: who did what, when, and where its effect is seen."""

    act_id: str
    actor: str
    location: str
    words: str
    done_at: datetime


_ACT_COLUMNS = [page_act.c[name] for name in RecordedAct.__slots__]


async def list_acts(connection: AsyncConnection, *, after: str | None, limit: int) -> list[RecordedAct]:
    """The newest first, from behind act `after`."""
    place = tuple_(page_act.c.done_at, page_act.c.act_id)
    query = select(*_ACT_COLUMNS).order_by(page_act.c.done_at.desc(), page_act.c.act_id.desc()).limit(limit)
    if after is not None:
        query = query.where(
            place < select(page_act.c.done_at, page_act.c.act_id).where(page_act.c.act_id == after).scalar_subquery()
        )
    return [RecordedAct(*row) for row in await connection.execute(query)]


@dataclass(frozen=True, slots=True)
class Job:
    """A long act."""

    job_id: str
    kind: str
    actor: str
    asked: Mapping[str, Any]
    total: int
    done: int
    results: Sequence[Sequence[str]]
    """Of each part: what it is, and what became of it"""
    fault: str | None
    started_at: datetime
    ended_at: datetime | None
    is_cut_off: bool


_IS_CUT_OFF = (page_job.c.ended_at.is_(None) & (page_job.c.beat_at < func.now() - CUT_OFF)).label("is_cut_off")
_COLUMNS: list[Any] = [_IS_CUT_OFF if name == "is_cut_off" else page_job.c[name] for name in Job.__slots__]


async def start_job(  # noqa: PLR0913 - its columns
    connection: AsyncConnection, job_id: str, *, kind: str, actor: str, asked: Mapping[str, Any], total: int
) -> bool:
    """False where it was started before."""
    await connection.execute(delete(page_job).where(page_job.c.started_at < func.now() - KEEP_JOBS))
    values = {"job_id": job_id, "kind": kind, "actor": actor, "asked": asked, "total": total}
    statement = upsert(page_job).values(values).on_conflict_do_nothing().returning(page_job.c.job_id)
    return await connection.scalar(statement) is not None


async def beat(connection: AsyncConnection, job_id: str, *, done: int, results: Sequence[Sequence[str]]) -> None:
    """Tell how far it is."""
    values = {"done": done, "results": list(results), "beat_at": func.now()}
    await connection.execute(update(page_job).where(page_job.c.job_id == job_id).values(values))


async def end_job(connection: AsyncConnection, job_id: str, *, fault: str | None = None) -> None:
    """It is over."""
    values = {"ended_at": func.now(), "beat_at": func.now(), "fault": fault}
    await connection.execute(update(page_job).where(page_job.c.job_id == job_id).values(values))


async def read_job(connection: AsyncConnection, job_id: str) -> Job | None:
    """None where there is none."""
    row = (await connection.execute(select(*_COLUMNS).where(page_job.c.job_id == job_id))).one_or_none()
    return None if row is None else Job(*row)


async def list_jobs(connection: AsyncConnection, *, limit: int) -> list[Job]:
    """The newest first."""
    # Without what may be as large as a file.
    light = {"asked": literal_column("'{}'::jsonb", JSONB), "results": literal_column("'[]'::jsonb", JSONB)}
    columns: list[Any] = [light.get(name, column) for name, column in zip(Job.__slots__, _COLUMNS, strict=True)]
    query = select(*columns).order_by(page_job.c.started_at.desc()).limit(limit)
    return [Job(*row) for row in await connection.execute(query)]
