"""Moves the tables of a release before 0008, which were in `public` or in a schema of their role's name, into our own schema."""

from collections.abc import Iterable

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.engine import schema_of
from app.storage.rights import objects
from app.storage.schema import quoted

OLD_SCHEMAS = "ARRAY['public', current_user::text]"
FUNCTIONS = (
    "stock_movement_is_immutable",
    "queue_outbox_messages",
    "record_pos_movement",
    "record_movement",
    "apply_movements",
    "round_half_even",
    "version_before",
    "level_at",
    "unit_of",
    "item_can_be_copied",
    "copy_item",
)
"""All that a release before 0008 made."""
TABLES = (
    "access_token",
    "alembic_version",
    "change_feed",
    "change_feed_level",
    "change_feed_state",
    "echo_identity",
    "integration",
    "item",
    "lease",
    "outbox_message",
    "refused_delivery",
    "service_rule",
    "stock_level",
    "stock_movement",
    "store",
    "supplier",
    "suspected_duplicate",
    "sync_run",
    "system_level",
    "unit",
    "webhook_registration",
)
"""Those too. A table of any other name there is another software's, though a later release of ours may have one so called."""

# Ours by the guard of the ledger, which no other software has, and by the one revision that is recorded.
_RECOGNISED = text(f"""
SELECT n.nspname FROM pg_trigger AS t
JOIN pg_class AS c ON c.oid = t.tgrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_proc AS p ON p.oid = t.tgfoid
WHERE c.relname = 'stock_movement' AND t.tgname = 'stock_movement_keeps_rows' AND p.proname = 'stock_movement_is_immutable'
  AND n.nspname = ANY ({OLD_SCHEMAS}) AND n.nspname <> :schema
  AND EXISTS (SELECT FROM pg_class AS v WHERE v.relnamespace = n.oid AND v.relname = 'alembic_version')
ORDER BY n.nspname = 'public' DESC LIMIT 1
""")  # noqa: S608 - our own words
_STATE = text("""
SELECT
  EXISTS (SELECT FROM pg_namespace WHERE nspname = :schema) AS is_there,
  coalesce((SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace WHERE nspname = :schema), false) AS may_fill,
  has_database_privilege(current_database(), 'CREATE') AS may_create,
  quote_ident(current_user) AS role,
  quote_ident(current_database()) AS database
""")
_FOREIGN = text("SELECT NOT pg_has_role(current_user, CAST(:owner AS oid), 'USAGE')")
_GRANTEES = text("""
SELECT DISTINCT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END FROM (
  SELECT relowner AS owner, relacl AS acl FROM pg_class WHERE relnamespace = to_regnamespace(:schema)
  UNION ALL SELECT proowner, proacl FROM pg_proc WHERE pronamespace = to_regnamespace(:schema)
) AS held, aclexplode(acl) WHERE grantee <> owner
""")
_CALLERS = text("""
SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END
FROM pg_proc, aclexplode(proacl)
WHERE pronamespace = to_regnamespace(:schema) AND proname = 'record_pos_movement' AND grantee <> proowner
""")


class MissingRights(Exception):
    """The role may not make or move the schema; the message has the SQL that lets it."""


async def make_schema(connection: AsyncConnection) -> None:
    """Make the schema where it is missing; one that was made beforehand is taken.

    Raises:
        MissingRights: the role may neither make it nor create in it.
    """
    schema = schema_of(connection)
    state = (await connection.execute(_STATE, {"schema": schema})).one()
    if state.is_there and state.may_fill:
        return
    if state.is_there or not state.may_create:
        how = "ALTER SCHEMA {} OWNER TO {};" if state.is_there else "CREATE SCHEMA {} AUTHORIZATION {};"
        raise MissingRights(
            _remedy(f'The role {state.role} may not create in the schema "{schema}"', [how.format(schema, state.role)])
        )
    await connection.execute(text(f"CREATE SCHEMA {quoted(schema)}"))


async def old_schema(connection: AsyncConnection, known: Iterable[str]) -> str | None:
    """Where a release before 0008 keeps its tables; None where there is nothing to move. `known`: the revisions before 0008."""
    schema = schema_of(connection)
    if await connection.scalar(text("SELECT to_regclass('pos_sync.stock_movement') IS NOT NULL")):
        return None
    found = await connection.scalar(_RECOGNISED, {"schema": schema})
    if found is None:
        return None
    revisions = list(await connection.scalars(text(f"SELECT version_num FROM {quoted(found)}.alembic_version")))  # noqa: S608
    return str(found) if len(revisions) == 1 and revisions[0] in set(known) else None


async def move(connection: AsyncConnection, old: str) -> None:
    """Move all of it in the caller's transaction, under one LOCK TABLE; who had rights keeps them.

    Raises:
        MissingRights: another role owns a part of it.
    """
    schema = schema_of(connection)
    found = await objects(connection, old, tables=TABLES, functions=FUNCTIONS)
    role = await connection.scalar(text("SELECT quote_ident(current_user)"))
    foreign = [(kind, name) for kind, name, owner in found if await connection.scalar(_FOREIGN, {"owner": owner})]
    if foreign:
        statements = [f"ALTER {kind} {name} OWNER TO {role};" for kind, name in foreign]
        raise MissingRights(_remedy(f"The role {role} does not own all of the tables in the schema {old}", statements))
    grantees = list(await connection.scalars(_GRANTEES, {"schema": old}))
    callers = list(await connection.scalars(_CALLERS, {"schema": old}))
    names = [name for kind, name, _ in found if kind == "TABLE"]
    await connection.execute(text(f"LOCK TABLE {', '.join(names)} IN ACCESS EXCLUSIVE MODE"))
    for kind, name, _ in found:
        if kind == "FUNCTION":
            await connection.execute(text(f"ALTER FUNCTION {name} SET search_path = {quoted(schema)}, pg_temp"))
        await connection.execute(text(f"ALTER {kind} {name} SET SCHEMA {quoted(schema)}"))
    for grantee in grantees:
        await connection.execute(text(f"GRANT USAGE ON SCHEMA {quoted(schema)} TO {grantee}"))
    if any(name.split("(")[0].endswith("record_pos_movement") for _, name, _ in found):
        await _leave_wrapper(connection, old, callers)


async def _leave_wrapper(connection: AsyncConnection, old: str, callers: Iterable[str]) -> None:
    """Under its old name, the function that tills call goes on."""
    place = quoted(old)
    await connection.execute(
        text(
            f"CREATE FUNCTION {place}.record_pos_movement(p_store_id text, p_item_id text, p_kind text, p_quantity numeric,"
            " p_idempotency_key text, p_happened_at timestamptz DEFAULT NULL) RETURNS numeric LANGUAGE sql"
            f" SET search_path = pg_catalog, pg_temp AS $$ SELECT {quoted(schema_of(connection))}.record_pos_movement("
            "p_store_id, p_item_id, p_kind, p_quantity, p_idempotency_key, p_happened_at) $$"
        )
    )
    await connection.execute(text(f"REVOKE EXECUTE ON FUNCTION {place}.record_pos_movement FROM PUBLIC"))
    for caller in callers:
        await connection.execute(text(f"GRANT EXECUTE ON FUNCTION {place}.record_pos_movement TO {caller}"))


def _remedy(what: str, statements: Iterable[str]) -> str:
    lines = "\n".join(f"  {statement}" for statement in statements)
    return f"{what}. Nothing was changed. As a superuser, or as the owner of the database, run:\n{lines}\nThen run this again."
