"""One group of deliveries, written: applied by one statement, and then kept where they were refused or may be distinct."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from app.errors import Refusal
from app.stock.movement import Movement
from app.stock.outcome import Known, Outcome, Refused
from app.stock.suspicion import is_maybe_distinct
from app.storage import refused_deliveries, suspicions
from app.storage.connection import Connection
from app.storage.ledger import apply_movements
from app.storage.refused_deliveries import RefusedDelivery
from app.storage.suspicions import Suspect

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
    answer: asyncio.Future[list[Outcome]]
    """One outcome for each movement; one for a refusal."""

    def as_refused(self, refusal: Refusal) -> RefusedDelivery:
        """Return the row by which the refusal is kept."""
        assert self.raw_body is not None
        movement = self.movements[0] if self.movements else None
        identity = None if movement is None else movement.dedupe_key
        return RefusedDelivery(
            delivery_key=identity or hashlib.sha256(self.raw_body).digest(),
            reason=refusal.reason,
            http_status=int(refusal.status),
            message=refusal.message,
            raw_body=self.raw_body,
            store_id=None if movement is None else movement.store_id,
            item_id=None if movement is None else movement.item_id,
            inventory_system_id=None if movement is None else movement.inventory_system_id,
        )


class BatchWriter:
    """Writes one group at a time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._skips_locked_until = 0.0

    @property
    def skips_locked(self) -> bool:
        """Whether levels that others hold are skipped."""
        return asyncio.get_running_loop().time() < self._skips_locked_until

    def skip_locked_for_a_while(self) -> None:
        """Skip levels that others hold from now on: somebody holds one for long."""
        self._skips_locked_until = asyncio.get_running_loop().time() + SKIP_LOCKED_SECONDS

    def disconnect(self) -> None:
        """Drop the connection; the next group makes another."""
        self._connection.disconnect()

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
            tickets = None
            if len(movements) > len(asked):
                tickets = [number for number, delivery in enumerate(asked) for _ in delivery.movements]
            async with self._connection.transaction() as connection:
                applied = await apply_movements(connection, movements, tickets=tickets, skips_locked=self.skips_locked)
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
                await refused_deliveries.record(connection, refused)
        known = [delivery for delivery, outcome in reported if isinstance(outcome, Known)]
        if known:
            await self._keep_suspects(known)

    async def _keep_suspects(self, known: Sequence[Delivery]) -> None:
        """Of `known`, keep those that may be movements of their own: after the originals were written, also of this group."""
        copies = [delivery.movements[0] for delivery in known]
        async with self._connection.transaction() as connection:
            reading, traces = await suspicions.read_traces(connection, copies)
        suspects = [
            Suspect(movement, delivery.raw_body or b"", trace.occurrences + 1, trace.later.level_version)
            for delivery, movement, trace in zip(known, copies, traces, strict=True)
            if trace.later is not None and is_maybe_distinct(movement, trace, reading)
        ]
        if suspects:
            async with self._connection.transaction() as connection:
                await suspicions.record(connection, suspects)
