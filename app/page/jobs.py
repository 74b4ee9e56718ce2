"""Long acts: each is a row with its progress, and runs in the process that took it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.storage import page_acts
from app.storage.transactions import DATABASE_FAILURES, Fault, classify, sqlstate, why_failed

BEAT_SECONDS = 1.0
MAX_AT_A_TIME = 2
MAX_RESULTS = 1000
"""That are kept of a job"""

_log = structlog.get_logger("pos_sync.page")


class Progress:
    """How a job tells how far it is."""

    def __init__(self, engine: AsyncEngine, job_id: str) -> None:
        self._engine = engine
        self._job_id = job_id
        self._results: list[Sequence[str]] = []
        self._done = 0
        self._told_at = 0.0

    async def step(self, *results: Sequence[str], parts: int = 1) -> None:
        """So many more parts are done; each result is (what, what became of it)."""
        self._done += parts
        self._results += results[: max(0, MAX_RESULTS - len(self._results))]
        if monotonic() - self._told_at >= BEAT_SECONDS:
            await self.tell()

    def note(self, done: int) -> None:
        """So many parts are done. It may be called in another thread, and is written down with the next sign of life."""
        self._done = done

    async def tell(self) -> None:
        """Write it down now; it is a sign of life too."""
        self._told_at = monotonic()
        async with self._engine.begin() as connection:
            await page_acts.beat(connection, self._job_id, done=self._done, results=self._results)


Work = Callable[[Progress], Awaitable[None]]


def location_of(job_id: str) -> str:
    """Where its progress is seen."""
    return f"/ui/jobs/{job_id}"


class Jobs:
    """Starts jobs, once each; some at a time, the others wait. `engine` is theirs: they take no connection from the pages."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = self._engine = engine
        self._slots = asyncio.Semaphore(MAX_AT_A_TIME)
        self._running: set[asyncio.Task[None]] = set()

    async def start(  # noqa: PLR0913 - its columns
        self,
        job_id: str,
        *,
        kind: str,
        actor: str,
        asked: Mapping[str, Any],
        total: int,
        work: Work,
        first: Callable[[AsyncConnection], Awaitable[None]] | None = None,
    ) -> str:
        """Start it unless this id was started before; the address of its page either way.

        `first` is done in the transaction that starts it. What it raises is raised here, and nothing is started.
        """
        async with self._engine.begin() as connection:
            if first is not None:
                await first(connection)
            is_new = await page_acts.start_job(connection, job_id, kind=kind, actor=actor, asked=asked, total=total)
        if is_new:
            task = asyncio.create_task(self._run(job_id, work), name=f"page job {kind}")
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return location_of(job_id)

    async def run(self) -> None:
        """Until it is cancelled; then jobs that run end too, and are shown as cut off."""
        try:
            await asyncio.Event().wait()
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    async def _run(self, job_id: str, work: Work) -> None:
        progress = Progress(self._engine, job_id)
        beating = asyncio.create_task(self._beat(progress))
        fault: str | None = None
        try:
            async with self._slots:
                await work(progress)
        except Exception as error:  # noqa: BLE001 - whatever ends it is told to the person who waits for it
            reason = why_failed(error)
            is_bug = classify(error) is Fault.BUG and not sqlstate(error)
            _log.warning("page job failed", job=job_id, reason=reason, exc_info=error if is_bug else None)
            fault = f"It ended early: {reason}. The log says more. What is done stays done; it can be started again."
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
        await progress.tell()
        async with self._engine.begin() as connection:
            await page_acts.end_job(connection, job_id, fault=fault)

    @staticmethod
    async def _beat(progress: Progress) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            # A database that is away for a moment does not end the job.
            with suppress(*DATABASE_FAILURES):
                await progress.tell()
