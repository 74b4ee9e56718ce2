"""The schema: what migrations make is what the code believes, the ledger cannot be changed, and rights are least."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.receiving.body import read_report
from app.server.run import SchemaNotAtHead, require_schema
from app.storage.migrations import SchemaState, head, migrate, read_schema_state, table_names
from app.storage.rights import SERVICE_RIGHTS
from app.storage.tables import metadata
from app.storage.turns import MIGRATION, TurnNotGiven, take_turn
from tests.conftest import settings_for
from tests.support.postgres import database_of, looking_engine, migrate_to
from tests.support.sender import PATH, body_of, signed
from tests.support.world import World


@pytest.fixture
async def service(world: World) -> AsyncIterator[AsyncEngine]:
    """An engine with the service's own, least rights."""
    engine = looking_engine(world.service_url)
    yield engine
    await engine.dispose()


async def tables_in(engine: AsyncEngine) -> set[str]:
    async with engine.connect() as connection:
        return set(await connection.run_sync(lambda sync: inspect(sync).get_table_names("pos_sync")))


async def test_one_migration_makes_every_table(empty_world: World) -> None:
    assert head() == (await migrate(empty_world.engine)).revision
    assert {*table_names(), "alembic_version"} == await tables_in(empty_world.engine)


async def test_the_models_are_what_the_migrations_make(world: World) -> None:
    def differences(connection: Connection) -> list[object]:
        asked = {
            "compare_server_default": True,
            "include_schemas": True,
            "include_name": is_ours,
            "version_table_schema": "pos_sync",
        }
        return compare_metadata(MigrationContext.configure(connection, opts=asked), metadata)

    def is_ours(name: str | None, kind: str, _parents: object) -> bool:
        return kind != "schema" or name == "pos_sync"

    async with world.engine.connect() as connection:
        assert [] == await connection.run_sync(differences)


async def test_the_checks_of_the_models_are_those_of_the_migrations(empty_world: World) -> None:
    """Autogenerate does not compare check constraints, so they are compared here."""
    query = text(
        "SELECT conrelid::regclass::text || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace = 'pos_sync'::regnamespace AND conrelid <> 0 AND conname NOT LIKE 'alembic%' AND contype <> 'n'"
    )
    async with empty_world.engine.begin() as connection:
        await connection.execute(text("CREATE SCHEMA pos_sync"))
        await connection.run_sync(metadata.create_all)
        of_models = set(await connection.scalars(query))
        await connection.run_sync(metadata.drop_all)
    await migrate(empty_world.engine)
    async with empty_world.engine.connect() as connection:
        of_migrations = set(await connection.scalars(query))

    assert of_models == of_migrations
    assert 30 < len(of_models)


async def test_checks_that_were_added_without_reading_the_ledger_are_validated(world: World) -> None:
    async with world.engine.connect() as connection:
        assert 0 == await connection.scalar(text("SELECT count(*) FROM pg_constraint WHERE NOT convalidated"))


@pytest.mark.parametrize("date", ["2020-05-30 12:45:03", "ayer", "12345678é", "123456789é"])
async def test_movements_of_a_ledger_from_before_are_known_by_their_new_identities(empty_world: World, date: str) -> None:
    """What 0004 had: the whole hash, in the ledger, in what was refused and in what was suspected."""
    movement = read_report(body_of(date=date))
    assert movement.dedupe_key is not None
    new = movement.dedupe_key.hex()
    before = "ff" * 10 + new[20:]
    odd, unreadable = "fe" * 32, "fd" * 32
    world = empty_world
    await migrate_to(world.engine, "0004")
    await world.execute(
        "INSERT INTO store (store_id, name, timezone) VALUES ('1', 'x', 'UTC')",
        "INSERT INTO unit VALUES ('u', 'u', 'u')",
        "INSERT INTO supplier VALUES ('s', 's')",
        "INSERT INTO item VALUES ('avcc123', 'x', 'u', 'u', 's', 1)",
        "INSERT INTO stock_level VALUES ('1', 'avcc123', 1, 2)",
        "INSERT INTO stock_movement (store_id, item_id, level_version, source, inventory_system_id, movement_type, quantity,"
        " balance_after, reported_stock, date_text, sent_text, dedupe_key) VALUES"
        f" ('1', 'avcc123', 2, 'inventory_system', 'x', 2, 1, 1, 1, '{date}', 'n', '\\x{before}')",
        "INSERT INTO suspected_duplicate (store_id, dedupe_key, occurrence, item_id, inventory_system_id, after_version,"
        f" sent_text, raw_body) VALUES ('1', '\\x{before}', 2, 'avcc123', 'x', 2, 'n', '')",
        "INSERT INTO refused_delivery (fingerprint, reason, http_status, message, raw_body, store_id) VALUES"
        f" ('\\x{before}', 'r', 409, 'm', '\\x{body_of(date=date).hex()}', '1'),"
        f" ('\\x{odd}', 'r', 409, 'm', '\\x{body_of(date=date, remark=chr(0)).hex()}', '1'),"
        f" ('\\x{unreadable}', 'r', 400, 'm', '\\xff00', NULL)",
    )

    assert head() == (await migrate(world.engine)).revision

    async with world.engine.connect() as connection:
        kept = await connection.scalars(
            text(
                "SELECT encode(dedupe_key, 'hex') FROM pos_sync.stock_movement WHERE dedupe_key IS NOT NULL"
                " UNION ALL SELECT encode(dedupe_key, 'hex') FROM pos_sync.suspected_duplicate"
                " UNION ALL SELECT encode(delivery_key, 'hex') FROM pos_sync.refused_delivery ORDER BY 1 DESC"
            )
        )
    assert [odd, unreadable, new, new, new] == list(kept)
    with pytest.raises(DBAPIError, match="immutable ledger"):
        await world.execute("UPDATE pos_sync.stock_movement SET quantity = 0")


async def test_identities_are_made_in_one_way(world: World, client: httpx2.AsyncClient) -> None:
    body = body_of()
    assert 204 == (await client.post(PATH, content=body, headers=signed(body))).status_code

    with pytest.raises(DBAPIError, match="stock_movement_dated_check"):
        await world.execute(
            "INSERT INTO stock_movement (store_id, item_id, level_version, source, inventory_system_id, movement_type, quantity,"
            " balance_after, reported_stock, date_text, sent_at_text, dedupe_key)"
            " VALUES ('1', 'avcc123', 3, 'inventory_system', 'x', 2, 1, 1, 1, '2026', 'n', sha256('x'))"
        )


async def test_several_migrations_at_once_all_end_at_head(empty_world: World) -> None:
    engines = [database_of(empty_world.owner_url).create_engine() for _ in range(4)]

    reached = await asyncio.gather(*(migrate(engine) for engine in engines))
    assert [head()] * 4 == [state.revision for state in reached]
    for engine in engines:
        await engine.dispose()


async def test_a_migration_waits_for_another_and_says_whose_turn_it_is(empty_world: World) -> None:
    waited = asyncio.Event()
    told: list[str] = []

    def on_wait(what: str) -> None:
        told.append(what)
        waited.set()

    async with empty_world.engine.connect() as other:
        pid = await other.scalar(text("SELECT pg_backend_pid()"))
        async with take_turn(other, MIGRATION):
            waiting = asyncio.create_task(migrate(empty_world.engine, on_wait=on_wait))
            await waited.wait()
            assert not waiting.done()
        assert head() == (await waiting).revision
    assert f"another migration to end (pid {pid}, role " in told[0]


async def test_a_turn_that_somebody_keeps_ends_the_wait_with_a_sentence(
    empty_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.storage.turns.MAX_TURN_SECONDS", 0.1)
    async with empty_world.engine.connect() as other, take_turn(other, MIGRATION):
        with pytest.raises(TurnNotGiven, match=r"pid \d+, role .*pg_terminate_backend"):
            await migrate(empty_world.engine)


@pytest.mark.parametrize(
    "statement",
    ["UPDATE pos_sync.stock_movement SET quantity = 0", "DELETE FROM pos_sync.stock_movement", "TRUNCATE stock_movement"],
)
async def test_the_ledger_gives_nothing_back_not_even_to_its_owner(world: World, statement: str) -> None:
    with pytest.raises(DBAPIError, match="immutable ledger"):
        await world.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE pos_sync.stock_movement SET quantity = 0",
        "DELETE FROM pos_sync.stock_movement",
        "TRUNCATE stock_movement",
        "INSERT INTO pos_sync.stock_movement (store_id) VALUES ('1')",
        "INSERT INTO pos_sync.stock_level (store_id) VALUES ('1')",
        "INSERT INTO pos_sync.outbox_message (store_id) VALUES ('1')",
        "DELETE FROM pos_sync.stock_level",
        "DELETE FROM pos_sync.refused_delivery",
        "DROP TABLE pos_sync.stock_level",
        "CREATE TABLE mine (id int)",
        "UPDATE alembic_version SET version_num = 'x'",
        "ALTER TABLE pos_sync.stock_movement DISABLE TRIGGER ALL",
    ],
)
async def test_the_service_s_role_may_do_only_what_the_service_does(service: AsyncEngine, statement: str) -> None:
    with pytest.raises(DBAPIError, match=r"permission denied|must be owner"):
        async with service.begin() as connection:
            await connection.execute(text(statement))


def test_rights_are_given_for_every_table() -> None:
    assert {*table_names(), "alembic_version"} == set(SERVICE_RIGHTS)


LEVEL = "UPDATE pos_sync.stock_level SET quantity = {}"
MOVEMENT = (
    "INSERT INTO pos_sync.stock_movement (store_id, item_id, level_version, source, movement_type, quantity, balance_after)"
    " VALUES ('1', 'avcc123', {}, 'opening', {}, {}, {})"
)


@pytest.mark.parametrize(
    "statement",
    [
        LEVEL.format("'NaN'"),
        LEVEL.format("'Infinity'"),
        LEVEL.format("'-Infinity'"),
        LEVEL.format("1e15"),
        LEVEL.format("0.000000000000001"),
        LEVEL.format("NULL"),
        MOVEMENT.format(1, 1, 1, 1),
        MOVEMENT.format(0, 1, 1, 1),
        MOVEMENT.format(2, 3, 1, 1),
        MOVEMENT.format(2, 1, "'NaN'", 1),
        MOVEMENT.format(2, 1, -1, 1),
        MOVEMENT.format(2, 1, 1, "'Infinity'"),
        MOVEMENT.format(2, 1, 1, 1).replace("opening", "inventory_system"),
        "INSERT INTO pos_sync.store (store_id, name, timezone) VALUES ('', 'x', 'UTC')",
        "INSERT INTO pos_sync.store (store_id, name, timezone) VALUES (repeat('x', 256), 'x', 'UTC')",
        "UPDATE pos_sync.store SET negative_stock = 'perhaps'",
        "UPDATE pos_sync.item SET cost = -1",
    ],
)
async def test_the_tables_refuse_what_could_not_be_held_exactly(world: World, statement: str) -> None:
    with pytest.raises(DBAPIError, match=r"violates|null value"):
        await world.execute(statement)


async def test_the_longest_ids_fit_into_the_indexes(world: World) -> None:
    longest = "🍅" * 255
    await world.execute(
        f"INSERT INTO pos_sync.store (store_id, name, timezone) VALUES ('{longest}', 'x', 'UTC')",
        f"INSERT INTO pos_sync.unit SELECT '{longest}', unit_id, name, short_name FROM pos_sync.unit WHERE store_id = '1'",
        f"INSERT INTO pos_sync.supplier SELECT '{longest}', supplier_id, name FROM pos_sync.supplier WHERE store_id = '1'",
        f"INSERT INTO item SELECT '{longest}', '{longest}', 'x', purchase_unit_id, consumption_unit_id, supplier_id, cost"
        " FROM pos_sync.item WHERE item_id = 'avcc123'",
        f"INSERT INTO pos_sync.stock_level VALUES ('{longest}', '{longest}', 1, 1)",
        MOVEMENT.replace("'1', 'avcc123'", f"'{longest}', '{longest}'").format(1, 1, 1, 1),
    )


async def test_a_schema_that_is_not_at_head_is_no_schema_to_serve(world: World, empty_world: World) -> None:
    await require_schema(settings_for(world))
    with pytest.raises(SchemaNotAtHead, match=r"revision none, and this version needs .* pos-sync migrate"):
        await require_schema(settings_for(empty_world))
    await world.execute("UPDATE alembic_version SET version_num = '9999', compatible_from = '9998'")
    with pytest.raises(SchemaNotAtHead, match="revision 9999, which this version cannot work with"):
        await require_schema(settings_for(world))


async def test_a_role_without_rights_is_told_how_to_get_them(world: World) -> None:
    await world.execute("REVOKE SELECT ON alembic_version FROM pos_sync")

    with pytest.raises(SchemaNotAtHead, match="migrate --grant-to"):
        await require_schema(settings_for(world))


async def test_a_database_that_is_away_is_no_reason_not_to_start(world: World) -> None:
    await require_schema(settings_for(world, database_url="postgresql://nobody@127.0.0.1:1/nothing"))


async def test_every_invariant_notices_its_own_kind_of_damage(world: World) -> None:
    assert {} == await world.broken_invariants()

    await world.execute("UPDATE pos_sync.stock_level SET quantity = quantity + 1 WHERE item_id = 'avcc123'")
    assert {"a level differs from the sum of its ledger": 1} == await world.broken_invariants()

    await world.execute("UPDATE pos_sync.stock_level SET quantity = quantity - 1, version = 7 WHERE item_id = 'avcc123'")
    assert {"a ledger has a gap, or a level another version than its last row": 1} == await world.broken_invariants()

    await world.execute("UPDATE pos_sync.stock_level SET version = 2 WHERE item_id = 'avcc123'", MOVEMENT.format(2, 1, 0, 99))
    assert {"a balance does not follow from the one before it": 1} == await world.broken_invariants()


async def test_the_current_revision_is_none_before_the_first_migration(empty_world: World) -> None:
    async with empty_world.engine.connect() as connection:
        assert SchemaState(None) == await read_schema_state(connection)


async def test_a_ledger_row_without_a_level_is_found(world: World) -> None:
    await world.execute(MOVEMENT.format(1, 1, 1, 1).replace("avcc123", "unheard-of"))

    assert {"a ledger row has no level": 1} == await world.broken_invariants()


async def test_a_till_cannot_slip_its_own_tables_under_the_rights_of_the_function_s_owner(world: World) -> None:
    """Temporary tables come first in a search path that does not name them, also in functions that run as their owner."""
    await world.execute(
        "DROP ROLE IF EXISTS sly_till",
        "CREATE ROLE sly_till",
        "GRANT USAGE ON SCHEMA pos_sync TO sly_till",
        "GRANT EXECUTE ON FUNCTION record_pos_movement TO sly_till",
    )
    async with world.engine.connect() as connection:
        for statement in (
            "SET ROLE sly_till",
            "CREATE TEMP TABLE outbox_message (store_id text)",
            "CREATE TEMP TABLE integration (store_id text)",
            "CREATE TEMP TABLE stock_level (store_id text)",
            "SELECT pos_sync.record_pos_movement('1', 'avcc123', 'sale', 1, 'ticket')",
            "RESET ROLE",
        ):
            await connection.execute(text(statement))
        queued = await connection.scalar(text("SELECT count(*) FROM pos_sync.outbox_message"))
        await connection.rollback()
    await world.execute("DROP OWNED BY sly_till", "DROP ROLE sly_till")

    assert 1 == queued
