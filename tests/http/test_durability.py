"""What a COMMIT of ours waits for, whatever the server, the database or the role says."""

import pytest
from sqlalchemy import text

from app.database_address import read_address
from app.storage.engine import Database
from tests.conftest import running, settings_for
from tests.support.sender import PATH, body_of, signed
from tests.support.world import World

LEVELS = {"off": "on", "local": "on", "remote_write": "on", "on": "on", "remote_apply": "remote_apply"}


@pytest.mark.parametrize("pooler", ["none", "transaction"])
@pytest.mark.parametrize(("given", "expected"), LEVELS.items())
async def test_a_delivery_waits_at_least_for_the_disk(world: World, given: str, expected: str, pooler: str) -> None:
    await world.execute(
        f"ALTER DATABASE {world.database} SET synchronous_commit = '{given}'",
        "CREATE TABLE public.seen (value text)",
        "CREATE FUNCTION public.see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO public.seen VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$",
        "CREATE TRIGGER see AFTER INSERT ON pos_sync.stock_movement FOR EACH STATEMENT EXECUTE FUNCTION public.see()",
    )
    body = body_of()
    async with running(settings_for(world, database_pooler=pooler)) as (_, client):
        assert 204 == (await client.post(PATH, content=body, headers=signed(body))).status_code

    async with world.engine.connect() as connection:
        assert [expected] == list(await connection.scalars(text("SELECT DISTINCT value FROM public.seen")))


@pytest.mark.parametrize("is_pooled", [False, True])
@pytest.mark.parametrize(("given", "expected"), LEVELS.items())
async def test_what_commands_and_background_tasks_write_does_too(
    world: World, given: str, expected: str, *, is_pooled: bool
) -> None:
    await world.execute(f"ALTER ROLE pos_sync IN DATABASE {world.database} SET synchronous_commit = '{given}'")
    async with (
        Database(read_address(world.service_url), is_pooled=is_pooled).engine() as engine,
        engine.begin() as connection,
    ):
        assert expected == await connection.scalar(text("SHOW synchronous_commit"))
