"""The rows of the ledger as they are read: by place in an item's ledger, and by time across items."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import literal_column, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.filters import is_among, matching
from app.storage.tables import HAPPENED_AT, LATE_AFTER, stock_movement


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """A row of the ledger. `balance_after` is the level when the row was written, which is not the order of time."""

    store_id: str
    item_id: str
    level_version: int
    source: str
    inventory_system_id: str | None
    movement_type: int
    quantity: Decimal
    balance_after: Decimal
    date_text: str | None
    received_at: datetime
    happened_at: datetime
    counted: Decimal | None
    refers_to: int | None
    other_store_id: str | None
    reason: str | None
    reference: str | None
    actor: str | None
    note: str | None

    @property
    def delta(self) -> Decimal:
        """The signed change of the level."""
        return self.quantity if self.movement_type == 1 else self.quantity.copy_negate()


_NAMES = tuple(LedgerRow.__slots__)
_COLUMNS: list[Any] = [
    literal_column(HAPPENED_AT).label("happened_at") if name == "happened_at" else stock_movement.c[name]
    for name in _NAMES  # type: ignore[attr-defined]
]
LISTED = ", ".join(f"{HAPPENED_AT} AS happened_at" if name == "happened_at" else name for name in _NAMES)
"""SQL: the columns of a `LedgerRow`."""


async def list_rows(  # noqa: PLR0913 - one filter each
    connection: AsyncConnection,
    store_id: str,
    *,
    item_id: str | None = None,
    source: str | None = None,
    after: tuple[str, int] | None = None,
    limit: int,
) -> list[LedgerRow]:
    """List rows of a store in order of item and version, those after `after` (item_id, level_version): the ledger's own key."""
    row = stock_movement.c
    wanted = matching(stock_movement, store_id=store_id, item_id=item_id, source=source)
    query = select(*_COLUMNS).where(*wanted).order_by(row.item_id, row.level_version).limit(limit)
    if after is not None:
        query = query.where(tuple_(row.item_id, row.level_version) > tuple_(*after))
    return [LedgerRow(*found) for found in await connection.execute(query)]


async def find_row(connection: AsyncConnection, store_id: str, item_id: str, level_version: int) -> LedgerRow | None:
    """The row of an item's ledger with this version, or None."""
    wanted = matching(stock_movement, store_id=store_id, item_id=item_id)
    wanted.append(is_among(stock_movement.c.level_version, [level_version]))
    row = (await connection.execute(select(*_COLUMNS).where(*wanted))).one_or_none()
    return None if row is None else LedgerRow(*row)


async def is_recorded(connection: AsyncConnection, store_id: str, dedupe_keys: Collection[bytes]) -> bool:
    """Whether the store's ledger has a row with one of these identities."""
    moved = stock_movement.c
    found = select(moved.level_version).where(moved.store_id == store_id, moved.dedupe_key.in_(dedupe_keys)).limit(1)
    return await connection.scalar(found) is not None


async def find_half(connection: AsyncConnection, half: LedgerRow) -> LedgerRow:
    """The other half of the transfer of which `half` is one. Both have one identity, each in its store."""
    identity = select(stock_movement.c.dedupe_key).where(
        *matching(stock_movement, store_id=half.store_id, item_id=half.item_id, level_version=half.level_version)
    )
    wanted = matching(stock_movement, store_id=half.other_store_id, source=half.source)
    query = select(*_COLUMNS).where(*wanted, stock_movement.c.dedupe_key == identity.scalar_subquery())
    return LedgerRow(*(await connection.execute(query)).one())


@dataclass(frozen=True, slots=True)
class Period:
    """Rows of a store, or of one item of it, that happened from `since` on and before `until`."""

    store_id: str
    since: datetime
    until: datetime
    item_id: str | None = None


# A row is received within a day after it happened, or it is in the small index of late ones. So the summary of received_at
# finds the pages, and no index over all rows by time is needed.
_OF_PERIOD = f"""
SELECT {LISTED}, delta FROM pos_sync.stock_movement
WHERE store_id = :store_id AND (CAST(:item_id AS text) IS NULL OR item_id = :item_id)
  AND received_at >= :since AND received_at < CAST(:until AS timestamptz) + {LATE_AFTER}
  AND {HAPPENED_AT} >= :since AND {HAPPENED_AT} < :until
UNION ALL
SELECT {LISTED}, delta FROM pos_sync.stock_movement
WHERE store_id = :store_id AND (CAST(:item_id AS text) IS NULL OR item_id = :item_id)
  AND received_at - happened_at > {LATE_AFTER} AND happened_at >= :since AND happened_at < :until
  AND received_at >= CAST(:until AS timestamptz) + {LATE_AFTER}
"""  # noqa: S608 - our own names only
_NEWEST_FIRST = f"""
SELECT {", ".join(_NAMES)} FROM ({_OF_PERIOD}) AS row
WHERE CAST(:before_at AS timestamptz) IS NULL
  OR (happened_at, item_id, level_version) < (:before_at, :before_item, :before_version)
ORDER BY happened_at DESC, item_id DESC, level_version DESC LIMIT :limit
"""  # noqa: S608
LEVEL_AT = f"""(
  SELECT trim_scale(level.quantity - coalesce((
    SELECT sum(m.delta) FROM pos_sync.stock_movement AS m
    WHERE m.store_id = level.store_id AND m.item_id = level.item_id AND {HAPPENED_AT} > {{time}}
      AND m.level_version > coalesce((
        SELECT max(s.level_version) FROM generate_series(0, 62) AS n CROSS JOIN LATERAL (
          SELECT level_version FROM pos_sync.stock_movement
          WHERE store_id = level.store_id AND item_id = level.item_id AND level_version = level.version - (1::bigint << n)
            AND received_at < {{time}} - interval '1 hour' LIMIT 1
        ) AS s WHERE level.version > 1::bigint << n
      ), 0)
  ), 0))
  FROM pos_sync.stock_level AS level WHERE level.store_id = {{store_id}} AND level.item_id = {{item_id}}
)"""  # noqa: S608
"""SQL for `str.format`: what there was at a time, as the function level_at says (migration 0007). No call of it: Citus takes no
function that reads tables in a query."""
# What there was just before a time: a microsecond is the smallest step.
_JUST_BEFORE = "CAST(:{} AS timestamptz) - interval '1 microsecond'"
_ACCOUNT = f"""
SELECT moved.item_id,
  coalesce({LEVEL_AT.format(store_id=":store_id", item_id="moved.item_id", time=_JUST_BEFORE.format("since"))}, 0) AS opening,
  moved.added, moved.removed,
  coalesce({LEVEL_AT.format(store_id=":store_id", item_id="moved.item_id", time=_JUST_BEFORE.format("until"))}, 0) AS closing
FROM (
  SELECT item_id, coalesce(sum(delta) FILTER (WHERE delta > 0), 0) AS added,
    coalesce(- sum(delta) FILTER (WHERE delta < 0), 0) AS removed
  FROM ({_OF_PERIOD}) AS row GROUP BY item_id
) AS moved ORDER BY moved.item_id
"""  # noqa: S608


async def list_newest(
    connection: AsyncConnection, period: Period, *, before: tuple[datetime, str, int] | None = None, limit: int
) -> list[LedgerRow]:
    """The rows of a period, newest first by when they happened; those before `before` (happened_at, item_id, level_version)."""
    at, item_id, version = before or (None, None, None)
    asked = {**_parameters(period), "before_at": at, "before_item": item_id, "before_version": version, "limit": limit}
    return [LedgerRow(*row) for row in await connection.execute(text(_NEWEST_FIRST), asked)]


@dataclass(frozen=True, slots=True)
class Account:
    """An item over a period: opening + added - removed = closing."""

    item_id: str
    opening: Decimal
    added: Decimal
    removed: Decimal
    closing: Decimal


async def account(connection: AsyncConnection, period: Period) -> list[Account]:
    """The account of each item that moved in a period."""
    return [Account(*row) for row in await connection.execute(text(_ACCOUNT), _parameters(period))]


def _parameters(period: Period) -> dict[str, Any]:
    return {"store_id": period.store_id, "item_id": period.item_id, "since": period.since, "until": period.until}
