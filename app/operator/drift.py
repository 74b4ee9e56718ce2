"""Comparing our stock with what the inventory systems are expected to have, and adopting a number by one ledger row."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.errors import Refusal
from app.receiving.body import read_report
from app.stock.baseline import LevelHistory
from app.stock.causes import CauseKind
from app.stock.drift import Drift, anchor_of, compare
from app.stock.movement import Applied, Movement, Refused, adopted_movement, counted_movement
from app.stock.quantity import EXACT, ZERO, to_canonical
from app.stock.reports import Unapplied, UnappliedReport
from app.stock.rules import ReportedStock, Rules
from app.storage import drift, system_levels
from app.storage.drift import KnownLevel, LevelKey, WaitingDelivery
from app.storage.duplicates import Suspicion
from app.storage.ledger import apply_movements
from app.storage.levels import lock_level, read_count
from app.storage.rules import effective_rules
from app.storage.system_levels import Compared
from app.storage.transactions import First, run_transaction

DEFAULT_WINDOW = 200
_HELD = "The item's unit was changed: nothing is known until a full synchronisation has ended (pos-sync sync)."


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftFilter:
    """What to compare, None is any; `window` is how many of a level's newest ledger rows are looked at."""

    store_id: str | None = None
    item_id: str | None = None
    system_id: str | None = None
    window: int = DEFAULT_WINDOW


OnProgress = Callable[[int, int], None]
"""Told how many levels of how many are compared."""


def _say_nothing(_done: int, _total: int) -> None:
    pass


async def find_drifts(
    engine: AsyncEngine, scope: DriftFilter, rules: Rules, *, on_progress: OnProgress = _say_nothing
) -> list[Drift]:
    """Each level against each system that its store is connected to, or that has reported about it, at one moment."""
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ")
        return await drifts_in(connection, scope, rules, on_progress=on_progress)


async def drifts_in(
    connection: AsyncConnection, scope: DriftFilter, rules: Rules, *, on_progress: OnProgress = _say_nothing
) -> list[Drift]:
    """As `find_drifts`, in the caller's transaction."""
    reading = (await effective_rules(connection, rules)).reported_stock
    keys = await drift.level_keys(connection, store_id=scope.store_id, item_id=scope.item_id)
    found: list[Drift] = []
    done = 0
    async for level, systems in _levels(connection, keys, window=scope.window):
        done += 1
        on_progress(done, len(keys))
        asked = [system for system in systems if scope.system_id in (None, system)]
        # Beside the event loop, which in the service receives deliveries meanwhile.
        found += await asyncio.to_thread(lambda level=level, asked=asked: [_compare(level, one, reading) for one in asked])
    return found


async def refresh(engine: AsyncEngine, rules: Rules, *, limit: int) -> int:
    """Compare the levels that are due, and keep what came of it; how many were."""
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ")
        keys = await system_levels.list_due(connection, limit=limit)
        reading = (await effective_rules(connection, rules)).reported_stock
        levels = [one async for one in _levels(connection, keys, window=DEFAULT_WINDOW)]
    compared: list[Compared] = []
    versions = {(level.history.store_id, level.history.item_id): _version(level) for level, _ in levels}
    for level, systems in levels:
        # Beside the event loop, which receives deliveries meanwhile.
        compared += await asyncio.to_thread(_compared, level, systems, reading)
    async with engine.begin() as connection:
        await system_levels.put(connection, versions, compared)
    return len(keys)


def _compared(level: KnownLevel, systems: Sequence[str], reading: ReportedStock) -> list[Compared]:
    history, version = level.history, _version(level)
    return [Compared(_compare(level, system, reading), anchor_of(history, system, reading), version) for system in systems]


def _version(level: KnownLevel) -> int:
    return level.history.rows[-1].level_version if level.history.rows else 0


def _compare(level: KnownLevel, system_id: str, reading: ReportedStock) -> Drift:
    found = compare(level.history, system_id, reading)
    if system_id in level.held:
        return replace(found, theirs=None, drift=ZERO, uncertain=ZERO, causes=(), notes=(_HELD,))
    return found


async def _levels(
    connection: AsyncConnection, keys: Sequence[LevelKey], *, window: int
) -> AsyncIterator[tuple[KnownLevel, list[str]]]:
    """Each level with all that is known of it, and the systems to compare it with."""
    if not keys:
        return
    asked = set(keys)
    item_ids = sorted({item_id for _, item_id in asked})
    systems = await drift.integrated_systems(connection)
    waiting: dict[LevelKey, list[UnappliedReport]] = {}
    kinds = [(Unapplied.REFUSED, await drift.waiting_refused(connection, item_ids))]
    for kind, reason in ((Unapplied.SUSPECTED_DUPLICATE, Suspicion.REPEATED), (Unapplied.ECHO, Suspicion.ECHO)):
        kinds.append((kind, await drift.waiting_suspected(connection, reason, item_ids)))
    # Not on the loop: there may be very much of it.
    waiting_here = [(kind, one) for kind, kept in kinds for one in kept if (one.store_id, one.item_id) in asked]
    reports = await asyncio.to_thread(lambda: [_read(*one) for one in waiting_here])
    for (_, kept_one), report in zip(waiting_here, reports, strict=True):
        if report is not None:
            waiting.setdefault((kept_one.store_id, kept_one.item_id), []).append(report)
    doubtful: dict[LevelKey, list[int]] = {}
    for one in await drift.waiting_suspected(connection, Suspicion.BEFORE_COUNT, item_ids):
        doubtful.setdefault((one.store_id, one.item_id), []).append(one.number)
    async for level in drift.read_levels(connection, keys, window=window):
        history = level.history
        key = (history.store_id, history.item_id)
        full = replace(history, unapplied=waiting.get(key, []), suspects_before_count=doubtful.get(key, ()))
        yield replace(level, history=full), _systems(full, systems.get(history.store_id, ()))


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
        kept.echo_of,
    )


_WAITING = {CauseKind.REFUSED, CauseKind.SUSPECTED_DUPLICATE}


class CannotReconcile(Exception):
    """The message says why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """What to adopt: the number `to`, or the stock that the inventory system `system_id` is expected to have."""

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
    on_known: Callable[[Decimal, Drift | None], None] = lambda _ours, _theirs: None,
    first: First = None,
) -> Reconciled:
    """Write the row that takes our stock to the number, under the same lock as deliveries; none where it is there already.

    A named number is a count. A system's number is the stock that it is expected to have: what it reported, or a full
    synchronisation set, and what it was told since. `on_known` is told our stock and what is known of theirs before anything
    is written.

    Raises:
        CannotReconcile: there is no such store, item or report, the store refuses that number, or theirs is not known, not
            settled, or older than ours.
    """

    async def work(connection: AsyncConnection, driver: asyncpg.Connection) -> Reconciled:
        before = await lock_level(connection, adoption.store_id, adoption.item_id)
        found = None
        if adoption.system_id is not None:
            found = await _expected(connection, adoption, rules)
            on_known(before, found)
            target = EXACT.subtract(before, found.drift)
        else:
            assert adoption.to is not None
            target = adoption.to
            on_known(before, None)
        waiting = 0 if found is None else sum(cause.kind in _WAITING for cause in found.causes)
        (outcome,) = await apply_movements(driver, [_movement(adoption, before, target)], actor=actor, note=note)
        if isinstance(outcome, Refused):
            raise CannotReconcile(outcome.error.message)
        assert isinstance(outcome, Applied)
        if before == target:
            await connection.rollback()
            return Reconciled(before, before, None, waiting)
        return Reconciled(before, target, outcome.level_version, waiting)

    return await run_transaction(engine, work, is_dry=is_dry, first=first)


def _movement(adoption: Adoption, before: Decimal, target: Decimal) -> Movement:
    if adoption.system_id is None:
        return counted_movement(store_id=adoption.store_id, item_id=adoption.item_id, stock=target)
    return adopted_movement(
        store_id=adoption.store_id,
        item_id=adoption.item_id,
        inventory_system_id=adoption.system_id,
        change=EXACT.subtract(target, before),
    )


async def _expected(connection: AsyncConnection, adoption: Adoption, rules: Rules) -> Drift:
    """What the system is expected to have, where that is known, settled, and not older than what it would overwrite."""
    scope = DriftFilter(
        store_id=adoption.store_id, item_id=adoption.item_id, system_id=adoption.system_id, window=adoption.window
    )
    found = next(iter(await drifts_in(connection, scope, rules)), None)
    if found is None or found.theirs is None:
        raise CannotReconcile(found.notes[0] if found and _HELD in found.notes else _no_report(adoption))
    if found.uncertain:
        raise CannotReconcile(
            f"The stock of {adoption.system_id} is not known by up to {to_canonical(found.uncertain)}: the answer to a stock "
            "message was lost, or one was on its way. Wait for its next report, or set its stock with pos-sync sync."
        )
    if found.pending:
        raise CannotReconcile(
            "Stock updates about this item are still on their way to it. Wait until pos-sync outbox list shows none, then adopt."
        )
    counted = await read_count(connection, adoption.store_id, adoption.item_id)
    if counted and counted.counted_at and found.received_at and counted.counted_at > found.received_at:
        raise CannotReconcile(
            f"Our count of {counted.counted_at.isoformat(timespec='seconds')} is newer than what is known of its stock "
            f"({found.received_at.isoformat(timespec='seconds')}), and would be overwritten. Tell it our stock with pos-sync "
            "sync, or name the number with --to."
        )
    return found


def _no_report(adoption: Adoption) -> str:
    return (
        f"{adoption.system_id} has reported no stock of item {adoption.item_id} in store {adoption.store_id} in the last "
        f"{adoption.window} movements, and no full synchronisation has set it. Look further with --window, or name the number "
        "with --to."
    )
