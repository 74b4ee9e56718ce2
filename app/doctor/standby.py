"""The check of DATABASE_READ_URL: a standby of the same database that is fresh, and that the service's role may read."""

import asyncio

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.database_address import Address
from app.doctor.check import Check, Verdict
from app.settings import Settings
from app.storage.engine import Database, unreachable
from app.storage.rights import missing_read_rights
from app.storage.standby import MAX_AGE_SECONDS, POSITION, Position, position_in
from app.storage.transactions import DATABASE_FAILURES, sqlstate

LOOK_SECONDS = 0.1
_NAME = "standby"
_UNTIL_THEN = "Until then the primary is read."


async def examine_standby(settings: Settings, address: Address, primary: AsyncEngine) -> Check:
    """Whether lists can be read from it."""
    database = Database(address, is_pooled=settings.is_pooled, schema=settings.database_schema)
    try:
        async with database.engine() as engine, engine.connect() as connection, primary.connect() as other:
            return await _examine(connection, other)
    except DATABASE_FAILURES as error:
        code = sqlstate(error)
        cause = getattr(error, "orig", None) or error
        reason = f"refuses this service ({code})" if code else unreachable(address, cause)
        return Check(_NAME, Verdict.FAILED, reason, f"Check DATABASE_READ_URL. {_UNTIL_THEN}")


async def _examine(standby: AsyncConnection, primary: AsyncConnection) -> Check:
    loop = asyncio.get_running_loop()
    wanted, reached = await _position(primary), await _position(standby)
    if reached.cluster != wanted.cluster:
        remedy = f"Let DATABASE_READ_URL name a standby of the database in DATABASE_URL. {_UNTIL_THEN}"
        return Check(_NAME, Verdict.FAILED, "DATABASE_READ_URL leads to another database than DATABASE_URL", remedy)
    missing = await missing_read_rights(standby)
    if missing:
        remedy = f"Use the role of DATABASE_URL, or grant it on the primary. {_UNTIL_THEN}"
        return Check(_NAME, Verdict.FAILED, f"its role lacks {', '.join(missing)}", remedy)
    end = loop.time() + MAX_AGE_SECONDS
    while reached.reached < wanted.reached:
        if loop.time() > end:
            reason = f"it has not replayed in {MAX_AGE_SECONDS:g} s what the primary had written"
            return Check(_NAME, Verdict.WARNING, reason, f"Look at its log, and at pg_stat_replication. {_UNTIL_THEN}")
        await asyncio.sleep(LOOK_SECONDS)
        reached = await _position(standby)
    return Check(_NAME, Verdict.OK, "it follows the primary")


async def _position(connection: AsyncConnection) -> Position:
    return position_in(await connection.scalar(text(POSITION)) or ())
