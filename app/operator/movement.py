"""Recording one movement of the POS outside the service, as `pos-sync movement` does."""

from dataclasses import dataclass
from decimal import Decimal

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.errors.requests import IdempotencyKeyReused
from app.stock.movement import Applied, Correction, KeyReused, Known, Movement, Refused, Source
from app.stock.pos import receiving_half
from app.storage.ledger import apply_movements
from app.storage.outbox import announce
from app.storage.transactions import run_transaction


@dataclass(frozen=True, slots=True)
class Recording:
    """The stock after the movement, and whether it was recorded only now."""

    stock: Decimal
    level_version: int
    is_new: bool
    correction: Correction | None
    to_store_stock: Decimal | None = None
    """Of a transfer: the stock in the store that received."""


async def record(engine: AsyncEngine, movement: Movement, *, idempotency_key: str) -> Recording:
    """Record `movement` (a transfer with both halves) in a transaction of its own; again, it changes nothing.

    Raises:
        Refusal: this POS cannot apply it.
        IdempotencyKeyReused: the key was used for another movement.
    """
    movements = [movement, receiving_half(movement)] if movement.source is Source.POS_TRANSFER else [movement]
    together = [0] * len(movements)

    async def work(connection: AsyncConnection, driver: asyncpg.Connection) -> Recording:
        outcomes = await apply_movements(driver, movements, tickets=together, units=together if len(movements) > 1 else None)
        for outcome in outcomes:
            if isinstance(outcome, KeyReused):
                raise IdempotencyKeyReused(idempotency_key)
            if isinstance(outcome, Refused):
                raise outcome.error
        await announce(connection)
        done, *received = [outcome for outcome in outcomes if isinstance(outcome, (Applied, Known))]
        return Recording(
            done.balance,
            done.level_version,
            is_new=isinstance(done, Applied),
            correction=done.correction,
            to_store_stock=received[0].balance if received else None,
        )

    return await run_transaction(engine, work)
