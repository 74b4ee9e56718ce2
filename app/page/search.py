"""/ui/search: one box for an item, a movement, a delivery, or the id of a request."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from app.page.context import PageContext
from app.page.filters import Filters
from app.page.rendering import segment
from app.page.visitor import Visitor
from app.stock.identity import identity_of
from app.storage.catalog import list_stores
from app.storage.levels import LevelFilter, list_by_name
from app.storage.page_lists import find_deliveries, find_movements

MAX_FOUND = 20
"""Of each kind"""


def search_router(page: PageContext) -> APIRouter:
    """The route."""
    router = APIRouter()

    @router.get("/search")
    async def search(request: Request, visitor: Annotated[Visitor, Depends(page.access.viewer)]) -> Response:
        async def look(connection: AsyncConnection) -> dict[str, Any]:
            words = Filters(request, ("q",)).get("q")
            if words is None:
                return {"searched": "", "items": [], "deliveries": [], "movements": []}
            stores = [one.store_id for one in await list_stores(connection)]
            identities = [(one, identity_of("pos", one, words, str(part))) for one in stores for part in range(MAX_FOUND)]
            return {
                "searched": words,
                "items": await list_by_name(connection, limit=MAX_FOUND + 1, wanted=LevelFilter(named=words)),
                "deliveries": await find_deliveries(connection, words, limit=MAX_FOUND),
                "movements": await find_movements(connection, identities, limit=MAX_FOUND),
            }

        found, age = await page.reader.read(request, look)
        items, deliveries, movements = found["items"], found["deliveries"], found["movements"]
        if len(items) + len(deliveries) + len(movements) == 1:
            # There is nothing to choose.
            return RedirectResponse(_location(items, deliveries, movements), 303)
        return page.render(request, visitor, "search.html", age=age, most=MAX_FOUND, **found)

    return router


def _location(items: Any, deliveries: Any, movements: Any) -> str:  # noqa: ANN401 - rows of three kinds
    for one in items:
        return f"/ui/stores/{segment(one.store_id)}/items/{segment(one.item_id)}"
    for kind, number in deliveries:
        return f"/ui/deliveries/{kind}/{number}"
    store_id, item_id, row = movements[0]
    return f"/ui/stores/{segment(store_id)}/items/{segment(item_id)}?before={row + 1}#row-{row}"
