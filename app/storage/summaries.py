"""Counts and times of the whole database, for `pos-sync status` and `pos-sync doctor`."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.tables import refused_delivery, stock_level, stock_movement, store, suspected_duplicate


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
                " current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit'),"
                " pg_is_in_recovery(), current_setting('max_connections')::int, clock_timestamp()"
            )
        )
    ).one()
    return Server(*row)
