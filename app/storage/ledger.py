"""The ledger: movements are applied by the SQL function `apply_movements` (migration 0006), and its rows are read page by page.

The function locks the levels, judges every movement, writes and queues, in one statement. This module only carries the
arguments and the outcomes, so no rule of the ledger stands in Python.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import asyncpg
from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from app.errors import BelowZero, BeyondRange, IntegrationDisabled, NoIntegration, OtherPos, Refusal, UnknownItem, UnknownStore
from app.stock.movement import Applied, Busy, KeyReused, Known, Movement, MovementType, Outcome, Refused
from app.stock.quantity import to_canonical, to_plain
from app.storage.tables import matching, stock_movement

_APPLY = """
SELECT movement, outcome, level_version, balance
FROM apply_movements($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
"""
_TYPES = {movement_type: str(int(movement_type)) for movement_type in MovementType}
_REFUSALS: dict[str, Callable[[Movement, str], Refusal]] = {
    "other_pos": lambda moved, _: OtherPos(moved.pos_id or ""),
    "unknown_store": lambda moved, _: UnknownStore(moved.store_id),
    "unknown_item": lambda moved, _: UnknownItem(moved.item_id),
    "no_integration": lambda moved, _: NoIntegration(
        store_id=moved.store_id, inventory_system_id=moved.inventory_system_id or ""
    ),
    "integration_disabled": lambda moved, _: IntegrationDisabled(
        store_id=moved.store_id, inventory_system_id=moved.inventory_system_id or ""
    ),
    "beyond_range": lambda moved, _: BeyondRange(item_id=moved.item_id, store_id=moved.store_id),
    "below_zero": lambda moved, level: BelowZero(
        item_id=moved.item_id, store_id=moved.store_id, level=level, quantity=to_canonical(moved.quantity)
    ),
}


async def apply_movements(  # noqa: PLR0913 - what all movements of a call share, each by name
    connection: asyncpg.Connection,
    movements: Sequence[Movement],
    *,
    tickets: Sequence[int | None] | None = None,
    skips_locked: bool = False,
    actor: str | None = None,
    note: str | None = None,
) -> list[Outcome]:
    """Apply `movements` in order, and return an outcome for each; outside a transaction, they are committed.

    Movements with the same number in `tickets` are one unit: with `skips_locked`, where another session holds one of their
    levels, all of them are `Busy`. `actor` and `note` say who made the rows, and why.

    Raises:
        asyncpg.PostgresError: as the driver does. lock_not_available (55P03): a level was held for longer than the lock timeout.
    """
    count = len(movements)
    # Numbers travel as text, which the driver writes much faster than arrays of numbers.
    row = await connection.fetchrow(
        _APPLY,
        skips_locked,
        [movement.store_id for movement in movements],
        [movement.item_id for movement in movements],
        [movement.source.value for movement in movements],
        [movement.inventory_system_id for movement in movements],
        [_TYPES[movement.movement_type] for movement in movements],
        [to_plain(movement.quantity) for movement in movements],
        [None if (stock := movement.reported_stock) is None else to_plain(stock) for movement in movements],
        [movement.date_text for movement in movements],
        [movement.sent_at_text for movement in movements],
        [movement.dedupe_key for movement in movements],
        [movement.occurrence for movement in movements],
        [movement.pos_id for movement in movements],
        _column([movement.happened_at for movement in movements]),
        tickets,
        _column([movement.reason for movement in movements]),
        _column([movement.reference for movement in movements]),
        None if actor is None else [actor] * count,
        None if note is None else [note] * count,
    )
    assert row is not None
    outcomes: list[Outcome] = [Busy()] * count
    for position, outcome, level_version, balance in zip(*row, strict=True):
        outcomes[position - 1] = _outcome(movements[position - 1], outcome, level_version, balance)
    return outcomes


def _column(values: list[Any]) -> list[Any] | None:
    """Nothing at all where no movement has a value: most have none."""
    return None if values.count(None) == len(values) else values


def _outcome(movement: Movement, outcome: str, level_version: int | None, balance: str | None) -> Outcome:
    match outcome:
        case "applied":
            return Applied(level_version or 0, Decimal(balance or 0))
        case "known":
            return Known(level_version or 0, Decimal(balance or 0))
        case "busy":
            return Busy()
        case "key_reused":
            return KeyReused()
        case _:
            return Refused(_REFUSALS[outcome](movement, balance or ""))


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """A row of the ledger."""

    item_id: str
    level_version: int
    source: str
    inventory_system_id: str | None
    movement_type: int
    quantity: Decimal
    balance_after: Decimal
    date_text: str | None
    received_at: datetime
    actor: str | None
    note: str | None


async def list_rows(  # noqa: PLR0913 - one filter each
    connection: AsyncConnection,
    store_id: str,
    *,
    item_id: str | None = None,
    source: str | None = None,
    after: tuple[str, int] | None = None,
    limit: int,
) -> list[LedgerRow]:
    """List rows of a store in order of item and version, those after `after` (item_id, level_version): the ledger's own key."""
    row = stock_movement.c
    columns: list[Any] = [row[name] for name in LedgerRow.__dataclass_fields__]
    wanted = matching(stock_movement, store_id=store_id, item_id=item_id, source=source)
    query = select(*columns).where(*wanted).order_by(row.item_id, row.level_version).limit(limit)
    if after is not None:
        query = query.where(tuple_(row.item_id, row.level_version) > tuple_(*after))
    return [LedgerRow(*found) for found in await connection.execute(query)]
