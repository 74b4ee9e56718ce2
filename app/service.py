"""What lives as long as the service: its connections, its background tasks, and the order in which it stops."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import asyncpg
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from app.applying.batch_writer import BatchWriter
from app.applying.group_commit import GroupCommit
from app.mipos.outbox import Relay
from app.mipos.schedule import Schedule
from app.mipos.wiring import mipos_of, registrar, relay, why_not_registering, why_not_sending
from app.operations.alerts import Alerts, alert_target
from app.operations.clock import ClockWatch
from app.operations.health import BatchObservers, Health
from app.operations.heartbeat import Heartbeat
from app.operations.metrics import Metrics
from app.operations.outage import Origin, Outage
from app.operations.problem_watch import ProblemWatch
from app.operations.readiness import Readiness
from app.operations.supervisor import supervise
from app.operations.traffic import Traffic
from app.operator.drift_watch import DriftWatch
from app.operator.ping import Pinger
from app.operator.prune import Pruner, ages_of
from app.operator.seal import Sealer
from app.operator.seal_key import seal_key_of
from app.operator.standing import circumstances_of
from app.pos.changes import ChangeFeed
from app.receiving.capture import CaptureTask
from app.receiving.signed_body import Receipt
from app.scope import WEBHOOK_PATH
from app.settings import Settings
from app.stock.rules import differing
from app.storage import pings
from app.storage.engine import Database
from app.storage.rules import record_first
from app.storage.transactions import Connection
from app.storage.watch import DatabaseWatch
from app.tracing import Tracing

STOP_SECONDS = 5.0
"""For the background tasks to end by themselves, calls to mipOS that are under way included."""
DISPOSE_SECONDS = 2.0

_log = structlog.get_logger("pos_sync.main")


class Service:
    """What lives as long as the service: `app.state.service`.

    When it is told to stop, `drain` is called first, and `stop_receiving` when it takes no more connections.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.tracing = Tracing(settings.trace_sample) if settings.trace_sample else None
        self.database = Database(settings.database_address, is_pooled=settings.is_pooled, schema=settings.database_schema)
        self.engine = self.database.create_engine()
        self.pos_engine: AsyncEngine | None = None
        """Of its own: what the POS reads must not take the connections by which /readyz looks."""
        self.feed: ChangeFeed | None = None
        self.pos_tasks: list[tuple[str, Callable[[], Awaitable[None]]]] = []
        self.page_engines: Sequence[AsyncEngine] = ()
        """Of its own too: ten people who click take no connection from the deliveries."""
        self.page_tasks: list[tuple[str, Callable[[], Awaitable[None]]]] = []
        self.readiness = Readiness(
            self.engine, why_not_registering=why_not_registering(settings), writer_is_away=lambda: self.group_commit.is_away
        )
        self.traffic = Traffic(self.engine)
        self.capture = CaptureTask(self.engine)
        self.receipt = Receipt(max_body_bytes=settings.max_body_bytes)
        self._database_watch = DatabaseWatch(self.database)
        self.health = Health(lambda: self._database_watch.state)
        self.group_commit = GroupCommit(
            BatchWriter(
                Connection(self.database, statement_seconds=settings.response_deadline, on_connect=self._record_rules),
                is_traced=self.tracing is not None,
            ),
            waiting_line=settings.waiting_line,
            observer=BatchObservers(self.metrics, self.health),
            tracing=self.tracing,
        )
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
                ("database watch", self._database_watch.run),
                ("clock", ClockWatch(self.engine, on_skew=self.metrics.observe_clock_skew).run),
                ("heartbeat", Heartbeat(self.engine).run),
                ("traffic", self.traffic.run),
                ("capture", self.capture.run),
                ("registration", self._register),
                ("outbox", self._send),
                ("synchronisation", self._synchronise),
                ("drift", self._watch_drift),
                ("problems", self._problem_watch().run),
                ("alerts", self._alerts().run),
                ("outage", self._outage().run),
                ("ping", self._ping),
                ("seal", self._seal),
                ("prune", self._prune),
                *self.pos_tasks,
                *self.page_tasks,
            )
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            # A database that does not answer must not hold the exit, neither here nor when connections are given back.
            await asyncio.wait(tasks, timeout=STOP_SECONDS)
            if self.tracing is not None:
                await asyncio.to_thread(self.tracing.close)
            with suppress(TimeoutError):
                async with asyncio.timeout(DISPOSE_SECONDS):
                    await self.engine.dispose()
                    for engine in (self.pos_engine, *self.page_engines):
                        if engine is not None:
                            await engine.dispose()

    async def note_ping(self, nonce: str) -> bool:
        """Note that a ping arrived; False where this database did not send it."""
        async with self.engine.begin() as connection:
            return await pings.arrive(connection, nonce)

    def _problem_watch(self) -> ProblemWatch:
        return ProblemWatch(
            self.engine,
            own=circumstances_of(self.settings),
            observer=self.metrics.problems,
            on_look=self.health.note_look,
            on_schema=self.health.note_schema,
        )

    def _alerts(self) -> Alerts:
        return Alerts(
            self.engine,
            alert_target(self.settings),
            heartbeat_url=self.settings.heartbeat_url,
            on_sent=self.metrics.problems.observe_alert,
        )

    def _outage(self) -> Outage:
        return Outage(
            self.engine,
            alert_target(self.settings),
            ailment=lambda: self.health.ailment,
            on_ailment=self.metrics.problems.observe_ailment,
            origin=Origin(
                # Two shops may both call their database db:5432/pos.
                installation=f"{self.settings.public_url or ''} {self.database.address.shared_name} {self.database.schema}",
                # A second one on the same machine listens elsewhere.
                replica=f"{self.settings.host}:{self.settings.port} {os.getuid()}",
            ),
        )

    async def _ping(self) -> None:
        if self.settings.public_url is not None and self.settings.ping_every:
            every = timedelta(minutes=self.settings.ping_every)
            await Pinger(self.settings, self.engine, on_state=self.metrics.problems.observe_ping, every=every).run()

    async def _seal(self) -> None:
        if self.settings.seal_every:
            every = timedelta(minutes=self.settings.seal_every)
            await Sealer(self.engine, every=every, key=seal_key_of(self.settings)).run()

    async def _prune(self) -> None:
        async with self.database.engine() as engine:
            await Pruner(engine, ages_of(self.settings)).run()

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
        async with relay(self.settings, self.database, self.engine, observer=self.metrics, tracing=self.tracing) as it:
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
