"""/ui/syncs: full synchronisations, and starting one."""

import re
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from sqlalchemy.ext.asyncio import AsyncConnection

from app.errors import PosSyncError
from app.mipos.sync import Order, Phase, check, synchronise
from app.mipos.wiring import mipos_of, why_not_sending
from app.page.access import Form
from app.page.acting import Act, Check, new_act_id, start
from app.page.clock import read_clocks
from app.page.context import PageContext
from app.page.faults import Changed, English, FormRefused, WrongField
from app.page.filters import Filters
from app.page.item import require_id
from app.page.jobs import Progress
from app.page.rendering import later
from app.page.sentence import Sentence
from app.page.visitor import Visitor
from app.storage import syncs
from app.storage.page_lists import PAGE_ROWS, count_kept_items, list_syncs

JOB_KIND = later("full synchronisation")
MAX_NAMED = 20
"""Rules that a catalog breaks, and that are named"""


def syncs_router(page: PageContext) -> APIRouter:
    """The routes."""
    router = APIRouter()

    @router.get("/syncs")
    async def show_syncs(request: Request, visitor: Annotated[Visitor, Depends(page.access.viewer)]) -> Response:
        async def look(connection: AsyncConnection) -> dict[str, Any]:
            filters = Filters(request, ("store", "before"))
            before = filters.number("before")
            runs = await list_syncs(connection, store_id=filters.get("store"), before=before, limit=PAGE_ROWS + 1)
            more, runs = len(runs) > PAGE_ROWS, runs[:PAGE_ROWS]
            newest = {(run.store_id, run.inventory_system_id): run for run in await syncs.list_last_runs(connection)}
            clocks = await read_clocks(connection, page.settings)
            return {
                "filters": filters,
                "clocks": clocks,
                "pairs": [
                    (store, one, newest.get((store.store_id, one.inventory_system_id)))
                    for store in clocks.stores
                    for one in store.integrations
                ],
                "runs": runs,
                "first": filters.address("/ui/syncs", before=None) if before else None,
                "next": filters.address("/ui/syncs", before=str(runs[-1].sync_run_id)) if more else None,
                "zone": clocks.alone(filters.get("store")),
                "why_not": why_not_sending(page.settings),
            }

        return await page.show(request, visitor, "syncs.html", look)

    @router.get("/syncs/confirm")
    async def confirm_sync(
        request: Request, visitor: Annotated[Visitor, Depends(page.access.viewer)], store: str, system: str
    ) -> Response:
        """Checks the whole catalog, and says what would be sent."""
        page.access.require_operator(visitor)
        _require_account(page)
        require_id(store, system)
        problems: list[str] = []
        # Read first: one that starts meanwhile is told of.
        newest = await page.reader.read_now(lambda connection: _newest_run(connection, store, system))
        body: dict[str, Any] = {"items": [], "units": [], "suppliers": []}
        try:
            body = await check(page.engine, Order(store, actor=visitor.actor, inventory_system_id=system))
        except PosSyncError as error:
            problems = list(getattr(error, "problems", [error.message]))
        return page.render(
            request,
            visitor,
            "sync_confirm.html",
            store_id=store,
            system=system,
            body=body,
            newest=newest,
            problems=problems[:MAX_NAMED],
            more=max(0, len(problems) - MAX_NAMED),
            act_id=new_act_id(),
        )

    @router.post("/syncs")
    async def start_sync(form: Annotated[Form, Depends(page.access.order)]) -> Response:
        _require_account(page)
        store, system = form.text("store"), form.text("system")
        require_id(store, system)
        order = Order(store, actor=form.visitor.actor, inventory_system_id=system)
        total = _whole(form, "items")
        said = Sentence(later("Synchronisation of store %(store)s with %(system)s."), {"store": store, "system": system})
        act = Act(form, said, check=_as_shown(store, system, items=total, newest=_whole(form, "newest")))
        asked = {"store": store, "system": system}
        return await start(page.jobs, act, kind=JOB_KIND, asked=asked, total=total, work=partial(_synchronise, page, order))

    return router


def _whole(form: Form, name: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", form.text(name)):
        raise FormRefused("It does not say what was shown")
    return int(form.text(name))


async def _newest_run(connection: AsyncConnection, store_id: str, system: str) -> int:
    """Its number; 0 where there is none."""
    runs = await list_syncs(connection, store_id=store_id, system_id=system, before=None, limit=1)
    return runs[0].sync_run_id if runs else 0


def _as_shown(store_id: str, system: str, *, items: int, newest: int) -> Check:
    """As many items would be sent as were shown, and nobody has synchronised since."""

    async def check(connection: AsyncConnection) -> None:
        now = await count_kept_items(connection, store_id)
        if now != items:
            raise Changed("the store has %(now)s items to send by now, and %(items)s were shown", now=now, items=items)
        if (run := await _newest_run(connection, store_id, system)) != newest:
            raise Changed("synchronisation %(run)s was started meanwhile", run=run)

    return check


def _require_account(page: PageContext) -> None:
    if (why_not := why_not_sending(page.settings)) is not None:
        raise WrongField("Nothing can be sent: %(reason)s", reason=English(why_not))


async def _synchronise(page: PageContext, order: Order, progress: Progress) -> None:
    """The use case of `pos-sync sync`; each phase is told."""

    def tell(phase: Phase, done: int, _total: int) -> None:
        # Sending is counted in bytes, and is no part of the items.
        if phase is Phase.CHECKING:
            progress.note(done)

    what = f"store {order.store_id}, system {order.inventory_system_id}"
    try:
        async with mipos_of(page.settings, page.engine) as (client, tokens):
            result = await synchronise(page.engine, client, tokens, order, on_progress=tell)
    except PosSyncError as error:
        await progress.step((what, error.message), parts=0)
        return
    await progress.step(
        (what, f"{result.state.value}: items {result.items}, superfluous messages {result.covered}. {result.words}"), parts=0
    )
