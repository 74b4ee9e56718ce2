"""The schema's revisions: to head, where it stands, and the service role's rights."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

import migrations
from app.storage import replicas
from app.storage.engine import schema_of
from app.storage.ledger_indexes import build_indexes, validate_constraints
from app.storage.rights import grant, transfer
from app.storage.schema import quoted
from app.storage.schema_move import make_schema, move, old_schema
from app.storage.tables import metadata, stock_level
from app.storage.transactions import sqlstate
from app.storage.turns import MIGRATION, Waiting, holder_of, try_turn

OWN_SCHEMA = "0008"
"""The revision from which the tables are in a schema of their own, and from which a revision says with which code it works."""


class TablesInUseError(Exception):
    """The message says what to do; nothing was changed."""


class OldReplicasError(Exception):
    """Processes run whose code cannot work with the new schema; the message names them. Nothing was changed."""


class WrongEncodingError(Exception):
    """The database cannot hold every character; the message says what to do."""


_LOCK_NOT_AVAILABLE = "55P03"
MAX_UPGRADES = 30
"""How often an upgrade is tried that gives way to other transactions"""
_UPGRADE_LOCK_TIMEOUT = "1s"
"""Deliveries wait as long as the upgrade waits for its locks, so it is well below their deadline."""
_UPGRADE_PAUSE_SECONDS = 1.0
_CONFLICTS = {_LOCK_NOT_AVAILABLE, "40P01"}
MAX_REPLICA_WAIT = timedelta(seconds=30)
"""How long a migration waits for replicas to stop that cannot work with what it makes"""


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


@cache
def lineage() -> tuple[str, ...]:
    """Every revision that this code knows, the newest first."""
    return tuple(script.revision for script in ScriptDirectory.from_config(configuration()).walk_revisions())


@cache
def compatible_from() -> str:
    """The oldest revision whose code can work with the schema at this code's head, as that revision says."""
    script = ScriptDirectory.from_config(configuration()).get_revision(head())
    return str(script.module.compatible_from)


@dataclass(frozen=True, slots=True)
class SchemaState:
    """Where the schema of a database stands."""

    revision: str | None
    """None where nothing was ever migrated."""
    compatible_from: str | None = None
    """The oldest revision whose code can work with it, as the revision itself says; before 0008 none does."""

    @property
    def is_newer(self) -> bool:
        """Whether a newer release has made it, with which this code can work."""
        return self.revision is not None and self.revision not in lineage() and self.compatible_from in lineage()

    @property
    def fault(self) -> str | None:
        """Why this code cannot work with it, and what to do, for a person; None where it can."""
        if self.revision == head() or self.is_newer:
            return None
        if self.revision is not None and self.revision not in lineage():
            return (
                f"The database schema is at revision {self.revision}, which this version cannot work with: it was migrated by a "
                "newer one. Deploy that version."
            )
        where = self.revision or "none"
        return f"The database schema is at revision {where}, and this version needs {head()}. Run: pos-sync migrate"


_STATE = text("SELECT to_jsonb(v) ->> 'version_num', to_jsonb(v) ->> 'compatible_from' FROM pos_sync.alembic_version AS v")
_IS_THERE = text("SELECT to_regclass('pos_sync.alembic_version') IS NOT NULL")


async def read_schema_state(connection: AsyncConnection) -> SchemaState:
    """Where the schema stands; the role needs no more than the service's."""
    if not await connection.scalar(_IS_THERE):
        return SchemaState(None)
    row = (await connection.execute(_STATE)).one_or_none()
    return SchemaState(None) if row is None else SchemaState(*row)


async def migrate(
    engine: AsyncEngine,
    *,
    grant_to: str | None = None,
    owner: str | None = None,
    is_forced: bool = False,
    on_wait: Callable[[str], None] = lambda _what: None,
) -> SchemaState:
    """Bring the schema to head in one transaction, and return where it stands; safe when several start at once.

    There is no way back but a backup: an older revision would lose what the newer one keeps. A schema that a newer release has
    made, and that this code can work with, is left as it is.

    Constraints that a revision added as NOT VALID are validated afterwards, and the ledger's indexes are built, each in a
    transaction of its own: that reads the whole table, and must not happen under a lock that deliveries wait for.

    One takes a turn, the others poll for it and then find nothing to do: waiting inside Postgres for a lock would deadlock with
    a later CREATE INDEX CONCURRENTLY. `on_wait` is told what is waited for, for a person.
    `grant_to` names an existing role that gets `SERVICE_RIGHTS`; `owner` one that becomes the owner of everything.
    With `is_forced` replicas that are too old do not matter.

    Raises:
        WrongEncodingError: the database is not UTF-8.
        MissingRights: the role may not make the schema, or not move the tables.
        TablesInUseError: other transactions used the tables all the time.
        TurnNotGiven: another session held the turn for too long.
        OldReplicasError: replicas run that cannot work with the new schema.
        alembic.util.CommandError: the database is at a revision of a newer release that this code cannot work with.
    """
    async with engine.connect() as connection:
        state = await read_schema_state(connection)
        if state.revision not in {None, *lineage()} and not state.is_newer:
            raise CommandError(state.fault or "")
        if not state.is_newer and state.revision != head() and not is_forced:
            await _await_old_replicas(connection, state, on_wait)
    state = await _upgraded(engine, grant_to=grant_to, owner=owner, on_wait=on_wait)
    if not state.is_newer:
        await build_indexes(engine)
        await validate_constraints(engine)
    return state


async def _await_old_replicas(connection: AsyncConnection, state: SchemaState, on_wait: Callable[[str], None]) -> None:
    """Give replicas that cannot work with the new schema the time to stop: a rolling upgrade has begun with the wrong end."""
    if state.revision is None and await _old_schema(connection) is None:
        return
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + MAX_REPLICA_WAIT.total_seconds()
    has_waited = False
    while True:
        # What is asked for by time would else be the same in each look.
        await connection.rollback()
        if state.revision is not None and state.revision >= OWN_SCHEMA:
            able = lineage()[: lineage().index(compatible_from()) + 1]
            old = await replicas.running_without(connection, able)
        else:
            old = await replicas.connected(connection)
        if not old:
            return
        what = f"{', '.join(old)}: too old for revision {head()}"
        if loop.time() > ends_at:
            raise OldReplicasError(
                f"These replicas cannot work with the new schema ({what}). Nothing was changed. Stop the service, and run this "
                "again. With --force it is migrated all the same, and they answer 503 until they are replaced."
            )
        if not has_waited:
            on_wait(f"replicas to stop ({what})")
            has_waited = True
        await asyncio.sleep(replicas.HEARTBEAT_SECONDS / 10)


async def _upgraded(
    engine: AsyncEngine, *, grant_to: str | None, owner: str | None, on_wait: Callable[[str], None]
) -> SchemaState:
    attempt = 0
    while True:
        attempt += 1
        try:
            return await _upgrade_once(engine, grant_to=grant_to, owner=owner, on_wait=on_wait)
        except DBAPIError as error:
            if sqlstate(error) not in _CONFLICTS:
                raise
            blockers = await _blockers(engine)
            if attempt == 1:
                on_wait(f"transactions that use the tables ({blockers})")
            if attempt == MAX_UPGRADES:
                raise TablesInUseError(
                    "Other transactions, such as a dump, use tables that the migration needs for itself "
                    f"({blockers}). Nothing was changed. Run it again when they have ended."
                ) from error
        # Meanwhile deliveries go on.
        await asyncio.sleep(_UPGRADE_PAUSE_SECONDS)


async def _blockers(engine: AsyncEngine) -> str:
    """Who holds locks on tables of our names, for a person."""
    query = text(
        "SELECT DISTINCT 'pid ' || a.pid || ', application ' || coalesce(nullif(a.application_name, ''), '?')"
        " FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation JOIN pg_stat_activity AS a USING (pid)"
        " WHERE l.granted AND c.relname = ANY (CAST(:tables AS text[])) AND a.datname = current_database()"
        " AND a.pid <> pg_backend_pid() ORDER BY 1 LIMIT 10"
    )
    async with engine.connect() as connection:
        return "; ".join(await connection.scalars(query, {"tables": table_names()})) or "they have ended meanwhile"


async def _lock_tables(connection: AsyncConnection) -> None:
    """All at once and levels first, as deliveries lock: so none of them and an upgrade wait for each other."""
    schema = schema_of(connection)
    query = text("SELECT tablename FROM pg_tables WHERE schemaname = :schema")
    existing = set(await connection.scalars(query, {"schema": schema}))
    names = [f"{quoted(schema)}.{name}" for name in dict.fromkeys([stock_level.name, *table_names()]) if name in existing]
    if names:
        await connection.execute(text(f"LOCK TABLE {', '.join(names)} IN ACCESS EXCLUSIVE MODE"))


async def _upgrade_once(
    engine: AsyncEngine, *, grant_to: str | None, owner: str | None, on_wait: Callable[[str], None]
) -> SchemaState:
    waiting = Waiting(lambda holder: on_wait(f"another migration to end ({holder})"))
    while True:
        async with engine.begin() as connection:
            if await try_turn(connection, MIGRATION):
                await _require_unicode(connection)
                await connection.execute(text(f"SET LOCAL lock_timeout = '{_UPGRADE_LOCK_TIMEOUT}'"))
                state = await read_schema_state(connection)
                if not state.is_newer and state.revision != head():
                    await _upgrade(connection)
                if grant_to is not None:
                    await grant(connection, grant_to)
                if owner is not None:
                    await transfer(connection, owner)
                return await read_schema_state(connection)
            holder = await holder_of(connection, MIGRATION)
        await waiting.for_holder(holder)


async def _upgrade(connection: AsyncConnection) -> None:
    await make_schema(connection)
    old = await _old_schema(connection)
    if old is not None:
        await move(connection, old)
    await _lock_tables(connection)
    schema = schema_of(connection)
    # For the revisions, which name no schema. What anybody has made in `public` is none of theirs.
    await connection.execute(text(f"SET LOCAL search_path = {quoted(schema)}, pg_temp"))

    def run(sync: Connection) -> None:
        config = configuration()
        config.attributes.update(connection=sync, schema=schema)
        command.upgrade(config, "head")

    await connection.run_sync(run)
    await connection.execute(text("SET LOCAL search_path = pg_catalog, pg_temp"))


async def _old_schema(connection: AsyncConnection) -> str | None:
    return await old_schema(connection, [revision for revision in lineage() if revision < OWN_SCHEMA])


async def _require_unicode(connection: AsyncConnection) -> None:
    encoding = await connection.scalar(text("SHOW server_encoding"))
    if encoding != "UTF8":
        raise WrongEncodingError(
            f"The database is encoded as {encoding} and cannot hold every name and id. "
            "Make one with: CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
        )


def table_names() -> list[str]:
    """Every table that the revisions make."""
    return sorted(table.name for table in metadata.sorted_tables)
