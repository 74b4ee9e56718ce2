"""/ui/jobs: the long acts, how far each is, and what became of its parts."""

import re
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from sqlalchemy.ext.asyncio import AsyncConnection

from app.operator.refusals import Verdict
from app.page.clock import read_clocks
from app.page.context import PageContext
from app.page.faults import NothingThere
from app.page.refusals import REPLAY, confirm_address
from app.page.text import VERDICTS
from app.storage.page_acts import Job, list_jobs, read_job
from app.storage.page_lists import PAGE_ROWS

MAX_LEFT = 200
"""Of a replay that was cut off: so many are offered at once, as an address can hold"""


def jobs_router(page: PageContext) -> APIRouter:
    """The routes."""
    router = APIRouter()
    it = _Progress(page)
    router.add_api_route("/jobs", it.show_all, methods=["GET"])
    router.add_api_route("/jobs/{job_id}", it.show, methods=["GET"])
    router.add_api_route("/parts/jobs/{job_id}", it.show_part, methods=["GET"])
    return router


class _Progress:
    def __init__(self, page: PageContext) -> None:
        self._page = page

    async def show_all(self, request: Request) -> Response:
        visitor = await self._page.access.viewer(request)

        async def look(connection: AsyncConnection) -> dict[str, Any]:
            clocks = await read_clocks(connection, self._page.settings)
            return {"jobs": await list_jobs(connection, limit=PAGE_ROWS), "zone": clocks.alone(None)}

        # Progress is never read from a standby: it would stand still.
        return self._page.render(request, visitor, "jobs.html", **await self._page.reader.read_now(look))

    async def show(self, request: Request, job_id: str) -> Response:
        return await self._show(request, job_id, "job.html")

    async def show_part(self, request: Request, job_id: str) -> Response:
        """What refreshes itself until the job has ended."""
        return await self._show(request, job_id, "job_progress.html")

    async def _show(self, request: Request, job_id: str, template: str) -> Response:
        visitor = await self._page.access.viewer(request)
        if not re.fullmatch("[0-9a-f]{32}", job_id):
            raise NothingThere("such job")

        async def look(connection: AsyncConnection) -> dict[str, Any]:
            job = await read_job(connection, job_id)
            if job is None:
                raise NothingThere("such job; each is kept for 30 days")
            clocks = await read_clocks(connection, self._page.settings)
            return {"job": job, "zone": clocks.alone(None), "left": _left(job), "not_applied": _not_applied(job)}

        found = await self._page.reader.read_now(look)
        return self._page.render(
            request, visitor, template, verdicts={one.name: words for one, words in VERDICTS.items()}, **found
        )


def _not_applied(job: Job) -> int:
    """Of a replay: how many are left to decide, as far as results are kept."""
    good = {verdict.name for verdict in Verdict if verdict.is_good}
    return sum(result[1] not in good for result in job.results) if job.kind == REPLAY else 0


def _left(job: Job) -> str | None:
    """Where the rest of a replay that ended early is confirmed; what was done is done once, even if it is asked for again."""
    if job.kind != REPLAY or not (job.is_cut_off or job.fault):
        return None
    left = job.asked["numbers"][job.done :][:MAX_LEFT]
    return confirm_address(left) if left else None
