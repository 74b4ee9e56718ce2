"""docs/backup.md as it is printed: a dump of a database that lives, its restore, and the service on it."""

import asyncio
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.catalog_body import read_catalog
from app.operator.catalog import import_catalog
from app.storage.migrations import migrate
from app.storage.rights import GUARDS, read_guards
from app.storage.tables import stock_movement
from tests.support.debian_postgres import Server, binaries
from tests.support.outbox import connect_stores, messages, sell
from tests.support.postgres import SAMPLES, looking_engine
from tests.support.sender import PATH, body_of, signed
from tests.support.service import Service, environment, serving
from tests.support.world import World

PAGE = (Path(__file__).parents[2] / "docs" / "backup.md").read_text(encoding="utf-8")
DATES = {"first", "second", "third", "fourth"}
KEY = "a-key-of-the-till-2026"
POSTGRES = binaries()

pytestmark = pytest.mark.skipif(POSTGRES is None, reason="needs Debian's postgresql, and root to start it as the user postgres")


def commands_below(heading: str) -> list[str]:
    """The commands of a section of the page, up to the next heading."""
    section = re.split(r"\n#+ ", PAGE.split(f"# {heading}\n", 1)[1])[0]
    blocks: list[str] = re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert blocks
    return blocks


@dataclass(frozen=True)
class Cluster:
    """A server with the roles of docs/deploying.md, and a folder for the dump."""

    server: Server
    folder: Path

    def url(self, role: str) -> str:
        return f"postgresql://{role}@127.0.0.1:{self.server.port}/pos"

    def run(self, command: str) -> str:
        """A block of the page, as a superuser of Postgres and with the owner's address; what it says."""
        programs = [str(Path(sys.executable).parent), str(POSTGRES), "/usr/bin", "/bin"]
        values = {
            "PATH": ":".join(programs),
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.server.port),
            "PGUSER": "postgres",
            "DATABASE_URL": self.url("pos_owner"),
        }
        done = subprocess.run(
            ["sh", "-e", "-c", command],
            cwd=self.folder,
            env=environment(**values),
            capture_output=True,
            text=True,
            check=False,
        )
        assert 0 == done.returncode, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[World]:
        """The database, as its owner; nobody is connected to it afterwards, so that it can be renamed."""
        engine: AsyncEngine = looking_engine(self.url("pos_owner"))
        try:
            yield World("pos", engine)
        finally:
            await engine.dispose()


def _folder_for_all() -> Path:
    """The user `postgres` has to reach what is in it."""
    folder = Path(tempfile.mkdtemp(prefix="pos-sync-restore-"))
    folder.chmod(0o755)
    return folder


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    assert POSTGRES is not None
    folder = _folder_for_all()
    server = Server(POSTGRES, folder / "data")
    it = Cluster(server, folder)
    try:
        await asyncio.to_thread(server.make)
        await asyncio.to_thread(server.start, "fsync=off")
        it.run(
            "psql --quiet --command='CREATE ROLE pos_owner LOGIN' --command='CREATE ROLE pos_sync LOGIN' postgres;"
            "createdb --owner=pos_owner --encoding=UTF8 --template=template0 pos"
        )
        async with it.opened() as world:
            await migrate(world.engine, grant_to="pos_sync")
            await import_catalog(world.engine, "1", read_catalog((SAMPLES / "store-1.json").read_text()))
            await connect_stores(world)
        yield it
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def deliver(service: Service, date: str) -> int:
    body = body_of(date=date)
    return httpx2.post(f"{service.url}{PATH}", content=body, headers=signed(body), timeout=30).status_code


def changes(service: Service, after: int = 0) -> httpx2.Response:
    url = f"{service.url}/pos/stores/1/changes?after={after}&limit=1000"
    return httpx2.get(url, headers={"Authorization": f"Bearer {KEY}"}, timeout=30)


@pytest.mark.slow
async def test_a_dump_is_restored_and_the_service_goes_on(cluster: Cluster) -> None:
    with serving(cluster.url("pos_sync"), pos_api_key=KEY) as service:
        assert [204, 204] == [deliver(service, "first"), deliver(service, "second")]
        async with cluster.opened() as world:
            await sell(world, "1", "sale-1")
        [dump] = commands_below("Making a dump")
        cluster.run(dump)
        # All of this is lost.
        assert 204 == deliver(service, "third")
        cursor = changes(service).json()["cursor"]

    said = "".join(cluster.run(block) for block in commands_below("Restoring a dump"))
    with serving(cluster.url("pos_sync"), pos_api_key=KEY) as service:
        again = [deliver(service, "first"), deliver(service, "third"), deliver(service, "fourth")]
        old, new = changes(service, cursor), changes(service)
    async with cluster.opened() as world:
        rows = [row.date_text for row in await world.ledger() if row.date_text in DATES]
        states = [one.state for one in await messages(world)]
        broken = await world.broken_invariants()

    assert "Messages held: 1." in said
    assert [204, 204, 204] == again
    assert ["first", "second", "third", "fourth"] == rows
    assert ["dead"] == states
    assert 410 == old.status_code
    assert 200 == new.status_code
    assert {} == {name: count for name, count in broken.items() if count}


@pytest.mark.slow
async def test_data_alone_is_restored_and_the_guards_are_what_they_were(cluster: Cluster) -> None:
    with serving(cluster.url("pos_sync")) as service:
        assert 204 == deliver(service, "first")
    async with cluster.opened() as world:
        await sell(world, "1", "sale-1")

    [block] = commands_below("The data alone")
    *steps, restored = block.strip().splitlines()
    assert "pos-sync restored --yes" == restored
    for step in steps:
        if step.startswith("pg_restore"):
            async with cluster.opened() as world:
                for guard in GUARDS:
                    await world.execute(f"ALTER TABLE {stock_movement.fullname} ENABLE ALWAYS TRIGGER {guard}")
        cluster.run(step)
    async with cluster.opened() as world, world.engine.connect() as connection:
        weakened = await read_guards(connection)
    said = cluster.run(restored)
    with serving(cluster.url("pos_sync")) as service:
        again = [deliver(service, "first"), deliver(service, "second")]
    async with cluster.opened() as world:
        async with world.engine.connect() as connection:
            guards = await read_guards(connection)
        rows = [row.date_text for row in await world.ledger() if row.date_text in DATES]
        broken = await world.broken_invariants()

    # What pg_restore does: if it leaves them as they were one day, this page is to be corrected.
    assert dict.fromkeys(GUARDS, "O") == weakened
    assert f"set again: {', '.join(GUARDS)}" in said
    assert dict.fromkeys(GUARDS, "A") == guards
    assert [204, 204] == again
    assert ["first", "second"] == rows
    assert {} == {name: count for name, count in broken.items() if count}
