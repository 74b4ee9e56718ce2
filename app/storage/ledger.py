"""The ledger: movements are applied by the SQL function `apply_movements` (migrations 0007 and 0008).

The function locks the levels, judges every movement, writes and queues, in one transaction. This module only carries the
arguments and the outcomes, so no rule of the ledger stands in Python.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import asyncpg

from app.errors import (
    BelowZero,
    BeyondRange,
    CountInFuture,
    CountTooOld,
    IntegrationDisabled,
    NoIntegration,
    NotReversible,
    OtherPos,
    PutAside,
    Refusal,
    UnitDiffers,
    UnitUnclear,
    UnknownItem,
    UnknownRow,
    UnknownStore,
)
from app.stock.movement import (
    Applied,
    Busy,
    Correction,
    Echo,
    KeyReused,
    Known,
    Movement,
    MovementType,
    NotRecorded,
    Outcome,
    Refused,
)
from app.stock.quantity import to_canonical, to_plain

_PARAMETERS = (
    "boolean, boolean, text[], text[], text[], text[], text[], text[], text[], text[], text[], bytea[], smallint[], text[],"
    " timestamptz[], timestamp[], integer[], integer[], text[], bigint[], text[], text[], text[], text[]"
)
# With their exact types, so that no other function of the name could fit better.
_ARGUMENTS = ", ".join(f"${number}::{type_}" for number, type_ in enumerate(_PARAMETERS.split(", "), start=1))
_APPLY = (
    "SELECT movement, outcome, level_version, balance, correction, counted_at, detail"  # noqa: S608 - our own names only
    f" FROM pos_sync.apply_movements({_ARGUMENTS})"
)
_TYPES = {movement_type: str(int(movement_type)) for movement_type in MovementType}
_REFUSALS: dict[str, Callable[[Movement, str, str], Refusal]] = {
    "other_pos": lambda moved, *_: OtherPos(moved.pos_id or ""),
    "unknown_store": lambda moved, *_: UnknownStore(moved.store_id),
    "unknown_item": lambda moved, *_: UnknownItem(moved.item_id),
    "no_integration": lambda moved, *_: NoIntegration(
        store_id=moved.store_id, inventory_system_id=moved.inventory_system_id or ""
    ),
    "integration_disabled": lambda moved, *_: IntegrationDisabled(
        store_id=moved.store_id, inventory_system_id=moved.inventory_system_id or ""
    ),
    "put_aside": lambda _moved, _level, actor: PutAside(actor),
    "unit_unclear": lambda moved, *_: UnitUnclear(item_id=moved.item_id, store_id=moved.store_id),
    "unit_differs": lambda moved, _level, units: UnitDiffers(
        item_id=moved.item_id, store_id=moved.store_id, other_store_id=moved.other_store_id or "", units=units
    ),
    "count_in_future": lambda moved, *_: CountInFuture(item_id=moved.item_id, counted_at=_time_of(moved)),
    "count_too_old": lambda moved, *_: CountTooOld(item_id=moved.item_id, counted_at=_time_of(moved)),
    "unknown_row": lambda moved, *_: UnknownRow(
        item_id=moved.item_id, store_id=moved.store_id, level_version=moved.refers_to or 0
    ),
    "not_reversible": lambda moved, *_: NotReversible(moved.refers_to or 0),
    "beyond_range": lambda moved, *_: BeyondRange(item_id=moved.item_id, store_id=moved.store_id),
    "below_zero": lambda moved, level, _: BelowZero(
        item_id=moved.item_id, store_id=moved.store_id, level=level, quantity=to_canonical(moved.quantity)
    ),
}


async def apply_movements(  # noqa: PLR0913 - what all movements of a call share, each by name
    connection: asyncpg.Connection,
    movements: Sequence[Movement],
    *,
    tickets: Sequence[int | None] | None = None,
    units: Sequence[int | None] | None = None,
    skips_locked: bool = False,
    is_by_operator: bool = False,
    actor: str | None = None,
    note: str | None = None,
) -> list[Outcome]:
    """Apply `movements` in order, and return an outcome for each; outside a transaction, they are committed.

    Movements with the same number in `tickets` are decided in one call: with `skips_locked`, where another session holds one of
    their levels, all of them are `Busy`. Those with the same number in `units` are applied together or not at all.
    `is_by_operator`: a person says that a report is no echo. `actor` and `note` say who made the rows, and why. A reversal must
    be the only movement of its level.

    Raises:
        asyncpg.PostgresError: as the driver does. lock_not_available (55P03): a level was held for longer than the lock timeout.
    """
    count = len(movements)
    # Numbers travel as text, which the driver writes much faster than arrays of numbers.
    row = await connection.fetchrow(
        _APPLY,
        skips_locked,
        is_by_operator,
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
        _column([movement.local_at for movement in movements]),
        tickets,
        units,
        _column([movement.other_store_id for movement in movements]),
        _column([movement.refers_to for movement in movements]),
        _column([movement.reason for movement in movements]),
        _column([movement.reference for movement in movements]),
        None if actor is None else [actor] * count,
        None if note is None else [note] * count,
    )
    assert row is not None
    outcomes: list[Outcome] = [Busy()] * count
    for position, *found in zip(*row, strict=True):
        outcomes[position - 1] = _outcome(movements[position - 1], *found)
    return outcomes


def _column(values: list[Any]) -> list[Any] | None:
    """Nothing at all where no movement has a value: most have none."""
    return None if values.count(None) == len(values) else values


def _outcome(  # noqa: PLR0913, PLR0917 - the columns of the function
    movement: Movement,
    outcome: str,
    level_version: int | None,
    balance: str | None,
    correction: str | None,
    counted_at: datetime | None,
    detail: str | None,
) -> Outcome:
    corrected = None
    if correction is not None:
        assert counted_at is not None
        corrected = Correction(Decimal(correction), counted_at)
    match outcome:
        case "applied":
            return Applied(level_version or 0, Decimal(balance or 0), corrected, detail == "before_count")
        case "known":
            return Known(level_version or 0, Decimal(balance or 0), corrected)
        case "echo":
            return Echo(level_version or 0)
        case _:
            simple = _SIMPLE.get(outcome)
            return Refused(_REFUSALS[outcome](movement, balance or "", detail or "")) if simple is None else simple


_SIMPLE: dict[str, Outcome] = {"busy": Busy(), "key_reused": KeyReused(), "not_recorded": NotRecorded()}


def _time_of(movement: Movement) -> str:
    return "" if movement.happened_at is None else movement.happened_at.isoformat()
