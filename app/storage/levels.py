"""Stock levels, the invariants that tie them to their ledger, and counts of the whole database for `status` and `doctor`."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, exists, func, literal_column, null, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.delivery_tables import refused_delivery, suspected_duplicate
from app.storage.filters import matching
from app.storage.items import is_named
from app.storage.ledger_rows import LEVEL_AT
from app.storage.mipos_tables import system_level
from app.storage.tables import HAPPENED_AT, IS_COUNT, item, stock_level, stock_movement, store, unit

INVARIANTS = {
    "a level differs from the sum of its ledger": """
        SELECT count(*) FROM pos_sync.stock_level AS level
        LEFT JOIN LATERAL (
          SELECT coalesce(sum(delta), 0) AS total FROM pos_sync.stock_movement AS m
          WHERE m.store_id = level.store_id AND m.item_id = level.item_id
        ) AS ledger ON true
        WHERE level.quantity <> ledger.total
    """,
    "a balance does not follow from the one before it": """
        SELECT count(*) FROM (
          SELECT balance_after - delta AS before,
            coalesce(lag(balance_after) OVER (PARTITION BY store_id, item_id ORDER BY level_version), 0) AS expected
          FROM pos_sync.stock_movement
        ) AS chain WHERE before <> expected
    """,
    "a ledger row has no level": """
        SELECT count(*) FROM (SELECT DISTINCT store_id, item_id FROM pos_sync.stock_movement) AS moved
        WHERE NOT EXISTS (
          SELECT FROM pos_sync.stock_level AS level WHERE level.store_id = moved.store_id AND level.item_id = moved.item_id
        )
    """,
    "a ledger has a gap, or a level another version than its last row": """
        SELECT count(*) FROM pos_sync.stock_level AS level
        LEFT JOIN LATERAL (
          SELECT count(*) AS rows, coalesce(max(level_version), 0) AS newest FROM pos_sync.stock_movement AS m
          WHERE m.store_id = level.store_id AND m.item_id = level.item_id
        ) AS ledger ON true
        WHERE level.version <> ledger.rows OR level.version <> ledger.newest
    """,
}
"""What must never be: each a sentence, and a count of where it is so."""


@dataclass(frozen=True, slots=True)
class StockedItem:
    """An item's stock in one store."""

    store_id: str
    item_id: str
    name: str
    quantity: Decimal
    version: int | None
    updated_at: datetime | None
    """As `version`, None where the level is one of the past"""
    retired_at: datetime | None
    copied_from: str | None
    """The store whose definition of the item it has, until it is imported."""
    unit: str
    """The short name of the unit in which it is stocked"""
    low_stock: Decimal | None
    """Below this it is low; None where nobody set it."""

    @property
    def is_low(self) -> bool:
        """Whether it is below its threshold. A retired item never is."""
        return self.low_stock is not None and self.quantity < self.low_stock and self.retired_at is None


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelFilter:
    """Which levels, by what they are; all by default."""

    named: str | None = None
    """Items with this in their name, whatever its case and accents, or with this id"""
    unit: str | None = None
    """By its short name"""
    is_below_zero: bool = False
    is_low: bool = False
    """Below the item's threshold"""
    differs: bool = False
    """From an inventory system's, as it was last compared"""

    def conditions(self, quantity: ColumnElement[Any]) -> list[ColumnElement[bool]]:
        """As SQL, of a level with this quantity and its item."""
        found: list[ColumnElement[bool]] = []
        if self.named is not None:
            found.append(is_named(self.named))
        if self.unit is not None:
            found.append(unit.c.short_name == self.unit)
        if self.is_below_zero:
            # As a constant: a parameter hides from the planner how few they are.
            found.append(quantity < literal_column("0"))
        if self.is_low:
            found += [item.c.low_stock.is_not(None), quantity < item.c.low_stock, item.c.retired_at.is_(None)]
        if self.differs:
            known = system_level.c
            same = (known.store_id == stock_level.c.store_id) & (known.item_id == stock_level.c.item_id)
            found.append(exists().where(same, known.drift != 0))
        return found


_OF_THE_ITEM = {"name", "retired_at", "copied_from", "low_stock"}


async def list_levels(  # noqa: PLR0913 - one filter each
    connection: AsyncConnection,
    *,
    store_id: str | None = None,
    item_id: str | None = None,
    after: str | None = None,
    limit: int | None = None,
    at: datetime | None = None,
    wanted: LevelFilter = LevelFilter(),
) -> list[StockedItem]:
    """The levels, of one store or item where named, in order of store and item; from behind the item `after` on.

    `at`: as they were then, with all that is known today; only of items that had moved by then.
    """
    query = _selected(store_id=store_id, item_id=item_id, at=at, wanted=wanted)
    query = query.order_by(stock_level.c.store_id, stock_level.c.item_id)
    if after is not None:
        query = query.where(stock_level.c.item_id > after)
    if limit is not None:
        query = query.limit(limit)
    rows: Any = await connection.execute(query)
    return [StockedItem(*row) for row in rows]


async def list_by_name(  # noqa: PLR0913 - one filter each
    connection: AsyncConnection,
    *,
    store_id: str | None = None,
    after: tuple[str, str] | None = None,
    limit: int | None = None,
    at: datetime | None = None,
    wanted: LevelFilter = LevelFilter(),
) -> list[StockedItem]:
    """As `list_levels`, in order of store and name, those behind `after`: (store_id, item_id)."""
    query = _selected(store_id=store_id, item_id=None, at=at, wanted=wanted)
    place = (item.c.store_id, item.c.folded_name, item.c.item_id)
    query = query.order_by(*place)
    if after is not None:
        store, last = after
        name = await connection.scalar(select(item.c.folded_name).where(item.c.store_id == store, item.c.item_id == last))
        query = query.where(tuple_(*place) > tuple_(store, name or "", last))
    if limit is not None:
        query = query.limit(limit)
    rows: Any = await connection.execute(query)
    return [StockedItem(*row) for row in rows]


def _selected(*, store_id: str | None, item_id: str | None, at: datetime | None, wanted: LevelFilter) -> Any:  # noqa: ANN401 - a SELECT of such rows
    quantity: Any = stock_level.c.quantity
    compared: ColumnElement[Any] = quantity
    if at is not None:
        level = {"store_id": "stock_level.store_id", "item_id": "stock_level.item_id", "time": "CAST(:at AS timestamptz)"}
        quantity = text(f"{LEVEL_AT.format(**level)} AS quantity")
        compared = select(text(LEVEL_AT.format(**level))).scalar_subquery()
    of_now = {"version", "updated_at"} if at is not None else set()
    columns: list[Any] = [
        quantity
        if name == "quantity"
        else null().label(name)
        if name in of_now
        else unit.c.short_name.label(name)
        if name == "unit"
        else (item if name in _OF_THE_ITEM else stock_level).c[name]
        for name in StockedItem.__slots__
    ]
    query = select(*columns).join(item, (item.c.store_id == stock_level.c.store_id) & (item.c.item_id == stock_level.c.item_id))
    query = query.join(unit, (unit.c.store_id == item.c.store_id) & (unit.c.unit_id == item.c.consumption_unit_id))
    query = query.where(*matching(stock_level, store_id=store_id, item_id=item_id), *wanted.conditions(compared))
    if at is not None:
        moved = stock_movement.c
        had_moved = select(moved.level_version).where(
            moved.store_id == stock_level.c.store_id, moved.item_id == stock_level.c.item_id, text(f"{HAPPENED_AT} <= :at")
        )
        query = query.where(had_moved.correlate(stock_level).exists()).params(at=at)
    return query


async def lock_level(connection: AsyncConnection, store_id: str, item_id: str) -> Decimal:
    """Lock a level until the caller's transaction ends, and return its quantity; 0 where nothing was ever stocked."""
    query = select(stock_level.c.quantity).where(stock_level.c.store_id == store_id, stock_level.c.item_id == item_id)
    return await connection.scalar(query.with_for_update(key_share=True)) or Decimal(0)


@dataclass(frozen=True, slots=True)
class CountState:
    """When a level was last counted, and the time zone of its store."""

    counted_at: datetime | None
    timezone: str


_READ_COUNT = f"""
SELECT coalesce(level.counted_at, (
    SELECT max({HAPPENED_AT}) FROM pos_sync.stock_movement AS m
    WHERE level.newest_at IS NULL AND m.store_id = level.store_id AND m.item_id = level.item_id AND {IS_COUNT}
  )), coalesce(store.timezone, rule.timezone, 'UTC')
FROM pos_sync.stock_level AS level JOIN pos_sync.store USING (store_id) LEFT JOIN pos_sync.service_rule AS rule ON true
WHERE level.store_id = :store_id AND level.item_id = :item_id
"""  # noqa: S608 - our own names only


async def read_count(connection: AsyncConnection, store_id: str, item_id: str) -> CountState | None:
    """None where there is no such level."""
    query = text(_READ_COUNT)
    row = (await connection.execute(query, {"store_id": store_id, "item_id": item_id})).one_or_none()
    return None if row is None else CountState(*row)


async def broken_invariants(connection: AsyncConnection) -> dict[str, int]:
    """The invariants that do not hold, and in how many places; empty when all is well."""
    counts = {name: await connection.scalar(text(query)) for name, query in INVARIANTS.items()}
    return {name: count for name, count in counts.items() if count}


@dataclass(frozen=True, slots=True)
class Summary:
    """How much there is, and how recent."""

    stores: int
    levels: int
    below_zero: int
    last_movement_at: datetime | None
    open_refusals: int
    last_refusal_at: datetime | None
    suspected_duplicates: int
    """Open ones"""


@dataclass(frozen=True, slots=True)
class Server:
    """What the promise of a 204 and the number of connections rest on, as Postgres has it set."""

    version_number: int
    """150018 is 15.18"""
    version: str
    fsync: str
    full_page_writes: str
    synchronous_commit: str
    """What a session of this role begins with"""
    is_in_recovery: bool
    max_connections: int
    now: datetime


async def summarise(connection: AsyncConnection) -> Summary:
    """The counts now. The time of the last movement is that of the most recently changed level."""
    return Summary(
        stores=await connection.scalar(select(func.count()).select_from(store)) or 0,
        levels=await connection.scalar(select(func.count()).select_from(stock_level)) or 0,
        below_zero=await connection.scalar(select(func.count()).where(stock_level.c.quantity < 0)) or 0,
        last_movement_at=await connection.scalar(select(func.max(stock_level.c.updated_at))),
        open_refusals=await connection.scalar(select(func.count()).where(refused_delivery.c.state == "open")) or 0,
        last_refusal_at=await connection.scalar(select(func.max(refused_delivery.c.last_seen_at))),
        suspected_duplicates=await connection.scalar(select(func.count()).where(suspected_duplicate.c.state == "open")) or 0,
    )


async def last_clocks(connection: AsyncConnection) -> tuple[str, datetime] | None:
    """`now` as mipOS wrote it and the time at which we received it, of the latest reported movement; None before the first."""
    query = (
        select(stock_movement.c.sent_at_text, stock_movement.c.received_at)
        .where(stock_movement.c.sent_at_text.is_not(None))
        .order_by(stock_movement.c.received_at.desc())
        .limit(1)
    )
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else (row.sent_at_text, row.received_at)


async def describe_server(connection: AsyncConnection) -> Server:
    """Postgres's own settings."""
    row = (
        await connection.execute(
            text(
                "SELECT current_setting('server_version_num')::int, current_setting('server_version'),"
                " current_setting('fsync'), current_setting('full_page_writes'),"
                " (SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'synchronous_commit'),"
                " pg_is_in_recovery(), current_setting('max_connections')::int, clock_timestamp()"
            )
        )
    ).one()
    return Server(*row)
