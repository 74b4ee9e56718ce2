"""Comparing our stock with what the inventory systems reported last; changes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.errors import Refusal
from app.receiving.payload import read_report
from app.stock.drift import Drift, Pair, compare
from app.stock.reports import Unapplied, UnappliedReport
from app.stock.rules import Rules
from app.storage import drift
from app.storage.drift import WaitingDelivery
from app.storage.rules import effective_rules

DEFAULT_WINDOW = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What to compare, None is any; `window` is how many of a level's newest ledger rows are looked at."""

    store_id: str | None = None
    item_id: str | None = None
    system_id: str | None = None
    window: int = DEFAULT_WINDOW


async def find_drifts(engine: AsyncEngine, scope: Scope, rules: Rules) -> list[Drift]:
    """Each level against each system that its store is connected to, or that has reported about it, at one moment."""
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ")
        return await drifts_in(connection, scope, rules)


async def drifts_in(connection: AsyncConnection, scope: Scope, rules: Rules) -> list[Drift]:
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
        unapplied = waiting.get((level.store_id, level.item_id), [])
        pair = Pair(level.store_id, level.item_id, level.quantity, level.rows, unapplied)
        wanted = _systems(pair, systems.get(level.store_id, ()))
        found += [compare(pair, system, reading) for system in wanted if scope.system_id in (None, system)]
    return found


def _systems(pair: Pair, integrated: Sequence[str]) -> list[str]:
    reporting = {row.inventory_system_id for row in pair.rows} | {one.inventory_system_id for one in pair.unapplied}
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
