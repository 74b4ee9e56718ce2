"""The composition root: `create_app` wires the parts together; nothing else does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import asyncpg
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.exceptions import HTTPException

from app import version
from app.applying.batch_writer import BatchWriter
from app.applying.group_commit import GroupCommit
from app.errors import InternalError, InvalidField, PosSyncError, render
from app.errors.requests import NoSuchPage, WrongMethod
from app.mipos.outbox import Relay
from app.mipos.schedule import Schedule
from app.mipos.wiring import mipos_of, registrar, relay, why_not_registering, why_not_sending
from app.operations.access_log import AccessLogMiddleware
from app.operations.clock import ClockWatch
from app.operations.heartbeat import Heartbeat
from app.operations.metrics import Metrics
from app.operations.probes import docs_router, probe_router
from app.operations.readiness import Readiness
from app.operations.supervisor import supervise
from app.operator.drift_watch import DriftWatch
from app.pos.api_key import ApiKey
from app.pos.changes import ChangeFeed
from app.pos.history import history_router
from app.pos.movements import movements_router
from app.pos.queries import queries_router
from app.pos.reader import reader_of
from app.pos.reversals import reversals_router
from app.pos.status import status_router
from app.pos.sync import sync_router
from app.receiving.capture import CaptureTask
from app.receiving.client_secrets import client_secrets
from app.receiving.endpoint import StockWebhook, WebhookShortcut, describe_webhook, webhook_router
from app.receiving.signed_body import ClientGone, Receipt, SignedBodyMiddleware
from app.scope import WEBHOOK_PATH
from app.settings import Settings
from app.stock.rules import differing
from app.storage.engine import Database
from app.storage.rules import record_first
from app.storage.transactions import Connection
from app.storage.watch import DatabaseWatch
from app.wire import COMMON_ERRORS, path_of

STOP_SECONDS = 5.0
"""For the background tasks to end by themselves, calls to mipOS that are under way included."""
DISPOSE_SECONDS = 2.0
_DESCRIPTION = (
    "Receives the stock movements that mipOS relays, and applies each to the POS stock exactly once. "
    "Every answer that is not a success is JSON with a `message`."
)
_log = structlog.get_logger("pos_sync.main")


class Service:
    """What lives as long as the service: `app.state.service`.

    When it is told to stop, `drain` is called first, and `stop_receiving` when it takes no more connections.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.database = Database(settings.database_address, is_pooled=settings.is_pooled, schema=settings.database_schema)
        self.engine = self.database.create_engine()
        self.pos_engine: AsyncEngine | None = None
        """Of its own: what the POS reads must not take the connections by which /readyz looks."""
        self.feed: ChangeFeed | None = None
        self.pos_tasks: list[tuple[str, Callable[[], Awaitable[None]]]] = []
        self.readiness = Readiness(
            self.engine, why_not_registering=why_not_registering(settings), writer_is_away=lambda: self.group_commit.is_away
        )
        self.receipt = Receipt(max_body_bytes=settings.max_body_bytes)
        self.group_commit = GroupCommit(
            BatchWriter(Connection(self.database, statement_seconds=settings.response_deadline, on_connect=self._record_rules)),
            waiting_line=settings.waiting_line,
            observer=self.metrics,
        )
        self.capture = CaptureTask(self.engine)
        self._relay: Relay | None = None
        self._has_said_rules = False

    def drain(self) -> None:
        """Say not ready from now on, and go on receiving."""
        self.readiness.drain()

    def stop_receiving(self) -> None:
        """Give up on half-sent bodies; what has been received whole is still committed and answered."""
        self.receipt.close()
        if self.feed is not None:
            self.feed.stop()

    def wake_relay(self) -> None:
        """Have what was just recorded sent now."""
        if self._relay is not None:
            self._relay.wake()

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """The background tasks, each under the supervisor; they never delay or stop the receiving."""
        tasks = [
            asyncio.create_task(supervise(name, run), name=name)
            for name, run in (
                ("group commit", self.group_commit.run),
                ("database watch", DatabaseWatch(self.database).run),
                ("clock", ClockWatch(self.engine, on_skew=self.metrics.observe_clock_skew).run),
                ("heartbeat", Heartbeat(self.engine).run),
                ("registration", self._register),
                ("outbox", self._send),
                ("synchronisation", self._synchronise),
                ("drift", self._watch_drift),
                ("capture", self.capture.run),
                *self.pos_tasks,
            )
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            # A database that does not answer must not hold the exit, neither here nor when connections are given back.
            await asyncio.wait(tasks, timeout=STOP_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(DISPOSE_SECONDS):
                    await self.engine.dispose()
                    if self.pos_engine is not None:
                        await self.pos_engine.dispose()

    async def _record_rules(self, connection: asyncpg.Connection) -> None:
        """Record the rules of this process unless some are recorded; say once where they differ from those that count."""
        own = self.settings.rules
        recorded = await record_first(connection, own)
        names = differing(own, recorded)
        if names and not self._has_said_rules:
            self._has_said_rules = True
            _log.warning(
                "this process was started with other rules than are recorded in the database, and the recorded ones count",
                here={name: getattr(own, name) for name in names},
                recorded={name: getattr(recorded, name) for name in names},
                remedy="pos-sync rules --record",
            )

    async def _register(self) -> None:
        why_not = why_not_registering(self.settings)
        if why_not is not None:
            _log.warning("webhook not registered by this service", reason=why_not)
            return
        async with registrar(
            self.settings,
            self.engine,
            webhook_path=WEBHOOK_PATH,
            on_state=lambda state, attempts: self.metrics.observe_registration(state.value, attempts=attempts),
        ) as it:
            await it.run()

    async def _send(self) -> None:
        why_not = why_not_sending(self.settings)
        if why_not is not None:
            _log.warning("stock updates not sent by this service", reason=why_not)
            return
        async with relay(self.settings, self.database, self.engine, observer=self.metrics) as it:
            self._relay = it
            await it.run()

    async def _watch_drift(self) -> None:
        async with self.database.engine() as engine:
            await DriftWatch(engine, self.settings.rules, on_drift=self.metrics.observe_drift).run()

    async def _synchronise(self) -> None:
        """Every `SYNC_EVERY` hours, with connections of its own: it takes none from readiness."""
        if self.settings.sync_every is None:
            return
        why_not = why_not_sending(self.settings)
        if why_not is not None:
            _log.warning("SYNC_EVERY has no effect", reason=why_not)
            return
        async with self.database.engine() as engine, mipos_of(self.settings, engine) as (client, tokens):
            await Schedule(engine, client, tokens, every=timedelta(hours=self.settings.sync_every)).run()


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
        _include_pos(app, service, ApiKey(settings.pos_keys, on_refused=service.metrics.observe_refused_key))
    app.include_router(webhook_router())
    app.include_router(probe_router(service.readiness, service.metrics, waiting=lambda: service.group_commit.waiting))
    describe_webhook(app.webhooks)
    if settings.docs_enabled:
        app.include_router(docs_router(app.openapi))
    webhook = SignedBodyMiddleware(
        StockWebhook(service.group_commit),
        receipt=service.receipt,
        secrets=client_secrets(settings),
        response_seconds=settings.response_deadline,
        on_unverified=service.capture.offer,
    )
    # Around the framework's own stack and not by `add_middleware`, which puts a layer into it: three layers more a delivery.
    app.middleware_stack = AccessLogMiddleware(
        WebhookShortcut(app.build_middleware_stack(), webhook=webhook), metrics=service.metrics
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


async def _answer(_request: Request, error: Exception) -> Response:
    assert isinstance(error, PosSyncError)
    return _response(error)


async def _answer_framework_error(_request: Request, error: Exception) -> Response:
    """Starlette's own refusals: 404 and 405 from the router, and whatever it may add."""
    assert isinstance(error, HTTPException)
    if error.status_code == NoSuchPage.status:
        return _response(NoSuchPage())
    if error.status_code == WrongMethod.status:
        return _response(WrongMethod(), error.headers)
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
