"""Applying a suspected duplicate after all, as a further occurrence of its identity, exactly once."""

from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncEngine

from app.errors import Refusal
from app.mending.verdict import Mended, Verdict
from app.receiving.payload import read_report
from app.stock.applying import NegativeStock, Refused, decide
from app.storage import entries, movements, suspicions
from app.storage.engine import driver_of
from app.storage.patience import again_on_conflict, limit_waiting
from app.storage.suspicions import State, SuspectedDuplicate


async def apply_suspected(
    engine: AsyncEngine, suspected_duplicate_id: int, *, negative_stock: NegativeStock, actor: str
) -> Mended:
    """Apply one by the rules of any movement; again, or by two at once, changes nothing more."""
    return await again_on_conflict(lambda: _try(engine, suspected_duplicate_id, negative_stock=negative_stock, actor=actor))


async def _try(engine: AsyncEngine, suspected_duplicate_id: int, *, negative_stock: NegativeStock, actor: str) -> Mended:
    async with engine.begin() as connection:
        await limit_waiting(connection)
        suspected = await suspicions.read(connection, suspected_duplicate_id)
        if suspected is None or suspected.state is not State.OPEN:
            return _closed(suspected_duplicate_id, suspected)
        try:
            movement = read_report(suspected.raw_body).movement
        except Refusal as refusal:
            return Mended(suspected_duplicate_id, Verdict.REFUSED, refusal.message)
        driver = await driver_of(connection)
        knowledge = await movements.read_knowledge(driver, [movement], default_negative_stock=negative_stock)
        suspected = await suspicions.read(connection, suspected_duplicate_id, locks=True)
        if suspected is None or suspected.state is not State.OPEN:
            return _closed(suspected_duplicate_id, suspected)
        # Without its identity, which the ledger holds: the person who applies it says that it is another one.
        decision = decide([replace(movement, dedupe_key=None)], knowledge)
        (outcome,) = decision.outcomes
        if isinstance(outcome, Refused):
            return Mended(suspected_duplicate_id, Verdict.REFUSED, outcome.error.message)
        (entry,) = decision.entries
        await entries.append(driver, replace(entry, movement=movement), occurrence=suspected.occurrence, actor=actor)
        await suspicions.close(connection, suspected_duplicate_id, state=State.APPLIED, actor=actor)
        return Mended(suspected_duplicate_id, Verdict.APPLIED)


def _closed(suspected_duplicate_id: int, suspected: SuspectedDuplicate | None) -> Mended:
    if suspected is None:
        return Mended(suspected_duplicate_id, Verdict.UNKNOWN, "There is no suspected duplicate with this number.")
    if suspected.state is State.DISMISSED:
        message = f"It was dismissed by {suspected.actor}: {suspected.note}"
        return Mended(suspected_duplicate_id, Verdict.DISMISSED, message)
    return Mended(suspected_duplicate_id, Verdict.ALREADY_APPLIED)
