"""/ui/stores/.../items/...: one item in one store, and what a person can do about its stock."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from sqlalchemy.ext.asyncio import AsyncConnection

from app.applying.reversal import reverse
from app.errors import PosSyncError
from app.operator.drift import DEFAULT_WINDOW, Adoption, CannotReconcile, DriftFilter, Reconciled, find_drifts, reconcile
from app.page.access import Form
from app.page.acting import Act, Check, new_act_id, note_of, use, words_of
from app.page.chart import chart_of
from app.page.context import PageContext
from app.page.faults import Changed, NothingThere, WrongField, quoting
from app.page.filters import Filters, start_of_day, text_of
from app.page.rendering import Zone, later, segment
from app.page.sentence import Sentence
from app.page.text import CAUSES
from app.page.visitor import Visitor
from app.page.words import of_fault
from app.path_id import STORE_PATH
from app.stock.definitions import DefinedItem
from app.stock.movement import Source
from app.stock.quantity import NotAQuantity, parse_quantity, require_unsigned, to_canonical
from app.stock.text import fault_in_id, zone_of
from app.storage.catalog import Store, find_store
from app.storage.filters import TOO_LARGE
from app.storage.items import list_items
from app.storage.ledger_rows import find_row
from app.storage.levels import StockedItem, list_levels
from app.storage.page_item import list_newest, lock, oldest, read_compared, read_course
from app.storage.page_lists import PAGE_ROWS
from app.storage.rules import effective_rules

SPANS = {
    "today": timedelta(),
    "week": timedelta(days=7),
    "month": timedelta(days=31),
    "year": timedelta(days=366),
    "all": None,
}
"""No row of a ledger has this number, or a higher one."""
PATH = f"{STORE_PATH}/items/{{item_id:id}}"


def item_router(page: PageContext) -> APIRouter:  # noqa: C901, PLR0915 - its routes
    """The routes."""
    router = APIRouter()

    async def read(
        connection: AsyncConnection, store_id: str, item_id: str
    ) -> tuple[Store, DefinedItem, StockedItem | None, Zone]:
        require_id(store_id, item_id)
        store = await find_store(connection, store_id)
        items = await list_items(connection, store_id, [item_id])
        if store is None or not items:
            raise NothingThere("item %(item)s in store %(store)s", item=text_of(item_id), store=text_of(store_id))
        levels = await list_levels(connection, store_id=store_id, item_id=item_id)
        everywhere = (await effective_rules(connection, page.settings.rules)).timezone
        return store, items[0], levels[0] if levels else None, Zone(zone_of(store.timezone or everywhere))

    def path_of(store_id: str, item_id: str) -> str:
        return f"/ui/stores/{segment(store_id)}/items/{segment(item_id)}"

    @router.get(PATH, name="show_item")
    async def show_item(
        request: Request, visitor: Annotated[Visitor, Depends(page.access.viewer)], store_id: str, item_id: str
    ) -> Response:
        async def look(connection: AsyncConnection) -> dict[str, Any]:
            filters = Filters(request, ("span", "before", "explain"))
            store, item, level, zone = await read(connection, store_id, item_id)
            before = filters.number("before")
            rows = await list_newest(connection, store_id, item_id, before=before, limit=PAGE_ROWS + 1)
            more, rows = len(rows) > PAGE_ROWS, rows[:PAGE_ROWS]
            span = filters.get("span") or "week"
            if span not in SPANS:
                raise WrongField("The filter span has to be one of %(spans)s", spans=", ".join(SPANS))
            here = path_of(store_id, item_id)
            return {
                "store": store,
                "item": item,
                "level": level,
                "zone": zone,
                "rows": rows,
                "here_path": here,
                "first": filters.address(here, before=None) if before else None,
                "next": filters.address(here, before=str(rows[-1].level_version)) if more else None,
                "compared": await read_compared(connection, store_id, item_id),
                "explained": filters.address(here, explain="1"),
                "span": span,
                "spans": {name: filters.address(here, span=name, before=None) for name in SPANS},
                "taken_back": {one.refers_to for one in rows if one.source == Source.REVERSAL},
                "chart": None if level is None else await _chart(connection, level, span, zone, page.day_starts),
                "done": await words_of(connection, request.query_params.get("done")),
                "act_id": new_act_id(),
            }

        found, age = await page.reader.read(request, look)
        scope = DriftFilter(store_id=store_id, item_id=item_id)
        # In words only where somebody asks: that reads the newest reports one by one.
        drifts = await find_drifts(page.engine, scope, page.settings.rules) if "explain" in request.query_params else None
        return page.render(request, visitor, "item.html", age=age, drifts=drifts, cause_words=CAUSES, **found)

    @router.get(f"{PATH}/count", name="confirm_count")
    async def confirm_count(
        request: Request, visitor: Annotated[Visitor, Depends(page.access.viewer)], store_id: str, item_id: str
    ) -> Response:
        page.access.require_operator(visitor)
        require_id(store_id, item_id)
        target = read_quantity(request.query_params.get("to", ""))
        return await _confirm(
            request, visitor, store_id, item_id, Adoption(store_id=store_id, item_id=item_id, to=target, window=2)
        )

    @router.get(f"{PATH}/adopt", name="confirm_adopt")
    async def confirm_adopt(
        request: Request, visitor: Annotated[Visitor, Depends(page.access.viewer)], store_id: str, item_id: str
    ) -> Response:
        page.access.require_operator(visitor)
        system = request.query_params.get("system", "")
        require_id(store_id, item_id, system)
        adoption = Adoption(store_id=store_id, item_id=item_id, system_id=system, window=DEFAULT_WINDOW)
        return await _confirm(request, visitor, store_id, item_id, adoption)

    async def _confirm(request: Request, visitor: Visitor, store_id: str, item_id: str, adoption: Adoption) -> Response:
        """What it would do, by a dry run of the very use case."""

        async def look(connection: AsyncConnection) -> tuple[DefinedItem, StockedItem | None, Zone]:
            _, item, level, zone = await read(connection, store_id, item_id)
            return item, level, zone

        item, level, zone = await page.reader.read_now(look)
        would = await _reconcile(adoption, actor=visitor.actor, note="dry run", is_dry=True)
        return page.render(
            request,
            visitor,
            "item_confirm.html",
            item=item,
            store_id=store_id,
            level=level,
            zone=zone,
            would=would,
            change=would.after - would.before,
            adoption=adoption,
            version=_version(level),
            action=f"{path_of(store_id, item_id)}/stock",
            back=path_of(store_id, item_id),
            act_id=new_act_id(),
        )

    async def _reconcile(adoption: Adoption, **more: Any) -> Reconciled:  # noqa: ANN401 - passed on
        try:
            return await reconcile(page.engine, adoption, rules=page.settings.rules, **more)
        except CannotReconcile as error:
            raise quoting(error) from error

    @router.post(f"{PATH}/stock")
    async def set_stock(form: Annotated[Form, Depends(page.access.order)], store_id: str, item_id: str) -> Response:
        """As `pos-sync reconcile`: a count, or a system's number."""
        system, note = form.text("system"), note_of(form)
        require_id(store_id, item_id, *([system] if system else []))
        adoption = (
            Adoption(store_id=store_id, item_id=item_id, system_id=system, window=DEFAULT_WINDOW)
            if system
            else Adoption(store_id=store_id, item_id=item_id, to=read_quantity(form.text("to")), window=2)
        )
        words = later("The number was adopted. Item: %(item)s") if system else later("The count was recorded. Item: %(item)s")
        check = _same_version(form, store_id, item_id)
        act = Act(form, Sentence(words, {"item": item_id}, note=note), location=path_of(store_id, item_id), check=check)
        answer = await use(act, lambda: _reconcile(adoption, actor=act.actor, note=note, first=act.guard))
        page.on_recorded()
        return answer

    @router.get(f"{PATH}/rows/{{version}}/reverse", name="confirm_reverse")
    async def confirm_reverse(
        request: Request, visitor: Annotated[Visitor, Depends(page.access.viewer)], store_id: str, item_id: str, version: int
    ) -> Response:
        page.access.require_operator(visitor)
        _require_row(version)

        async def look(connection: AsyncConnection) -> dict[str, Any]:
            _, item, level, zone = await read(connection, store_id, item_id)
            row = await find_row(connection, store_id, item_id, version)
            if row is None:
                raise NothingThere("row %(version)s of this item", version=version)
            return {"item": item, "level": level, "zone": zone, "row": row, "version": _version(level)}

        found = await page.reader.read_now(look)
        would = await _reverse(store_id, item_id, version, actor=visitor.actor, note="dry run", is_dry=True)
        here = path_of(store_id, item_id)
        return page.render(
            request, visitor, "item_reverse.html", store_id=store_id, would=would, action=f"{here}/rows/{version}/reverse",
            back=here, act_id=new_act_id(), **found,
        )  # fmt: skip

    async def _reverse(store_id: str, item_id: str, version: int, **more: Any) -> Sequence[Any]:  # noqa: ANN401 - passed on
        try:
            return await reverse(page.engine, store_id=store_id, item_id=item_id, level_version=version, **more)
        except PosSyncError as error:
            if isinstance(error, Changed):
                raise
            raise quoting(error) from error

    @router.post(f"{PATH}/rows/{{version}}/reverse")
    async def reverse_row(
        form: Annotated[Form, Depends(page.access.order)], store_id: str, item_id: str, version: int
    ) -> Response:
        require_id(store_id, item_id)
        _require_row(version)
        note = note_of(form)
        check = _same_version(form, store_id, item_id)
        said = Sentence(
            later("The row was taken back. Item: %(item)s, row: %(row)s"), {"item": item_id, "row": version}, note=note
        )
        act = Act(form, said, location=path_of(store_id, item_id), check=check)
        answer = await use(act, lambda: _reverse(store_id, item_id, version, actor=act.actor, note=note, first=act.guard))
        page.on_recorded()
        return answer

    return router


async def _chart(connection: AsyncConnection, level: StockedItem, span: str, zone: Zone, day_starts: time) -> Any:  # noqa: ANN401 - for the template
    """The course of a level up to now; None where it never moved."""
    now = datetime.now(UTC)
    version = level.version or 0
    begins = await oldest(connection, level.store_id, level.item_id, version)
    if begins is None:
        return None
    length = SPANS[span]
    since = begins if length is None else max(begins - timedelta(minutes=1), now - length)
    if span == "today":
        since = start_of_day(now, zone.zone, day_starts)
    course = await read_course(
        connection, level.store_id, level.item_id, level=level.quantity, version=version, since=since, until=now
    )
    return chart_of(course, zone.zone)


def _version(level: StockedItem | None) -> int:
    return 0 if level is None else level.version or 0


def _same_version(form: Form, store_id: str, item_id: str) -> Check:
    """The level is as it was shown: no movement came since."""
    seen = form.text("version")

    async def check(connection: AsyncConnection) -> None:
        level, version = await lock(connection, store_id, item_id)
        if str(version) != seen:
            raise Changed("the stock has moved since it was shown, and is %(stock)s now", stock=to_canonical(level))

    return check


def require_id(*ids: str) -> None:
    """Ids as an address or a form names them.

    Raises:
        NothingThere: one of them can be no id.
    """
    if any(fault_in_id(one) for one in ids):
        raise NothingThere("such store, item or system")


def _require_row(version: int) -> None:
    if not 0 < version < TOO_LARGE:
        raise NothingThere("row %(version)s of this item", version=version)


def read_quantity(text: str) -> Decimal:
    """What a person typed: digits and a point.

    Raises:
        WrongField: it is no quantity; a comma is named, since 1,250 is 1.25 to some and 1250 to others.
    """
    if "," in text:
        raise WrongField("Write decimals with a point and thousands without a sign: 1,250 can be 1.25 or 1250")
    if not re.fullmatch(r"[0-9]*\.?[0-9]*", text):
        raise WrongField("Write a quantity with digits and at most one point, such as 12.5")
    try:
        return require_unsigned(parse_quantity(text))
    except NotAQuantity as error:
        raise WrongField("The quantity %(fault)s", fault=of_fault(error)) from error
