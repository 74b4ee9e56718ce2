"""Changing single items of a store: their definition, and whether they are retired."""

from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import Any

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.stock.definitions import changed_units
from app.stock.movement import recounted_movement
from app.stock.quantity import ZERO, to_plain
from app.storage import items
from app.storage.ledger import apply_movements
from app.storage.transactions import First, run_transaction
from app.visible_text import shown, typed


class CannotChangeItem(Exception):
    """The message says why, and what to do; nothing was changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemChange:
    """New values of an item; None leaves one as it is."""

    name: str | None = None
    cost: Decimal | None = None
    supplier_id: str | None = None
    purchase_unit_id: str | None = None
    consumption_unit_id: str | None = None
    low_stock: Decimal | None = None
    forgets_low_stock: bool = False
    """Have no threshold any more"""

    @property
    def values(self) -> dict[str, Any]:
        """Those that are set, by their columns."""
        named = {name: getattr(self, name) for name in self.__slots__ if name != "forgets_low_stock"}
        values = {name: value for name, value in named.items() if value is not None}
        return {**values, "low_stock": None} if self.forgets_low_stock else values


async def set_item(  # noqa: PLR0913 - which item, what, and who
    engine: AsyncEngine, store_id: str, item_id: str, change: ItemChange, *, actor: str, first: First = None
) -> bool:
    """Change an item; True where its unit changed, so that nothing is told of it until a full synchronisation has ended.

    Raises:
        CannotChangeItem: there is no such store, item, unit or supplier, or there is stock in the old unit.
    """

    async def work(connection: AsyncConnection, driver: asyncpg.Connection) -> bool:
        await _require(connection, store_id, [item_id])
        await _require_listed(connection, store_id, change)
        (before,) = await items.list_items(connection, store_id, [item_id])
        await items.change_item(connection, store_id, item_id, change.values)
        (after,) = await items.list_items(connection, store_id, [item_id])
        changed = next(changed_units({item_id: before}, {item_id: after}, frozenset()), None)
        if changed is None:
            return False
        levels = await items.lock_levels(connection, store_id, [item_id])
        if level := levels.get(item_id, ZERO):
            raise CannotChangeItem(
                f"Item {shown(item_id)}: {changed.words}, and the store has {to_plain(level)} in the old one. Nothing was "
                "changed. Import the item with its stock in the new unit: "
                f"pos-sync catalog import --store {typed(store_id)} FILE --accept-unit-change"
            )
        await items.hold(connection, store_id, list(levels))
        if levels:
            # What happened before this count, and comes late, is in the old unit.
            none = recounted_movement(store_id=store_id, item_id=item_id, stock=ZERO)
            await apply_movements(driver, [none], actor=actor, note=changed.words)
        return bool(levels)

    return await run_transaction(engine, work, first=first)


async def retire_items(
    engine: AsyncEngine, store_id: str, item_ids: Collection[str], *, retires: bool, first: First = None
) -> set[str]:
    """Retire items, or bring them back; those of which that was new.

    Raises:
        CannotChangeItem: there is no such store, or one of the items is unknown.
    """

    async def work(connection: AsyncConnection, _driver: asyncpg.Connection) -> set[str]:
        await _require(connection, store_id, item_ids)
        return await (items.retire if retires else items.restore)(connection, store_id, item_ids)

    return await run_transaction(engine, work, first=first)


async def _require(connection: AsyncConnection, store_id: str, item_ids: Collection[str]) -> None:
    if not await items.lock_store(connection, store_id):
        raise CannotChangeItem(f"There is no store {shown(store_id)}. `pos-sync store list` shows all.")
    known = {one.item_id for one in await items.list_items(connection, store_id, item_ids)}
    if unknown := sorted(set(item_ids) - known):
        raise CannotChangeItem(
            f"Store {store_id} has no item {', '.join(map(shown, unknown))}; nothing was changed. "
            f"`pos-sync item list --store {typed(store_id)}` shows all. New items come with: pos-sync catalog import"
        )


async def _require_listed(connection: AsyncConnection, store_id: str, change: ItemChange) -> None:
    for what, asked, known in (
        ("unit", {change.purchase_unit_id, change.consumption_unit_id}, await items.known_units(connection, store_id)),
        ("supplier", {change.supplier_id}, await items.known_suppliers(connection, store_id)),
    ):
        if missing := sorted(one for one in asked if one is not None and one not in known):
            raise CannotChangeItem(
                f"Store {store_id} has no {what} {', '.join(map(shown, missing))}; nothing was changed. It has: {_some(known)}. "
                f"A new {what} comes with: pos-sync catalog import"
            )


MAX_NAMED = 20


def _some(ids: Collection[str]) -> str:
    more = f", and {len(ids) - MAX_NAMED} more" if len(ids) > MAX_NAMED else ""
    return f"{', '.join(islice(ids, MAX_NAMED))}{more}"
