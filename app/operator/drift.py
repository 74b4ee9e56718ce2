"""Comparing our stock with what the inventory systems reported last, and adopting a number by one ledger row."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.errors import Refusal
from app.receiving.body import read_report
from app.stock.drift import CauseKind, Drift, LevelHistory, compare
from app.stock.movement import Applied, Refused, reconciling_movement
from app.stock.quantity import EXACT, ZERO
from app.stock.reports import Unapplied, UnappliedReport
from app.stock.rules import Rules
from app.storage import drift
from app.storage.drift import WaitingDelivery
from app.storage.ledger import apply_movements
from app.storage.levels import lock_level
from app.storage.rules import effective_rules
from app.storage.transactions import run_transaction

DEFAULT_WINDOW = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftFilter:
    """What to compare, None is any; `window` is how many of a level's newest ledger rows are looked at."""

    store_id: str | None = None
    item_id: str | None = None
    system_id: str | None = None
    window: int = DEFAULT_WINDOW


async def find_drifts(engine: AsyncEngine, scope: DriftFilter, rules: Rules) -> list[Drift]:
    """Each level against each system that its store is connected to, or that has reported about it, at one moment."""
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ")
        return await drifts_in(connection, scope, rules)


async def drifts_in(connection: AsyncConnection, scope: DriftFilter, rules: Rules) -> list[Drift]:
    """As `find_drifts`, in the caller's transaction."""
    reading = (await effective_rules(connection, rules)).reported_stock
    named = {"store_id": scope.store_id, "item_id": scope.item_id}
    systems = await drift.integrated_systems(connection)
    waiting: dict[tuple[str, str], list[UnappliedReport]] = {}
    refused = await drift.waiting_refused(connection, **named)
    suspected = await drift.waiting_suspected(connection, **named)
    for kind, kept in ((Unapplied.REFUSED, refused), (Unapplied.SUSPECTED_DUPLICATE, suspected)):
        for one in kept:
            report = _read(kind, one)
            if report is not None:
                waiting.setdefault((one.store_id, one.item_id), []).append(report)
    found: list[Drift] = []
    async for level in drift.windows(connection, **named, window=scope.window):
        level.unapplied.extend(waiting.get((level.store_id, level.item_id), []))
        wanted = _systems(level, systems.get(level.store_id, ()))
        found += [compare(level, system, reading) for system in wanted if scope.system_id in (None, system)]
    return found


def _systems(level: LevelHistory, integrated: Sequence[str]) -> list[str]:
    reporting = {row.inventory_system_id for row in level.rows} | {one.inventory_system_id for one in level.unapplied}
    return sorted({system for system in reporting if system is not None} | set(integrated))


def _read(kind: Unapplied, kept: WaitingDelivery) -> UnappliedReport | None:
    """None where it cannot be read: it says nothing about any stock."""
    try:
        movement = read_report(kept.raw_body)
    except Refusal:
        return None
    assert movement.inventory_system_id is not None
    assert movement.reported_stock is not None
    return UnappliedReport(
        kind,
        kept.number,
        movement.inventory_system_id,
        movement.delta,
        movement.reported_stock,
        movement.date_text or "",
        movement.sent_at_text or "",
        kept.seen_at,
        kept.after_version,
    )


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
            scope = DriftFilter(
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
