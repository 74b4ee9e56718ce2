"""Puts the page together: its routers, its faults as pages, and the headers that every answer has."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, RedirectResponse, Response
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import PosSyncError
from app.page.access import Access
from app.page.captures import captures_router
from app.page.catalog import catalog_router
from app.page.context import PageContext
from app.page.deliveries import deliveries_router
from app.page.duplicates import duplicates_router
from app.page.faults import NotLoggedIn
from app.page.item import item_router
from app.page.jobs import Jobs
from app.page.login import login_router
from app.page.outbox import outbox_router
from app.page.overview import overview_router
from app.page.progress import jobs_router
from app.page.reader import PageReader
from app.page.refusals import refusals_router
from app.page.rendering import Renderer, language_of, translations_of
from app.page.search import search_router
from app.page.stock import stock_router
from app.page.syncs import syncs_router
from app.page.system import system_router
from app.receiving.signed_body import Receipt
from app.scope import REQUEST_ID
from app.settings import Settings
from app.storage.engine import Database
from app.storage.standby import Standby
from app.storage.transactions import Fault, classify, describe

_log = structlog.get_logger("pos_sync.page")

ROUTERS = (
    overview_router, stock_router, item_router, catalog_router, syncs_router, search_router, system_router, deliveries_router,
    refusals_router, duplicates_router, captures_router, outbox_router, jobs_router,
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
    engine: AsyncEngine
    tasks: list[tuple[str, Callable[[], Awaitable[None]]]]


def create_page(  # noqa: PLR0913 - what a page needs, and whom it tells
    settings: Settings,
    database: Database,
    receipt: Receipt,
    *,
    on_recorded: Callable[[], None],
    on_failed_login: Callable[[], None] = lambda: None,
    on_age: Callable[[float], None] = lambda _age: None,
) -> Page:
    """The page for these settings, with connections of its own."""
    engine = database.create_engine()
    address = settings.standby_address
    standby = None if address is None else Standby(database, database.at(address), on_age=on_age)
    access = Access(settings, engine, receipt, on_failed_login=on_failed_login)
    renderer, jobs = Renderer(), Jobs(engine)
    page = PageContext(settings, engine, access, PageReader(engine, standby), renderer, jobs, on_recorded, database)
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    routers = [login_router(access, engine, renderer), *(router(page) for router in ROUTERS)]
    for one in routers:
        app.include_router(one)
    _add_files(app)
    _add_faults(app, access, renderer)
    tasks: list[tuple[str, Callable[[], Awaitable[None]]]] = [("page jobs", jobs.run)]
    if standby is not None:
        tasks.append(("page standby", standby.run))
    return Page(_Headers(app), [route for one in routers for route in one.routes], engine, tasks)


def _add_files(app: FastAPI) -> None:
    @app.get("/static/{name}")
    async def static(name: str) -> Response:
        if name not in FILES:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return FileResponse(FILES[name], headers={"Cache-Control": "public, max-age=300"})


def _add_faults(app: FastAPI, access: Access, renderer: Renderer) -> None:  # noqa: C901 - one function for each kind
    def shown(request: Request, status: int, title: str, message: str, back: str | None = None) -> Response:
        said = translations_of(language_of(request)).gettext(title)
        return renderer.page(request, "fault.html", status=status, title=said, message=message, back=back)

    async def refuse(request: Request, error: Exception) -> Response:
        assert isinstance(error, PosSyncError)
        if isinstance(error, NotLoggedIn):
            if request.method == "GET" and "hx-request" not in request.headers:
                return RedirectResponse(f"/ui/login?asked_for={error.asked_for.replace('&', '%26')}", int(HTTPStatus.SEE_OTHER))
            return shown(request, int(error.status), "Log in", error.message, "/ui/login")
        return shown(request, int(error.status), "This was not done", error.message, "/ui/")

    async def refuse_address(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else int(HTTPStatus.UNPROCESSABLE_ENTITY)
        if isinstance(error, RequestValidationError):
            first = error.errors()[0]
            message = f"The filter {first['loc'][-1]} cannot be used: {first['msg']}."
        else:
            message = "There is nothing at this address."
        return shown(request, status, "Nothing here", message, "/ui/")

    async def tell_of_the_database(request: Request, error: Exception) -> Response:
        if classify(error) is Fault.BUG:
            raise error
        _log.warning("page cannot ask the database", error=describe(error))
        message = "The page cannot ask the database now. Deliveries are answered 503 meanwhile, and mipOS sends them again."
        if not access.holds_cookie(request):
            message = "The page cannot be shown now. Try again in a moment."
        answer = shown(request, int(HTTPStatus.SERVICE_UNAVAILABLE), "Away for a moment", message, request.url.path)
        answer.headers["Retry-After"] = "5"
        return answer

    async def tell_of_a_bug(request: Request, _error: Exception) -> Response:
        request_id = request.scope.get(REQUEST_ID, "-")
        message = f"The page failed unexpectedly. The log says more, at request_id {request_id}."
        return shown(request, int(HTTPStatus.INTERNAL_SERVER_ERROR), "Something is wrong here", message, "/ui/")

    app.add_exception_handler(PosSyncError, refuse)
    app.add_exception_handler(HTTPException, refuse_address)
    app.add_exception_handler(RequestValidationError, refuse_address)
    app.add_exception_handler(Exception, tell_of_a_bug)
    for kind in (SQLAlchemyError, OSError, TimeoutError):
        app.add_exception_handler(kind, tell_of_the_database)


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
