"""Adopting a number as our stock: one ledger row, with who and why."""

from dataclasses import dataclass, replace
from decimal import Decimal

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.operator.drift import Scope, drifts_in
from app.stock.drift import CauseKind
from app.stock.movement import reconciling_movement
from app.stock.outcome import Applied, Refused
from app.stock.quantity import EXACT, ZERO
from app.stock.rules import Rules
from app.storage.ledger import apply_movements
from app.storage.levels import lock_level
from app.storage.transactions import run_transaction

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


async def reconcile(  # noqa: PLR0913 - a rule, and who and why
    engine: AsyncEngine,
    adoption: Adoption,
    *,
    rules: Rules,
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

    async def work(connection: AsyncConnection, driver: asyncpg.Connection) -> Reconciled:
        before = await lock_level(connection, adoption.store_id, adoption.item_id)
        target, waiting = adoption.to, 0
        if adoption.system_id is not None:
            scope = Scope(
                store_id=adoption.store_id, item_id=adoption.item_id, system_id=adoption.system_id, window=adoption.window
            )
            found = [drift for drift in await drifts_in(connection, scope, rules) if drift.theirs is not None]
            if not found:
                raise CannotReconcile(_no_report(adoption))
            target = EXACT.subtract(before, found[0].drift)
            waiting = sum(cause.kind in _WAITING for cause in found[0].causes)
        assert target is not None
        movement = reconciling_movement(
            store_id=adoption.store_id, item_id=adoption.item_id, change=EXACT.subtract(target, before)
        )
        adopted = replace(movement, inventory_system_id=adoption.system_id)
        (outcome,) = await apply_movements(driver, [adopted], actor=actor, note=note)
        if isinstance(outcome, Refused):
            raise CannotReconcile(outcome.error.message)
        assert isinstance(outcome, Applied)
        if movement.quantity == ZERO:
            await connection.rollback()
            return Reconciled(before, before, None, waiting)
        return Reconciled(before, target, outcome.level_version, waiting)

    return await run_transaction(engine, work, is_dry=is_dry)


def _no_report(adoption: Adoption) -> str:
    return (
        f"{adoption.system_id} has reported no stock of item {adoption.item_id} in store {adoption.store_id} in the last "
        f"{adoption.window} movements. Look further with --window, or name the number with --to."
    )
