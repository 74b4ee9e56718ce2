"""Recording one movement of the POS outside the service, as `pos-sync movement` does: the same decision under the same locks."""

from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncEngine

from app.errors import IdempotencyKeyReused, Refusal
from app.stock.applying import AlreadyApplied, Applied, NegativeStock, Refused, decide
from app.stock.movement import Movement
from app.storage import movements, recorded
from app.storage.engine import driver_of
from app.storage.patience import again_on_conflict, limit_waiting


@dataclass(frozen=True, slots=True)
class Recording:
    """The stock after the movement, and whether it was recorded only now."""

    stock: Decimal
    level_version: int
    is_new: bool


async def record(engine: AsyncEngine, movement: Movement, *, idempotency_key: str, negative_stock: NegativeStock) -> Recording:
    """Record `movement` in a transaction of its own; again, it changes nothing.

    Raises:
        Refusal: this POS cannot apply it.
        IdempotencyKeyReused: the key was used for another movement.
    """
    return await again_on_conflict(lambda: _try(engine, movement, idempotency_key=idempotency_key, negative_stock=negative_stock))


async def _try(engine: AsyncEngine, movement: Movement, *, idempotency_key: str, negative_stock: NegativeStock) -> Recording:
    async with engine.connect() as connection:
        await limit_waiting(connection)
        driver = await driver_of(connection)
        # Twice: what waited for a lock sees the level after it, and identities only by looking again.
        await movements.read_knowledge(driver, [movement], default_negative_stock=negative_stock)
        knowledge = await movements.read_knowledge(driver, [movement], default_negative_stock=negative_stock)
        decision = decide([movement], knowledge)
        match decision.outcomes[0]:
            case Applied(entry):
                await movements.write(driver, decision.entries, decision.levels)
                await connection.commit()
                return Recording(entry.balance_after, entry.level_version, is_new=True)
            case AlreadyApplied():
                row = (await recorded.find(connection, [movement])).get(movement.dedupe_key)
                if row is None or not row.is_of(movement):
                    raise IdempotencyKeyReused(idempotency_key)
                return Recording(row.balance_after, row.level_version, is_new=False)
            case Refused(error):
                refusal: Refusal = error
                raise refusal
            case _:
                raise AssertionError("locks are waited for here")
