"""Looking into the tables of a test's database, as their owner."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from app.storage.delivery_tables import refused_delivery
from app.storage.levels import broken_invariants
from app.storage.rights import GUARDS
from app.storage.tables import stock_level, stock_movement
from tests.support.postgres import url

POISON = """
CREATE FUNCTION refuse_poison() RETURNS trigger LANGUAGE plpgsql SET search_path = pos_sync AS $$
BEGIN
  IF NEW.date_text = 'poison' THEN RAISE EXCEPTION 'poison'; END IF;
  RETURN NEW;
END $$
"""


@dataclass(frozen=True)
class World:
    """A test's database: its name, and an engine as its owner."""

    database: str
    engine: AsyncEngine

    @property
    def owner_url(self) -> str:
        return url(self.database)

    @property
    def service_url(self) -> str:
        return url(self.database, user="pos_sync")

    @property
    def server_address(self) -> str | tuple[str, int]:
        """Where the server listens, for a proxy before it: the path of its socket, or host and port."""
        address = make_url(self.owner_url)
        folder = address.query.get("host")
        if isinstance(folder, str):
            return f"{folder}/.s.PGSQL.{address.port or 5432}"
        return address.host or "127.0.0.1", address.port or 5432

    async def level(self, item_id: str = "avcc123", store_id: str = "1") -> Decimal | None:
        query = select(stock_level.c.quantity).where(stock_level.c.store_id == store_id, stock_level.c.item_id == item_id)
        async with self.engine.connect() as connection:
            return await connection.scalar(query)

    async def ledger(self, item_id: str | None = None) -> list[Any]:
        """Reported movements, oldest first; opening rows are left out."""
        query = select(stock_movement).where(stock_movement.c.source != "opening")
        query = query.order_by(stock_movement.c.store_id, stock_movement.c.item_id, stock_movement.c.level_version)
        if item_id is not None:
            query = query.where(stock_movement.c.item_id == item_id)
        async with self.engine.connect() as connection:
            return list(await connection.execute(query))

    async def units_and_suppliers(self, store_id: str) -> list[str]:
        query = text(
            "SELECT unit_id FROM unit WHERE store_id = :id UNION ALL SELECT supplier_id FROM supplier WHERE store_id = :id"
        )
        async with self.engine.connect() as connection:
            return sorted(await connection.scalars(query, {"id": store_id}))

    async def refused(self) -> list[Any]:
        async with self.engine.connect() as connection:
            return list(await connection.execute(select(refused_delivery).order_by(refused_delivery.c.refused_delivery_id)))

    async def scalar(self, query: str) -> Any:
        """The single value of `query`."""
        async with self.engine.connect() as connection:
            return await connection.scalar(text(query))

    async def execute(self, *statements: str) -> None:
        async with self.engine.begin() as connection:
            for statement in statements:
                await connection.execute(text(statement))

    async def execute_past_guards(self, *statements: str) -> None:
        """As `execute`, on a ledger that for once lets its rows be changed."""
        guarded = [f"ALTER TABLE pos_sync.stock_movement ENABLE ALWAYS TRIGGER {guard}" for guard in GUARDS]
        await self.execute("ALTER TABLE pos_sync.stock_movement DISABLE TRIGGER USER", *statements, *guarded)

    async def broken_invariants(self) -> dict[str, int]:
        async with self.engine.connect() as connection:
            return await broken_invariants(connection)
