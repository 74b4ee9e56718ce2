"""Deciding about a suspected duplicate: it counts, exactly once, or it does not."""

from dataclasses import replace

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.applying.reversal import reverse
from app.errors import Refusal
from app.operator.refusals import OperatorResult, Verdict
from app.receiving.body import read_report
from app.stock.movement import Refused
from app.storage import duplicates
from app.storage.duplicates import State, SuspectedDuplicate, Suspicion
from app.storage.ledger import apply_movements
from app.storage.levels import lock_level
from app.storage.transactions import First, run_transaction


class _Closed(Exception):
    """Another operator closed it while its level was waited for: nothing is applied."""


async def apply_suspected(
    engine: AsyncEngine, suspected_duplicate_id: int, *, actor: str, note: str | None = None, first: First = None
) -> OperatorResult:
    """Apply one by the rules of any movement; again, or by two at once, changes nothing more. `first` begins the transaction."""

    async def work(connection: AsyncConnection, driver: asyncpg.Connection) -> OperatorResult:
        suspected = await duplicates.read(connection, suspected_duplicate_id)
        if suspected is None or suspected.state is not State.OPEN:
            return _closed(suspected_duplicate_id, suspected)
        try:
            movement = read_report(suspected.raw_body)
        except Refusal as refusal:
            return OperatorResult(suspected_duplicate_id, Verdict.REFUSED, refusal.message)
        # The person who applies it says that it is another movement. Which POS it was meant for was judged when it came.
        further = replace(movement, occurrence=suspected.occurrence, pos_id=None)
        (outcome,) = await apply_movements(driver, [further], is_by_operator=True, actor=actor, note=note)
        # After the level, as deliveries do: two transactions that lock in one order cannot deadlock.
        if not await duplicates.close(connection, suspected_duplicate_id, state=State.APPLIED, actor=actor, note=note):
            raise _Closed
        if isinstance(outcome, Refused):
            await connection.rollback()
            return OperatorResult(suspected_duplicate_id, Verdict.REFUSED, outcome.error.message)
        return OperatorResult(suspected_duplicate_id, Verdict.APPLIED)

    try:
        return await run_transaction(engine, work, first=first)
    except _Closed:
        async with engine.connect() as connection:
            return _closed(suspected_duplicate_id, await duplicates.read(connection, suspected_duplicate_id))


async def dismiss_suspected(
    engine: AsyncEngine, suspected_duplicate_id: int, *, actor: str, note: str, first: First = None
) -> OperatorResult:
    """Say that one does not count. What was applied, since only its date was in doubt, is taken back by a reversal.

    All of it is one transaction, which `first` begins.
    """
    async with engine.connect() as connection:
        suspected = await duplicates.read(connection, suspected_duplicate_id)
    if suspected is None or suspected.state is not State.OPEN:
        if first is not None:
            async with engine.begin() as connection:
                await first(connection)
        return _closed(suspected_duplicate_id, suspected)
    was_applied = suspected.reason is Suspicion.BEFORE_COUNT

    async def close(connection: AsyncConnection) -> None:
        if first is not None:
            await first(connection)
        if was_applied:
            # Before the row, as deliveries do.
            await lock_level(connection, suspected.store_id, suspected.item_id)
        if not await duplicates.close(connection, suspected_duplicate_id, state=State.DISMISSED, actor=actor, note=note):
            raise _Closed

    try:
        if was_applied:
            await reverse(
                engine,
                store_id=suspected.store_id,
                item_id=suspected.item_id,
                level_version=suspected.after_version,
                actor=actor,
                note=note,
                first=close,
            )
        else:
            async with engine.begin() as connection:
                await close(connection)
    except _Closed:
        async with engine.connect() as connection:
            return _closed(suspected_duplicate_id, await duplicates.read(connection, suspected_duplicate_id))
    except Refusal as refusal:
        return OperatorResult(suspected_duplicate_id, Verdict.REFUSED, refusal.message)
    return OperatorResult(suspected_duplicate_id, Verdict.COUNTED if was_applied else Verdict.SET_ASIDE)


def _closed(suspected_duplicate_id: int, suspected: SuspectedDuplicate | None) -> OperatorResult:
    if suspected is None:
        return OperatorResult(suspected_duplicate_id, Verdict.UNKNOWN, "There is no suspected duplicate with this number.")
    if suspected.state is State.DISMISSED:
        message = f"It was dismissed by {suspected.actor}: {suspected.note}"
        return OperatorResult(suspected_duplicate_id, Verdict.DISMISSED, message)
    return OperatorResult(suspected_duplicate_id, Verdict.ALREADY_APPLIED)
