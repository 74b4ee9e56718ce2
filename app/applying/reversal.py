"""Reversing one ledger row: the opposite of it, once, with actor and note."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.errors import UnknownRow
from app.stock.movement import Applied, Correction, Known, Refused, Source, reversing_movement
from app.storage.ledger import apply_movements
from app.storage.ledger_rows import find_half, find_row
from app.storage.outbox import announce
from app.storage.transactions import First, run_transaction


@dataclass(frozen=True, slots=True)
class Reversal:
    """One row that was taken back. Of a transfer there are two, one for each store."""

    store_id: str
    item_id: str
    level_version: int
    """Of the new row"""
    stock: Decimal
    """The level after it"""
    is_new: bool
    correction: Correction | None


async def reverse(  # noqa: PLR0913 - which row, who and why
    engine: AsyncEngine,
    *,
    store_id: str,
    item_id: str,
    level_version: int,
    actor: str,
    note: str,
    is_dry: bool = False,
    permit: Callable[[Iterable[str]], None] = lambda _store_ids: None,
    first: First = None,
) -> Sequence[Reversal]:
    """Take back a row, in a transaction of its own; again, it changes nothing. Of a transfer both halves are taken back.

    `permit` is asked, with the stores that are written, and raises where the caller may not.

    The opposite row happens when the original did. So the reversal of a sale that a count had held leaves the level as it is,
    and that of a count is as if there had been none.

    Raises:
        Refusal: there is no such row, it is a correction or a reversal itself, or the store refuses what would be left.
    """

    async def work(connection: AsyncConnection, driver: asyncpg.Connection) -> Sequence[Reversal]:
        row = await find_row(connection, store_id, item_id, level_version)
        if row is None:
            raise UnknownRow(store_id=store_id, item_id=item_id, level_version=level_version)
        movements = [reversing_movement(store_id=store_id, item_id=item_id, level_version=level_version)]
        if row.source == Source.POS_TRANSFER:
            other = await find_half(connection, row)
            movements.append(
                reversing_movement(store_id=other.store_id, item_id=other.item_id, level_version=other.level_version)
            )
        permit(movement.store_id for movement in movements)
        together = [0] * len(movements)
        outcomes = await apply_movements(driver, movements, tickets=together, units=together, actor=actor, note=note)
        refused = next((outcome.error for outcome in outcomes if isinstance(outcome, Refused)), None)
        if refused is not None:
            raise refused
        await announce(connection)
        done: list[Reversal] = []
        for movement, outcome in zip(movements, outcomes, strict=True):
            assert isinstance(outcome, (Applied, Known))
            is_new = isinstance(outcome, Applied)
            done.append(
                Reversal(movement.store_id, movement.item_id, outcome.level_version, outcome.balance, is_new, outcome.correction)
            )
        return done

    return await run_transaction(engine, work, is_dry=is_dry, first=first)
