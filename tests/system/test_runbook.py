"""The runbook, walked: what a server of its own is needed for, with a standby and a replication slot. The rest: tests/http."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.problems import kinds
from app.problems.kinds import Kind
from app.storage.migrations import migrate
from tests.support.commands import Run, runner_for
from tests.support.debian_postgres import Server, binaries, with_standby
from tests.support.outbox import until
from tests.support.postgres import looking_engine
from tests.support.runbook import Walk
from tests.support.sender import SECRET
from tests.support.world import World

PROGRAMS = binaries()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAMS is None, reason="Debian's Postgres is not installed, or this is not root"),
]


@pytest.fixture
def servers() -> Iterator[tuple[Server, Server]]:
    """A primary, and a standby that follows it."""
    with with_standby("fsync=off") as both:
        yield both


async def wait_for(run: Run, kind: Kind, *, present: bool) -> None:
    async def is_so() -> bool:
        problems = json.loads((await run("status", "--json")).output)["problems"]
        return (kind.name in {one["name"] for one in problems}) is present

    await until(is_so)


async def on(engine: AsyncEngine, *statements: str) -> None:
    """Each outside of a transaction."""
    async with engine.connect() as connection:
        alone = await connection.execution_options(isolation_level="AUTOCOMMIT")
        for statement in statements:
            await alone.exec_driver_sql(statement)


async def test_a_standby_that_no_commit_waits_for_and_a_slot_that_nobody_reads(
    servers: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    primary, _ = servers
    run = runner_for(primary.url, monkeypatch, tmp_path)
    monkeypatch.setenv("MIPOS_CLIENT_SECRET", SECRET)
    engine = looking_engine(primary.url)
    world = World("postgres", engine)
    await migrate(engine, grant_to=None)

    walk = Walk("durability", run, world)
    await wait_for(run, kinds.DURABILITY, present=True)
    walk.by_hand(1)
    await on(engine, "ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
    await wait_for(run, kinds.DURABILITY, present=False)
    walk.end()

    walk = Walk("replication_slot", run, world)
    await on(engine, "SELECT pg_create_physical_replication_slot('old_standby', true)")
    await wait_for(run, kinds.SLOT, present=True)
    walk.by_hand(1)
    await walk.take(2, name="old_standby")
    await wait_for(run, kinds.SLOT, present=False)
    walk.end()
    await asyncio.wait_for(engine.dispose(), 5)
