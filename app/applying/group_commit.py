"""Group commit: many deliveries, one transaction, each its own answer.

Idle, a delivery is written at once and alone. While a write is in flight, arrivals gather, and the next transaction takes
them all: one fsync serves many, and nobody waits on a timer. Every answer is given after COMMIT. Writing a batch again is always
safe, also when its outcome is unknown: the identities are looked up again, and are unique in the ledger.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

import asyncpg
import structlog

from app.applying.attempts import MAX_PAUSE_SECONDS, Attempts, by_levels, halves
from app.applying.batch_writer import BatchWriter, Deadlines, Delivery
from app.errors import (
    DatabaseAway,
    DatabaseNotSetUp,
    InternalError,
    OutcomeUnknown,
    Overloaded,
    PosSyncError,
    Refusal,
    UnstorableValue,
)
from app.stock.movement import Busy, Movement, Outcome, Refused, Subject
from app.storage.transactions import Fault, classify, is_server_lost, sqlstate, why_failed
from app.tracing import Tracing

MAX_BATCH = 256
"""Movements in a statement. A ticket with more is a batch of its own, since it is never split."""
MAX_ANSWERS_IN_A_TURN = 8
ASIDE_SECONDS = 0.05
"""How long a delivery whose level is held by another session is set aside before it is tried again."""

_log = structlog.get_logger("pos_sync.batching")


class BatchObserver(Protocol):
    """Told of each batch."""

    def on_batch(self, *, size: int, seconds: float) -> None:
        """`size` deliveries were committed in `seconds`."""

    def on_fault(self, fault: str, code: str) -> None:
        """A transaction failed, by a `Fault` in lower case and its SQLSTATE; it is run again, whole or in parts."""


class GroupCommit:
    """The one writer of a worker. `run` is its loop; requests call `submit`."""

    def __init__(
        self, writer: BatchWriter, *, waiting_line: int, observer: BatchObserver, tracing: Tracing | None = None
    ) -> None:
        self._writer = writer
        self._tracing = tracing
        self._waiting_line = waiting_line
        self._observer = observer
        self._waiting: deque[Delivery] = deque()
        self._arrived = asyncio.Event()
        self._is_away = False
        self._deadlines = Deadlines(self._expire)
        self._aside = 0

    async def submit(  # noqa: PLR0913 - what is known of a delivery, each by name
        self,
        raw_body: bytes | None,
        *,
        movement: Movement | None,
        refusal: Refusal | None = None,
        subject: Subject | None = None,
        deadline: float,
        request_id: str | None = None,
        trace: str | None = None,
    ) -> Outcome:
        """Have a delivery of mipOS written, and return what became of it, after COMMIT. Raises as `submit_ticket` does.

        `subject` is what a delivery is about that could not be read, and has a `refusal`.
        """
        movements = [] if movement is None else [movement]
        delivery = Delivery(raw_body, movements, refusal, deadline, subject=subject, request_id=request_id, trace=trace)
        return (await self._submit(delivery))[0]

    async def submit_ticket(
        self, movements: Sequence[Movement], *, deadline: float, units: Sequence[int | None] = (), trace: str | None = None
    ) -> list[Outcome]:
        """Have the movements of one call of the POS written in one statement, and return their outcomes, after COMMIT.

        Those with the same number in `units` are applied together or not at all. `deadline` is in the event loop's time. A caller
        that goes away does not stop its movements.

        Raises:
            Overloaded: the queue is full; nothing was done.
            DatabaseAway, OutcomeUnknown: the deadline passed; the movements may still be applied. Sending them again is safe.
        """
        return await self._submit(Delivery(None, movements, None, deadline, units=units, trace=trace))

    async def _submit(self, delivery: Delivery) -> list[Outcome]:
        if self.waiting >= self._waiting_line:
            raise Overloaded
        self._waiting.append(delivery)
        self._arrived.set()
        self._deadlines.add(delivery)
        try:
            return await delivery.answer
        finally:
            self._deadlines.discard(delivery)

    def _expire(self, delivery: Delivery) -> None:
        if not delivery.answer.done():
            delivery.answer.set_exception(DatabaseAway() if self._is_away else OutcomeUnknown())

    @property
    def waiting(self) -> int:
        """How many deliveries wait for a transaction."""
        return len(self._waiting) + self._aside

    async def run(self) -> None:
        """Write what arrives until it is cancelled."""
        try:
            while not self._waiting and not await self._is_connected():
                with suppress(TimeoutError):
                    async with asyncio.timeout(MAX_PAUSE_SECONDS):
                        await self._arrived.wait()
            while True:
                await self._wait()
                self._arrived.clear()
                while batch := self._take():
                    await self._settle_or_fail(batch)
        finally:
            self._writer.disconnect()

    async def _wait(self) -> None:
        """Until something arrives. Meanwhile a lost connection is made again: nothing may arrive before readiness tells of it."""
        while self._is_away and not self._arrived.is_set():
            if not await self._is_connected():
                with suppress(TimeoutError):
                    async with asyncio.timeout(MAX_PAUSE_SECONDS):
                        await self._arrived.wait()
        await self._arrived.wait()

    @property
    def is_away(self) -> bool:
        """Whether the last try to write, or to connect, found no database that writes."""
        return self._is_away

    async def _is_connected(self) -> bool:
        """Whether the first connection, which records the rules, is made. It is tried again until a delivery comes."""
        try:
            await self._writer.connect()
        except Exception as error:  # noqa: BLE001 - whatever it is, a delivery is tried all the same, and says so
            if not self._is_away:
                self._say(classify(error), error, size=0)
            return False
        if self._is_away:
            self._is_away = False
            _log.info("database back")
        return True

    async def _settle_or_fail(self, batch: list[Delivery]) -> None:
        """A bug in here must cost one batch its answers, never the worker its writer."""
        try:
            await self._settle(batch)
        except Exception:  # noqa: BLE001 - the writer outlives its bugs
            _fail(batch, InternalError())
            _log.exception("batch abandoned", size=len(batch))

    def _take(self) -> list[Delivery]:
        batch: list[Delivery] = []
        size = 0
        while self._waiting and (not batch or size + len(self._waiting[0].movements) <= MAX_BATCH):
            delivery = self._waiting.popleft()
            if not delivery.answer.done():
                batch.append(delivery)
                size += max(len(delivery.movements), 1)
        return batch

    async def _settle(self, batch: list[Delivery]) -> None:
        """Write until each delivery of `batch` has its answer or has passed its deadline."""
        groups = [batch]
        attempts = Attempts()
        while groups:
            group = [delivery for delivery in groups.pop() if not delivery.answer.done()]
            if not group:
                continue
            try:
                outcomes = await self._write(group)
            except Exception as error:  # noqa: BLE001 - every failure has an answer here
                groups += await self._recover(group, error, attempts)
            else:
                self._answer(group, outcomes)
                attempts = Attempts()

    async def _recover(self, group: list[Delivery], error: Exception, attempts: Attempts) -> list[list[Delivery]]:
        """Return the groups to write again, as a stack. All other deliveries were answered or set aside."""
        fault = classify(error)
        self._say(fault, error, size=len(group))
        if fault is Fault.NOT_SET_UP:
            _fail(group, DatabaseNotSetUp())
            return []
        if fault is Fault.AWAY:
            # Also where the connection still works: it may lead to a server that has become a standby.
            self._writer.disconnect()
            if is_server_lost(error):
                self._writer.abandon_server()
            await attempts.pause()
            return [group]
        if fault is Fault.CONFLICT and attempts.may_conflict_again():
            return [group]
        if fault is Fault.BUSY and not self._writer.skips_locked:
            self._writer.skip_locked_for_a_while()
            return [group]
        parts = by_levels(group) if fault is Fault.BUSY else halves(group)
        if len(parts) > 1:
            return parts[::-1]
        for delivery in group:
            self._settle_alone(delivery, fault)
        return []

    def _say(self, fault: Fault, error: Exception, *, size: int) -> None:
        """One line for each failure, but for a database that is away: one when it goes, and one when it is back."""
        self._observer.on_fault(fault.name.lower(), sqlstate(error))
        if fault is Fault.AWAY:
            if not self._is_away:
                _log.error("database away", reason=why_failed(error))
            self._is_away = True
        elif fault is Fault.BUG:
            _log.error(
                "batch failed",
                fault="bug",
                size=size,
                reason=why_failed(error),
                exc_info=None if isinstance(error, asyncpg.PostgresError) else error,
            )
        else:
            log = _log.error if fault is Fault.NOT_SET_UP else _log.warning
            log("batch failed", fault=fault.name.lower(), size=size, reason=why_failed(error))

    def _answer(self, group: Sequence[Delivery], outcomes: Sequence[list[Outcome]]) -> None:
        """Give each its outcomes, a few in each turn of the loop: in between, the next batch's own answers are looked for."""
        turn = slice(MAX_ANSWERS_IN_A_TURN)
        for delivery, found in zip(group[turn], outcomes[turn], strict=True):
            # A ticket is busy as a whole.
            if isinstance(found[0], Busy):
                self._set_aside(delivery)
            elif not delivery.answer.done():
                delivery.answer.set_result(found)
        if len(group) > MAX_ANSWERS_IN_A_TURN:
            later = group[MAX_ANSWERS_IN_A_TURN:], outcomes[MAX_ANSWERS_IN_A_TURN:]
            asyncio.get_running_loop().call_soon(self._answer, *later)

    def _settle_alone(self, delivery: Delivery, fault: Fault) -> None:
        """What becomes of a delivery that fails apart from all others."""
        if delivery.answer.done():
            return
        if fault in (Fault.BUSY, Fault.BROKEN):
            self._set_aside(delivery)
        elif fault is Fault.CONFLICT:
            delivery.answer.set_exception(OutcomeUnknown())
        elif fault is Fault.DATA and delivery.raw_body is None:
            delivery.answer.set_result([Refused(UnstorableValue()) for _ in delivery.movements])
        elif fault is Fault.DATA and delivery.refusal is None:
            delivery.refusal = UnstorableValue()
            self._waiting.append(delivery)
        else:
            delivery.answer.set_exception(InternalError())

    def _set_aside(self, delivery: Delivery) -> None:
        """Try `delivery` again in a moment, so that the others do not wait for the one row that it needs."""

        def bring_back() -> None:
            self._aside -= 1
            self._waiting.append(delivery)
            self._arrived.set()

        self._aside += 1
        asyncio.get_running_loop().call_later(ASIDE_SECONDS, bring_back)

    async def _write(self, group: Sequence[Delivery]) -> list[list[Outcome]]:
        loop = asyncio.get_running_loop()
        started = loop.time()
        if self._tracing is None:
            outcomes = await self._writer.write(group)
        else:
            with self._tracing.commit([delivery.trace for delivery in group]):
                outcomes = await self._writer.write(group)
        if self._is_away:
            self._is_away = False
            _log.info("database back")
        self._observer.on_batch(size=len(group), seconds=loop.time() - started)
        return outcomes


def _fail(group: Sequence[Delivery], error: PosSyncError) -> None:
    for delivery in group:
        if not delivery.answer.done():
            delivery.answer.set_exception(error)
