"""/ui/: what needs a person, the worst first, and how the rest stands."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from sqlalchemy.ext.asyncio import AsyncConnection

from app.operator.standing import read_known
from app.page.context import PageContext
from app.page.rendering import Zone, address
from app.page.text import REASONS
from app.page.visitor import Visitor
from app.problems import kinds
from app.problems.kinds import Problem
from app.storage.page_lists import read_overview

SYSTEM = "/ui/system"


def link_of(problem: Problem) -> str:
    """Where its rows are seen, and it can perhaps be ended; a problem that has no rows is one of the system."""
    subject = problem.subject
    match problem.kind:
        case kinds.SIGNATURES:
            return address("/ui/deliveries", kind="captured")
        case kinds.REFUSALS:
            return address("/ui/deliveries", reason=subject if subject in REASONS else None)
        case kinds.DUPLICATES:
            return address("/ui/deliveries", kind="suspected")
        case kinds.OUTBOX_DEAD:
            return address("/ui/outbox", state="dead", **_pair_in(subject))
        case kinds.OUTBOX_LATE:
            return address("/ui/outbox", state="pending", **_pair_in(subject))
        case kinds.DRIFT:
            # The cause is the last part; an id may hold commas too.
            store_id = subject.removeprefix("store ").rpartition(", ")[0]
            return address("/ui/stock", store=store_id, differs="1")
        case kinds.SYNC:
            return address("/ui/syncs", store=_pair_in(subject).get("store"))
        case kinds.LOW_STOCK:
            return address("/ui/stock", low="1")
        case _:
            return SYSTEM


def _pair_in(subject: str) -> dict[str, str]:
    """The store and system that a subject names, as filters; none where an id makes it unclear which they are."""
    parts = subject.removeprefix("store ").split(", system ")
    return {"store": parts[0], "system": parts[1]} if len(parts) == 2 else {}  # noqa: PLR2004


def overview_router(page: PageContext) -> APIRouter:
    """The routes."""
    router = APIRouter()

    async def look(connection: AsyncConnection) -> dict[str, Any]:
        found, looked_at = await read_known(connection)
        standing = await read_overview(connection)
        zones = {one.store_id: Zone(one.timezone, shows_offset=True) for one in standing.pairs}
        links = {one.problem.key: link_of(one.problem) for one in found}
        return {"found": found, "looked_at": looked_at, "overview": standing, "zones": zones, "links": links}

    @router.get("/")
    async def overview(request: Request, visitor: Annotated[Visitor, Depends(page.access.viewer)]) -> Response:
        return await page.show(request, visitor, "overview.html", look)

    @router.get("/parts/needs")
    async def needs(request: Request, visitor: Annotated[Visitor, Depends(page.access.viewer)]) -> Response:
        """The part of the page that refreshes itself."""
        return await page.show(request, visitor, "needs.html", look)

    return router
