"""Recording one movement of the POS outside the service, as `pos-sync movement` does."""

from dataclasses import dataclass
from decimal import Decimal

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.errors.requests import IdempotencyKeyReused
from app.stock.movement import Applied, KeyReused, Known, Movement, Refused
from app.storage.ledger import apply_movements
from app.storage.transactions import run_transaction


@dataclass(frozen=True, slots=True)
class Recording:
    """The stock after the movement, and whether it was recorded only now."""

    stock: Decimal
    level_version: int
    is_new: bool


async def record(engine: AsyncEngine, movement: Movement, *, idempotency_key: str) -> Recording:
    """Record `movement` in a transaction of its own; again, it changes nothing.

    Raises:
        Refusal: this POS cannot apply it.
        IdempotencyKeyReused: the key was used for another movement.
    """

    async def work(_: AsyncConnection, driver: asyncpg.Connection) -> Recording:
        (outcome,) = await apply_movements(driver, [movement])
        match outcome:
            case Applied(level_version, balance) | Known(level_version, balance):
                return Recording(balance, level_version, is_new=isinstance(outcome, Applied))
            case KeyReused():
                raise IdempotencyKeyReused(idempotency_key)
            case Refused(error):
                raise error
            case _:
                raise AssertionError("locks are waited for here")

    return await run_transaction(engine, work)
