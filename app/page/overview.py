"""/ui/: what needs a person, the worst first, and how the rest stands."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from sqlalchemy.ext.asyncio import AsyncConnection

from app.operator.standing import read_known
from app.page.context import PageContext
from app.page.rendering import Zone
from app.page.visitor import Visitor
from app.problems import kinds
from app.storage.page_lists import read_overview

PLACES = {
    kinds.SIGNATURES.name: "/ui/deliveries?kind=captured",
    kinds.REFUSALS.name: "/ui/deliveries",
    kinds.DUPLICATES.name: "/ui/deliveries?kind=suspected",
    kinds.OUTBOX_DEAD.name: "/ui/outbox?state=dead",
    kinds.OUTBOX_LATE.name: "/ui/outbox",
    kinds.DRIFT.name: "/ui/stock?differs=1",
    kinds.SYNC.name: "/ui/syncs",
    kinds.LOW_STOCK.name: "/ui/stock?low=1",
}
"""Where a problem can be looked at, and perhaps ended; all others are of the system."""
SYSTEM = "/ui/system"


def overview_router(page: PageContext) -> APIRouter:
    """The routes."""
    router = APIRouter()

    async def look(connection: AsyncConnection) -> dict[str, Any]:
        found, looked_at = await read_known(connection)
        standing = await read_overview(connection)
        zones = {one.store_id: Zone(one.timezone, shows_offset=True) for one in standing.pairs}
        return {"found": found, "looked_at": looked_at, "overview": standing, "zones": zones, "places": PLACES}

    @router.get("/")
    async def overview(request: Request, visitor: Annotated[Visitor, Depends(page.access.viewer)]) -> Response:
        return await page.show(request, visitor, "overview.html", look, system=SYSTEM)

    @router.get("/parts/needs")
    async def needs(request: Request, visitor: Annotated[Visitor, Depends(page.access.viewer)]) -> Response:
        """The part of the page that refreshes itself."""
        return await page.show(request, visitor, "needs.html", look, system=SYSTEM)

    return router
