"""The composition root: `create_app` wires the parts together; nothing else does."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import asyncpg
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from app.applying.batch_writer import BatchWriter
from app.applying.group_commit import GroupCommit
from app.errors import InternalError, InvalidField, NoSuchPage, PosSyncError, WrongMethod, render
from app.mipos.outbox import Relay
from app.mipos.schedule import Schedule
from app.mipos.wiring import mipos_of, registrar, relay, why_not_registering, why_not_sending
from app.operations.health import Readiness
from app.operations.metrics import Metrics
from app.operations.observing import ObservingMiddleware
from app.pos.bearer import ApiKey
from app.pos.describing import describe_recording
from app.pos.movements import PosMovements, is_recording
from app.pos.reading import reading_router
from app.pos.syncing import syncing_router
from app.receiving.middleware import WEBHOOK_PATH, Receipt, SignedBodyMiddleware
from app.receiving.routes import StockWebhook, describe_webhook
from app.receiving.signature import Key
from app.settings import Settings
from app.stock.rules import differing
from app.storage.connection import Connection
from app.storage.engine import Database
from app.storage.rules import record_first
from app.version import version

STOP_SECONDS = 5.0
"""For the background tasks to end by themselves, calls to mipOS that are under way included."""
DISPOSE_SECONDS = 2.0
RESTART_SECONDS = 5.0

_log = structlog.get_logger("pos_sync.main")


class PosSync(FastAPI):
    """The service. When it is told to stop, `drain` is called first, and `stop_receiving` when it takes no more connections."""

    def __init__(self, settings: Settings, *, on_start: "Callable[[PosSync], None]" = lambda _: None) -> None:
        self._settings = settings
        self._on_start = on_start
        self._metrics = Metrics()
        self._database = Database(settings.sqlalchemy_url, is_pooled=settings.database_pooler == "transaction")
        self._engine = self._database.create_engine()
        self._readiness = Readiness(self._engine, why_not_registering=why_not_registering(settings))
        self._receipt = Receipt(max_body_bytes=settings.max_body_bytes)
        self._group_commit = GroupCommit(
            BatchWriter(Connection(self._database, statement_seconds=settings.response_deadline, on_connect=self._record_rules)),
            waiting_line=settings.waiting_line,
            observer=self._metrics,
        )
        super().__init__(
            title="mipos-pos-sync",
            description="Receives the stock movements that mipOS relays, and applies each to the POS stock exactly once.",
            version=version(),
            lifespan=self._run,
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,
        )
        webhook = StockWebhook(self._group_commit)
        guarded = SignedBodyMiddleware(
            webhook, receipt=self._receipt, secrets=_secrets(settings), response_seconds=settings.response_deadline
        )
        self._deliveries = ObservingMiddleware(guarded, metrics=self._metrics)
        self.add_middleware(ObservingMiddleware, metrics=self._metrics)
        self.add_exception_handler(PosSyncError, _answer)
        self.add_exception_handler(HTTPException, _answer_framework_error)
        self.add_exception_handler(RequestValidationError, _answer_bad_query)
        self.add_exception_handler(Exception, _answer_bug)
        self._recording: ObservingMiddleware | None = None
        self._pos_engine: AsyncEngine | None = None
        self._relay: Relay | None = None
        self._said: dict[str, object] = {}
        if settings.pos_api_key is not None:
            # Of its own: what the POS reads must not take the connections by which /readyz looks.
            self._pos_engine = self._database.create_engine()
            api_key = ApiKey(settings.pos_api_key.get_secret_value())
            recording = PosMovements(
                self._group_commit,
                self._pos_engine,
                api_key=api_key,
                receipt=self._receipt,
                response_seconds=settings.response_deadline,
                on_recorded=self._wake_relay,
            )
            self._recording = ObservingMiddleware(recording, metrics=self._metrics)
            self.include_router(reading_router(self._pos_engine, api_key))
            self.include_router(syncing_router(settings, self._pos_engine, api_key))
        # Here for what the router has to say of the path (405), and fails closed: nothing that comes this way was verified.
        self.router.routes.append(Route(WEBHOOK_PATH, endpoint=webhook, methods=["POST"], include_in_schema=False))
        self.add_api_route("/livez", self._livez, summary="Is the process alive? Depends on nothing.")
        self.add_api_route("/readyz", self._readyz, summary="Should traffic come here?", responses={503: {}})
        self.add_api_route("/metrics", self._exposition, summary="Prometheus metrics.", response_class=Response)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI). A delivery passes our own layers only: the framework's cost more than all of its work."""
        if scope["type"] == "http" and scope["path"] == WEBHOOK_PATH and scope["method"] == "POST":
            await self._deliveries(scope, receive, send)
        elif self._recording is not None and is_recording(scope):
            await self._recording(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    async def _record_rules(self, connection: asyncpg.Connection) -> None:
        """Record the rules of this process unless some are recorded; say where they differ from those that count."""
        own = self._settings.rules
        recorded = await record_first(connection, own)
        differences = {name: getattr(own, name) for name in differing(own, recorded)}
        if differences and differences != self._said:
            self._said = differences
            _log.warning(
                "this process was started with other rules than the database has recorded, and those count",
                **{f"{name}_here": value for name, value in differences.items()},
                **{f"{name}_recorded": getattr(recorded, name) for name in differences},
                remedy="pos-sync rules --record",
            )

    def drain(self) -> None:
        """Say not ready from now on, and go on receiving."""
        self._readiness.drain()

    def stop_receiving(self) -> None:
        """Give up on half-sent bodies; what has been received whole is still committed and answered."""
        self._receipt.close()

    def openapi(self) -> dict[str, Any]:
        """FastAPI's document, with the webhook, which is no FastAPI function."""
        if self.openapi_schema is None:
            document = super().openapi()
            describe_webhook(document)
            if self._recording is not None:
                describe_recording(document)
            self.openapi_schema = document
        return self.openapi_schema

    @asynccontextmanager
    async def _run(self, _app: FastAPI) -> AsyncIterator[None]:
        tasks = [
            asyncio.create_task(self._group_commit.run(), name="group commit"),
            asyncio.create_task(self._register(), name="registration"),
            asyncio.create_task(self._send(), name="outbox"),
            asyncio.create_task(self._synchronise(), name="synchronisation"),
        ]
        self._on_start(self)
        _log.info("service started", version=version())
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            # A database that does not answer must not hold the exit, neither here nor when connections are given back.
            await asyncio.wait(tasks, timeout=STOP_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(DISPOSE_SECONDS):
                    await self._engine.dispose()
                    if self._pos_engine is not None:
                        await self._pos_engine.dispose()
            _log.info("service stopped")

    async def _register(self) -> None:
        """In the background: it never delays or stops the receiving."""
        why_not = why_not_registering(self._settings)
        if why_not is not None:
            _log.warning("webhook not registered by this service", reason=why_not)
            return
        try:
            async with registrar(
                self._settings,
                self._engine,
                webhook_path=WEBHOOK_PATH,
                on_state=lambda state, attempts: self._metrics.observe_registration(state.value, attempts=attempts),
            ) as it:
                await it.run()
        except Exception:  # noqa: BLE001 - such as a proxy in the environment that cannot be used: receiving goes on
            _log.exception("webhook not registered by this service")

    async def _send(self) -> None:
        """In the background: send what the outbox holds."""
        why_not = why_not_sending(self._settings)
        if why_not is not None:
            _log.warning("stock updates not sent by this service", reason=why_not)
            return
        while True:
            try:
                async with relay(self._settings, self._database, self._engine, observer=self._metrics) as it:
                    self._relay = it
                    await it.run()
            except Exception:  # noqa: BLE001 - a bug in sending must not touch receiving, nor end sending for good
                _log.exception("sending stock updates starts anew")
                await asyncio.sleep(RESTART_SECONDS)

    async def _synchronise(self) -> None:
        """In the background, every `SYNC_EVERY` hours, with connections of its own: it takes none from readiness."""
        if self._settings.sync_every is None:
            return
        why_not = why_not_sending(self._settings)
        if why_not is not None:
            _log.warning("SYNC_EVERY has no effect", reason=why_not)
            return
        engine = self._database.create_engine()
        try:
            async with mipos_of(self._settings, engine) as (client, tokens):
                await Schedule(engine, client, tokens, every=timedelta(hours=self._settings.sync_every)).run()
        except Exception:  # noqa: BLE001 - such as a proxy in the environment that cannot be used: receiving goes on
            _log.exception("SYNC_EVERY has no effect")
        finally:
            await engine.dispose()

    def _wake_relay(self) -> None:
        if self._relay is not None:
            self._relay.wake()

    async def _livez(self) -> dict[str, str]:
        return {"message": "Alive."}

    async def _readyz(self) -> JSONResponse:
        health = await self._readiness.check()
        body = {
            "message": health.message,
            "database": health.database,
            "schema": health.schema,
            "draining": health.draining,
            "registration": health.registration,
        }
        return JSONResponse(body, status_code=200 if health.is_ready else 503)

    async def _exposition(self) -> Response:
        return Response(
            self._metrics.exposition(waiting=self._group_commit.waiting), media_type="text/plain; version=0.0.4; charset=utf-8"
        )


def create_app(settings: Settings, *, on_start: Callable[[PosSync], None] = lambda _: None) -> PosSync:
    """The service as production runs it; connects to nothing until it is started, and then calls `on_start`."""
    return PosSync(settings, on_start=on_start)


def _secrets(settings: Settings) -> list[tuple[Key, bytes]]:
    secrets = [(Key.CURRENT, settings.mipos_client_secret.get_secret_value().encode("ascii"))]
    if settings.mipos_client_secret_previous is not None:
        secrets.append((Key.PREVIOUS, settings.mipos_client_secret_previous.get_secret_value().encode("ascii")))
    return secrets


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
    return _response(InvalidField(".".join(str(part) for part in first["loc"][1:]), f"is not usable: {first['msg']}"))


async def _answer_bug(_request: Request, _error: Exception) -> Response:
    return _response(InternalError())


def _response(error: PosSyncError, headers: Any = None) -> Response:  # noqa: ANN401 - starlette's mapping
    status, raw_headers, body = render(error)
    response = Response(body, status_code=status, headers=headers)
    response.raw_headers = [*raw_headers, *(h for h in response.raw_headers if h[0] != b"content-length")]
    return response
