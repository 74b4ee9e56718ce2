"""What a migration leaves for afterwards: the indexes of the ledger, and constraints to be validated.

Both read a whole table, and must not happen under a lock that deliveries wait for.
"""

import structlog
from sqlalchemy import text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.schema import CreateIndex

from app.storage.engine import schema_of
from app.storage.schema import quoted
from app.storage.tables import metadata, stock_movement
from app.storage.transactions import sqlstate
from app.storage.turns import INDEXES, take_turn

MAX_BUILDS = 6
"""How often an index is begun that gives way to a transaction that stays open"""
_LOCK_NOT_AVAILABLE = "55P03"
_LOCK_TIMEOUT = "5s"

_log = structlog.get_logger("pos_sync.migrations")


async def build_indexes(engine: AsyncEngine) -> None:
    """Build what the ledger lacks, also what an earlier run left unfinished, while deliveries go on.

    A concurrent build waits for every transaction that is open, such as a dump. After a while it is left to the next run.
    """
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        async with take_turn(connection, INDEXES):
            is_filled = await connection.scalar(text("SELECT EXISTS (SELECT FROM pos_sync.stock_movement)"))
            for name in await missing_indexes(connection):
                index = next(one for one in stock_movement.indexes if one.name == name)
                created = str(CreateIndex(index).compile(dialect=postgresql.dialect()))
                await _build(connection, name, created, is_concurrent=bool(is_filled))
        await connection.execute(text("RESET lock_timeout"))


async def missing_indexes(connection: AsyncConnection) -> list[str]:
    """The indexes that the ledger should have and has not, or not whole."""
    ready = text(
        "SELECT c.relname FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid"
        " WHERE i.indrelid = 'pos_sync.stock_movement'::regclass AND i.indisvalid"
    )
    built = set(await connection.scalars(ready))
    return sorted({str(index.name) for index in stock_movement.indexes} - built)


async def _build(connection: AsyncConnection, name: str, created: str, *, is_concurrent: bool) -> None:
    await connection.execute(text(f"SET lock_timeout = '{_LOCK_TIMEOUT}'"))
    how = " CONCURRENTLY" if is_concurrent else ""
    for _ in range(MAX_BUILDS):
        try:
            # One that was cut off while it was built is of no use, and has the name.
            await connection.execute(text(f"DROP INDEX{how} IF EXISTS pos_sync.{name}"))
            await connection.execute(text(created.replace("CREATE INDEX", f"CREATE INDEX{how}", 1)))
        except DBAPIError as error:
            if sqlstate(error) != _LOCK_NOT_AVAILABLE:
                raise
        else:
            return
    _log.warning("index not built, since other transactions stayed open", index=name, remedy="pos-sync migrate")


async def validate_constraints(engine: AsyncEngine) -> None:
    """Also those that an earlier run left, because it was ended in between."""
    waiting = text(
        "SELECT quote_ident(relname), quote_ident(conname) FROM pg_constraint JOIN pg_class AS c ON c.oid = conrelid"
        " JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE NOT convalidated AND contype IN ('c', 'f')"
        " AND n.nspname = :schema AND relname = ANY (CAST(:tables AS text[]))"
    )
    async with engine.connect() as connection:
        schema = schema_of(connection)
        asked = {"schema": schema, "tables": [table.name for table in metadata.sorted_tables]}
        found = (await connection.execute(waiting, asked)).all()
    for table, check in found:
        async with engine.begin() as connection:
            # Lets readers and writers pass, and waits for none of them.
            await connection.execute(text(f"ALTER TABLE {quoted(schema)}.{table} VALIDATE CONSTRAINT {check}"))
