"""Importing and exporting a store's catalogue: the transactions around `stock.catalog` and `storage.catalog`."""

from dataclasses import dataclass

import asyncpg
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.stock.applying import NegativeStock, Refused, decide
from app.stock.catalog import Catalog, CatalogRefused
from app.stock.movement import opening_movement
from app.storage import movements
from app.storage.catalog import connect_system, create_store, find_store, get_catalog, put_catalog
from app.storage.engine import driver_of

MOST_TRIES = 5


class UnknownStoreError(Exception):
    """There is no such store; the message says how to make one."""


class WhichSystemError(Exception):
    """The store has no, or more than one, integration, so that one has to be named; the message lists them."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did."""

    is_new_store: bool
    items: int
    opened: int
    """Items whose stock was taken from the file. All others have moved since, or were opened before, and keep theirs."""


async def import_catalog(engine: AsyncEngine, store_id: str, catalog: Catalog, *, timezone: str) -> Imported:
    """Create or update a store's catalogue in one transaction; repeatable.

    An item that the store does not stock yet is opened with the file's stock, by an `opening` row in the ledger. Stock that
    exists is never changed.

    Raises:
        CatalogRefused: an opening stock that the store's own rules refuse; nothing was imported.
    """
    for _ in range(MOST_TRIES - 1):
        try:
            return await _import(engine, store_id, catalog, timezone=timezone)
        except (asyncpg.UniqueViolationError, IntegrityError):
            # A delivery opened one of these levels in the meantime; the next run sees it.
            continue
    return await _import(engine, store_id, catalog, timezone=timezone)


async def _import(engine: AsyncEngine, store_id: str, catalog: Catalog, *, timezone: str) -> Imported:
    async with engine.begin() as connection:
        is_new_store = await create_store(connection, store_id, timezone=timezone)
        await connect_system(connection, store_id, catalog.inventory_system_id, user_id_tps=catalog.user_id_tps)
        await put_catalog(connection, catalog)
        openings = [opening_movement(store_id=store_id, item_id=item.item_id, stock=item.stock) for item in catalog.items]
        driver = await driver_of(connection)
        knowledge = await movements.read_knowledge(driver, openings, default_negative_stock=NegativeStock.ALLOW)
        decision = decide([opening for opening in openings if opening.key not in knowledge.levels], knowledge)
        refused = [outcome.error.message for outcome in decision.outcomes if isinstance(outcome, Refused)]
        if refused:
            raise CatalogRefused(refused)
        if decision.entries:
            await movements.write(driver, decision.entries, decision.levels)
        return Imported(is_new_store=is_new_store, items=len(catalog.items), opened=len(decision.entries))


async def export_catalog(engine: AsyncEngine, store_id: str, *, inventory_system_id: str | None = None) -> Catalog:
    """A store's catalogue with its stock as it is now, for one of its integrations.

    Raises:
        UnknownStoreError: there is no such store.
        WhichSystemError: the store has several integrations and none was named, or has not the named one.
    """
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ")
        store = await find_store(connection, store_id)
        if store is None:
            raise UnknownStoreError(
                f"There is no store {store_id}. Make it with: pos-sync catalog import --store {store_id} FILE"
            )
        matching = [i for i in store.integrations if inventory_system_id in (None, i.inventory_system_id)]
        if len(matching) != 1:
            known = ", ".join(i.inventory_system_id for i in store.integrations) or "none"
            raise WhichSystemError(f"Name one inventory system with --system. Store {store_id} has: {known}")
        return await get_catalog(connection, store_id, matching[0])
