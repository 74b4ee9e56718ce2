"""The textbook handler: one ORM session per request; known identity looked up, level locked, ledger row added, commit."""

import hashlib
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy import make_url, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from app.settings import load_settings
from app.storage import tables
from bench.load import WEBHOOK_PATH
from bench.noop import SignatureMiddleware, StockMovement


class Base(DeclarativeBase):
    """Maps the service's own tables."""

    metadata = tables.metadata


class Level(Base):
    """A row of `stock_level`."""

    __table__ = tables.stock_level


class Movement(Base):
    """A row of `stock_movement`."""

    __table__ = tables.stock_movement


def application() -> FastAPI:
    """The application, on the database of the settings."""
    settings = load_settings()
    url = make_url(settings.database_url.get_secret_value()).set(drivername="postgresql+asyncpg")
    engine = create_async_engine(url, pool_size=20, max_overflow=0, pool_timeout=60)
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    app = FastAPI()
    app.add_middleware(SignatureMiddleware, secret=settings.mipos_client_secret.get_secret_value().encode())

    async def session() -> AsyncIterator[AsyncSession]:
        async with sessions() as it:
            yield it

    @app.post(WEBHOOK_PATH, status_code=204)
    async def receive_movement(body: StockMovement, db: Annotated[AsyncSession, Depends(session)]) -> None:
        store_id, item_id = str(body.store_id), str(body.external_id)
        identity = (body.inventory_system_id, store_id, item_id, body.movement_type, body.quantity, body.current_stock, body.date)
        # Dated, as the ledger wants it.
        key = body.date.encode()[:10].ljust(10, b"\0") + hashlib.sha256(repr(identity).encode()).digest()[10:]
        known = await db.scalar(select(Movement).filter_by(store_id=store_id, dedupe_key=key))
        if known is not None:
            return
        level: Any = await db.scalar(select(Level).filter_by(store_id=store_id, item_id=item_id).with_for_update())
        if level is None:
            raise HTTPException(409, "unknown item")
        quantity = Decimal(str(body.quantity))
        level.quantity += quantity if int(body.movement_type) == 1 else -quantity
        level.version += 1
        db.add(
            Movement(
                store_id=store_id,
                item_id=item_id,
                level_version=level.version,
                source="inventory_system",
                inventory_system_id=str(body.inventory_system_id),
                movement_type=int(body.movement_type),
                quantity=quantity,
                balance_after=level.quantity,
                reported_stock=Decimal(str(body.current_stock)),
                date_text=body.date,
                sent_at_text=body.now,
                dedupe_key=key,
            )
        )
        await db.commit()

    @app.get("/livez")
    async def livez() -> dict[str, str]:
        return {"message": "Alive."}

    return app
