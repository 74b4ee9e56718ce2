"""Importing and exporting a store's catalogue: the transactions around `stock.catalog` and `storage.catalog`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.errors.requests import NoStoreToSync
from app.stock.catalog import Catalog, CatalogRefused
from app.stock.definitions import CatalogChanges, ChangedUnit, DefinedItem, changed_units, count_changes
from app.stock.movement import Applied, Movement, Refused, opening_movement, recounted_movement
from app.stock.quantity import ZERO
from app.storage import items
from app.storage.catalog import (
    Store,
    choose_integration,
    connect_system,
    create_store,
    find_store,
    get_catalog,
    put_catalog,
)
from app.storage.ledger import apply_movements
from app.storage.transactions import run_transaction
from app.visible_text import shown

BATCH = 1000
"""Movements in a statement; all of an import are one transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOrder:
    """What an import may do beside what every import does."""

    connects: str | None = None
    """The inventory system to which the store may be connected by it, beside those that it has."""
    retires_missing: bool = False
    """Retire the store's items that the file lacks."""
    accepts_unit_change: bool = False
    """Where the unit of an item changes, the file's stock is a count in the new one."""
    same_units: frozenset[str] = frozenset()
    """Units that were only renamed."""
    actor: str = "import"
    is_dry: bool = False
    """Change nothing, and say what would be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import did."""

    is_new_store: bool
    changes: CatalogChanges
    opened: int
    """Items whose stock was taken from the file, since nobody had said before what there was."""
    recounted: int
    """Items whose stock was taken from the file as a count in their new unit."""
    held: int
    """Items whose unit changed. Nothing is told of them until a full synchronisation has ended."""
    is_new_system: bool
    """Whether the store was connected to the file's inventory system by it."""
    former_user: str | None
    """The user_id_tps of the connection before, where it changed."""


async def import_catalog(  # noqa: PLR0913 - what, how, and who is told
    engine: AsyncEngine,
    store_id: str,
    catalog: Catalog,
    order: ImportOrder = ImportOrder(),
    *,
    as_of: datetime | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Imported:
    """Create or update a store's catalogue in one transaction; repeatable.

    An item whose stock nobody has counted yet is opened with the file's stock, by an `opening` row in the ledger. All other
    stock stays as it is, but where a unit changes. `as_of` is when the file's stock was counted; None is now.
    `on_progress` is told of how many items of how many the stock was looked at.

    Raises:
        CatalogRefused: an inventory system that the store does not have, a change of a unit while there is stock, or an opening
            stock that the store's own rules refuse; nothing was imported.
    """

    async def work(connection: AsyncConnection, driver: asyncpg.Connection) -> Imported:
        is_new_store = await create_store(connection, store_id)
        await items.lock_store(connection, store_id)
        store = await find_store(connection, store_id)
        assert store is not None
        former_user = _former_user(store, catalog)
        if problems := _problems_of(store, catalog, order):
            raise CatalogRefused(problems)
        await connect_system(connection, store_id, catalog.inventory_system_id, user_id_tps=catalog.user_id_tps)
        imported = frozenset(one.item_id for one in catalog.items)
        before = await _defined(connection, store_id)
        await put_catalog(connection, store_id, catalog)
        if order.retires_missing:
            await items.retire(connection, store_id, before.keys() - imported)
        after = await _defined(connection, store_id)
        changed = list(changed_units(before, after, imported, same_units=order.same_units))
        counts = await _counts_of(connection, store_id, catalog, changed, order)
        recounted = 0
        for note, movements in counts:
            recounted += await _apply(driver, movements, actor=order.actor, note=note)
        stocks = sorted(catalog.items, key=lambda one: one.item_id)
        openings = [opening_movement(store_id=store_id, item_id=one.item_id, stock=one.stock, as_of=as_of) for one in stocks]
        return Imported(
            is_new_store=is_new_store,
            changes=count_changes(before, after, imported),
            opened=await _apply(driver, openings, on_progress=on_progress),
            recounted=recounted if order.accepts_unit_change else 0,
            held=len(changed),
            is_new_system=former_user is None and not is_new_store,
            former_user=former_user if former_user != catalog.user_id_tps else None,
        )

    return await run_transaction(engine, work, is_dry=order.is_dry)


def _former_user(store: Store, catalog: Catalog) -> str | None:
    """The user of the connection to the file's system; None where there is no such connection."""
    users = {one.inventory_system_id: one.user_id_tps for one in store.integrations}
    return users.get(catalog.inventory_system_id)


def _problems_of(store: Store, catalog: Catalog, order: ImportOrder) -> list[str]:
    """What the order and the file say that cannot both be meant."""
    named = catalog.inventory_system_id
    connected = [one.inventory_system_id for one in store.integrations]
    problems = []
    if order.connects is not None and order.connects != named:
        problems.append(f"--connect names {shown(order.connects)}, and the file belongs to {shown(named)}. Correct one of them.")
    elif connected and named not in connected and order.connects is None:
        problems.append(
            f"The file belongs to the inventory system {shown(named)}, and store {shown(store.store_id)} is connected to "
            f"{' and '.join(map(shown, connected))} only. If it has both, add --connect {named}. If not, correct the file, or "
            "--system."
        )
    units = {one.unit_id for one in catalog.units}
    problems += [
        f"--same-unit names {shown(unit_id)}, which is no unit of the file. Name the external_id of a unit that was renamed."
        for unit_id in sorted(order.same_units - units)
    ]
    return problems


async def _defined(connection: AsyncConnection, store_id: str) -> dict[str, DefinedItem]:
    return {one.item_id: one for one in await items.list_items(connection, store_id)}


async def _counts_of(
    connection: AsyncConnection, store_id: str, catalog: Catalog, changed: Sequence[ChangedUnit], order: ImportOrder
) -> list[tuple[str, list[Movement]]]:
    """The counts in a new unit, together where they have one note. From here on, the items whose unit changed are held."""
    if not changed:
        return []
    levels = await items.lock_levels(connection, store_id, [one.item_id for one in changed])
    stocked = [one for one in changed if one.item_id in levels]
    problems = [one.problem(levels[one.item_id], accepts=order.accepts_unit_change) for one in stocked]
    if refused := [problem for problem in problems if problem is not None]:
        raise CatalogRefused(refused)
    # What was never stocked was never told.
    await items.hold(connection, store_id, [one.item_id for one in stocked])
    # Also where there is none: what happened before this count, and comes late, is in the old unit.
    stocks = {one.item_id: one.stock for one in catalog.items} if order.accepts_unit_change else {}
    counted = sorted(stocked, key=lambda one: (one.words, one.item_id))
    return [
        (note, [recounted_movement(store_id=store_id, item_id=one.item_id, stock=stocks.get(one.item_id, ZERO)) for one in same])
        for note, same in groupby(counted, key=lambda one: one.words)
    ]


async def _apply(
    driver: asyncpg.Connection,
    movements: Sequence[Movement],
    *,
    actor: str | None = None,
    note: str | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> int:
    """How many of `movements` were new.

    Raises:
        CatalogRefused: one was refused.
    """
    applied = 0
    refused: list[str] = []
    for start in range(0, len(movements), BATCH):
        for outcome in await apply_movements(driver, movements[start : start + BATCH], actor=actor, note=note):
            applied += isinstance(outcome, Applied)
            if isinstance(outcome, Refused):
                refused.append(outcome.error.message)
        on_progress(start + BATCH, len(movements))
    if refused:
        raise CatalogRefused(refused)
    return applied


async def export_catalog(engine: AsyncEngine, store_id: str, *, inventory_system_id: str | None = None) -> Catalog:
    """A store's catalogue with its stock as it is now, for one of its integrations.

    Raises:
        CannotSync: there is no such store, or no one integration of it is meant.
    """
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ")
        store = await find_store(connection, store_id)
        if store is None:
            raise NoStoreToSync(store_id)
        connected = choose_integration(store, inventory_system_id, must_be_enabled=False)
        return await get_catalog(connection, store_id, connected)
