"""uvicorn, as production runs it: its limits, its own errors as JSON, several workers, and an orderly stop."""

import asyncio
import contextlib
import math
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from http import HTTPStatus
from types import FrameType

import asyncpg
import structlog
import uvicorn
from sqlalchemy.exc import SQLAlchemyError
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.supervisors import Multiprocess

from app.errors import PosSyncError, render
from app.main import PosSync, create_app
from app.operations.logs import configure_logging
from app.operations.metrics import MULTIPROCESS_FOLDER
from app.settings import Settings, load_settings
from app.storage.engine import Database
from app.storage.migrating import current_revision, head

KEEP_ALIVE_SECONDS = 75
"""Longer than a proxy keeps its idle connections (nginx: 60), or it sends a delivery into a connection that we just closed."""
HEADER_SECONDS = 10.0
LARGEST_HEAD = 65536
GRACE_SECONDS = 2

_log = structlog.get_logger("pos_sync.serving")


class SchemaNotAtHead(Exception):
    """The database is not at the revision that this code needs; the message says what to run."""


class CannotListen(Exception):
    """The address cannot be had; the message says which and why."""


class BadRequest(PosSyncError):
    """uvicorn's own 400: the bytes are not HTTP."""

    status = HTTPStatus.BAD_REQUEST
    reason = "not_http"

    def __init__(self) -> None:
        super().__init__("The request is not valid HTTP.")


class HeadTooLarge(PosSyncError):
    """The request line and headers are over the cap; the parser has none of its own."""

    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    reason = "head_too_large"

    def __init__(self) -> None:
        super().__init__(f"The request's headers are larger than {LARGEST_HEAD} bytes.")


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol with a deadline and a cap for the head of a request, and errors with a `message`."""

    _head_timer: asyncio.TimerHandle | None = None
    _head_size = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock: a connection on which nothing comes is closed."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Start the clock again where a further request has begun and is not complete."""
        super().data_received(data)
        if self._head_timer is None and (self.cycle is None or self.cycle.response_complete):
            self._expect_head()

    def on_message_begin(self) -> None:
        """Count anew."""
        self._head_size = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Count the request line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header."""
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Stop the clock; from here the body's own deadline counts."""
        if self.transport.is_closing():
            return
        self._stop_clock()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Drop the body of a request that was refused for its head."""
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Ignore the end of a request that was refused for its head."""
        if not self.transport.is_closing():
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's signature
        """Refuse what is not HTTP, in our words."""
        self._refuse(BadRequest())

    def _count(self, size: int) -> None:
        self._head_size += size
        if self._head_size > LARGEST_HEAD:
            self._refuse(HeadTooLarge())

    def _refuse(self, error: PosSyncError) -> None:
        if self.transport.is_closing():
            return
        status, headers, body = render(error)
        lines = [b"HTTP/1.1 %d %b" % (status, HTTPStatus(status).phrase.encode("ascii"))]
        lines += [name + b": " + value for name, value in [*headers, (b"connection", b"close")]]
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        self.transport.close()

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(HEADER_SECONDS, self._give_up)

    def _stop_clock(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        # Between two requests of a kept-alive connection the keep-alive time counts, not this one.
        if self.timeout_keep_alive_task is None and not self.transport.is_closing():
            self.transport.close()


def application() -> PosSync:
    """The service for one worker process: settings from the environment, logging, and an orderly stop."""
    settings = load_settings()
    configure_logging(log_format=settings.log_format, log_level=settings.log_level)
    return create_app(settings, on_start=lambda app: _drain_on_signals(app, settings.drain_delay))


def serve(settings: Settings, *, workers: int = 1) -> int:
    """Run the service until SIGTERM or SIGINT; the exit status: 0 after an orderly stop.

    The settings reach the workers through the environment, so that each reads them as this process did.

    Raises:
        SchemaNotAtHead: the database answers, and its schema is another than this code needs.
        CannotListen: the address is in use, or not ours.
    """
    configure_logging(log_format=settings.log_format, log_level=settings.log_level)
    asyncio.run(require_schema(settings))
    # uvicorn raises the signal that stopped it once more when it is done; an orderly stop is to end with status 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _ignore)
    config = uvicorn.Config(
        "app.serving:application",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=workers,
        loop="uvloop",
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=True,
        forwarded_allow_ips=settings.forwarded_allow_ips,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=math.ceil(settings.response_deadline) + GRACE_SECONDS,
    )
    listener = _listen(settings.host, settings.port)
    _log.info("listening", address="{}:{}".format(*listener.getsockname()[:2]), workers=workers)
    if workers > 1:
        with _shared_metrics():
            Multiprocess(config, sockets=[listener]).run()
        return 0
    server = uvicorn.Server(config)
    server.run(sockets=[listener])
    return 0 if server.started else 3


async def require_schema(settings: Settings) -> None:
    """Look whether the schema is at head. A database that is away is no reason not to start: /readyz says so.

    Raises:
        SchemaNotAtHead: it is not.
    """
    database = Database(settings.sqlalchemy_url, is_pooled=settings.database_pooler == "transaction")
    engine = database.create_engine()
    try:
        async with engine.connect() as connection:
            revision = await current_revision(connection)
    except (OSError, TimeoutError, SQLAlchemyError, asyncpg.PostgresError) as error:
        _log.warning("database away at start, starting all the same", error=type(error).__name__)
        return
    finally:
        await engine.dispose()
    if revision != head():
        raise SchemaNotAtHead(
            f"The database schema is at revision {revision or 'none'}, and this version needs {head()}. Run: pos-sync migrate"
        )


def _drain_on_signals(app: PosSync, delay: float) -> None:
    """On SIGTERM or SIGINT: say not ready, go on for `delay` seconds, then let uvicorn stop. A second signal skips the rest."""
    loop = asyncio.get_running_loop()

    def install(number: signal.Signals, stop: Callable[[int, FrameType | None], object]) -> None:
        def begin() -> None:
            if app.is_draining:
                end()
            else:
                app.drain()
                loop.call_later(delay, end)

        def end() -> None:
            app.stop_receiving()
            stop(number, None)

        def on_signal(_number: int, _frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(begin)

        signal.signal(number, on_signal)

    for number in (signal.SIGTERM, signal.SIGINT):
        stop = signal.getsignal(number)
        if callable(stop):
            install(number, stop)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Nothing to do: by now the service has stopped."""


def _listen(host: str, port: int) -> socket.socket:
    """A bound socket that worker processes can inherit."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise CannotListen(f"Cannot listen on {host}:{port}: {error.strerror}. Choose another HOST or PORT.") from error
    listener.set_inheritable(True)
    return listener


@contextlib.contextmanager
def _shared_metrics() -> Iterator[None]:
    """A folder in which the workers keep their metrics, so that any of them can answer for all."""
    folder = tempfile.mkdtemp(prefix="pos-sync-metrics-")
    os.environ[MULTIPROCESS_FOLDER] = folder
    try:
        yield
    finally:
        del os.environ[MULTIPROCESS_FOLDER]
        shutil.rmtree(folder, ignore_errors=True)
