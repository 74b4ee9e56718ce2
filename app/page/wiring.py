"""Puts the page together: its routers, its faults as pages, and the headers that every answer has."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import structlog
from fastapi import FastAPI
from fastapi.responses import FileResponse, Response
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.page.access import Access
from app.page.acts import acts_router
from app.page.captures import captures_router
from app.page.catalog import catalog_router
from app.page.context import PageContext
from app.page.deliveries import deliveries_router
from app.page.duplicates import duplicates_router
from app.page.item import item_router
from app.page.jobs import Jobs
from app.page.login import login_router
from app.page.outbox import outbox_router
from app.page.overview import overview_router
from app.page.progress import jobs_router
from app.page.reader import MAX_JOB_TIME, MAX_READ_TIME, PageReader, limit_statements
from app.page.refusals import refusals_router
from app.page.refusing import Refusals
from app.page.rendering import Renderer
from app.page.search import search_router
from app.page.stock import stock_router
from app.page.syncs import syncs_router
from app.page.system import system_router
from app.receiving.signed_body import Receipt
from app.settings import Settings
from app.storage.engine import Database
from app.storage.standby import Standby

_log = structlog.get_logger("pos_sync.page")

ROUTERS = (
    overview_router, stock_router, item_router, catalog_router, syncs_router, search_router, system_router, deliveries_router,
    refusals_router, duplicates_router, captures_router, outbox_router, jobs_router, acts_router,
)  # fmt: skip
STATIC = Path(__file__).parent / "static"
FILES = {file.name: file for file in sorted(STATIC.iterdir())}
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    # With no-referrer, Chromium would send forms with "Origin: null".
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


@dataclass(frozen=True, slots=True)
class Page:
    """The page, and what has to run as long as it is served."""

    app: ASGIApp
    routes: Sequence[BaseRoute]
    engines: Sequence[AsyncEngine]
    tasks: list[tuple[str, Callable[[], Awaitable[None]]]]


def create_page(  # noqa: PLR0913 - what a page needs, and what it tells
    settings: Settings,
    database: Database,
    receipt: Receipt,
    *,
    on_recorded: Callable[[], None],
    on_failed_login: Callable[[], None] = lambda: None,
    on_age: Callable[[float], None] = lambda _age: None,
) -> Page:
    """The page for these settings, with connections of its own."""
    engine, job_engine = database.create_engine(), database.create_engine()
    # Nobody waits for longer at a page, and what a page holds is given back; a job may take its time.
    limit_statements(engine, MAX_READ_TIME)
    limit_statements(job_engine, MAX_JOB_TIME)
    address = settings.standby_address
    standby = None if address is None else Standby(database, database.at(address), on_age=on_age)
    access = Access(settings, engine, receipt, on_failed_login=on_failed_login)
    renderer, jobs = Renderer(), Jobs(job_engine)
    page = PageContext(settings, engine, access, PageReader(engine, standby), renderer, jobs, on_recorded, database)
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    routers = [login_router(access, engine, renderer), *(router(page) for router in ROUTERS)]
    for one in routers:
        app.include_router(one)
    _add_files(app)
    Refusals(access, renderer).add_to(app)
    tasks: list[tuple[str, Callable[[], Awaitable[None]]]] = [("page jobs", jobs.run)]
    if standby is not None:
        tasks.append(("page standby", standby.run))
    return Page(_Headers(app), [route for one in routers for route in one.routes], (engine, job_engine), tasks)


def _add_files(app: FastAPI) -> None:
    @app.get("/static/{name}")
    async def static(name: str) -> Response:
        if name not in FILES:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return FileResponse(FILES[name], headers={"Cache-Control": "public, max-age=300"})


class _Headers:
    """Every answer, whatever made it, says what a browser may do with it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, send_with_headers)
