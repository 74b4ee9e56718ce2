"""Stores, their integrations, and the items, units and suppliers that they share."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Numeric, Row, Table, select, text, true, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.errors.requests import CannotSync
from app.stock.catalog import Catalog, Item, Supplier, Unit
from app.stock.rules import NegativeStock
from app.stock.text import fault_in
from app.storage.filters import matching
from app.storage.tables import integration, item, stock_level, store, supplier, unit
from app.visible_text import typed


class RepeatedDates(StrEnum):
    """What becomes of a delivery that may be a movement of its own under a date that was used before."""

    SUSPECT = "suspect"
    """It is kept for a person."""
    APPLY = "apply"


@dataclass(frozen=True, slots=True)
class Integration:
    """A store's connection to an inventory system; movements are taken only while it is enabled."""

    inventory_system_id: str
    user_id_tps: str
    enabled: bool
    repeated_dates: RepeatedDates = RepeatedDates.SUSPECT


@dataclass(frozen=True, slots=True)
class Store:
    """A store of the POS. `mipos_store_id` is its id in the paths of calls to mipOS."""

    store_id: str
    name: str
    mipos_store_id: str | None
    timezone: str | None
    """None: as the rule TIMEZONE says."""
    negative_stock: NegativeStock | None
    """None: as the setting says."""
    closed_until: datetime | None = None
    """Until then no deliveries are expected."""
    integrations: list[Integration] = field(default_factory=list)

    def is_closed(self, now: datetime) -> bool:
        """Whether no deliveries are expected at this time."""
        return self.closed_until is not None and now < self.closed_until


def choose_integration(store: Store, inventory_system_id: str | None, *, must_be_enabled: bool = True) -> Integration:
    """Which integration of `store` is meant: the named one, or else the only one that is enabled.

    Raises:
        CannotSync: none is meant, or more than one, or the named one is switched off and `must_be_enabled`.
    """
    if inventory_system_id is None:
        enabled = [connected for connected in store.integrations if connected.enabled]
        if len(enabled) == 1:
            return enabled[0]
        listed = ", ".join(connected.inventory_system_id for connected in enabled) or "none"
        raise CannotSync(f"Name one inventory system with --system. Enabled for store {store.store_id}: {listed}")
    known = {connected.inventory_system_id: connected for connected in store.integrations}
    if inventory_system_id not in known:
        raise CannotSync(
            f"Store {store.store_id} is not connected to that inventory system. It has: {', '.join(known) or 'none'}. "
            f"Connect it with: pos-sync store set {typed(store.store_id)} --connect SYSTEM USER"
        )
    if must_be_enabled and not known[inventory_system_id].enabled:
        raise CannotSync(
            f"The connection of store {store.store_id} to {inventory_system_id} is switched off. Switch it on with: "
            f"pos-sync store set {typed(store.store_id)} --enable {typed(inventory_system_id)}"
        )
    return known[inventory_system_id]


async def list_stores(connection: AsyncConnection) -> list[Store]:
    """Every store with its integrations, in order of their ids."""
    return await _read_stores(connection, true())


async def find_store(connection: AsyncConnection, store_id: str) -> Store | None:
    """The store with its integrations; None where there is none, as of what can be nobody's id."""
    if fault_in(store_id, max_length=len(store_id)):
        return None
    return next(iter(await _read_stores(connection, store.c.store_id == store_id)), None)


async def _read_stores(connection: AsyncConnection, is_asked: ColumnElement[bool]) -> list[Store]:
    stores = {
        row.store_id: Store(
            store_id=row.store_id,
            name=row.name,
            mipos_store_id=row.mipos_store_id,
            timezone=row.timezone,
            negative_stock=None if row.negative_stock is None else NegativeStock(row.negative_stock),
            closed_until=row.closed_until,
        )
        for row in await connection.execute(select(store).where(is_asked).order_by(store.c.store_id))
    }
    query = select(integration).join(store).where(is_asked).order_by(integration.c.store_id, integration.c.inventory_system_id)
    for row in await connection.execute(query):
        # A store that was made between the two statements is not among them.
        if (found := stores.get(row.store_id)) is not None:
            found.integrations.append(_integration(row))
    return list(stores.values())


def _integration(row: Row[Any]) -> Integration:
    return Integration(row.inventory_system_id, row.user_id_tps, row.enabled, RepeatedDates(row.repeated_dates))


async def has_system(connection: AsyncConnection, inventory_system_id: str, *, store_id: str | None = None) -> bool:
    """Whether the store, or where none is named any store, is connected to the inventory system; enabled or not."""
    if fault_in(inventory_system_id, max_length=len(inventory_system_id)):
        return False
    wanted = matching(integration, inventory_system_id=inventory_system_id, store_id=store_id)
    return await connection.scalar(select(integration.c.store_id).where(*wanted).limit(1)) is not None


async def create_store(connection: AsyncConnection, store_id: str) -> bool:
    """Make a store named like its id; False where it exists, and then it stays as it is."""
    statement = insert(store).values(store_id=store_id, name=store_id).on_conflict_do_nothing()
    return (await connection.execute(statement)).rowcount == 1


async def change_store(connection: AsyncConnection, store_id: str, values: dict[str, Any]) -> bool:
    """Set columns of a store; False where there is no such store."""
    statement = update(store).where(store.c.store_id == store_id).values(values)
    return (await connection.execute(statement)).rowcount == 1


async def connect_system(connection: AsyncConnection, store_id: str, inventory_system_id: str, *, user_id_tps: str) -> None:
    """Connect a store to an inventory system; a connection that exists gets the new user, and stays on or off."""
    values = {"store_id": store_id, "inventory_system_id": inventory_system_id, "user_id_tps": user_id_tps}
    statement = insert(integration).values(values)
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["store_id", "inventory_system_id"], set_={"user_id_tps": statement.excluded.user_id_tps}
        )
    )


async def enable_system(connection: AsyncConnection, store_id: str, inventory_system_id: str, *, enabled: bool) -> bool:
    """Switch a connection on or off; False where there is no such connection."""
    return await _change_integration(connection, store_id, inventory_system_id, enabled=enabled)


async def set_repeated_dates(connection: AsyncConnection, store_id: str, inventory_system_id: str, choice: RepeatedDates) -> bool:
    """Say what becomes of a connection's deliveries with repeated dates; False where there is no such connection."""
    return await _change_integration(connection, store_id, inventory_system_id, repeated_dates=choice.value)


async def _change_integration(connection: AsyncConnection, store_id: str, inventory_system_id: str, **values: object) -> bool:
    statement = update(integration).where(
        integration.c.store_id == store_id, integration.c.inventory_system_id == inventory_system_id
    )
    return (await connection.execute(statement.values(**values))).rowcount == 1


async def put_catalog(connection: AsyncConnection, store_id: str, catalog: Catalog) -> None:
    """Insert or update a store's units, suppliers and items. Deletes nothing; an item that was retired is back."""
    await _upsert(connection, unit, store_id, "unit_id", catalog.units)
    await _upsert(connection, supplier, store_id, "supplier_id", catalog.suppliers)
    await _upsert(connection, item, store_id, "item_id", catalog.items, cleared=("retired_at", "copied_from"))


async def _upsert(  # noqa: PLR0913 - what differs between three tables
    connection: AsyncConnection,
    table: Table,
    store_id: str,
    key: str,
    things: Sequence[Unit | Supplier | Item],
    *,
    cleared: Sequence[str] = (),
) -> None:
    """Insert or update `things` by those of their attributes that are columns; `cleared` columns become null.

    One statement, whatever the number, and no row is written that stays as it is.
    """
    if not things:
        return
    names = [column.name for column in table.columns if hasattr(things[0], column.name)]
    types = ["numeric" if isinstance(table.c[name].type, Numeric) else "text" for name in names]
    changed = [name for name in (*names, *cleared) if name != key]
    statement = f"""
    INSERT INTO {table.fullname} (store_id, {", ".join(names)})
    SELECT :store, {", ".join(f"CAST({name} AS {type_})" for name, type_ in zip(names, types, strict=True))}
    FROM unnest({", ".join(f"CAST(:{name} AS text[])" for name in names)}) AS given ({", ".join(names)})
    -- In key order, so that two imports cannot deadlock.
    ORDER BY {key}
    ON CONFLICT (store_id, {key}) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in changed)}
    WHERE ({", ".join(f"{table.name}.{name}" for name in changed)})
      IS DISTINCT FROM ({", ".join(f"excluded.{name}" for name in changed)})
    """  # noqa: S608 - our own names only
    columns = {name: [str(getattr(thing, name)) for thing in things] for name in names}
    await connection.execute(text(statement), {"store": store_id, **columns})


async def get_catalog(connection: AsyncConnection, store_id: str, connected: Integration) -> Catalog:
    """What `store_id` stocks, with its levels, and the units and suppliers that those items name."""
    *names, _ = Item.__slots__
    query = (
        select(*(item.c[name] for name in names), stock_level.c.quantity)
        .join(stock_level, (stock_level.c.store_id == item.c.store_id) & (stock_level.c.item_id == item.c.item_id))
        .where(item.c.store_id == store_id, item.c.retired_at.is_(None))
        .order_by(item.c.item_id)
    )
    # In parts, between which deliveries are received: a large catalogue is a second's work.
    items = [Item(*row) async for row in await connection.stream(query)]
    unit_ids = {i.purchase_unit_id for i in items} | {i.consumption_unit_id for i in items}
    supplier_ids = {i.supplier_id for i in items}
    all_units = await connection.execute(
        select(*(unit.c[name] for name in Unit.__slots__)).where(unit.c.store_id == store_id).order_by(unit.c.unit_id)
    )
    units = [Unit(*row) for row in all_units if row.unit_id in unit_ids]
    all_suppliers = await connection.execute(
        select(*(supplier.c[name] for name in Supplier.__slots__))
        .where(supplier.c.store_id == store_id)
        .order_by(supplier.c.supplier_id)
    )
    suppliers = [Supplier(*row) for row in all_suppliers if row.supplier_id in supplier_ids]
    return Catalog(connected.inventory_system_id, connected.user_id_tps, tuple(items), tuple(units), tuple(suppliers))
