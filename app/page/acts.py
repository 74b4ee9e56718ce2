"""/ui/acts: what people did at the page, and who."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from sqlalchemy.ext.asyncio import AsyncConnection

from app.page.clock import read_clocks
from app.page.context import PageContext
from app.page.faults import NothingThere
from app.page.filters import Filters
from app.page.visitor import Visitor
from app.storage.page_acts import KEEP_ACTS, list_acts, read_act
from app.storage.page_lists import PAGE_ROWS


def acts_router(page: PageContext) -> APIRouter:
    """The routes."""
    router = APIRouter()

    @router.get("/acts")
    async def acts(request: Request, visitor: Annotated[Visitor, Depends(page.access.viewer)]) -> Response:
        filters = Filters(request, ("after",))

        async def look(connection: AsyncConnection) -> dict[str, Any]:
            after = filters.get("after")
            if after is not None and await read_act(connection, after) is None:
                raise NothingThere("such act; each is kept for %(days)s days", days=KEEP_ACTS.days)
            rows = await list_acts(connection, after=after, limit=PAGE_ROWS + 1)
            more, rows = len(rows) > PAGE_ROWS, rows[:PAGE_ROWS]
            clocks = await read_clocks(connection, page.settings)
            return {
                "rows": rows,
                "days": KEEP_ACTS.days,
                "zone": clocks.alone(None),
                "first": "/ui/acts" if after else None,
                "next": filters.address("/ui/acts", after=rows[-1].act_id) if more else None,
            }

        return await page.show(request, visitor, "acts.html", look)

    return router
