"""The checks of the stock and its ledger."""

from sqlalchemy.ext.asyncio import AsyncConnection

from app.doctor.check import Check, Verdict
from app.stock.text import number_of
from app.storage.ledger_indexes import missing_indexes
from app.storage.levels import broken_invariants
from app.storage.systems import list_dateless


async def examine_invariants(connection: AsyncConnection) -> Check:
    """Whether the ledger adds up."""
    broken = await broken_invariants(connection)
    if broken:
        reason = "; ".join(f"{name}, in {number_of(count, 'place')}" for name, count in broken.items())
        return Check("invariants", Verdict.FAILED, reason, "Something wrote to the tables past this service: docs/operating.md.")
    return Check("invariants", Verdict.OK, "every level is the sum of its ledger")


async def examine_indexes(connection: AsyncConnection) -> Check:
    """Whether the ledger has its indexes; without them it works, and late counts are slow."""
    missing = await missing_indexes(connection)
    if missing:
        reason = f"the ledger lacks {', '.join(missing)}"
        return Check("indexes", Verdict.WARNING, reason, "As the schema's owner, run: pos-sync migrate")
    return Check("indexes", Verdict.OK, "the ledger has all of them")


async def examine_dates(connection: AsyncConnection) -> Check:
    """Whether an inventory system says no time of day, so that movements of one day can look alike."""
    dateless = await list_dateless(connection)
    if dateless:
        named = ", ".join(f"{system} (store {store})" for store, system in dateless)
        remedy = (
            "Movements of one day may be taken for retries: look at pos-sync duplicates list, or decide with "
            "pos-sync store set STORE --repeated-dates SYSTEM apply."
        )
        return Check("dates", Verdict.WARNING, f"no time of day comes from {named}", remedy)
    return Check("dates", Verdict.OK, "reported movements name a time of day")
