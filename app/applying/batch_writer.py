"""A batch of deliveries: their deadlines, and the writer that applies them by one statement and keeps what was refused."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import asyncpg

from app.errors import Refusal
from app.stock.duplicates import is_maybe_distinct
from app.stock.movement import Applied, Echo, Known, Movement, Outcome, Refused, Subject
from app.storage import duplicates, outbox_traces, refusals
from app.storage.duplicates import Suspect, Suspicion
from app.storage.ledger import apply_movements
from app.storage.refusals import RefusedDelivery
from app.storage.transactions import Connection

CONNECT_SECONDS = 1.0
"""For connecting at the start, and recording the rules."""
SKIP_LOCKED_SECONDS = 2.0
"""How long, after a lock was held for too long, locked levels are skipped instead of waited for."""


@dataclass(slots=True, eq=False)
class Delivery:
    """A ticket of movements to apply, or (with `refusal`) only to be kept as refused.

    What mipOS delivers is one movement and brings its bytes, which are kept where it is refused. What the POS records brings
    none.
    """

    raw_body: bytes | None
    movements: Sequence[Movement]
    refusal: Refusal | None
    deadline: float
    """In the event loop's time."""
    answer: asyncio.Future[list[Outcome]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    """One outcome for each movement; one for a refusal."""
    subject: Subject | None = None
    """Of what could not be read as a movement"""
    units: Sequence[int | None] = ()
    """For each movement the number of its unit, of which all are applied or none. None: it stands alone. Empty: all do."""
    request_id: str | None = None
    trace: str | None = None
    """The traceparent of its receipt, where that is traced."""

    def as_refused(self, refusal: Refusal) -> RefusedDelivery:
        """Return the row by which the refusal is kept."""
        assert self.raw_body is not None
        movement = self.movements[0] if self.movements else None
        identity = None if movement is None else movement.dedupe_key
        subject = movement or self.subject or Subject()
        return RefusedDelivery(
            delivery_key=identity or hashlib.sha256(self.raw_body).digest(),
            reason=refusal.reason,
            status_code=int(refusal.status),
            message=refusal.message,
            raw_body=self.raw_body,
            store_id=subject.store_id,
            item_id=subject.item_id,
            inventory_system_id=subject.inventory_system_id,
            request_id=self.request_id,
        )


class Deadlines:
    """Calls `expire` for each delivery that is still here when its deadline passes, by one timer for all.

    A timer for each delivery costs more than all the rest of waiting for an answer.
    """

    def __init__(self, expire: Callable[[Delivery], None]) -> None:
        self._expire = expire
        self._deliveries: set[Delivery] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._next = float("inf")

    def add(self, delivery: Delivery) -> None:
        """Watch `delivery`."""
        self._deliveries.add(delivery)
        if delivery.deadline < self._next:
            self._wake_at(delivery.deadline)

    def discard(self, delivery: Delivery) -> None:
        """Stop watching `delivery`. The timer stays, and is set for the next one when it rings."""
        self._deliveries.discard(delivery)

    def _wake_at(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = deadline
        self._timer = asyncio.get_running_loop().call_at(deadline, self._sweep)

    def _sweep(self) -> None:
        now = asyncio.get_running_loop().time()
        # A timer may come a moment early; without the look at `_next` it could then be set for the past again and again.
        passed = max(now, self._next)
        self._timer, self._next = None, float("inf")
        for delivery in list(self._deliveries):
            if delivery.deadline <= passed:
                self._deliveries.discard(delivery)
                self._expire(delivery)
        if self._deliveries:
            self._wake_at(min(delivery.deadline for delivery in self._deliveries))


class BatchWriter:
    """Writes one group at a time."""

    def __init__(self, connection: Connection, *, is_traced: bool = False) -> None:
        self._connection = connection
        self._is_traced = is_traced
        self._skips_locked_until = 0.0

    @property
    def skips_locked(self) -> bool:
        """Whether levels that others hold are skipped."""
        return asyncio.get_running_loop().time() < self._skips_locked_until

    def skip_locked_for_a_while(self) -> None:
        """Skip levels that others hold from now on: somebody holds one for long."""
        self._skips_locked_until = asyncio.get_running_loop().time() + SKIP_LOCKED_SECONDS

    async def connect(self) -> None:
        """Connect before the first delivery, so that the rules are recorded when the service starts.

        Raises as the driver does, or TimeoutError: a server that accepts and says nothing must not hold up deliveries.
        """
        try:
            async with asyncio.timeout(CONNECT_SECONDS), self._connection.transaction():
                pass
        except BaseException:
            self._connection.disconnect()
            raise

    def disconnect(self) -> None:
        """Drop the connection; the next group makes another."""
        self._connection.disconnect()

    def abandon_server(self) -> None:
        """Drop all connections of this process: where one is lost, or leads to a standby, the others do."""
        self._connection.abandon_server()

    async def write(self, group: Sequence[Delivery]) -> list[list[Outcome]]:
        """Return the outcomes of each delivery of `group`, committed.

        Raises as the driver does, and then the outcome may be unknown. Writing the same group again is safe.
        """
        try:
            async with asyncio.timeout_at(max(delivery.deadline for delivery in group)):
                outcomes = await self._apply(group)
                await self._keep(group, outcomes)
                return outcomes
        except asyncpg.PostgresError:
            await self._connection.roll_back()
            raise
        except BaseException:
            self._connection.disconnect()
            raise

    async def _apply(self, group: Sequence[Delivery]) -> list[list[Outcome]]:
        asked = [delivery for delivery in group if delivery.refusal is None]
        movements = [movement for delivery in asked for movement in delivery.movements]
        applied: list[Outcome] = []
        if movements:
            tickets = units = None
            if len(movements) > len(asked):
                tickets = [number for number, delivery in enumerate(asked) for _ in delivery.movements]
                if any(delivery.units for delivery in asked):
                    units = _numbered(asked)
            async with self._connection.transaction() as connection:
                applied = await apply_movements(
                    connection, movements, tickets=tickets, units=units, skips_locked=self.skips_locked
                )
                if self._is_traced:
                    await _keep_traces(connection, asked, applied)
        remaining = iter(applied)
        return [
            [next(remaining) for _ in delivery.movements] if delivery.refusal is None else [Refused(delivery.refusal)]
            for delivery in group
        ]

    async def _keep(self, group: Sequence[Delivery], outcomes: Sequence[Sequence[Outcome]]) -> None:
        """Keep what was refused, and what is known but may be distinct. Neither changes stock, so each is a transaction."""
        reported = [
            (delivery, outcome) for delivery, (outcome, *_) in zip(group, outcomes, strict=True) if delivery.raw_body is not None
        ]
        refused = [delivery.as_refused(outcome.error) for delivery, outcome in reported if isinstance(outcome, Refused)]
        if refused:
            async with self._connection.transaction() as connection:
                await refusals.record(connection, refused)
        suspects = [suspect for delivery, outcome in reported if (suspect := _suspect(delivery, outcome)) is not None]
        if suspects:
            async with self._connection.transaction() as connection:
                await duplicates.record(connection, suspects)
        known = [delivery for delivery, outcome in reported if isinstance(outcome, Known)]
        if known:
            await self._look_at_copies(known)

    async def _look_at_copies(self, known: Sequence[Delivery]) -> None:
        """Of `known`, keep those that may be movements of their own, or apply them where an operator has decided so.

        After the originals were written, also of this group. Of one item each is looked at after the one before it was kept,
        which it may follow from.
        """
        # The same bytes again say nothing more.
        unique = {(d.movements[0].store_id, d.movements[0].dedupe_key, d.movements[0].sent_at_text): d for d in known}
        waiting = list(unique.values())
        while waiting:
            async with self._connection.transaction() as connection:
                reading, traces = await duplicates.read_traces(connection, [delivery.movements[0] for delivery in waiting])
            distinct: dict[tuple[str, str], tuple[Suspect, bool]] = {}
            again: list[Suspect] = []
            later: list[Delivery] = []
            for delivery, trace in zip(waiting, traces, strict=True):
                movement, last = delivery.movements[0], trace.later
                if movement.key in distinct:
                    later.append(delivery)
                elif last is None:
                    continue
                elif is_maybe_distinct(movement, trace, reading):
                    suspect = Suspect(
                        movement,
                        delivery.raw_body or b"",
                        trace.occurrences + 1,
                        last.level_version,
                        follows_id=last.suspected_duplicate_id,
                        request_id=delivery.request_id,
                    )
                    distinct[movement.key] = suspect, trace.applies_repeated
                elif last.same_occurrence is not None:
                    body, request_id = delivery.raw_body or b"", delivery.request_id
                    again.append(Suspect(movement, body, last.same_occurrence, last.level_version, request_id=request_id))
            if distinct or again:
                await self._keep_distinct(list(distinct.values()), again)
            waiting = later

    async def _keep_distinct(self, found: Sequence[tuple[Suspect, bool]], again: Sequence[Suspect]) -> None:
        """Apply those that are marked so, and keep the others, also what cannot be applied; `again` was kept before."""
        applied = [suspect for suspect, applies in found if applies]
        kept = [*(suspect for suspect, applies in found if not applies), *again]
        async with self._connection.transaction() as connection:
            if applied:
                further = [replace(suspect.movement, occurrence=suspect.occurrence) for suspect in applied]
                outcomes = await apply_movements(connection, further)
                kept += [s for s, outcome in zip(applied, outcomes, strict=True) if not isinstance(outcome, (Applied, Known))]
            if kept:
                await duplicates.record(connection, kept)


async def _keep_traces(connection: asyncpg.Connection, asked: Sequence[Delivery], applied: Sequence[Outcome]) -> None:
    """Beside the messages of what was applied, so that the relay names the receipt when it sends them."""
    owners = (delivery for delivery in asked for _ in delivery.movements)
    traced = [
        (*movement.key, outcome.level_version, delivery.trace)
        for delivery, movement, outcome in zip(owners, (m for one in asked for m in one.movements), applied, strict=True)
        if delivery.trace is not None and isinstance(outcome, Applied)
    ]
    if traced:
        await outbox_traces.put(connection, traced)


def _numbered(asked: Sequence[Delivery]) -> list[int | None]:
    """The units of all of a group, each with a number of its own."""
    numbers: dict[tuple[int, int], int] = {}
    return [
        None if unit is None else numbers.setdefault((number, unit), len(numbers))
        for number, delivery in enumerate(asked)
        for unit in (delivery.units or [None] * len(delivery.movements))
    ]


def _suspect(delivery: Delivery, outcome: Outcome) -> Suspect | None:
    """What a person should look at, though it was decided."""
    match outcome:
        case Applied(level_version, is_before_count=True):
            reason = Suspicion.BEFORE_COUNT
        case Echo(level_version):
            reason = Suspicion.ECHO
        case _:
            return None
    movement = delivery.movements[0]
    body, request_id = delivery.raw_body or b"", delivery.request_id
    return Suspect(movement, body, movement.occurrence, level_version, reason, request_id=request_id)
