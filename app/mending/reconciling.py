"""Adopting a number as our stock: one ledger row, with who and why."""

from dataclasses import dataclass, replace
from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncEngine

from app.mending.drifting import Scope, drifts_in
from app.stock.applying import NEVER_STOCKED, NegativeStock, Refused, decide
from app.stock.drift import CauseKind
from app.stock.movement import reconciling_movement
from app.stock.quantity import EXACT, ZERO
from app.stock.reading import ReportedStock
from app.storage import entries, movements
from app.storage.engine import driver_of
from app.storage.patience import again_on_conflict, limit_waiting

_WAITING = {CauseKind.REFUSED, CauseKind.SUSPECTED_DUPLICATE}


class CannotReconcile(Exception):
    """The message says why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """What to adopt: the number `to`, or the stock of the inventory system `system_id`."""

    store_id: str
    item_id: str
    to: Decimal | None = None
    system_id: str | None = None
    window: int


@dataclass(frozen=True, slots=True)
class Reconciled:
    """Our stock before and after; `level_version` is the ledger row's place, None where nothing had to change."""

    before: Decimal
    after: Decimal
    level_version: int | None
    waiting: int = 0
    """Deliveries that the system's number holds, and that are not applied here yet"""


async def reconcile(  # noqa: PLR0913 - rules, and who and why
    engine: AsyncEngine,
    adoption: Adoption,
    *,
    reading: ReportedStock,
    negative_stock: NegativeStock,
    actor: str,
    note: str,
    is_dry: bool = False,
) -> Reconciled:
    """Write the row that takes our stock to the number, under the same lock as deliveries; none where it is there already.

    A system's number is its last report and what it has not been told of, so that drift is 0 afterwards and what others moved
    since is not lost.

    Raises:
        CannotReconcile: there is no such store, item or report, or the store refuses that number.
    """

    async def attempt() -> Reconciled:
        async with engine.connect() as connection:
            await limit_waiting(connection)
            driver = await driver_of(connection)
            probe = reconciling_movement(store_id=adoption.store_id, item_id=adoption.item_id, change=ZERO)
            knowledge = await movements.read_knowledge(driver, [probe], default_negative_stock=negative_stock)
            before = knowledge.levels.get(probe.key, NEVER_STOCKED).quantity
            target, waiting = adoption.to, 0
            if adoption.system_id is not None:
                scope = Scope(
                    store_id=adoption.store_id, item_id=adoption.item_id, system_id=adoption.system_id, window=adoption.window
                )
                found = [one for one in await drifts_in(connection, scope, reading) if one.theirs is not None]
                if not found:
                    raise CannotReconcile(_no_report(adoption))
                target = EXACT.subtract(before, found[0].drift)
                waiting = sum(cause.kind in _WAITING for cause in found[0].causes)
            assert target is not None
            movement = reconciling_movement(
                store_id=adoption.store_id, item_id=adoption.item_id, change=EXACT.subtract(target, before)
            )
            decision = decide([movement], knowledge)
            (outcome,) = decision.outcomes
            if isinstance(outcome, Refused):
                raise CannotReconcile(outcome.error.message)
            (entry,) = decision.entries
            if not movement.quantity:
                return Reconciled(before, before, None, waiting)
            if not is_dry:
                # The system's name only now: whether it may send movements is no question here.
                adopted = replace(entry, movement=replace(movement, inventory_system_id=adoption.system_id))
                await entries.append(driver, adopted, actor=actor, note=note)
                await connection.commit()
            return Reconciled(before, target, entry.level_version, waiting)

    return await again_on_conflict(attempt)


def _no_report(adoption: Adoption) -> str:
    return (
        f"{adoption.system_id} has reported no stock of item {adoption.item_id} in store {adoption.store_id} in the last "
        f"{adoption.window} movements. Look further with --window, or name the number with --to."
    )
