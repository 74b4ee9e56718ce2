"""The items of a store one by one: defined, changed, retired and brought back, and held after a change of their unit."""

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Table, func, literal, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Text

from app.stock.catalog import Catalog
from app.stock.definitions import DefinedItem
from app.stock.text import fault_in
from app.storage.filters import matching
from app.storage.mipos_tables import system_level
from app.storage.tables import integration, item, stock_level, store, supplier, unit

_bought, _used = unit.alias("bought"), unit.alias("used")
_DEFINED = (
    select(
        item.c.item_id,
        item.c.name,
        item.c.cost,
        item.c.supplier_id,
        supplier.c.name,
        item.c.purchase_unit_id,
        _bought.c.name,
        _bought.c.short_name,
        item.c.consumption_unit_id,
        _used.c.name,
        _used.c.short_name,
        # As the SQL function unit_of folds them.
        func.lower(_used.c.name) + "\n" + func.lower(_used.c.short_name),
        item.c.retired_at,
        item.c.copied_from,
        item.c.low_stock,
    )
    .join(supplier, (supplier.c.store_id == item.c.store_id) & (supplier.c.supplier_id == item.c.supplier_id))
    .join(_bought, (_bought.c.store_id == item.c.store_id) & (_bought.c.unit_id == item.c.purchase_unit_id))
    .join(_used, (_used.c.store_id == item.c.store_id) & (_used.c.unit_id == item.c.consumption_unit_id))
    .order_by(item.c.item_id)
)


async def lock_store(connection: AsyncConnection, store_id: str) -> bool:
    """Hold the catalogue of a store until the caller's transaction ends, against other changes of it; False: no such store.

    Movements do not wait for it.
    """
    query = select(store.c.store_id).where(store.c.store_id == store_id).with_for_update(key_share=True)
    return await connection.scalar(query) is not None


async def list_items(connection: AsyncConnection, store_id: str, item_ids: Collection[str] | None = None) -> list[DefinedItem]:
    """The items of a store, or those named, retired ones too, in order of their ids."""
    query = _DEFINED.where(item.c.store_id == store_id)
    if item_ids is not None:
        query = query.where(_among(item, item_ids))
    return [_defined(row) for row in await connection.execute(query)]


def is_named(words: str) -> ColumnElement[bool]:
    """Whether an item has `words` in its name, whatever their case and accents ("pina" finds "Piña"), or has this id.

    The database folds both: what it takes for the lower case depends on its locale, and under C only ASCII has one.
    """
    bare = func.regexp_replace(func.pg_catalog.normalize(literal(words, Text), "NFKD"), r"[\u0300-\u036f]", "", "g")
    # As a subquery, it is folded once and not for each row.
    return (func.strpos(item.c.folded_name, select(func.lower(bare)).scalar_subquery()) > 0) | (item.c.item_id == words)


async def list_items_by_name(  # noqa: PLR0913 - one filter each
    connection: AsyncConnection,
    store_id: str,
    *,
    named: str | None,
    is_retired: bool | None,
    after: str | None,
    limit: int,
) -> list[DefinedItem]:
    """A page of the items of a store in order of their names, those behind the item `after`; None is any."""
    place = (item.c.folded_name, item.c.item_id)
    query = _DEFINED.where(item.c.store_id == store_id).order_by(None).order_by(*place).limit(limit)
    if named is not None:
        query = query.where(is_named(named))
    if is_retired is not None:
        query = query.where(item.c.retired_at.is_not(None) if is_retired else item.c.retired_at.is_(None))
    if after is not None:
        name = await connection.scalar(select(item.c.folded_name).where(item.c.store_id == store_id, item.c.item_id == after))
        query = query.where(tuple_(*place) > tuple_(name or "", after))
    return [_defined(row) for row in await connection.execute(query)]


def _defined(row: Any) -> DefinedItem:  # noqa: ANN401 - a row of `_DEFINED`
    item_id, name, cost, supplier_id, supplied, bought_id, bought, bought_short, used_id, used, used_short, *rest = row
    return DefinedItem(
        item_id, name, cost, supplier_id, supplied, bought_id, (bought, bought_short), used_id, (used, used_short), *rest
    )


async def has_item(connection: AsyncConnection, item_id: str, *, store_id: str | None = None) -> bool:
    """Whether the store, or where none is named any store, has the item; retired or not."""
    if fault_in(item_id, max_length=len(item_id)):
        return False
    query = select(item.c.item_id).where(*matching(item, item_id=item_id, store_id=store_id))
    return await connection.scalar(query.limit(1)) is not None


async def change_item(connection: AsyncConnection, store_id: str, item_id: str, values: Mapping[str, Any]) -> None:
    """Set columns of an item."""
    await connection.execute(update(item).where(item.c.store_id == store_id, item.c.item_id == item_id).values(**values))


async def retire(connection: AsyncConnection, store_id: str, item_ids: Collection[str]) -> set[str]:
    """Leave items out of exports and synchronisations from now on; those of which that was new."""
    statement = update(item).where(item.c.store_id == store_id, _among(item, item_ids), item.c.retired_at.is_(None))
    return set(await connection.scalars(statement.values(retired_at=func.now()).returning(item.c.item_id)))


async def restore(connection: AsyncConnection, store_id: str, item_ids: Collection[str]) -> set[str]:
    """Bring retired items back; those that were retired."""
    statement = update(item).where(item.c.store_id == store_id, _among(item, item_ids), item.c.retired_at.is_not(None))
    return set(await connection.scalars(statement.values(retired_at=None).returning(item.c.item_id)))


async def known_units(connection: AsyncConnection, store_id: str) -> dict[str, str]:
    """The names of a store's units by their ids, in order of these."""
    query = select(unit.c.unit_id, unit.c.name).where(unit.c.store_id == store_id).order_by(unit.c.unit_id)
    return {row.unit_id: row.name for row in await connection.execute(query)}


async def unit_names(connection: AsyncConnection, store_id: str | None) -> list[str]:
    """The short names of the units of a store, or of all."""
    query = select(unit.c.short_name).where(*matching(unit, store_id=store_id)).distinct().order_by(unit.c.short_name)
    return list(await connection.scalars(query))


async def known_suppliers(connection: AsyncConnection, store_id: str) -> dict[str, str]:
    """The names of a store's suppliers by their ids, in order of these."""
    ids = supplier.c.supplier_id
    query = select(ids, supplier.c.name).where(supplier.c.store_id == store_id).order_by(ids)
    return {row.supplier_id: row.name for row in await connection.execute(query)}


async def lock_levels(connection: AsyncConnection, store_id: str, item_ids: Collection[str]) -> dict[str, Decimal]:
    """The levels of items, locked until the caller's transaction ends; without those that were never stocked."""
    query = (
        select(stock_level.c.item_id, stock_level.c.quantity)
        .where(stock_level.c.store_id == store_id, _among(stock_level, item_ids))
        # In the order in which apply_movements locks them.
        .order_by(stock_level.c.item_id)
        .with_for_update(key_share=True)
    )
    return {row.item_id: row.quantity for row in await connection.execute(query)}


async def hold(connection: AsyncConnection, store_id: str, item_ids: Sequence[str]) -> None:
    """Send no message about items to any system of the store until a full synchronisation has told their stock."""
    rows = select(
        integration.c.inventory_system_id,
        integration.c.store_id,
        func.unnest(_texts(sorted(item_ids))).label("item_id"),
        literal(True),
    ).where(integration.c.store_id == store_id)
    statement = insert(system_level).from_select(
        ["inventory_system_id", "store_id", "item_id", "is_held"], rows.order_by("item_id")
    )
    await connection.execute(
        statement.on_conflict_do_update(index_elements=["inventory_system_id", "store_id", "item_id"], set_={"is_held": True})
    )


def _among(table: Table, item_ids: Collection[str]) -> ColumnElement[bool]:
    """One parameter for all ids: a statement has at most 32,767."""
    return table.c.item_id == func.any(_texts(sorted(item_ids)))


def _texts(values: Sequence[str]) -> ColumnElement[Any]:
    return literal(values, ARRAY(Text))


# A synchronisation may end after the unit was changed once more. Then it has told the stock in the unit before.
_RELEASE = text("""
UPDATE pos_sync.system_level AS known SET is_held = false
FROM unnest(CAST(:items AS text[]), CAST(:versions AS bigint[]), CAST(:units AS text[]), CAST(:names AS text[]),
  CAST(:short_names AS text[])) AS told (item_id, version, unit_id, name, short_name)
WHERE known.inventory_system_id = :system AND known.store_id = :store AND known.item_id = told.item_id AND known.is_held
  AND (
    SELECT used_item.consumption_unit_id || E'\\n' || lower(used.name) || E'\\n' || lower(used.short_name)
    FROM pos_sync.item AS used_item
    JOIN pos_sync.unit AS used ON used.store_id = used_item.store_id AND used.unit_id = used_item.consumption_unit_id
    WHERE used_item.store_id = known.store_id AND used_item.item_id = known.item_id
  ) = told.unit_id || E'\\n' || lower(told.name) || E'\\n' || lower(told.short_name)
  AND NOT EXISTS (
    SELECT FROM pos_sync.stock_movement AS later
    WHERE later.store_id = known.store_id AND later.item_id = known.item_id AND later.level_version > told.version
      AND later.source = 'unit_change'
  )
""")


async def release(
    connection: AsyncConnection, store_id: str, inventory_system_id: str, catalog: Catalog, versions: Mapping[str, int]
) -> None:
    """Send messages again about the items whose stock, at these versions, a synchronisation has told in today's unit."""
    units = {one.unit_id: one for one in catalog.units}
    used = [units[one.consumption_unit_id] for one in catalog.items]
    await connection.execute(
        _RELEASE,
        {
            "store": store_id,
            "system": inventory_system_id,
            "items": [one.item_id for one in catalog.items],
            "versions": [versions[one.item_id] for one in catalog.items],
            "units": [one.unit_id for one in used],
            "names": [one.name for one in used],
            "short_names": [one.short_name for one in used],
        },
    )
