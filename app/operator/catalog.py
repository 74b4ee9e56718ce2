"""Importing and exporting a store's catalogue: the transactions around `stock.catalog` and `storage.catalog`."""

from dataclasses import dataclass

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.errors.requests import NoStoreToSync
from app.stock.catalog import Catalog, CatalogRefused
from app.stock.movement import Applied, Outcome, Refused, opening_movement
from app.stock.rules import Rules
from app.storage.catalog import choose_integration, connect_system, create_store, find_store, get_catalog, put_catalog
from app.storage.ledger import apply_movements
from app.storage.rules import effective_rules
from app.storage.transactions import run_transaction

BATCH = 1000
"""Openings in a statement; all of an import are one transaction."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did."""

    is_new_store: bool
    items: int
    opened: int
    """Items whose stock was taken from the file. All others have moved since, or were opened before, and keep theirs."""


async def import_catalog(engine: AsyncEngine, store_id: str, catalog: Catalog, *, rules: Rules) -> Imported:
    """Create or update a store's catalogue in one transaction; repeatable.

    An item that the store does not stock yet is opened with the file's stock, by an `opening` row in the ledger. Stock that
    exists is never changed. `rules` name the timezone of a new store, where the service has recorded none.

    Raises:
        CatalogRefused: an opening stock that the store's own rules refuse; nothing was imported.
    """

    async def work(connection: AsyncConnection, driver: asyncpg.Connection) -> Imported:
        timezone = (await effective_rules(connection, rules)).timezone
        is_new_store = await create_store(connection, store_id, timezone=timezone)
        await connect_system(connection, store_id, catalog.inventory_system_id, user_id_tps=catalog.user_id_tps)
        await put_catalog(connection, catalog)
        items = sorted(catalog.items, key=lambda item: item.item_id)
        openings = [opening_movement(store_id=store_id, item_id=item.item_id, stock=item.stock) for item in items]
        outcomes: list[Outcome] = []
        for start in range(0, len(openings), BATCH):
            outcomes += await apply_movements(driver, openings[start : start + BATCH])
        refused = [outcome.error.message for outcome in outcomes if isinstance(outcome, Refused)]
        if refused:
            raise CatalogRefused(refused)
        opened = sum(isinstance(outcome, Applied) for outcome in outcomes)
        return Imported(is_new_store=is_new_store, items=len(catalog.items), opened=opened)

    return await run_transaction(engine, work)


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
