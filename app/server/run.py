"""uvicorn, as production runs it: its limits, several workers, and an orderly stop."""

import asyncio
import contextlib
import gc
import math
import os
import resource
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from types import FrameType

import asyncpg
import structlog
import uvicorn
from fastapi import FastAPI
from sqlalchemy.exc import SQLAlchemyError
from uvicorn.supervisors import Multiprocess

from app.main import create_app
from app.operations.logs import configure_logging
from app.operations.metrics import MULTIPROCESS_FOLDER
from app.server.protocol import Protocol
from app.server.systemd import READY, STOPPING, systemd
from app.service import Service
from app.settings import Settings, load_settings
from app.storage.engine import Database, reason_of, unreachable
from app.storage.migrations import read_schema_state
from app.storage.transactions import NOT_LET_IN, NOT_LET_IN_REMEDY, is_encrypted, sqlstate

MAX_DESCRIPTORS = 65536
BACKLOG = 2048
"""Connections that wait to be accepted"""
GRACE_SECONDS = 2
GARBAGE_THRESHOLD = 20_000
"""Objects between two collections. Python's 700 are reached every few deliveries, while those in flight are all still needed."""
INSUFFICIENT_PRIVILEGE = "42501"
ONE_SIGNAL_SECONDS = 1.0
"""Signals closer together than this are one: a worker gets the process group's, and then its parent's."""

REFUSED_CLASSES = {"28", "3D", "42"}
"""Classes of SQLSTATE by which Postgres refuses a role, a database, or what is missing in it"""

_log = structlog.get_logger("pos_sync.serving")


class SchemaNotAtHead(Exception):
    """The database cannot be used as it is set up: its revision, our rights or our password; the message says what to do."""


class CannotListen(Exception):
    """The service cannot listen on the address; the message says on which and why."""


class _Workers(Multiprocess):
    """uvicorn's supervisor, which would keep the port open while the workers end: callers would connect and be cut off."""

    _has_started = False

    def keep_subprocess_alive(self) -> None:
        """Say when all workers serve, and when one died; it is replaced."""
        for worker in self.processes:
            if worker.exitcode is not None:
                _log.error("worker died", pid=worker.pid, status=worker.exitcode)
        super().keep_subprocess_alive()
        if not self._has_started and all(worker.is_ready() for worker in self.processes):
            self._has_started = True
            systemd.notify(READY)

    def terminate_all(self) -> None:
        """Close the port first."""
        systemd.notify(STOPPING)
        for listener in self.sockets:
            listener.close()
        super().terminate_all()


class _OneWorker(uvicorn.Server):
    """uvicorn's server, which tells systemd when it serves."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        if self.started:
            systemd.notify(READY)


def application() -> FastAPI:
    """The service for one worker process: settings from the environment, logging, and an orderly stop."""
    settings = load_settings()
    configure_logging(log_format=settings.log_format, log_level=settings.log_level)

    def on_start(service: Service) -> None:
        Protocol.observer = service.metrics
        _drain_on_signals(service, settings.drain_delay)
        _spare_the_collector()

    return create_app(settings, on_start=on_start)


def serve(settings: Settings, *, workers: int = 1) -> int:
    """Run the service until SIGTERM or SIGINT; the exit status: 0 after an orderly stop.

    The settings reach the workers through the environment, so that each reads them as this process did.

    Raises:
        SchemaNotAtHead: the database answers, and this code cannot work with its schema, or is not let in.
        CannotListen: the address is in use, or not ours.
    """
    configure_logging(log_format=settings.log_format, log_level=settings.log_level)
    systemd.take_over()
    _raise_descriptors()
    asyncio.run(require_schema(settings))
    # Before uvicorn listens to signals, and when it is done, since it then raises the one that stopped it once more.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end_orderly)
    config = server_config("app.server.run:application", settings, workers=workers)
    listener = _listen(settings.host, settings.port)
    _log.info("listening", address="{}:{}".format(*listener.getsockname()[:2]), workers=workers)
    if workers > 1:
        with _shared_metrics():
            _Workers(config, sockets=[listener]).run()
        return 0
    server = _OneWorker(config)
    server.run(sockets=[listener])
    return 0 if server.started else 3


def _raise_descriptors() -> None:
    """Each connection is one, and the usual limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def server_config(factory: str, settings: Settings, *, workers: int) -> uvicorn.Config:
    """Configure uvicorn as in production, for the application that `factory` ("module:function") makes; so does the benchmark."""
    return uvicorn.Config(
        factory,
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
        timeout_keep_alive=settings.keep_alive,
        timeout_graceful_shutdown=math.ceil(settings.response_deadline) + GRACE_SECONDS,
    )


async def require_schema(settings: Settings) -> None:
    """Look whether this code can work with the schema. A database that is away is no reason not to start: /readyz says so.

    Raises:
        SchemaNotAtHead: it cannot.
    """
    database = Database(settings.database_address, is_pooled=settings.is_pooled, schema=settings.database_schema)
    engine = database.create_engine()
    try:
        async with engine.connect() as connection:
            state = await read_schema_state(connection)
            if not all(host.is_near for host in settings.database_address.hosts) and not await is_encrypted(connection):
                _log.warning("the connection to the database is not encrypted", remedy="DATABASE_URL with sslmode=verify-full")
    except (OSError, TimeoutError, SQLAlchemyError, asyncpg.InterfaceError) as error:
        code = sqlstate(error)
        if code == INSUFFICIENT_PRIVILEGE:
            raise SchemaNotAtHead(
                "The database role has not the rights that the service needs. As the schema's owner, run: "
                "pos-sync migrate --grant-to ROLE"
            ) from error
        if code == NOT_LET_IN:
            # Not away: no waiting helps.
            raise SchemaNotAtHead(NOT_LET_IN_REMEDY) from error
        # Postgres said no, and is there. It may end by itself: a role or a database may just be made.
        is_refused = code[:2] in REFUSED_CLASSES
        cause = getattr(error, "orig", None) or error
        _log.error(
            f"{'database refuses this service' if is_refused else 'database away'} at start, starting all the same",
            reason=reason_of(cause) if is_refused else unreachable(settings.database_address, cause),
            sqlstate=code or None,
        )
        return
    finally:
        await engine.dispose()
    if state.fault is not None:
        raise SchemaNotAtHead(state.fault)


def _drain_on_signals(service: Service, delay: float) -> None:
    """On SIGTERM or SIGINT: say not ready, go on for `delay` seconds, then let uvicorn stop. A second signal skips the rest."""
    loop = asyncio.get_running_loop()
    first_at: float | None = None

    def install(number: signal.Signals, stop: Callable[[int, FrameType | None], object]) -> None:
        def begin() -> None:
            nonlocal first_at
            if first_at is None:
                first_at = loop.time()
                service.drain()
                systemd.notify(STOPPING)
                loop.call_later(delay, end)
            elif loop.time() - first_at > ONE_SIGNAL_SECONDS:
                end()

        def end() -> None:
            service.stop_receiving()
            stop(number, None)

        def on_signal(_number: int, _frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(begin)

        signal.signal(number, on_signal)

    for number in (signal.SIGTERM, signal.SIGINT):
        stop = signal.getsignal(number)
        if callable(stop):
            install(number, stop)


def _spare_the_collector() -> None:
    """What was imported stays until the end. Most objects of a request are freed without the collector."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD, *gc.get_threshold()[1:])


def _end_orderly(_number: int, _frame: FrameType | None) -> None:
    """Nothing is received yet, or any more.

    At once: an exception would be lost where the signal comes within a callback of the collector, and the service would go on.
    """
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(0)


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket that worker processes can inherit.

    Two sockets can be bound to one port as long as neither listens: the second one would find out too late to say so.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
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
