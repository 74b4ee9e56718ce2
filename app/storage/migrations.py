"""The schema's revisions: to head, where it stands, and the service role's rights."""

import asyncio
from collections.abc import Callable
from functools import cache
from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.schema import CreateIndex

import migrations
from app.storage.delivery_tables import refused_delivery, suspected_duplicate
from app.storage.mipos_tables import (
    access_token,
    change_feed,
    change_feed_level,
    change_feed_state,
    echo_identity,
    lease,
    outbox_message,
    sync_run,
    system_level,
    webhook_registration,
)
from app.storage.tables import (
    integration,
    item,
    metadata,
    service_rule,
    stock_level,
    stock_movement,
    store,
    supplier,
    unit,
)
from app.storage.transactions import sqlstate

MIGRATION_LOCK = "hashtextextended('pos_sync migration ' || current_schema(), 0)"
"""SQL for the advisory lock that one migration holds at a time."""

SERVICE_RIGHTS = {
    store.name: "SELECT, INSERT, UPDATE",
    integration.name: "SELECT, INSERT, UPDATE",
    unit.name: "SELECT, INSERT, UPDATE",
    supplier.name: "SELECT, INSERT, UPDATE",
    item.name: "SELECT, INSERT, UPDATE",
    # Written by apply_movements alone, with its owner's rights. UPDATE is for locking a level.
    stock_level.name: "SELECT, UPDATE",
    stock_movement.name: "SELECT",
    service_rule.name: "SELECT, INSERT, UPDATE",
    refused_delivery.name: "SELECT, INSERT, UPDATE",
    suspected_duplicate.name: "SELECT, INSERT, UPDATE",
    outbox_message.name: "SELECT, UPDATE",
    sync_run.name: "SELECT, INSERT, UPDATE",
    webhook_registration.name: "SELECT, INSERT, UPDATE",
    access_token.name: "SELECT, INSERT, UPDATE",
    lease.name: "SELECT, INSERT, UPDATE, DELETE",
    echo_identity.name: "SELECT, INSERT, UPDATE",
    system_level.name: "SELECT, INSERT, UPDATE",
    change_feed.name: "SELECT, INSERT",
    change_feed_level.name: "SELECT, INSERT, UPDATE",
    change_feed_state.name: "SELECT, INSERT, UPDATE",
    "alembic_version": "SELECT",
}
"""All that the service's database role may do, beside calling `SERVICE_FUNCTIONS`."""
SERVICE_FUNCTIONS = ("apply_movements", "level_at", "version_before", "unit_of")
"""Those that its statements name, and what these call with its rights."""


INDEX_LOCK = "hashtextextended('pos_sync indexes ' || current_schema(), 0)"
"""SQL for the advisory lock of who builds indexes."""


_log = structlog.get_logger("pos_sync.migrations")


class TablesInUseError(Exception):
    """The message says what to do; nothing was changed."""


class WrongEncodingError(Exception):
    """The database cannot hold every character; the message says what to do."""


MAX_BUILDS = 6
"""How often an index is begun that gives way to a transaction that stays open"""
_POLL_SECONDS = 0.2
_LOCK_NOT_AVAILABLE = "55P03"
_LOCK_TIMEOUT = "5s"
MAX_UPGRADES = 30
"""How often an upgrade is tried that gives way to other transactions"""
_UPGRADE_LOCK_TIMEOUT = "1s"
"""Deliveries wait as long as the upgrade waits for its locks, so it is well below their deadline."""
_UPGRADE_PAUSE_SECONDS = 1.0
_CONFLICTS = {_LOCK_NOT_AVAILABLE, "40P01"}


def configuration() -> Config:
    """Alembic's configuration: the revisions that are packaged with this code."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
    return config


@cache
def head() -> str:
    """The newest revision that this code knows."""
    revision = ScriptDirectory.from_config(configuration()).get_current_head()
    assert revision is not None
    return revision


def fault_in_revision(revision: str | None) -> str | None:
    """What is wrong with a database at `revision`, and what to do, for a person; None if it is at head."""
    if revision == head():
        return None
    known = {script.revision for script in ScriptDirectory.from_config(configuration()).walk_revisions()}
    if revision is not None and revision not in known:
        return (
            f"The database schema is at revision {revision}, which this version does not know: it was migrated by a newer one. "
            "Deploy that version."
        )
    return f"The database schema is at revision {revision or 'none'}, and this version needs {head()}. Run: pos-sync migrate"


async def current_revision(connection: AsyncConnection) -> str | None:
    """The revision that the database is at; None where nothing was ever migrated."""
    return await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())


async def migrate(engine: AsyncEngine, *, grant_to: str | None = None, on_wait: Callable[[], None] = lambda: None) -> str | None:
    """Bring the schema to head in one transaction, and return where it stands; safe when several start at once.

    There is no way back but a backup: an older revision would lose what the newer one keeps.

    Constraints that a revision added as NOT VALID are validated afterwards, and the ledger's indexes are built, each in a
    transaction of its own: that reads the whole table, and must not happen under a lock that deliveries wait for.

    One holds the lock, the others poll for it and then find nothing to do: waiting inside Postgres for a lock would
    deadlock with a later CREATE INDEX CONCURRENTLY. `on_wait` is called once if the lock is taken.
    `grant_to` names an existing role that gets `SERVICE_RIGHTS`.

    Raises:
        WrongEncodingError: the database is not UTF-8.
        TablesInUseError: other transactions used the tables all the time.
        alembic.util.CommandError: the database is at a revision of a newer release.
    """
    reached = await _upgraded(engine, grant_to=grant_to, on_wait=on_wait)
    await _build_indexes(engine)
    await _validate_constraints(engine)
    return reached


async def _upgraded(engine: AsyncEngine, *, grant_to: str | None, on_wait: Callable[[], None]) -> str | None:
    attempt = 0
    while True:
        attempt += 1
        try:
            return await _upgrade_once(engine, grant_to=grant_to, on_wait=on_wait)
        except DBAPIError as error:
            if sqlstate(error) not in _CONFLICTS:
                raise
            if attempt == MAX_UPGRADES:
                raise TablesInUseError(
                    "Other transactions, such as a dump, use tables that the migration needs for itself. Nothing was changed. "
                    "Run it again when they have ended; pg_stat_activity shows them."
                ) from error
        # Meanwhile deliveries go on.
        await asyncio.sleep(_UPGRADE_PAUSE_SECONDS)


async def _lock_tables(connection: AsyncConnection) -> None:
    """All at once and levels first, as deliveries lock: so none of them and an upgrade wait for each other."""
    if await current_revision(connection) in {None, head()}:
        return
    existing = set(await connection.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")))
    names = [name for name in [stock_level.name, *table_names()] if name in existing]
    await connection.execute(text(f"LOCK TABLE {', '.join(dict.fromkeys(names))} IN ACCESS EXCLUSIVE MODE"))


async def _upgrade_once(engine: AsyncEngine, *, grant_to: str | None, on_wait: Callable[[], None]) -> str | None:
    has_waited = False
    while True:
        async with engine.begin() as connection:
            if await connection.scalar(text(f"SELECT pg_try_advisory_xact_lock({MIGRATION_LOCK})")):
                await _require_unicode(connection)
                await connection.execute(text(f"SET LOCAL lock_timeout = '{_UPGRADE_LOCK_TIMEOUT}'"))
                await _lock_tables(connection)
                await connection.run_sync(_upgrade)
                if grant_to is not None:
                    await _grant(connection, grant_to)
                return await current_revision(connection)
        if not has_waited:
            on_wait()
            has_waited = True
        await asyncio.sleep(_POLL_SECONDS)


def _upgrade(connection: Connection) -> None:
    config = configuration()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


async def _build_indexes(engine: AsyncEngine) -> None:
    """Build what the ledger lacks, also what an earlier run left unfinished, while deliveries go on.

    A concurrent build waits for every transaction that is open, such as a dump. After a while it is left to the next run.
    """
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        # Not waited for in a statement: that would be an open transaction, for which the build of the other would wait.
        while not await connection.scalar(text(f"SELECT pg_try_advisory_lock({INDEX_LOCK})")):  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(_POLL_SECONDS)
        try:
            is_filled = await connection.scalar(text("SELECT EXISTS (SELECT FROM stock_movement)"))
            for name in await missing_indexes(connection):
                index = next(one for one in stock_movement.indexes if one.name == name)
                created = str(CreateIndex(index).compile(dialect=postgresql.dialect()))
                await _build(connection, name, created, is_concurrent=bool(is_filled))
        finally:
            await connection.execute(text("RESET lock_timeout"))
            await connection.execute(text(f"SELECT pg_advisory_unlock({INDEX_LOCK})"))


async def missing_indexes(connection: AsyncConnection) -> list[str]:
    """The indexes that the ledger should have and has not, or not whole."""
    ready = text(
        "SELECT c.relname FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid"
        " WHERE i.indrelid = 'stock_movement'::regclass AND i.indisvalid"
    )
    built = set(await connection.scalars(ready))
    return sorted({str(index.name) for index in stock_movement.indexes} - built)


async def _build(connection: AsyncConnection, name: str, created: str, *, is_concurrent: bool) -> None:
    await connection.execute(text(f"SET lock_timeout = '{_LOCK_TIMEOUT}'"))
    how = " CONCURRENTLY" if is_concurrent else ""
    for _ in range(MAX_BUILDS):
        try:
            # One that was cut off while it was built is of no use, and has the name.
            await connection.execute(text(f"DROP INDEX{how} IF EXISTS {name}"))
            await connection.execute(text(created.replace("CREATE INDEX", f"CREATE INDEX{how}", 1)))
        except DBAPIError as error:
            if sqlstate(error) != _LOCK_NOT_AVAILABLE:
                raise
        else:
            return
    _log.warning("index not built, since other transactions stayed open", index=name, remedy="pos-sync migrate")


async def _validate_constraints(engine: AsyncEngine) -> None:
    """Also those that an earlier run left, because it was ended in between."""
    waiting = text(
        "SELECT conrelid::regclass::text, quote_ident(conname) FROM pg_constraint"
        " WHERE NOT convalidated AND contype IN ('c', 'f') AND connamespace = current_schema()::regnamespace"
        " AND conrelid::regclass::text = ANY (:tables)"
    )
    async with engine.connect() as connection:
        found = (await connection.execute(waiting, {"tables": table_names()})).all()
    for table, check in found:
        async with engine.begin() as connection:
            # Lets readers and writers pass, and waits for none of them.
            await connection.execute(text(f"ALTER TABLE {table} VALIDATE CONSTRAINT {check}"))


async def _require_unicode(connection: AsyncConnection) -> None:
    encoding = await connection.scalar(text("SHOW server_encoding"))
    if encoding != "UTF8":
        raise WrongEncodingError(
            f"The database is encoded as {encoding} and cannot hold every name and id. "
            "Make one with: CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
        )


async def _grant(connection: AsyncConnection, role: str) -> None:
    quoted = await connection.scalar(text("SELECT quote_ident(:role)"), {"role": role})
    schema = await connection.scalar(text("SELECT quote_ident(current_schema())"))
    await connection.execute(text(f"GRANT USAGE ON SCHEMA {schema} TO {quoted}"))
    for table, rights in SERVICE_RIGHTS.items():
        await connection.execute(text(f"REVOKE ALL ON {table} FROM {quoted}"))
        await connection.execute(text(f"GRANT {rights} ON {table} TO {quoted}"))
    for function in SERVICE_FUNCTIONS:
        await connection.execute(text(f"GRANT EXECUTE ON FUNCTION {function} TO {quoted}"))


def table_names() -> list[str]:
    """Every table that the revisions make."""
    return sorted(metadata.tables)
