"""The schema of its own: shared databases, the move of an older installation, rights, and replicas of other versions."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ProgrammingError

from app.catalog_body import read_catalog
from app.database_address import read_address
from app.operator.catalog import import_catalog
from app.storage import migrations, replicas
from app.storage.embedded_postgres import SERVICE_ROLE
from app.storage.engine import Database
from app.storage.migrations import OldReplicasError, SchemaState, head, migrate, read_schema_state
from app.storage.rights import SERVICE_RIGHTS, grant, transfer
from app.storage.schema_move import MissingRights
from tests.conftest import running, settings_for
from tests.support.commands import Run, runner_for
from tests.support.mipos import AUTHORIZED, mipos
from tests.support.postgres import SAMPLES, database_of, migrate_to
from tests.support.postgres import url as database_url
from tests.support.sender import PATH, SECRET, body_of, signed
from tests.support.world import World

FIRST_WITH_GRANT_OPTIONS = 160000
"""The version of Postgres from which on a grant says whether the role can be taken"""
OTHERS = """
CREATE TABLE alembic_version (version_num text PRIMARY KEY);
INSERT INTO alembic_version VALUES ('0001');
CREATE TABLE store (id int PRIMARY KEY);
INSERT INTO store VALUES (7);
CREATE TABLE stock_movement (id int PRIMARY KEY)
"""
"""What a POS may have in `public`."""
OLD = """
INSERT INTO store (store_id, name, timezone) VALUES ('1', 'One', 'UTC');
INSERT INTO integration (store_id, inventory_system_id, user_id_tps) VALUES ('1', '4344be8c-c6b9-4c51-88a6-d620144ab406', '30');
INSERT INTO unit VALUES ('1', 'kg', 'Kilogram', 'kg');
INSERT INTO supplier VALUES ('1', 's', 'Mill');
INSERT INTO item (store_id, item_id, name, purchase_unit_id, consumption_unit_id, supplier_id, cost)
  VALUES ('1', 'avcc123', 'Avocado', 'kg', 'kg', 's', 1);
INSERT INTO stock_level (store_id, item_id, quantity, version) VALUES ('1', 'avcc123', 0, 0);
INSERT INTO service_rule (negative_stock, reported_stock, timezone) VALUES ('allow', 'after', 'UTC')
"""
"""An installation of a release before 0008."""


async def deliver(client: httpx2.AsyncClient, **changes: Any) -> int:
    body = body_of(**changes)
    return (await client.post(PATH, content=body, headers=signed(body))).status_code


async def installed(world: World, schema: str) -> None:
    """An installation in `schema`, with the samples of store 1."""
    engine = Database(read_address(world.owner_url), schema=schema).create_engine()
    await migrate(engine, grant_to=SERVICE_ROLE)
    await import_catalog(engine, "1", read_catalog((SAMPLES / "store-1.json").read_text()))
    await engine.dispose()


@pytest.fixture
async def old_world(empty_world: World) -> World:
    await migrate_to(empty_world.engine, "0007")
    await empty_world.execute(*OLD.split(";\n"))
    return empty_world


async def test_a_pos_with_tables_and_revisions_of_the_same_names_notices_nothing(empty_world: World) -> None:
    await empty_world.execute(*OTHERS.split(";"))
    await installed(empty_world, "pos_sync")

    async with running(settings_for(empty_world)) as (_, client):
        assert 204 == await deliver(client)
    async with empty_world.engine.connect() as connection:
        kept = (await connection.execute(text("SELECT id, version_num FROM public.store, public.alembic_version"))).all()
        tables = await connection.scalar(text("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"))
    assert ([(7, "0001")], 3) == (kept, tables)


@pytest.mark.slow
async def test_two_installations_in_one_database_work_side_by_side(
    empty_world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    schemas = ("chain_a", "user")
    async with mipos(stores={"m-1": "1"}) as remote:
        for schema in schemas:
            await installed(empty_world, schema)
        for number, schema in enumerate(schemas, start=1):
            settings = settings_for(empty_world, database_schema=schema, **remote.settings())
            async with running(settings) as (_, client):
                while (await client.get("/readyz")).status_code != 200:  # noqa: ASYNC110 - seen from outside only
                    await asyncio.sleep(0.05)
                assert [204] * number == [await deliver(client, date=f"d{date}") for date in range(number)]
                headers = {**AUTHORIZED, "Idempotency-Key": "ticket"}
                sale = {"movements": [{"item_id": "avcc123", "kind": "sale", "quantity": "1"}]}
                assert 201 == (await client.post("/pos/stores/1/movements", json=sale, headers=headers)).status_code
    run = runner_for(empty_world.service_url, monkeypatch, tmp_path)
    for number, schema in enumerate(schemas, start=1):
        monkeypatch.setenv("DATABASE_SCHEMA", schema)
        shown = await run("ledger", "--store", "1", "--item", "avcc123", "--json")
        assert number == shown.output.count('"inventory_system"'), shown.output
        assert 0 == (await run("outbox", "list")).exit_code
    monkeypatch.setenv("DATABASE_SCHEMA", "public")
    assert "must be a schema of our own" in str((await run("stock")).exception)
    async with empty_world.engine.connect() as connection:
        strangers = "SELECT count(*) FROM pg_tables WHERE schemaname IN ('public', 'pos_sync')"
        assert 0 == await connection.scalar(text(strangers))


async def test_every_connection_leaves_out_what_others_made_in_public(world: World) -> None:
    """A function that fits better than Postgres's own, which any role may make under the default grants of Postgres 14."""
    await world.execute(
        "GRANT CREATE ON SCHEMA public TO PUBLIC",
        "CREATE FUNCTION public.concat(text, text) RETURNS text LANGUAGE sql AS $$ SELECT 'planted' $$",
        "CREATE FUNCTION public.planted(text, text) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$",
        "CREATE FUNCTION public.planted_sum(numeric, integer) RETURNS numeric LANGUAGE sql AS $$ SELECT 1e6 $$",
        "CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = public.planted)",
        "CREATE OPERATOR public.- (LEFTARG = numeric, RIGHTARG = integer, FUNCTION = public.planted_sum)",
    )
    asked = "SELECT concat('a'::text, 'b'::text), 3.5::numeric - 1"
    naive = await asyncpg.connect(world.service_url)
    assert ("planted", 1_000_000) == tuple(await naive.fetchrow(asked) or ())
    await naive.close()
    for is_pooled in (False, True):
        engine = Database(read_address(world.service_url), is_pooled=is_pooled).create_engine()
        async with engine.connect() as connection:
            found = (await connection.execute(text(asked))).one()
        await engine.dispose()
        assert ("ab", 2.5) == (found[0], float(found[1]))
    for pooler in ("none", "transaction"):
        async with running(settings_for(world, database_pooler=pooler)) as (_, client):
            assert 204 == await deliver(client, date=pooler, quantity="1")
    assert {} == await world.broken_invariants()
    assert "11.69" == str(await world.level())


@pytest.mark.parametrize("pooler", ["none", "transaction"])
async def test_an_older_installation_is_moved_with_its_rows_and_rights(old_world: World, pooler: str) -> None:
    till = f"till_{old_world.database}"
    await old_world.execute(
        f"CREATE ROLE {till}",
        f"GRANT EXECUTE ON FUNCTION record_pos_movement TO {till}",
        f"GRANT SELECT ON stock_level TO {till}",
    )

    assert head() == (await migrate(old_world.engine, grant_to=SERVICE_ROLE)).revision

    async with running(settings_for(old_world, database_pooler=pooler)) as (_, client):
        assert [204, 204] == [await deliver(client), await deliver(client)]
    async with old_world.engine.begin() as connection:
        await connection.execute(text(f"SET LOCAL ROLE {till}"))
        await connection.execute(text("SET LOCAL search_path = public"))
        left = await connection.scalar(text("SELECT record_pos_movement('1', 'avcc123', 'sale', 1, 'ticket')"))
        seen = await connection.scalar(text("SELECT quantity FROM pos_sync.stock_level"))
        remains = await connection.scalar(text("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"))
    assert (left, 0) == (seen, remains)
    assert {} == await old_world.broken_invariants()
    await old_world.execute(f"DROP OWNED BY {till}", f"DROP ROLE {till}")


async def test_tables_that_are_not_ours_are_not_moved(empty_world: World) -> None:
    """Of the same names, and even with a revision that we know: the guard of the ledger is missing."""
    await empty_world.execute(*OTHERS.replace("'0001'", "'0007'").split(";"))
    await migrate(empty_world.engine)

    async with empty_world.engine.connect() as connection:
        query = text("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        assert 3 == await connection.scalar(query)


async def test_without_the_rights_nothing_is_changed_and_the_printed_sql_lets_it(old_world: World) -> None:
    """An owner that may not create a schema, and a table that another role owns."""
    owner = f"owner_{old_world.database}"
    await old_world.execute(
        f"CREATE ROLE {owner} LOGIN",
        f"GRANT CREATE ON SCHEMA public TO {owner}",
        "DO $$ DECLARE name text; BEGIN"
        " FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'item'"
        f" LOOP EXECUTE format('ALTER TABLE %I OWNER TO {owner}', name); END LOOP; END $$",
    )
    address = make_url(old_world.owner_url).set(username=owner, password=None).render_as_string(hide_password=False)
    engine = database_of(address).create_engine()
    printed = []
    for _ in range(2):
        with pytest.raises(MissingRights, match="Nothing was changed") as refused:
            await migrate(engine, is_forced=True)
        statements = [line.strip() for line in str(refused.value).splitlines() if line.endswith(";")]
        printed += statements
        await old_world.execute(*statements)
    assert head() == (await migrate(engine, grant_to=SERVICE_ROLE, is_forced=True)).revision
    await engine.dispose()

    assert printed[0] == f"CREATE SCHEMA pos_sync AUTHORIZATION {owner};"
    assert f"ALTER TABLE public.item OWNER TO {owner};" in printed
    async with running(settings_for(old_world)) as (_, client):
        assert 204 == await deliver(client)
    await old_world.execute(f"REASSIGN OWNED BY {owner} TO CURRENT_USER", f"DROP OWNED BY {owner}", f"DROP ROLE {owner}")


async def test_a_schema_that_was_made_beforehand_is_taken(empty_world: World) -> None:
    await empty_world.execute("CREATE SCHEMA pos_sync")

    assert head() == (await migrate(empty_world.engine)).revision


@pytest.fixture
async def owned(world: World) -> AsyncIterator[str]:
    role = f"owner_{world.database}"
    await world.execute(f"CREATE ROLE {role}")
    yield role
    await world.execute(f"REASSIGN OWNED BY {role} TO CURRENT_USER", f"DROP OWNED BY {role}", f"DROP ROLE {role}")


async def test_migrate_gives_all_of_it_to_an_owner(world: World, owned: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", world.owner_url)
    assert 0 == (await run("migrate", "--owner", owned)).exit_code
    query = text(
        "SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'pos_sync' UNION"
        " SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relnamespace = 'pos_sync'::regnamespace UNION"
        " SELECT pg_get_userbyid(proowner) FROM pg_proc WHERE pronamespace = 'pos_sync'::regnamespace"
    )
    async with world.engine.connect() as connection:
        assert [owned] == list(await connection.scalars(query))
    async with running(settings_for(world)) as (_, client):
        assert 204 == await deliver(client)


async def test_the_service_s_role_may_lock_what_claiming_locks_and_a_stranger_may_not(world: World) -> None:
    stranger = f"stranger_{world.database}"
    await world.execute(f"CREATE ROLE {stranger}")
    async with world.engine.connect() as connection:
        await connection.execute(text(f"SET ROLE {stranger}"))
        with pytest.raises(ProgrammingError, match="permission denied for schema"):
            await connection.execute(text("LOCK TABLE pos_sync.outbox_claim IN ROW EXCLUSIVE MODE"))
    await world.execute(f"DROP ROLE {stranger}")


async def test_a_newer_schema_that_says_so_is_worked_with(world: World, run: Run) -> None:
    await world.execute("UPDATE alembic_version SET version_num = '9999', compatible_from = '0008'")

    migrated = await run("migrate")
    async with running(settings_for(world)) as (_, client):
        ready = await client.get("/readyz")
        assert 204 == await deliver(client)

    assert (0, 200) == (migrated.exit_code, ready.status_code)
    assert "a newer version has made it" in migrated.output


@pytest.mark.parametrize("compatible_from", ["9999", None])
async def test_a_newer_schema_that_it_cannot_work_with_is_503(world: World, compatible_from: str | None) -> None:
    """As a revision does it that old code cannot work with: what that calls is gone."""
    async with running(settings_for(world)) as (app, client):
        assert 204 == await deliver(client)
        said = "NULL" if compatible_from is None else f"'{compatible_from}'"
        await world.execute(
            f"UPDATE alembic_version SET version_num = '9999', compatible_from = {said}",
            "ALTER FUNCTION apply_movements RENAME TO apply_movements_in_another_way",
            "ALTER TABLE refused_delivery RENAME COLUMN status_code TO another_name",
        )
        app.state.service.readiness._checked_at = 0.0  # noqa: SLF001 - its answer is kept for a second
        ready = await client.get("/readyz")
        answers = [await deliver(client, date="new"), await deliver(client, external_id="unknown", date="new")]

    assert (503, [503, 503]) == (ready.status_code, answers)
    async with world.engine.connect() as connection:
        state = await read_schema_state(connection)
    assert SchemaState("9999", compatible_from) == state
    assert state.fault is not None
    assert "Deploy that version" in state.fault


async def test_a_migration_that_running_replicas_cannot_work_with_is_refused_and_names_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A made-up older replica: the present code never runs with an older schema than its own."""
    monkeypatch.setattr("app.storage.migrations.MAX_REPLICA_WAIT", timedelta(seconds=0.2))
    present, known = head(), migrations.lineage()
    monkeypatch.setattr("app.storage.migrations.head", lambda: "9999")
    monkeypatch.setattr("app.storage.migrations.lineage", lambda: ("9999", *known))
    monkeypatch.setattr("app.storage.migrations.compatible_from", lambda: "9999")
    waits: list[str] = []
    async with world.engine.begin() as connection:
        await replicas.beat(connection, "pid 1", host="till-7", version="1.0", head=present)
    with pytest.raises(OldReplicasError, match=r"till-7 \(version 1.0, pid 1\).*Stop the service.*--force"):
        await migrate(world.engine, on_wait=waits.append)
    assert "replicas to stop (till-7" in waits[0]

    monkeypatch.setattr("app.storage.migrations.compatible_from", lambda: present)
    async with world.engine.connect() as connection:
        await migrations._await_old_replicas(connection, SchemaState(present, present), waits.append)  # noqa: SLF001
    # One that has not been heard of runs no more.
    monkeypatch.setattr("app.storage.migrations.compatible_from", lambda: "9999")
    await world.execute("UPDATE replica SET seen_at = seen_at - interval '31 seconds'")
    async with world.engine.connect() as connection:
        await migrations._await_old_replicas(connection, SchemaState(present, present), waits.append)  # noqa: SLF001
    assert 1 == len(waits)


async def test_a_release_without_heartbeats_is_known_by_its_name(old_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.storage.migrations.MAX_REPLICA_WAIT", timedelta(seconds=0.2))
    # As the schema's owner too: a small installation has one role for all.
    replica = await asyncpg.connect(old_world.owner_url, server_settings={"application_name": "pos-sync"})
    with pytest.raises(OldReplicasError, match=rf"pid {replica.get_server_pid()}"):
        await migrate(old_world.engine)
    waiting = asyncio.create_task(migrate(old_world.engine, on_wait=lambda _: replica.terminate()))

    assert head() == (await waiting).revision


async def test_each_worker_says_that_it_runs_and_that_it_ends(world: World) -> None:
    query = text("SELECT head, host <> '' FROM replica")
    async with running(settings_for(world)), world.engine.connect() as connection:
        while not (rows := (await connection.execute(query)).all()):
            await connection.rollback()
            await asyncio.sleep(0.01)
    async with world.engine.connect() as connection:
        assert ([(head(), True)], []) == (rows, (await connection.execute(query)).all())


async def test_the_doctor_sees_who_may_create_who_owns_and_whether_the_guards_work(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIPOS_CLIENT_SECRET", SECRET)
    monkeypatch.setenv("MIPOS_BASE_URL", "http://127.0.0.1:1")
    await world.execute("GRANT CREATE ON SCHEMA pos_sync TO pos_sync")
    may_create = (await run("doctor")).output
    await world.execute(
        "REVOKE CREATE ON SCHEMA pos_sync FROM pos_sync",
        "ALTER TABLE stock_movement DISABLE TRIGGER stock_movement_keeps_rows",
        "ALTER TABLE stock_movement ENABLE TRIGGER stock_movement_keeps_all_rows",
    )
    unguarded = (await run("doctor")).output
    remedies = unguarded.count("ENABLE ALWAYS TRIGGER")

    assert 'REVOKE CREATE ON SCHEMA "pos_sync" FROM pos_sync;' in " ".join(may_create.split())
    assert "a superuser" in " ".join(unguarded.split())
    assert "stock_movement_keeps_rows and stock_movement_keeps_all_rows do not work always" in " ".join(unguarded.split())
    assert 2 == remedies


async def remedy_of(run: Run, name: str) -> tuple[str, str, list[str]]:
    """Verdict and reason of the doctor's check, and the statements of its remedy."""
    (check,) = [one for one in json.loads((await run("doctor", "--json")).stdout) if one["name"] == name]
    _, _, statements = check["remedy"].partition("run: ")
    return check["verdict"], check["reason"], statements.rstrip(";").split("; ")


@pytest.fixture
async def owner(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """The owner of the schema, no superuser; roles that begin with its name go with it."""
    monkeypatch.setenv("MIPOS_CLIENT_SECRET", SECRET)
    monkeypatch.setenv("MIPOS_BASE_URL", "http://127.0.0.1:1")
    name = f"owner_{secrets.token_hex(4)}"
    await world.execute(f"CREATE ROLE {name}")
    async with world.engine.begin() as connection:
        await transfer(connection, name)
    yield name
    async with world.engine.connect() as connection:
        made = list(
            await connection.scalars(text("SELECT rolname FROM pg_roles WHERE starts_with(rolname, :owner)"), {"owner": name})
        )
    for role in sorted(made, key=len, reverse=True):
        await world.execute(f"REASSIGN OWNED BY {role} TO CURRENT_USER", f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@pytest.mark.parametrize(
    ("made", "thing"),
    [
        ("SELECT", "FUNCTION record_movement"),
        ("CREATE VIEW pos_sync.seen AS SELECT 1 AS it", "VIEW seen"),
        ("CREATE MATERIALIZED VIEW pos_sync.seen AS SELECT 1 AS it", "MATERIALIZED VIEW seen"),
        ("CREATE SEQUENCE pos_sync.seen", "SEQUENCE seen"),
        ("CREATE PROCEDURE pos_sync.seen() LANGUAGE sql AS ''", "PROCEDURE seen"),
        ("SELECT", "TABLE store"),
    ],
)
async def test_the_doctor_names_what_in_the_schema_has_another_owner(
    world: World, run: Run, owner: str, made: str, thing: str
) -> None:
    kind, name = thing.rsplit(" ", 1)
    await world.execute(made, f"ALTER {kind} pos_sync.{name} OWNER TO CURRENT_USER")
    verdict, reason, statements = await remedy_of(run, "owner")
    await world.execute(*statements)
    after, *_ = await remedy_of(run, "owner")

    assert ("failed", 1, "ok") == (verdict, len(statements), after)
    assert f"{kind} pos_sync.{name}" in reason
    assert statements[0].startswith(f"ALTER {kind} pos_sync.{name}")
    assert statements[0].endswith(f" OWNER TO {owner}")


async def test_where_much_has_another_owner_one_command_gives_it(world: World, run: Run, owner: str) -> None:
    await world.execute(*(f"ALTER TABLE pos_sync.{name} OWNER TO CURRENT_USER" for name in list(SERVICE_RIGHTS)[:6]))

    verdict, reason, remedy = await remedy_of(run, "owner")

    assert ("failed", [f"pos-sync migrate --owner {owner}"]) == (verdict, remedy)
    assert reason.endswith(" and 1 more")

    # A name that SQL quotes is typed into a shell without these quotes.
    await world.execute(f'ALTER ROLE {owner} RENAME TO "Own{owner}"')
    try:
        assert [f"pos-sync migrate --owner Own{owner}"] == (await remedy_of(run, "owner"))[2]
    finally:
        await world.execute(f'ALTER ROLE "Own{owner}" RENAME TO {owner}')


@pytest.mark.parametrize("is_granted_by_another", [False, True])
async def test_the_doctor_names_who_may_act_as_the_owner(
    world: World, run: Run, owner: str, *, is_granted_by_another: bool
) -> None:
    group, till, chief = f"{owner}_group", f"{owner}_till", f"{owner}_chief"
    await world.execute(f"CREATE ROLE {group}", f"CREATE ROLE {till} NOINHERIT", f"CREATE ROLE {chief}")
    assert "ok" == (await remedy_of(run, "owner"))[0]
    if is_granted_by_another:
        await world.execute(
            f"GRANT {owner} TO {chief} WITH ADMIN OPTION", f"SET ROLE {chief}", f"GRANT {owner} TO {group}", "RESET ROLE"
        )
    else:
        await world.execute(f"GRANT {owner} TO {group}")
    await world.execute(f"GRANT {group} TO {till}")

    verdict, reason, statements = await remedy_of(run, "owner")
    await world.execute(*statements)
    after, *_ = await remedy_of(run, "owner")

    named = [chief, group, till] if is_granted_by_another else [group, till]
    assert ("failed", f"{', '.join(named)} may do what {owner} may, as a member of that role") == (verdict, reason)
    assert all(statement.startswith(f"REVOKE {owner} FROM ") for statement in statements)
    assert "ok" == after


async def test_a_member_that_can_neither_inherit_nor_take_the_role_is_none_for_the_doctor(
    world: World, run: Run, owner: str
) -> None:
    async with world.engine.connect() as connection:
        if int(str(await connection.scalar(text("SHOW server_version_num")))) < FIRST_WITH_GRANT_OPTIONS:
            pytest.skip("Before Postgres 16 a member can always take the role")
    group, till = f"{owner}_group", f"{owner}_till"
    await world.execute(
        f"CREATE ROLE {group}", f"CREATE ROLE {till}", f"GRANT {owner} TO {group} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE"
    )
    harmless = (await remedy_of(run, "owner"))[0]
    # One step is taken, the other inherited.
    await world.execute(
        f"GRANT {owner} TO {group} WITH INHERIT TRUE, SET FALSE", f"GRANT {group} TO {till} WITH INHERIT FALSE, SET TRUE"
    )
    verdict, reason, statements = await remedy_of(run, "owner")
    await world.execute(*statements)
    after, *_ = await remedy_of(run, "owner")

    assert ("ok", "failed", "ok") == (harmless, verdict, after)
    assert reason.startswith(f"{group}, {till} may do")


async def test_the_doctor_tells_of_a_service_that_can_make_itself_a_member_of_the_owner(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch, owner: str
) -> None:
    role = f"{owner}_service"
    async with world.engine.connect() as connection:
        is_old = int(str(await connection.scalar(text("SHOW server_version_num")))) < FIRST_WITH_GRANT_OPTIONS
    await world.execute(f"CREATE ROLE {role} LOGIN CREATEROLE")
    async with world.engine.begin() as connection:
        await grant(connection, role)
    monkeypatch.setenv("DATABASE_URL", database_url(world.database, user=role))
    if not is_old:
        # There the attribute alone gives no role.
        assert "ok" == (await remedy_of(run, "rights"))[0]
        await world.execute(f"GRANT {owner} TO {role} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE")

    verdict, reason, statements = await remedy_of(run, "rights")
    await world.execute(*statements)
    after, *_ = await remedy_of(run, "rights")

    wanted = f"ALTER ROLE {role} NOCREATEROLE" if is_old else f"REVOKE {owner} FROM {role} CASCADE"
    assert ("failed", [wanted], "ok") == (verdict, statements, after)
    assert f"role {role} can make itself a member of {owner}, the schema's owner" == reason
