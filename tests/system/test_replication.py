"""Synchronous replication: no answer before the standby has the movement, also not for a copy of it."""

import asyncio
import shutil
from dataclasses import dataclass

import pytest

from app.catalog_body import read_catalog
from app.operator.catalog import import_catalog
from app.storage.embedded_postgres import EmbeddedPostgres
from app.storage.migrations import migrate
from tests.conftest import running, settings_for
from tests.support.postgres import SAMPLES, looking_engine, passable_folder
from tests.support.sender import PATH, body_of, signed
from tests.support.world import World

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class OwnWorld(World):
    """A database on a server of its own, as its superuser."""

    url: str

    @property
    def service_url(self) -> str:
        return self.url


async def test_no_copy_is_answered_204_before_the_standby_has_the_first() -> None:
    folder = passable_folder("pos-sync-replication-")
    server = EmbeddedPostgres(folder)
    await asyncio.to_thread(server.start)
    world = OwnWorld("postgres", looking_engine(server.url("postgres")), server.url("postgres"))
    body = body_of()
    try:
        await migrate(world.engine)
        await import_catalog(world.engine, "1", read_catalog((SAMPLES / "store-1.json").read_text()))
        settings = settings_for(world, response_deadline=1)
        async with running(settings) as (_, one), running(settings) as (_, other):

            async def deliver(copies: int) -> list[int]:
                clients = [one, other] * copies
                sent = (client.post(PATH, content=body, headers=signed(body)) for client in clients[:copies])
                return [answer.status_code for answer in await asyncio.gather(*sent)]

            await set_standby(world, "'nobody'")
            without_standby = await deliver(1) + await deliver(30) + await deliver(1)
            await set_standby(world, "DEFAULT")
            with_it = await deliver(2)
        rows = await world.ledger()
    finally:
        await world.engine.dispose()
        await asyncio.to_thread(server.stop)
        shutil.rmtree(folder, ignore_errors=True)

    assert [503] * 32 == without_standby
    assert [204, 204] == with_it
    assert 1 == len(rows)


async def set_standby(world: World, names: str) -> None:
    async with world.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.exec_driver_sql(f"ALTER SYSTEM SET synchronous_standby_names = {names}")
        await connection.exec_driver_sql("SELECT pg_reload_conf()")
        expected = names.strip("'") if names != "DEFAULT" else ""
        # The setting reaches other sessions when the server has read its file again.
        query = "SHOW synchronous_standby_names"
        while (await connection.exec_driver_sql(query)).scalar_one() != expected:  # noqa: ASYNC110 - Postgres tells by a setting
            await asyncio.sleep(0.01)
