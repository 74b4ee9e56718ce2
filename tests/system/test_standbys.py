"""What `doctor` and `status` say of standbys, to a role that may see little of them."""

import asyncio
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.support import postgres
from tests.support.debian_postgres import Server, binaries
from tests.support.sender import SECRET
from tests.support.service import run_command

PROGRAMS = binaries()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAMS is None, reason="Debian's Postgres is not installed, or this is not root"),
]
LOSABLE = "a 204 survives a crash, not the loss of the machine"


@pytest.fixture
def folder() -> Iterator[Path]:
    it = Path(tempfile.mkdtemp(prefix="pos-sync-standbys-"))
    it.chmod(0o755)
    yield it
    shutil.rmtree(it, ignore_errors=True)


async def test_a_server_whose_standbys_are_not_synchronous_is_named(folder: Path) -> None:
    assert PROGRAMS is not None
    primary, standby = Server(PROGRAMS, folder / "primary"), Server(PROGRAMS, folder / "standby")
    try:
        primary.make()
        primary.start("fsync=on")
        connection = await asyncpg.connect(primary.url)
        await connection.execute("CREATE ROLE pos_sync LOGIN")
        engine = postgres.database_of(primary.url).create_engine()
        await postgres.set_up(engine)
        await engine.dispose()

        alone = await told(primary)
        standby.follow(primary)
        standby.start()
        await until(connection, "SELECT count(*) = 1 FROM pg_stat_replication WHERE state = 'streaming'")
        asynchronous = await told(primary)
        await connection.execute("GRANT pg_monitor TO pos_sync")
        seen = await told(primary)
        await connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
        await connection.execute("SELECT pg_reload_conf()")
        await until(connection, "SELECT sync_state = 'sync' FROM pg_stat_replication")
        synchronous = await told(primary)
        await connection.execute("ALTER ROLE pos_sync SET synchronous_commit = 'local'")
        lowered = await told(primary)
        await connection.close()
    finally:
        primary.stop()
        standby.stop()

    assert ("ok", "a commit survives a crash", None) == alone
    unseen = f"1 x standby or backup (this role cannot see which), and it is not synchronous: {LOSABLE}"
    assert ("warning", unseen, unseen) == asynchronous
    known = f"1 x standby, and it is not synchronous: {LOSABLE}"
    assert ("warning", known, known) == seen
    assert ("ok", "a commit survives a crash, and waits for a standby", None) == synchronous
    assert ("warning", "synchronous_commit is local; the service raises it to on for itself", None) == lowered


async def told(server: Server) -> tuple[str, str, str | None]:
    """Verdict and reason of the doctor's check, and what `status` says."""
    values = {"DATABASE_URL": re.sub("postgres@", "pos_sync@", server.url), "MIPOS_CLIENT_SECRET": SECRET}
    values["MIPOS_BASE_URL"] = "http://127.0.0.1:9"
    doctor = await asyncio.to_thread(run_command, "doctor", "--json", **values)
    status = await asyncio.to_thread(run_command, "status", "--json", **values)
    (check,) = (check for check in json.loads(doctor.stdout) if check["name"] == "durability")
    return check["verdict"], check["reason"], json.loads(status.stdout).get("durability")


async def until(connection: asyncpg.Connection, query: str) -> None:
    async with asyncio.timeout(30):
        while not await connection.fetchval(query):  # noqa: ASYNC110 - Postgres tells by a view
            await asyncio.sleep(0.05)
