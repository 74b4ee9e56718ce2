"""Which store and inventory system a synchronisation is for, and what has to be set up before it can be."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from app.errors import CannotSync, NoStoreToSync
from app.storage.catalog import Integration, choose_integration, find_store
from app.storage.syncs import Pair


@dataclass(frozen=True, slots=True)
class Target:
    """A pair, and what calls for it name."""

    pair: Pair
    mipos_store_id: str
    connected: Integration


async def find_target(engine: AsyncEngine, store_id: str, inventory_system_id: str | None) -> Target:
    """Which integration is meant: the named one, or the only one that is enabled.

    Raises:
        CannotSync: there is none, or it is switched off, or mipOS's id of the store is not set; NoStoreToSync: no such store.
    """
    async with engine.connect() as connection:
        store = await find_store(connection, store_id)
    if store is None:
        raise NoStoreToSync(store_id)
    connected = choose_integration(store, inventory_system_id)
    if store.mipos_store_id is None:
        raise CannotSync(
            f"mipOS's id of store {store.store_id} is not set, and calls to mipOS name it. Set it with: "
            f"pos-sync store set {store.store_id} --mipos-id ID"
        )
    return Target(Pair(store.store_id, connected.inventory_system_id), store.mipos_store_id, connected)
