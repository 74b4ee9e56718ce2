"""The composition root: `create_app` wires the parts together; nothing else does."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.exceptions import HTTPException

from app import version
from app.errors import InternalError, InvalidField, PosSyncError, render
from app.errors.requests import NoSuchPage, WrongMethod
from app.operations.access_log import AccessLogMiddleware
from app.operations.methods import allowed_methods
from app.operations.probes import docs_router, probe_router
from app.page.wiring import create_page
from app.pos.api_key import ApiKey
from app.pos.changes import ChangeFeed
from app.pos.history import history_router
from app.pos.movements import movements_router
from app.pos.queries import queries_router
from app.pos.reader import reader_of
from app.pos.reversals import reversals_router
from app.pos.status import status_router
from app.pos.sync import sync_router
from app.receiving.client_secrets import client_secrets
from app.receiving.endpoint import StockWebhook, WebhookShortcut, describe_webhook, webhook_router
from app.receiving.signed_body import ClientGone, SignedBodyMiddleware
from app.service import Service
from app.settings import Settings
from app.wire import COMMON_ERRORS, path_of

_DESCRIPTION = (
    "Receives the stock movements that mipOS relays, and applies each to the POS stock exactly once. "
    "Every answer that is not a success is JSON with a `message`."
)
_log = structlog.get_logger("pos_sync.main")


def create_app(settings: Settings, *, on_start: Callable[[Service], None] = lambda _: None) -> FastAPI:
    """The service as production runs it; connects to nothing until it is started, and then calls `on_start`."""
    service = Service(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with service.run():
            on_start(service)
            _log.info("service started", version=version())
            yield
        _log.info("service stopped")

    app = FastAPI(
        title="mipos-pos-sync",
        description=_DESCRIPTION,
        version=version(),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=COMMON_ERRORS,
        # Not asked for, and looked up for every request.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.service = service
    app.add_exception_handler(PosSyncError, _answer)
    app.add_exception_handler(HTTPException, _answer_framework_error)
    app.add_exception_handler(RequestValidationError, _answer_bad_query)
    app.add_exception_handler(ClientGone, _answer_nobody)  # type: ignore[arg-type]  # None: nothing is sent
    app.add_exception_handler(Exception, _answer_bug)
    if settings.pos_keys:
        # First, since the router tries one after the other.
        _include_pos(
            app, service, ApiKey(settings.pos_keys, on_refused=service.metrics.observe_refused_key, tracing=service.tracing)
        )
    if settings.has_page:
        _include_page(app, service)
    app.include_router(webhook_router())
    app.include_router(probe_router(service.readiness, service.metrics, waiting=lambda: service.group_commit.waiting))
    describe_webhook(app.webhooks)
    if settings.docs_enabled:
        app.include_router(docs_router(app.openapi))
    webhook = SignedBodyMiddleware(
        StockWebhook(service.group_commit, on_ping=service.note_ping, tracing=service.tracing),
        receipt=service.receipt,
        secrets=client_secrets(settings),
        response_seconds=settings.response_deadline,
        on_unverified=service.capture.offer,
    )
    # Around the framework's own stack and not by `add_middleware`, which puts a layer into it: three layers more a delivery.
    app.middleware_stack = AccessLogMiddleware(
        WebhookShortcut(app.build_middleware_stack(), webhook=webhook), metrics=service.metrics, traffic=service.traffic
    )
    return app


def _include_pos(app: FastAPI, service: Service, api_key: ApiKey) -> None:
    service.pos_engine = engine = service.database.create_engine()
    app.include_router(
        movements_router(
            service.group_commit,
            engine,
            api_key=api_key,
            receipt=service.receipt,
            response_seconds=service.settings.response_deadline,
            on_recorded=service.wake_relay,
        )
    )
    service.feed = ChangeFeed(engine, on_lag=service.metrics.observe_feed_lag)
    app.include_router(reversals_router(engine, api_key, service.receipt, on_recorded=service.wake_relay))
    reader = reader_of(service.settings, service.database, engine, on_age=service.metrics.observe_standby_age)
    service.pos_tasks = [("change feed", service.feed.run), ("standby", reader.run)]
    app.include_router(queries_router(reader, api_key))
    app.include_router(history_router(reader, api_key, service.feed))
    app.include_router(sync_router(service.settings, engine, api_key))
    app.include_router(status_router(service.readiness, api_key))


def _include_page(app: FastAPI, service: Service) -> None:
    page = create_page(
        service.settings,
        service.database,
        service.receipt,
        on_recorded=service.wake_relay,
        on_failed_login=service.metrics.observe_failed_login,
    )
    service.page_engines = page.engines
    service.page_tasks = page.tasks
    app.add_route("/ui", _lead_to_page, include_in_schema=False)
    app.mount("/ui", page.app, name="page")


async def _lead_to_page(_request: Request) -> Response:
    return RedirectResponse("/ui/", 308)


async def _answer(_request: Request, error: Exception) -> Response:
    assert isinstance(error, PosSyncError)
    return _response(error)


async def _answer_framework_error(request: Request, error: Exception) -> Response:
    """Starlette's own refusals: 404 and 405 from the router, and whatever it may add."""
    assert isinstance(error, HTTPException)
    if error.status_code == NoSuchPage.status:
        return _response(NoSuchPage())
    if error.status_code == WrongMethod.status:
        return _response(WrongMethod(), {"Allow": allowed_methods(request)})
    return JSONResponse({"message": str(error.detail)}, status_code=error.status_code, headers=error.headers)


async def _answer_bad_query(_request: Request, error: Exception) -> Response:
    """FastAPI's own refusal of a parameter."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return _response(InvalidField(path_of(first["loc"][1:]), f"is not usable: {first['msg']}"))


async def _answer_nobody(_request: Request, _error: Exception) -> None:
    """The client left."""


async def _answer_bug(_request: Request, _error: Exception) -> Response:
    return _response(InternalError())


def _response(error: PosSyncError, headers: Mapping[str, str] | None = None) -> Response:
    status, raw_headers, body = render(error)
    response = Response(body, status_code=status, headers=headers)
    response.raw_headers = [*raw_headers, *(h for h in response.raw_headers if h[0] != b"content-length")]
    return response
