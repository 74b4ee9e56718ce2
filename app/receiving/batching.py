"""Group commit: many deliveries, one transaction, each its own answer.

Idle, a delivery is written at once and alone. While a write is in flight, arrivals gather, and the next transaction takes
them all: one fsync serves many, and nobody waits on a timer. Every answer is given after COMMIT. Running a batch
again is always safe, also when its outcome is unknown, since the identities are looked up again under the same locks.
"""

import asyncio
import hashlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import asyncpg
import structlog

from app.errors import DatabaseAway, InternalError, OutcomeUnknown, Overloaded, PosSyncError, Refusal, UnstorableValue
from app.stock.applying import NegativeStock, Outcome, Refused, decide
from app.stock.movement import Movement
from app.storage import movements, refusals
from app.storage.faults import Fault, classify, sqlstate
from app.storage.refusals import RefusedDelivery

LARGEST_BATCH = 256
LOCK_SECONDS = 0.25
MOST_CONFLICTS = 3
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 0.5

_log = structlog.get_logger("pos_sync.batching")


class BatchObserver(Protocol):
    """Told of each committed batch."""

    def __call__(self, *, size: int, seconds: float, waiting: int) -> None:
        """`size` deliveries were committed in `seconds`, while `waiting` others gathered."""


@dataclass(slots=True, eq=False)
class Delivery:
    """A verified delivery on its way: a movement to apply, or (with `refusal`) only to be kept as refused."""

    raw_body: bytes
    movement: Movement | None
    refusal: Refusal | None
    deadline: float
    answer: asyncio.Future[Outcome]

    def as_refused(self, refusal: Refusal) -> RefusedDelivery:
        """The row by which the refusal is kept."""
        movement = self.movement
        identity = None if movement is None else movement.dedupe_key
        return RefusedDelivery(
            fingerprint=identity or hashlib.sha256(self.raw_body).digest(),
            reason=refusal.reason,
            http_status=int(refusal.status),
            message=refusal.message,
            raw_body=self.raw_body,
            store_id=None if movement is None else movement.store_id,
            item_id=None if movement is None else movement.item_id,
            inventory_system_id=None if movement is None else movement.inventory_system_id,
        )


class GroupCommit:
    """The one writer of a worker. `run` is its loop; requests call `submit`."""

    def __init__(  # noqa: PLR0913 - what main wires, each by name
        self,
        connect: Callable[[], Awaitable[asyncpg.Connection]],
        *,
        is_pooled: bool,
        default_negative_stock: NegativeStock,
        waiting_line: int,
        statement_seconds: float,
        on_batch: BatchObserver,
    ) -> None:
        self._connect = connect
        self._default_negative_stock = default_negative_stock
        self._waiting_line = waiting_line
        self._on_batch = on_batch
        self._waiting: deque[Delivery] = deque()
        self._arrived = asyncio.Event()
        self._connection: asyncpg.Connection | None = None
        self._is_away = False
        # A pooled connection changes hands after each transaction, so there the limits are set inside of it.
        begin = "BEGIN ISOLATION LEVEL READ COMMITTED"
        set_limits = limits(statement_seconds, scope="LOCAL" if is_pooled else "SESSION")
        self._begin = f"{begin}; {set_limits}" if is_pooled else begin
        self._on_connect = None if is_pooled else set_limits

    async def submit(
        self, raw_body: bytes, *, movement: Movement | None, refusal: Refusal | None = None, deadline: float
    ) -> Outcome:
        """Have a delivery written, and return what became of it, after COMMIT.

        `deadline` is in the event loop's time. A caller that goes away does not stop its movement.

        Raises:
            Overloaded: the waiting line is full; nothing was done.
            DatabaseAway, OutcomeUnknown: the deadline passed; the movement may still be applied, and sending it again is safe.
        """
        if len(self._waiting) >= self._waiting_line:
            raise Overloaded
        delivery = Delivery(raw_body, movement, refusal, deadline, asyncio.get_running_loop().create_future())
        self._waiting.append(delivery)
        self._arrived.set()
        try:
            async with asyncio.timeout_at(deadline):
                return await delivery.answer
        except TimeoutError:
            error: PosSyncError = DatabaseAway() if self._is_away else OutcomeUnknown()
            raise error from None

    async def run(self) -> None:
        """Write what arrives, for ever; cancel it to stop."""
        try:
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                while batch := self._take():
                    await self._settle_or_fail(batch)
        finally:
            self._disconnect()

    async def _settle_or_fail(self, batch: list[Delivery]) -> None:
        """A bug in here must cost one batch its answers, never the worker its writer."""
        try:
            await self._settle(batch)
        except Exception:  # noqa: BLE001 - the writer outlives its bugs
            _log.exception("batch abandoned", size=len(batch))
            for delivery in batch:
                if not delivery.answer.done():
                    delivery.answer.set_exception(InternalError())

    def _take(self) -> list[Delivery]:
        batch: list[Delivery] = []
        while self._waiting and len(batch) < LARGEST_BATCH:
            delivery = self._waiting.popleft()
            if not delivery.answer.done():
                batch.append(delivery)
        return batch

    async def _settle(self, batch: list[Delivery]) -> None:
        """Write until each delivery of `batch` has its answer or has passed its deadline."""
        groups = [batch]
        conflicts = 0
        pause = 0.0
        while groups:
            group = [delivery for delivery in groups.pop() if not delivery.answer.done()]
            if not group:
                continue
            try:
                outcomes = await self._write(group)
            except Exception as error:  # noqa: BLE001 - every failure has an answer here
                fault = classify(error)
                _log.warning("batch failed", fault=fault.name.lower(), size=len(group), error=_describe(error))
            else:
                for delivery, outcome in zip(group, outcomes, strict=True):
                    if not delivery.answer.done():
                        delivery.answer.set_result(outcome)
                conflicts, pause = 0, 0.0
                continue
            if fault is Fault.AWAY:
                self._is_away = True
                groups.append(group)
                await asyncio.sleep(pause)
                pause = min(max(pause * 2, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
            elif fault is Fault.CONFLICT and conflicts < MOST_CONFLICTS:
                conflicts += 1
                groups.append(group)
            elif len(group) > 1:
                middle = len(group) // 2
                groups += [group[middle:], group[:middle]]
            else:
                self._settle_alone(group[0], fault)

    def _settle_alone(self, delivery: Delivery, fault: Fault) -> None:
        """What becomes of a delivery that fails by itself."""
        if fault is Fault.BUSY:
            # To the end of the line, so that the others do not wait for the one row that another session holds.
            self._waiting.append(delivery)
        elif fault is Fault.CONFLICT:
            delivery.answer.set_exception(OutcomeUnknown())
        elif fault is Fault.DATA and delivery.refusal is None:
            delivery.refusal = UnstorableValue()
            self._waiting.append(delivery)
        else:
            delivery.answer.set_exception(InternalError())

    async def _write(self, group: Sequence[Delivery]) -> list[Outcome]:
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            async with asyncio.timeout_at(max(delivery.deadline for delivery in group)):
                connection = await self._connected()
                outcomes = await self._transact(connection, group)
        except asyncpg.PostgresError:
            await self._roll_back()
            raise
        except BaseException:
            self._disconnect()
            raise
        self._is_away = False
        self._on_batch(size=len(group), seconds=loop.time() - started, waiting=len(self._waiting))
        return outcomes

    async def _transact(self, connection: asyncpg.Connection, group: Sequence[Delivery]) -> list[Outcome]:
        await connection.execute(self._begin)
        asked = [delivery.movement for delivery in group if delivery.refusal is None and delivery.movement is not None]
        decided: list[Outcome] = []
        if asked:
            knowledge = await movements.read_knowledge(connection, asked, default_negative_stock=self._default_negative_stock)
            decision = decide(asked, knowledge)
            decided = list(decision.outcomes)
            if decision.entries:
                await movements.write(connection, decision.entries, decision.levels)
        remaining = iter(decided)
        outcomes = [Refused(delivery.refusal) if delivery.refusal else next(remaining) for delivery in group]
        refused = [
            delivery.as_refused(outcome.error)
            for delivery, outcome in zip(group, outcomes, strict=True)
            if isinstance(outcome, Refused)
        ]
        if refused:
            await refusals.record(connection, refused)
        status = await connection.execute("COMMIT")
        if status != "COMMIT":
            raise asyncpg.InterfaceError(f"COMMIT answered {status}")
        return outcomes

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._connect()
            if self._on_connect is not None:
                await self._connection.execute(self._on_connect)
        return self._connection

    async def _roll_back(self) -> None:
        if self._connection is None:
            return
        try:
            await self._connection.execute("ROLLBACK", timeout=1)
        except Exception:  # noqa: BLE001 - a connection that cannot even roll back is of no more use
            self._disconnect()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


def limits(statement_seconds: float, *, scope: str) -> str:
    """Limits on the server's side: a worker that is frozen or cut off must not keep its locks."""
    milliseconds = int(statement_seconds * 1000)
    return (
        f"SET {scope} lock_timeout = {int(LOCK_SECONDS * 1000)}; SET {scope} statement_timeout = {milliseconds}; "
        f"SET {scope} idle_in_transaction_session_timeout = {milliseconds}"
    )


def _describe(error: BaseException) -> str:
    """The error's type and, from Postgres, its code: the text of an error can hold values of a delivery."""
    name = type(error).__name__
    if isinstance(error, asyncpg.PostgresError):
        return f"{name} {sqlstate(error)}"
    return f"{name}: {error}" if isinstance(error, OSError) else name
