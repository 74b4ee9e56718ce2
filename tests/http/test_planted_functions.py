"""What a stranger has made in `public` is never called, by `migrate` nor by the service: it would run with their rights.

Postgres takes its own function where both fit equally. So what is planted fits better: it takes the very types that are given,
where Postgres's own takes any.
"""

import asyncpg
import pytest

from app.catalog_body import read_catalog
from app.operator.catalog import import_catalog
from app.storage.embedded_postgres import SERVICE_ROLE
from app.storage.migrations import head, migrate
from app.storage.schema import SCHEMA
from tests.conftest import running, settings_for
from tests.support.mipos import AUTHORIZED, KEY
from tests.support.postgres import SAMPLES, database_of, migrate_to
from tests.support.sender import PATH, body_of, signed
from tests.support.world import World

FUNCTIONS = {
    "lower": ["varchar", "name"],
    "length": ["varchar", "name"],
    "btrim": ["varchar"],
    "quote_ident": ["varchar", "name"],
    "to_regclass": ["varchar"],
    "concat": ["text", "text, text", "varchar, varchar"],
    "concat_ws": ["text, text", "text, text, text"],
    "format": ["text, text", "text, text, text", "text, name", "text, oid", "text, regclass"],
    "array_length": ["text[], integer", "numeric[], integer"],
    "cardinality": ["text[]", "numeric[]"],
    "unnest": ["text[]", "numeric[]", "integer[]"],
    "jsonb_build_object": ["text, text", "text, numeric"],
    "to_jsonb": ["text", "numeric"],
    "round": ["numeric, bigint"],
    "trunc": ["integer"],
    "set_config": ["text, varchar, boolean", "name, text, boolean"],
    "pg_notify": ["varchar, varchar", "text, varchar"],
}
TYPES = (
    "text, varchar",
    "varchar, text",
    "varchar, varchar",
    "numeric, integer",
    "integer, numeric",
    "name, varchar",
    "text, integer",
)
"""Which operators are planted for: Postgres has none of its own that takes just these."""
OPERATORS = ("=", "<>", "<", ">", "<=", ">=", "+", "-", "*", "/", "||")


async def plant(world: World) -> None:
    """As a role that may create in `public`: functions and operators that refuse every call."""
    await world.execute("GRANT USAGE, CREATE ON SCHEMA public TO PUBLIC")
    body = "LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a planted function was called'; END $$"
    named = [(name, types) for name, each in FUNCTIONS.items() for types in each]
    planted = [f"CREATE FUNCTION public.{name}({types}) RETURNS text {body}" for name, types in named]
    for number, types in enumerate(TYPES):
        left, right = types.split(", ")
        for operator in OPERATORS:
            result = {"+": "numeric", "-": "numeric", "*": "numeric", "/": "numeric", "||": "text"}.get(operator, "boolean")
            name = f"public.planted_{number}_{OPERATORS.index(operator)}"
            planted += [
                f"CREATE FUNCTION {name}({types}) RETURNS {result} {body}",
                f"CREATE OPERATOR public.{operator} (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = {name})",
            ]
    await world.execute(f"SET LOCAL ROLE {SERVICE_ROLE}", *planted)


@pytest.fixture
async def planted_world(empty_world: World) -> World:
    await plant(empty_world)
    return empty_world


async def used(world: World) -> None:
    """A catalog, a delivery, movements of the POS and its reads: what the service does all day."""
    engine = database_of(world.owner_url).create_engine()
    await import_catalog(engine, "1", read_catalog((SAMPLES / "store-1.json").read_text()))
    await engine.dispose()
    body = body_of()
    async with running(settings_for(world, pos_api_key=KEY)) as (_, client):
        assert 204 == (await client.post(PATH, content=body, headers=signed(body))).status_code
        for kind in ("sale", "count", "receipt"):
            sale = {"item_id": "avcc123", "kind": kind, "quantity": "1"}
            headers = {**AUTHORIZED, "Idempotency-Key": kind}
            answer = await client.post("/pos/stores/1/movements", json=sale, headers=headers)
            assert 201 == answer.status_code, answer.text
        for path in ("stock", "movements", "ledger", "changes"):
            answer = await client.get(f"/pos/stores/1/{path}", headers=AUTHORIZED)
            assert 200 == answer.status_code, answer.text
        assert 200 == (await client.get("/readyz")).status_code
    assert {} == await world.broken_invariants()


async def test_what_is_planted_would_be_called_by_who_looks_into_public(planted_world: World) -> None:
    connection = await asyncpg.connect(planted_world.owner_url)
    for expression in ("concat('a'::text, 'b'::text)", "format('%s'::text, 'a'::text)", "'a'::varchar = 'a'::text", "3.5 - 1"):
        with pytest.raises(asyncpg.RaiseError, match="a planted function was called"):
            await connection.fetchval(f"SELECT {expression}")
    await connection.close()


async def test_a_new_installation_calls_nothing_that_was_planted(planted_world: World) -> None:
    engine = database_of(planted_world.owner_url).create_engine()
    state = await migrate(engine, grant_to=SERVICE_ROLE)
    await engine.dispose()

    assert head() == state.revision
    await used(planted_world)


async def test_an_installation_of_before_0008_is_moved_and_calls_nothing_that_was_planted(empty_world: World) -> None:
    # Its tables are in `public` itself.
    await migrate_to(empty_world.engine, "0007")
    await plant(empty_world)
    engine = database_of(empty_world.owner_url).create_engine()
    state = await migrate(engine, grant_to=SERVICE_ROLE)
    await engine.dispose()

    assert head() == state.revision
    assert 0 == await empty_world.scalar(f"SELECT count(*) FROM pg_tables WHERE schemaname <> '{SCHEMA}' AND tablename = 'item'")
    await used(empty_world)
