"""/ui/stock: the levels by store and name, as they are or were, and as CSV."""

import csv
import io
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from sqlalchemy.ext.asyncio import AsyncConnection

from app.page.access import Form
from app.page.acting import act_id_of, led_to, new_act_id
from app.page.context import PageContext
from app.page.faults import NothingThere, WrongField
from app.page.filters import Filters, read_time, text_of
from app.page.jobs import Progress
from app.page.rendering import UTC_ZONE, Zone, later
from app.page.visitor import Visitor
from app.stock.csv_cells import to_cell
from app.stock.quantity import to_canonical
from app.stock.text import zone_of
from app.storage.catalog import Store, list_stores
from app.storage.items import unit_names
from app.storage.levels import LevelFilter, StockedItem, list_by_name
from app.storage.page_acts import read_job
from app.storage.page_lists import PAGE_ROWS
from app.storage.rules import effective_rules

COLUMNS = ("store", "item", "name", "stock", "unit", "low_stock", "updated_at", "retired_at")
CSV_BATCH = 2000
"""Levels that are read at a time"""
NO_PLACE = {"after_store": None, "after": None}
"""A list from its beginning"""
JOB_KIND = later("stock as of a time")


def stock_router(page: PageContext) -> APIRouter:  # noqa: C901, PLR0915 - its routes
    """The routes."""
    router = APIRouter()

    async def zones_of(connection: AsyncConnection) -> tuple[list[Store], dict[str, tzinfo]]:
        everywhere = (await effective_rules(connection, page.settings.rules)).timezone
        stores = await list_stores(connection)
        return stores, {one.store_id: zone_of(one.timezone or everywhere) for one in stores}

    def filters_of(request: Request, zones: Mapping[str, tzinfo]) -> tuple[Filters, LevelFilter, datetime | None]:
        filters = Filters(request, ("store", "q", "unit", "below", "low", "differs", "at", "after_store", "after"))
        store_id = filters.get("store")
        if store_id and store_id not in zones:
            raise NothingThere("store %(store)s", store=text_of(store_id))
        wanted = LevelFilter(
            named=filters.get("q"),
            unit=filters.get("unit"),
            is_below_zero=filters.is_set("below"),
            is_low=filters.is_set("low"),
            differs=filters.is_set("differs"),
        )
        now = datetime.now(UTC)
        at = read_time(filters.get("at"), zones.get(store_id or "", UTC), page.day_starts, now=now)
        if at is not None and at > now:
            raise WrongField("The time lies in the future: nobody knows the stock then")
        if at is not None and not store_id and filters.any("below", "low", "differs"):
            # Each level of the past is computed, until enough of them are found.
            raise WrongField("Choose a store: of the past, one store at a time is looked through for what is low or below zero")
        return filters, wanted, at

    @router.get("/stock")
    async def stock(request: Request, visitor: Annotated[Visitor, Depends(page.access.viewer)]) -> Response:
        async def look(connection: AsyncConnection) -> dict[str, Any]:
            stores, zones = await zones_of(connection)
            filters, wanted, at = filters_of(request, zones)
            store_id = filters.get("store")
            after = _after(filters)
            rows = await list_by_name(connection, store_id=store_id, after=after, limit=PAGE_ROWS + 1, at=at, wanted=wanted)
            more, rows = len(rows) > PAGE_ROWS, rows[:PAGE_ROWS]
            last = rows[-1] if rows else None
            return {
                "stores": stores,
                "rows": rows,
                "filters": filters,
                "units": await unit_names(connection, store_id),
                "at": at,
                "zone": Zone(zones[store_id]) if store_id else UTC_ZONE,
                "zones": {one: Zone(zone, shows_offset=True) for one, zone in zones.items()},
                "first": filters.address("/ui/stock", **NO_PLACE) if after else None,
                "next": filters.address("/ui/stock", after_store=last.store_id, after=last.item_id) if more and last else None,
                "csv": filters.address("/ui/stock.csv", **NO_PLACE),
                "excel": filters.address("/ui/stock.csv", **NO_PLACE, form="excel"),
                "past": filters.address("/ui/stock/past", **NO_PLACE),
                "act_id": new_act_id(),
                "is_anything": bool(rows) or filters.any("q", "unit", "below", "low", "differs", "at"),
            }

        return await page.show(request, visitor, "stock.html", look)

    @router.get("/stock.csv", dependencies=[Depends(page.access.viewer)])
    async def stock_csv(request: Request) -> Response:
        async def look(connection: AsyncConnection) -> tuple[str, bool]:
            _, zones = await zones_of(connection)
            filters, wanted, at = filters_of(request, zones)
            if at is not None:
                raise WrongField("The CSV of a past time is made in the background: press the button on the page")
            writer = CsvWriter(for_excel=request.query_params.get("form") == "excel")
            async for rows in batches(connection, store_id=filters.get("store"), at=None, wanted=wanted):
                writer.write(rows)
            return writer.text, writer.for_excel

        (text, for_excel), _ = await page.reader.read(request, look)
        return as_file(text, for_excel=for_excel)

    @router.post("/stock/past")
    async def past_csv(request: Request, form: Annotated[Form, Depends(page.access.form)]) -> Response:
        """As a job: each level of the past is computed."""

        async def look(connection: AsyncConnection) -> tuple[LevelFilter, datetime | None, str | None]:
            _, zones = await zones_of(connection)
            filters, wanted, at = filters_of(request, zones)
            return wanted, at, filters.get("store")

        wanted, at, store_id = await page.reader.read_now(look)
        if at is None:
            raise WrongField("Name a time")

        async def work(progress: Progress) -> None:
            writer = CsvWriter(for_excel=False)
            async with page.engine.connect() as connection:
                async for rows in batches(connection, store_id=store_id, at=at, wanted=wanted):
                    writer.write(rows)
                    await progress.step(parts=len(rows))
            await progress.step(("csv", writer.text), parts=0)

        asked = {"at": at.isoformat(), "store": store_id or ""}
        location = await page.jobs.start(
            act_id_of(form), kind=JOB_KIND, actor=form.visitor.actor, asked=asked, total=0, work=work
        )
        return led_to(location)

    @router.get("/jobs/{job_id}/stock.csv", dependencies=[Depends(page.access.viewer)])
    async def made_csv(job_id: str) -> Response:
        job = await page.reader.read_now(lambda connection: read_job(connection, job_id))
        if job is None or job.kind != JOB_KIND or not job.results or job.ended_at is None:
            raise NothingThere("such file yet")
        return as_file(job.results[-1][1], for_excel=False)

    return router


def _after(filters: Filters) -> tuple[str, str] | None:
    """Behind which item of which store the page begins."""
    store_id, item_id = filters.get("after_store"), filters.get("after")
    if (store_id is None) != (item_id is None):
        raise WrongField("The filter after is not of a link of this page")
    return None if store_id is None or item_id is None else (store_id, item_id)


async def batches(connection: AsyncConnection, *, store_id: str | None, at: datetime | None, wanted: LevelFilter) -> Any:  # noqa: ANN401 - an async iterator of batches
    """All levels, some at a time."""
    after: tuple[str, str] | None = None
    while True:
        rows = await list_by_name(connection, store_id=store_id, after=after, limit=CSV_BATCH, at=at, wanted=wanted)
        if rows:
            yield rows
        if len(rows) < CSV_BATCH:
            return
        after = rows[-1].store_id, rows[-1].item_id


class CsvWriter:
    """Rows as CSV. For a spreadsheet of Latin America: semicolons and decimal commas. No text becomes a formula."""

    def __init__(self, *, for_excel: bool) -> None:
        self.for_excel = for_excel
        self._out = io.StringIO()
        if for_excel:
            # Excel takes a file for UTF-8 only where it begins so.
            self._out.write("\ufeff")
        self._writer = csv.writer(self._out, delimiter=";" if for_excel else ",")
        self._writer.writerow(COLUMNS)

    def write(self, rows: Iterable[StockedItem]) -> None:
        """Add rows."""
        for one in rows:
            self._writer.writerow(
                [
                    *map(to_cell, (one.store_id, one.item_id, one.name)),
                    self._number(one.quantity),
                    to_cell(one.unit),
                    self._number(one.low_stock),
                    one.updated_at.isoformat(timespec="seconds") if one.updated_at else "",
                    one.retired_at.isoformat(timespec="seconds") if one.retired_at else "",
                ]
            )

    @property
    def text(self) -> str:
        """All of it."""
        return self._out.getvalue()

    def _number(self, value: Decimal | None) -> str:
        text = "" if value is None else to_canonical(value)
        return text.replace(".", ",") if self.for_excel else text


def as_file(text: str, *, for_excel: bool) -> Response:
    """For saving."""
    name = "stock-excel.csv" if for_excel else "stock.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text.encode(), media_type="text/csv; charset=utf-8", headers=headers)
