"""A filled installation of before revision 0007 keeps every level and every row, and goes on from there."""

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url, text

from app.stock.movement import Applied
from app.storage.ledger import apply_movements
from app.storage.levels import list_levels
from app.storage.migrations import TablesInUseError, head, migrate
from tests.support.ledger import by_pos, reported
from tests.support.postgres import database_of, migrate_to
from tests.support.world import World

FILLED = """
INSERT INTO store (store_id, name, timezone) VALUES
  ('1', 'Centro', 'America/Guayaquil'), ('2', 'Norte', 'UTC'), ('3', 'Empty', 'Middle-earth/Shire');
INSERT INTO integration (store_id, inventory_system_id, user_id_tps) VALUES ('1', 'on', '30'), ('2', 'on', '30');
INSERT INTO unit VALUES ('kg', 'Kilogram', 'kg'), ('box', 'Box', 'box'), ('unused', 'Unused', 'u');
INSERT INTO supplier VALUES ('s', 'Mill'), ('nobody', 'Nobody');
INSERT INTO item VALUES
  ('both', 'In both', 'box', 'kg', 's', 1.5), ('one', 'In one', 'kg', 'kg', 's', 2), ('none', 'In none', 'kg', 'kg', 's', 3);
INSERT INTO stock_level (store_id, item_id, quantity, version) VALUES
  ('1', 'both', 0, 0), ('2', 'both', 0, 0), ('1', 'one', 0, 0);
INSERT INTO stock_movement (
  store_id, item_id, level_version, source, inventory_system_id, movement_type, quantity, balance_after, reported_stock,
  date_text, sent_text, dedupe_key, received_at
)
SELECT store_id, item_id, version, CASE version WHEN 1 THEN 'opening' ELSE 'inventory_system' END,
  CASE WHEN version > 1 THEN 'on' END, 1, 1.25, version * 1.25, CASE WHEN version > 1 THEN version END,
  CASE WHEN version > 1 THEN '2026-05-30 12:00:' || version END, CASE WHEN version > 1 THEN 'n' END,
  CASE WHEN version > 1
    THEN convert_to('2026-05-30', 'UTF8') || substr(sha256(convert_to(store_id || item_id || version, 'UTF8')), 11) END,
  timestamptz '2026-05-30 12:00:00Z' + version * interval '1 minute'
FROM (SELECT store_id, item_id FROM stock_level) AS level CROSS JOIN generate_series(1, 50) AS version;
UPDATE stock_level SET version = 50, quantity = 62.5;
UPDATE outbox_message SET state = 'sent' WHERE level_version < 40
"""
OF_THE_LEDGER = (
    "SELECT store_id, item_id, level_version, source, inventory_system_id, movement_type, quantity, delta, balance_after,"
    " reported_stock, date_text, dedupe_key, occurrence, received_at FROM stock_movement ORDER BY 1, 2, 3"
)
OF_THE_LEVELS = "SELECT store_id, item_id, quantity, version, updated_at FROM stock_level ORDER BY 1, 2"


async def rows(world: World, query: str) -> list[tuple[Any, ...]]:
    async with world.engine.connect() as connection:
        return [tuple(row) for row in await connection.execute(text(query))]


@pytest.fixture
async def filled(empty_world: World) -> World:
    await migrate_to(empty_world.engine, "0005")
    await empty_world.execute(*FILLED.split(";"))
    return empty_world


async def test_every_level_and_ledger_row_is_kept_and_the_next_movements_fit(filled: World) -> None:
    levels, ledger = await rows(filled, OF_THE_LEVELS), await rows(filled, OF_THE_LEDGER)

    assert head() == (await migrate(filled.engine)).revision

    assert levels == await rows(filled, OF_THE_LEVELS)
    assert ledger == await rows(filled, OF_THE_LEDGER)
    assert [(None, None)] == await rows(filled, "SELECT DISTINCT happened_at, counted FROM stock_movement")
    connection = await asyncpg.connect(filled.owner_url)
    found = await apply_movements(
        connection,
        [
            by_pos(store_id="1", item_id="both", quantity="2", key="after", happened_at=None),
            reported(store_id="1", item_id="one", date="2026-06-01 10:00:00"),
        ],
    )
    again = await connection.fetchrow(
        "SELECT outcome, balance FROM pos_sync.apply_movements("
        "false, false, ARRAY['1'], ARRAY['both'], ARRAY['inventory_system'],"
        " ARRAY['on'], ARRAY['1'], ARRAY['1.25'], ARRAY['7'], ARRAY['2026-05-30 12:00:7'], ARRAY['n'],"
        " ARRAY[(SELECT dedupe_key FROM pos_sync.stock_movement"
        " WHERE store_id = '1' AND item_id = 'both' AND level_version = 7)],"
        " NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)"
    )
    await connection.close()
    assert [Applied(51, Decimal("60.50")), Applied(51, Decimal("61.50"))] == found
    assert ["known"] == again["outcome"]
    assert {} == await filled.broken_invariants()


async def test_an_upgrade_gives_way_to_who_reads_the_tables_and_says_so(filled: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.storage.migrations._UPGRADE_LOCK_TIMEOUT", "100ms")
    monkeypatch.setattr("app.storage.migrations._UPGRADE_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr("app.storage.migrations.MAX_UPGRADES", 2)
    async with filled.engine.begin() as connection:
        await connection.execute(text("SELECT count(*) FROM item"))
        with pytest.raises(TablesInUseError, match=r"pid \d+, application .*Nothing was changed"):
            await migrate(filled.engine)

    assert head() == (await migrate(filled.engine)).revision


async def test_the_role_of_the_service_may_read_where_functions_are_not_for_everybody(filled: World) -> None:
    role = make_url(filled.service_url).username
    assert role is not None
    await filled.execute("ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
    try:
        await migrate(filled.engine, grant_to=role)
        service = database_of(filled.service_url).create_engine()
        async with service.connect() as connection:
            (level,) = await list_levels(connection, store_id="1", item_id="both", at=datetime.now(UTC))
            assert Decimal("62.5") == level.quantity
        await service.dispose()
    finally:
        await filled.execute("ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO PUBLIC")


async def test_items_go_to_the_stores_that_stock_them_and_to_all_where_none_does(filled: World) -> None:
    await migrate(filled.engine)

    assert [("1", "both"), ("1", "none"), ("1", "one"), ("2", "both"), ("2", "none"), ("3", "none")] == await rows(
        filled, "SELECT store_id, item_id FROM item ORDER BY 1, 2"
    )
    units = await rows(filled, "SELECT store_id, unit_id FROM unit ORDER BY 1, 2")
    assert {("1", "box"), ("2", "box"), ("1", "unused"), ("3", "kg")} <= set(units)
    assert ("3", "box") not in units
    assert 0 == (await rows(filled, "SELECT count(*) FROM pg_constraint WHERE NOT convalidated"))[0][0]


async def test_a_time_zone_that_was_the_default_or_unknown_follows_the_rule_from_now_on(filled: World) -> None:
    await migrate(filled.engine)

    assert [("1", "America/Guayaquil"), ("2", None), ("3", None)] == await rows(
        filled, "SELECT store_id, timezone FROM store ORDER BY 1"
    )


async def test_who_could_call_the_functions_and_read_the_catalog_still_can(filled: World) -> None:
    old = "record_pos_movement(text, text, text, numeric, text, timestamptz)"
    await filled.execute(
        "DROP ROLE IF EXISTS some_old_till",
        "CREATE ROLE some_old_till",
        f"GRANT EXECUTE ON FUNCTION {old} TO some_old_till",
        "GRANT SELECT ON item TO some_old_till",
    )
    try:
        await migrate(filled.engine)
        query = (
            "SELECT has_function_privilege('some_old_till', p.oid, 'execute') FROM pg_proc AS p"
            " WHERE proname IN ('record_pos_movement', 'record_movement') AND pronamespace = 'pos_sync'::regnamespace"
        )
        assert [(True,), (True,)] == await rows(filled, query)
        assert [(True,)] == await rows(filled, "SELECT has_table_privilege('some_old_till', 'item', 'select')")
        assert [(False,)] == await rows(
            filled,
            "SELECT has_function_privilege('some_old_till', p.oid, 'execute') FROM pg_proc AS p"
            " WHERE proname = 'apply_movements'",
        )
    finally:
        await filled.execute("DROP OWNED BY some_old_till", "DROP ROLE some_old_till")


async def test_deliveries_of_the_new_code_wait_for_nothing_while_indexes_are_built(filled: World) -> None:
    """Another session may read and write between the steps: what is long takes no lock that it needs."""
    await migrate(filled.engine)
    await filled.execute("DROP INDEX stock_movement_count_idx")
    connection = await asyncpg.connect(filled.owner_url)
    async with connection.transaction():
        await apply_movements(connection, [by_pos(store_id="1", item_id="both", key="open", happened_at=None)])
        building = asyncio.create_task(migrate(filled.engine))
        other = await asyncpg.connect(filled.owner_url, server_settings={"lock_timeout": "3s"})
        query = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONCURRENTLY%' AND state = 'active'"
        while not await other.fetchval(query):  # noqa: ASYNC110 - Postgres tells by a view
            await asyncio.sleep(0.01)
        (outcome,) = await apply_movements(other, [by_pos(store_id="1", item_id="one", key="meanwhile", happened_at=None)])
        await other.close()
    await building
    await connection.close()

    assert isinstance(outcome, Applied)
    assert [(True,)] == await rows(
        filled, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'stock_movement_count_idx'::regclass"
    )
