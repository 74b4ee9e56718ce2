"""Ledger rows as the POS reads them: by their identity, and page by page."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from app.stock.movement import Movement, Source
from app.storage.tables import stock_movement


@dataclass(frozen=True, slots=True)
class Recorded:
    """A row that the POS recorded."""

    item_id: str
    source: str
    movement_type: int
    quantity: Decimal
    balance_after: Decimal
    level_version: int

    def is_of(self, movement: Movement) -> bool:
        """Whether it records `movement`; of a count only the stock after it is known."""
        said = self.balance_after if movement.source is Source.POS_COUNT else self.quantity
        return (self.item_id, self.source, said) == (movement.item_id, movement.source.value, movement.quantity)


async def find(connection: AsyncConnection, movements: Sequence[Movement]) -> dict[bytes | None, Recorded]:
    """The rows with the identities of `movements`, which are of one store."""
    row = stock_movement.c
    columns = row.dedupe_key, row.item_id, row.source, row.movement_type, row.quantity, row.balance_after, row.level_version
    query = select(*columns).where(
        row.store_id == movements[0].store_id, row.dedupe_key.in_([movement.dedupe_key for movement in movements])
    )
    return {key: Recorded(*rest) for key, *rest in await connection.execute(query)}


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


async def page(  # noqa: PLR0913 - one filter each
    connection: AsyncConnection,
    store_id: str,
    *,
    item_id: str | None = None,
    source: str | None = None,
    after: tuple[str, int] | None = None,
    limit: int,
) -> list[LedgerRow]:
    """Rows of a store in order of item and place, from behind `after` (item_id, level_version) on: the ledger's own key."""
    row = stock_movement.c
    columns: list[Any] = [row[name] for name in LedgerRow.__dataclass_fields__]
    query = select(*columns).where(row.store_id == store_id).order_by(row.item_id, row.level_version).limit(limit)
    if item_id is not None:
        query = query.where(row.item_id == item_id)
    if source is not None:
        query = query.where(row.source == source)
    if after is not None:
        query = query.where(tuple_(row.item_id, row.level_version) > tuple_(*after))
    return [LedgerRow(*found) for found in await connection.execute(query)]
