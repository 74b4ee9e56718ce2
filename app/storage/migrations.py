"""The schema's revisions: to head, where it stands, and the service role's rights."""

import asyncio
from collections.abc import Callable
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

import migrations
from app.storage.mipos_tables import access_token, lease, outbox_message, sync_run, webhook_registration
from app.storage.tables import (
    integration,
    item,
    metadata,
    refused_delivery,
    service_rule,
    stock_level,
    stock_movement,
    store,
    supplier,
    suspected_duplicate,
    unit,
)

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
    "alembic_version": "SELECT",
}
"""All that the service's database role may do, beside calling apply_movements."""


class WrongEncodingError(Exception):
    """The database cannot hold every character; the message says what to do."""


_POLL_SECONDS = 0.2
_LOCK_TIMEOUT = "5s"


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

    Checks that a revision added as NOT VALID are validated afterwards, each in a transaction of its own: that reads the whole
    table, and must not happen under the lock that adding a check takes.

    One holds the lock, the others poll for it and then find nothing to do: waiting inside Postgres for a lock would
    deadlock with a later CREATE INDEX CONCURRENTLY. `on_wait` is called once if the lock is taken.
    `grant_to` names an existing role that gets `SERVICE_RIGHTS`.

    Raises:
        WrongEncodingError: the database is not UTF-8.
        alembic.util.CommandError: the database is at a revision of a newer release.
    """
    has_waited = False
    while True:
        async with engine.begin() as connection:
            if await connection.scalar(text(f"SELECT pg_try_advisory_xact_lock({MIGRATION_LOCK})")):
                await _require_unicode(connection)
                await connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'"))
                await connection.run_sync(_upgrade)
                if grant_to is not None:
                    await _grant(connection, grant_to)
                reached = await current_revision(connection)
                break
        if not has_waited:
            on_wait()
            has_waited = True
        await asyncio.sleep(_POLL_SECONDS)
    await _validate_checks(engine)
    return reached


def _upgrade(connection: Connection) -> None:
    config = configuration()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


async def _validate_checks(engine: AsyncEngine) -> None:
    """Also those that an earlier run left, because it was ended in between."""
    waiting = text(
        "SELECT conrelid::regclass::text, quote_ident(conname) FROM pg_constraint"
        " WHERE NOT convalidated AND contype = 'c' AND connamespace = current_schema()::regnamespace"
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
    await connection.execute(text(f"GRANT EXECUTE ON FUNCTION apply_movements TO {quoted}"))


def table_names() -> list[str]:
    """Every table that the revisions make."""
    return sorted(metadata.tables)
