"""One group of deliveries, decided and written: at once where nobody else is at the same levels, else under their locks."""

import asyncio
from collections.abc import Collection, Sequence

import asyncpg

from app.receiving.delivery import Delivery
from app.receiving.suspecting import keep_suspects
from app.stock.applying import AlreadyApplied, Applied, Decision, Knowledge, NegativeStock, Outcome, Refused, decide
from app.stock.movement import Movement, Source
from app.stock.reading import ReportedStock
from app.storage import movements, refusals
from app.storage.lone import apply_plain
from app.storage.movements import Locking
from app.storage.writer import Writer

LOCKING_SECONDS = 2.0
"""How long, after another session was at the same levels, they are locked before they are read."""
CAUTIOUS_SECONDS = 2.0
"""How long, after a lock was held for too long, locked levels are skipped instead of waited for."""


class GroupWriter:
    """Writes one group at a time.

    **At once** is two statements, each a transaction of its own: read, and write with the versions that the read found. Where
    another session has changed a level in between, the ledger's keys refuse the whole write (`Fault.CONFLICT`). A delivery
    that is alone takes one statement (`storage.lone`). Either applies only what is plainly right: whatever looks refused, or
    known, is decided **under locks**, in one transaction.
    """

    def __init__(self, writer: Writer, *, default_negative_stock: NegativeStock, reported_stock: ReportedStock) -> None:
        self._writer = writer
        self._default_negative_stock = default_negative_stock
        self._reported_stock = reported_stock
        self._locking_until = 0.0
        self._cautious_until = 0.0

    @property
    def is_cautious(self) -> bool:
        """Whether levels that others hold are skipped."""
        return asyncio.get_running_loop().time() < self._cautious_until

    def lock_for_a_while(self) -> None:
        """Others are at the same levels."""
        self._locking_until = asyncio.get_running_loop().time() + LOCKING_SECONDS

    def be_cautious_for_a_while(self) -> None:
        """Somebody holds a lock for long."""
        self._cautious_until = asyncio.get_running_loop().time() + CAUTIOUS_SECONDS

    def disconnect(self) -> None:
        """Drop the connection; the next group makes another."""
        self._writer.disconnect()

    async def write(self, group: Sequence[Delivery]) -> list[Outcome]:
        """What became of each delivery of `group`, committed; raises as the driver does, and then the outcome may be unknown."""
        try:
            async with asyncio.timeout_at(max(delivery.deadline for delivery in group)):
                return await self._write_at_once(group) or await self._write_under_locks(group)
        except asyncpg.PostgresError:
            await self._writer.roll_back()
            raise
        except BaseException:
            self._writer.disconnect()
            raise

    async def _write_at_once(self, group: Sequence[Delivery]) -> list[Outcome] | None:
        """The outcomes, or None: nothing was written, and it takes locks."""
        now = asyncio.get_running_loop().time()
        if self._writer.is_pooled or now < self._locking_until or now < self._cautious_until:
            return None
        asked = [delivery.movement for delivery in group if delivery.refusal is None and delivery.movement is not None]
        if len(asked) < len(group):
            return None
        connection = await self._writer.connect()
        if len(asked) == 1 and asked[0].source is not Source.POS_COUNT:
            entry = await apply_plain(connection, asked[0], default_negative_stock=self._default_negative_stock)
            return None if entry is None else [Applied(entry)]
        knowledge = await self._read(connection, asked, Locking.NONE)
        decision = decide(asked, knowledge)
        if knowledge.refused or not all(isinstance(outcome, Applied) for outcome in decision.outcomes):
            return None
        await movements.write(connection, decision.entries, decision.levels)
        return list(decision.outcomes)

    async def _write_under_locks(self, group: Sequence[Delivery]) -> list[Outcome]:
        connection = await self._writer.begin()
        asked = [delivery.movement for delivery in group if delivery.refusal is None and delivery.movement is not None]
        decision, were_refused = await self._decide(connection, asked)
        remaining = iter(decision.outcomes)
        outcomes = [Refused(delivery.refusal) if delivery.refusal else next(remaining) for delivery in group]
        refused = [
            delivery.as_refused(outcome.error)
            for delivery, outcome in zip(group, outcomes, strict=True)
            if isinstance(outcome, Refused) and delivery.raw_body is not None
        ]
        if refused:
            await refusals.record(connection, refused)
        if decision.entries:
            await movements.write(connection, decision.entries, decision.levels)
        in_ledger = {
            movement.dedupe_key
            for movement, outcome in zip(asked, decision.outcomes, strict=True)
            if isinstance(outcome, (Applied, AlreadyApplied)) and movement.dedupe_key is not None
        }
        settled = in_ledger & {*were_refused, *(one.fingerprint for one in refused)}
        if settled:
            await refusals.close(connection, sorted(settled))
        repeated = [delivery for delivery, outcome in zip(group, outcomes, strict=True) if isinstance(outcome, AlreadyApplied)]
        if repeated:
            await keep_suspects(connection, repeated, self._reported_stock)
        await self._writer.commit()
        return outcomes

    async def _decide(self, connection: asyncpg.Connection, asked: Sequence[Movement]) -> tuple[Decision, Collection[bytes]]:
        """The decision, and which of those that were asked have been refused before."""
        if not asked:
            return Decision([], [], {}), ()
        locking = Locking.SKIP if self.is_cautious else Locking.WAIT
        knowledge = await self._read(connection, asked, locking)
        decision = decide(asked, knowledge)
        if any(isinstance(outcome, Refused) for outcome in decision.outcomes):
            # A copy that waited for its original's lock sees the level after it, and its identity only by looking again:
            # without that, what was applied would be refused as going below zero.
            knowledge = await self._read(connection, asked, locking)
            decision = decide(asked, knowledge)
        return decision, knowledge.refused

    async def _read(self, connection: asyncpg.Connection, asked: Sequence[Movement], locking: Locking) -> Knowledge:
        return await movements.read_knowledge(
            connection, asked, default_negative_stock=self._default_negative_stock, locking=locking
        )
