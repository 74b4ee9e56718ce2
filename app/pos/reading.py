"""GET /pos/stores/{store_id}/stock and /movements: pages of the stock and of the ledger."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.errors import DatabaseAway, InvalidField, UnknownStore
from app.pos.bearer import ApiKey, guarded_router
from app.receiving.fields import LONGEST_ID
from app.stock.movement import Source
from app.stock.quantity import to_plain
from app.stock.text import fault_in
from app.storage.catalog import find_store
from app.storage.ledger import list_rows
from app.storage.levels import list_levels

MOST_ROWS = 1000
LONGEST_READ = "5s"
_Limit = Annotated[int, Query(ge=1, le=MOST_ROWS, description="Rows in a page.")]


def reading_router(engine: AsyncEngine, api_key: ApiKey) -> APIRouter:
    """The routes, guarded by the key."""

    async def connection_to(store_id: str) -> AsyncIterator[AsyncConnection]:
        _require_text("store_id", store_id)
        try:
            async with engine.connect() as connection:
                await connection.execute(text(f"SET LOCAL statement_timeout = '{LONGEST_READ}'"))
                if await find_store(connection, store_id) is None:
                    raise UnknownStore(store_id)
                yield connection
        except (OSError, TimeoutError, SQLAlchemyError) as error:
            raise DatabaseAway from error

    router = guarded_router(api_key)
    connected = Annotated[AsyncConnection, Depends(connection_to)]

    @router.get("/stock", summary="The stock, in order of item ids.")
    async def stock(
        store_id: str, connection: connected, item_id: str | None = None, after: str | None = None, limit: _Limit = 100
    ) -> dict[str, Any]:
        _require_text("item_id", item_id)
        _require_text("after", after)
        levels = await list_levels(connection, store_id=store_id, item_id=item_id, after=after, limit=limit)
        rows = [
            {
                "item_id": level.item_id,
                "name": level.name,
                "stock": to_plain(level.quantity),
                "level_version": level.version,
                "updated_at": level.updated_at.isoformat(),
            }
            for level in levels
        ]
        return {"stock": rows, "next": rows[-1]["item_id"] if len(rows) == limit else None}

    @router.get("/movements", summary="The ledger, in order of item ids and of each item's movements.")
    async def movements(  # noqa: PLR0913, PLR0917 - one parameter per filter
        store_id: str,
        connection: connected,
        item_id: str | None = None,
        source: Source | None = None,
        after: Annotated[str | None, Query(description="The `next` of the page before.")] = None,
        limit: _Limit = 100,
    ) -> dict[str, Any]:
        _require_text("item_id", item_id)
        rows = await list_rows(connection, store_id, item_id=item_id, source=source, after=_cursor(after), limit=limit)
        listed = [
            {
                "item_id": row.item_id,
                "level_version": row.level_version,
                "source": row.source,
                "inventory_system_id": row.inventory_system_id,
                "movement_type": row.movement_type,
                "quantity": to_plain(row.quantity),
                "balance_after": to_plain(row.balance_after),
                "date": row.date_text,
                "received_at": row.received_at.isoformat(),
                "actor": row.actor,
                "note": row.note,
            }
            for row in rows
        ]
        return {"movements": listed, "next": f"{rows[-1].level_version}:{rows[-1].item_id}" if len(rows) == limit else None}

    return router


def _cursor(after: str | None) -> tuple[str, int] | None:
    if after is None:
        return None
    version, found, item_id = after.partition(":")
    if not found or not version.isdecimal() or not version.isascii() or len(version) > len("9223372036854775807") - 1:
        raise InvalidField("after", "must be the `next` of a page")
    _require_text("after", item_id)
    return item_id, int(version)


def _require_text(name: str, value: str | None) -> None:
    """Refuse what can be nobody's id before the database does."""
    if value is not None and (fault := fault_in(value, longest=LONGEST_ID)):
        raise InvalidField(name, fault)
