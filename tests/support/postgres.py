"""One embedded Postgres per test run, and a fresh database per test, cloned from a migrated template."""

import asyncio
import itertools
import os
import shutil
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
from alembic import command
from sqlalchemy import Connection, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine

import app
from app.catalog_body import read_catalog
from app.database_address import read_address
from app.operator.catalog import import_catalog
from app.storage.embedded_postgres import SERVICE_ROLE, EmbeddedPostgres
from app.storage.engine import Database
from app.storage.migrations import configuration, migrate

VARIABLE = "POS_SYNC_TEST_POSTGRES"
"""Where the tests run: the server that POS_SYNC_POSTGRES names, or one of their own. Their processes read this one only."""
TEMPLATE = "template_pos_sync"
SAMPLES = Path(app.__file__).parent / "samples"

FAST = {
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum": "off",
    "max_connections": "200",
}

MIN_MEMORY_BYTES = 4 * 1024**3
"""Free in the file system in memory, so that the tests' server is put there"""

_numbers = itertools.count()


def passable_folder(prefix: str, parent: Path | None = None) -> Path:
    """A new folder through which others may pass: PgBouncer, as another user than root, reaches the socket in it."""
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    folder.chmod(0o711)
    return folder


def start() -> EmbeddedPostgres | None:
    """Start a server unless the environment names one, and make the template in it."""
    server = None
    if own := os.environ.get("POS_SYNC_POSTGRES"):
        os.environ.setdefault(VARIABLE, own)
    if VARIABLE not in os.environ:
        folder = passable_folder("pos-sync-tests-", _roomy_memory())
        # The tests kill our processes, never this server, so it may skip what makes a commit survive a power cut.
        server = EmbeddedPostgres(folder, FAST)
        server.start()
        os.environ[VARIABLE] = server.url("postgres")
    asyncio.run(_make_template())
    return server


def _roomy_memory() -> Path | None:
    """A file system in memory, if there is one: each test makes and drops a database, which is some three hundred files."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or shutil.disk_usage(memory).free < MIN_MEMORY_BYTES:
        return None
    return memory


def url(database: str, *, user: str | None = None) -> str:
    """The address of `database`, as the superuser or as `user`."""
    address = make_url(os.environ[VARIABLE]).set(database=database)
    return (address if user is None else address.set(username=user, password=None)).render_as_string(hide_password=False)


def database_of(address: str) -> Database:
    return Database(read_address(address))


def looking_engine(address: str) -> AsyncEngine:
    """An engine for a test's own statements, which need not name the schema."""
    engine = Database(read_address(address), application_name="tests").create_engine()

    @event.listens_for(engine.sync_engine, "connect")
    def look(connection: DBAPIConnection, _record: object) -> None:
        connection.cursor().execute("SET search_path = pos_sync, public")
        connection.commit()

    return engine


async def _make_template() -> None:
    connection = await asyncpg.connect(os.environ[VARIABLE])
    await connection.execute(f"DROP DATABASE IF EXISTS {TEMPLATE}")
    await connection.execute(f"CREATE DATABASE {TEMPLATE}")
    if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", SERVICE_ROLE):
        await connection.execute(f"CREATE ROLE {SERVICE_ROLE} LOGIN")
    await connection.close()
    engine = database_of(url(TEMPLATE)).create_engine()
    await set_up(engine)
    await engine.dispose()


async def set_up(engine: AsyncEngine) -> None:
    """The schema, what the service's role may do in it, and the sample stores."""
    await migrate(engine, grant_to=SERVICE_ROLE)
    for store_id in ("1", "2"):
        catalog = read_catalog((SAMPLES / f"store-{store_id}.json").read_text())
        # Before every date in the tests: what a count may have held is another case.
        await import_catalog(engine, store_id, catalog, as_of=datetime(2020, 1, 1, tzinfo=UTC))


async def migrate_to(engine: AsyncEngine, revision: str, *, schema: str = "public") -> None:
    """Bring an empty database to an older revision, as an older release would have: in `public`, until 0008."""

    def upgrade(connection: Connection) -> None:
        config = configuration()
        config.attributes.update(connection=connection, schema=schema)
        command.upgrade(config, revision)

    async with engine.begin() as connection:
        await connection.execute(text(f"SET LOCAL search_path = {schema}, pg_temp"))
        await connection.run_sync(upgrade)


async def create_database(*, template: str = TEMPLATE) -> str:
    """The name of a new database."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    connection = await asyncpg.connect(os.environ[VARIABLE])
    try:
        # Half the time of the other strategy, which only came with Postgres 15.
        strategy = "STRATEGY FILE_COPY" if connection.get_server_version() >= (15, 0) else ""
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} {strategy}")
    finally:
        await connection.close()
    return name


async def drop_database(name: str) -> None:
    connection = await asyncpg.connect(os.environ[VARIABLE])
    try:
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await connection.close()


async def rename_database(name: str, other: str) -> None:
    """Take a database away, or bring it back, while all others on the server stay; without effect where there is none."""
    connection = await asyncpg.connect(os.environ[VARIABLE])
    try:
        while await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
            await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
            # A session that is ending still counts, and a service may have begun another one.
            with suppress(asyncpg.ObjectInUseError):
                await connection.execute(f"ALTER DATABASE {name} RENAME TO {other}")
    finally:
        await connection.close()
