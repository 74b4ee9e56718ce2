"""What the service's database role may do, and who owns the schema."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.delivery_tables import capture, captured_delivery, refused_delivery, suspected_duplicate
from app.storage.engine import schema_of
from app.storage.mipos_tables import (
    access_token,
    change_feed,
    change_feed_level,
    change_feed_state,
    echo_identity,
    lease,
    outbox_claim,
    outbox_message,
    replica,
    sync_run,
    system_level,
    webhook_registration,
)
from app.storage.page_tables import page_act, page_failure, page_job, page_link, page_session
from app.storage.problem_tables import alert_message, alert_state, delivery_count, pair_delivery, ping, problem
from app.storage.retention_tables import outbox_trace, prune_state
from app.storage.schema import quoted
from app.storage.seal_tables import seal_checkpoint, seal_level
from app.storage.tables import integration, item, service_rule, stock_level, stock_movement, store, supplier, unit

SERVICE_RIGHTS = {
    store.name: "SELECT, INSERT, UPDATE",
    integration.name: "SELECT, INSERT, UPDATE",
    unit.name: "SELECT, INSERT, UPDATE",
    supplier.name: "SELECT, INSERT, UPDATE",
    item.name: "SELECT, INSERT, UPDATE",
    # Written by apply_movements alone, with its owner's rights. UPDATE is for locking a level.
    stock_level.name: "SELECT, UPDATE",
    stock_movement.name: "SELECT",
    service_rule.name: "SELECT, INSERT, UPDATE",
    refused_delivery.name: "SELECT, INSERT, UPDATE",
    suspected_duplicate.name: "SELECT, INSERT, UPDATE",
    # What is captured goes after a day, and where something better comes.
    capture.name: "SELECT, INSERT, UPDATE, DELETE",
    captured_delivery.name: "SELECT, INSERT, UPDATE, DELETE",
    outbox_message.name: "SELECT, UPDATE",
    # For locking it.
    outbox_claim.name: "SELECT, UPDATE",
    sync_run.name: "SELECT, INSERT, UPDATE",
    webhook_registration.name: "SELECT, INSERT, UPDATE",
    access_token.name: "SELECT, INSERT, UPDATE",
    lease.name: "SELECT, INSERT, UPDATE, DELETE",
    echo_identity.name: "SELECT, INSERT, UPDATE",
    system_level.name: "SELECT, INSERT, UPDATE",
    change_feed.name: "SELECT, INSERT",
    change_feed_level.name: "SELECT, INSERT, UPDATE",
    change_feed_state.name: "SELECT, INSERT, UPDATE",
    replica.name: "SELECT, INSERT, UPDATE, DELETE",
    delivery_count.name: "SELECT, INSERT, UPDATE, DELETE",
    pair_delivery.name: "SELECT, INSERT, UPDATE",
    problem.name: "SELECT, INSERT, UPDATE, DELETE",
    alert_state.name: "SELECT, INSERT, UPDATE",
    alert_message.name: "SELECT, INSERT, UPDATE, DELETE",
    ping.name: "SELECT, INSERT, UPDATE, DELETE",
    seal_level.name: "SELECT, INSERT, UPDATE",
    seal_checkpoint.name: "SELECT, INSERT",
    prune_state.name: "SELECT, INSERT, UPDATE",
    outbox_trace.name: "SELECT, INSERT",
    page_session.name: "SELECT, INSERT, UPDATE, DELETE",
    page_link.name: "SELECT, INSERT, UPDATE, DELETE",
    page_failure.name: "SELECT, INSERT, UPDATE, DELETE",
    page_act.name: "SELECT, INSERT, UPDATE, DELETE",
    page_job.name: "SELECT, INSERT, UPDATE, DELETE",
    "alembic_version": "SELECT",
}
"""All that the service's database role may do, beside calling `SERVICE_FUNCTIONS`."""
SERVICE_FUNCTIONS = ("apply_movements", "prune_outbox", "prune_sync_runs")
"""Those that its statements name. What they delete is settled and old; they judge that themselves."""
READ_TABLES = (store.name, integration.name, item.name, stock_level.name, stock_movement.name)
"""What is read from a standby"""
GUARDS = ("stock_movement_keeps_rows", "stock_movement_keeps_all_rows")
"""Triggers of the ledger that let nobody change or delete a row. They work always, in replication and restores too."""

_OBJECTS = text("""
SELECT 'TABLE' AS kind, quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name, c.relowner AS owner
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = :schema AND c.relkind IN ('r', 'p') AND c.relname = ANY (CAST(:tables AS text[]))
UNION ALL
SELECT 'FUNCTION', p.oid::regprocedure::text, p.proowner
FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
WHERE n.nspname = :schema AND p.proname = ANY (CAST(:functions AS text[]))
ORDER BY 1 DESC, 2
""")
_CREATORS = text("""
SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END
FROM pg_namespace, aclexplode(nspacl) WHERE nspname = :schema AND privilege_type = 'CREATE' AND grantee <> nspowner
""")
_OWNER = text("""
SELECT rolname, quote_ident(rolname), rolsuper
FROM pg_namespace AS n JOIN pg_roles ON pg_roles.oid = n.nspowner WHERE nspname = :schema
""")
# A sequence of a column has its table's owner, and no other can be given.
_CONTENT = text("""
SELECT held.name, held.owner <> n.nspowner FROM pg_namespace AS n, LATERAL (
  SELECT CASE relkind WHEN 'v' THEN 'VIEW ' WHEN 'm' THEN 'MATERIALIZED VIEW ' WHEN 'S' THEN 'SEQUENCE '
    WHEN 'f' THEN 'FOREIGN TABLE ' ELSE 'TABLE ' END || c.oid::regclass AS name, relowner AS owner
  FROM pg_class AS c WHERE relnamespace = n.oid AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND NOT (relkind = 'S' AND EXISTS (
    SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype IN ('a', 'i')))
  UNION ALL
  SELECT CASE prokind WHEN 'p' THEN 'PROCEDURE ' WHEN 'a' THEN 'AGGREGATE ' ELSE 'FUNCTION ' END || p.oid::regprocedure, proowner
  FROM pg_proc AS p WHERE pronamespace = n.oid
) AS held WHERE n.nspname = :schema ORDER BY 1
""")
_BEFORE_16 = "CAST(current_setting('server_version_num') AS int) < 160000"
# Who may take a role that has the owner's rights. Before Postgres 16 a member always may; from 16 on a grant says so.
_DEPUTIES = f"""
SELECT r.oid, quote_ident(r.rolname) AS name FROM pg_roles AS r, pg_namespace AS n
WHERE n.nspname = :schema AND NOT r.rolsuper AND r.oid <> n.nspowner AND EXISTS (
  SELECT FROM pg_roles AS taken
  WHERE (NOT taken.rolsuper OR taken.oid = n.nspowner) AND pg_has_role(taken.oid, n.nspowner, 'USAGE')
    AND pg_has_role(r.oid, taken.oid, CASE WHEN {_BEFORE_16} THEN 'MEMBER' ELSE 'SET' END)
)
"""  # noqa: S608 - our own words
_DEPUTY_NAMES = text(f"SELECT name FROM ({_DEPUTIES}) AS deputy ORDER BY name")  # noqa: S608 - our own words
# By the grants themselves, and with the grantor: from Postgres 16 on REVOKE takes back one grantor's grant only.
_REVOKE = f"""
SELECT DISTINCT format('REVOKE %s FROM %s', quote_ident(pg_get_userbyid(m.roleid)), quote_ident(pg_get_userbyid(m.member)))
  || CASE WHEN {_BEFORE_16} OR m.grantor = 10 THEN '' ELSE ' GRANTED BY ' || quote_ident(pg_get_userbyid(m.grantor)) END
  || CASE WHEN m.admin_option THEN ' CASCADE' ELSE '' END
FROM pg_auth_members AS m JOIN pg_namespace AS n ON n.nspowner = m.roleid WHERE n.nspname = :schema AND
"""  # noqa: S608 - our own words
_DEPUTY_REVOKES = text(f"""{_REVOKE}
  (coalesce(CAST(to_jsonb(m) ->> 'set_option' AS boolean), true) OR CAST(to_jsonb(m) ->> 'inherit_option' AS boolean))
  AND EXISTS (SELECT FROM ({_DEPUTIES}) AS deputy WHERE pg_has_role(deputy.oid, m.member, 'MEMBER')) ORDER BY 1
""")
_ADMIN_REVOKES = text(f"""{_REVOKE} m.admin_option AND NOT {_BEFORE_16}
  AND pg_has_role(current_user, m.member, 'MEMBER')
  AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) ORDER BY 1
""")  # noqa: S608 - our own words
_ROLE_MAKERS = text(f"""
SELECT quote_ident(maker.rolname) FROM pg_roles AS maker, pg_roles AS own, pg_namespace AS n
WHERE n.nspname = :schema AND own.rolname = current_user AND NOT own.rolsuper AND own.oid <> n.nspowner AND {_BEFORE_16}
  AND maker.rolcreaterole AND pg_has_role(own.oid, maker.oid, 'MEMBER') ORDER BY 1
""")  # noqa: S608 - our own words
_GUARDS = text("""
SELECT tgname, CAST(tgenabled AS text) FROM pg_trigger
WHERE tgrelid = 'pos_sync.stock_movement'::regclass AND tgname = ANY (CAST(:names AS text[]))
""")
_ALWAYS = "A"
"""As pg_trigger tells it: also where a session says that it replays another server's changes, as a restore does"""


class GuardMissing(Exception):
    """A trigger that guards the ledger does not exist; the message says what to do."""


async def grant(connection: AsyncConnection, role: str) -> None:
    """Give the existing `role` just what the service needs."""
    quoted_role = await connection.scalar(text("SELECT quote_ident(:role)"), {"role": role})
    schema = quoted(schema_of(connection))
    await connection.execute(text(f"GRANT USAGE ON SCHEMA {schema} TO {quoted_role}"))
    for table, rights in SERVICE_RIGHTS.items():
        await connection.execute(text(f"REVOKE ALL ON {schema}.{table} FROM {quoted_role}"))
        await connection.execute(text(f"GRANT {rights} ON {schema}.{table} TO {quoted_role}"))
    for function in SERVICE_FUNCTIONS:
        await connection.execute(text(f"GRANT EXECUTE ON FUNCTION {schema}.{function} TO {quoted_role}"))


async def objects(
    connection: AsyncConnection, schema: str, *, tables: Sequence[str], functions: Sequence[str]
) -> list[tuple[str, str, int]]:
    """Those of the named tables and functions that are in `schema`: TABLE or FUNCTION, the full name, and the owner's oid."""
    asked = {"schema": schema, "tables": list(tables), "functions": list(functions)}
    return [(kind, name, owner) for kind, name, owner in await connection.execute(_OBJECTS, asked)]


@dataclass(frozen=True, slots=True)
class Owner:
    """A role. `in_sql` is its name as SQL writes it, with quotes where it needs them."""

    name: str
    in_sql: str
    is_superuser: bool


async def transfer(connection: AsyncConnection, role: str) -> None:
    """Make the existing `role` the owner of the schema and of all that is in it, object by object.

    REASSIGN OWNED is refused where the present owner is the role that the server was made with.
    """
    schema = schema_of(connection)
    quoted_role = await connection.scalar(text("SELECT quote_ident(:role)"), {"role": role})
    for it in list(await connection.scalars(_CONTENT, {"schema": schema})):
        await connection.execute(text(f"ALTER {it} OWNER TO {quoted_role}"))
    await connection.execute(text(f"ALTER SCHEMA {quoted(schema)} OWNER TO {quoted_role}"))


async def creators(connection: AsyncConnection) -> list[str]:
    """Who may create in the schema beside its owner: nobody should."""
    return list(await connection.scalars(_CREATORS, {"schema": schema_of(connection)}))


async def owner_of_schema(connection: AsyncConnection) -> Owner:
    """The role that owns the schema."""
    return Owner(*(await connection.execute(_OWNER, {"schema": schema_of(connection)})).one())


async def foreign_content(connection: AsyncConnection) -> list[str]:
    """What is in the schema and has another owner: its kind and its full name, as ALTER takes them."""
    return [name for name, is_foreign in await connection.execute(_CONTENT, {"schema": schema_of(connection)}) if is_foreign]


async def deputies(connection: AsyncConnection) -> tuple[list[str], list[str]]:
    """Roles that have or can take the owner's rights, superusers aside; and the statements that end it."""
    asked = {"schema": schema_of(connection)}
    return list(await connection.scalars(_DEPUTY_NAMES, asked)), list(await connection.scalars(_DEPUTY_REVOKES, asked))


async def self_promotions(connection: AsyncConnection) -> list[str]:
    """The statements without which this connection's role can make itself a member of the owner's role."""
    asked = {"schema": schema_of(connection)}
    makers = [f"ALTER ROLE {name} NOCREATEROLE" for name in await connection.scalars(_ROLE_MAKERS, asked)]
    return makers + list(await connection.scalars(_ADMIN_REVOKES, asked))


async def idle_guards(connection: AsyncConnection) -> list[str]:
    """Guards of the ledger that are missing, or do not work always."""
    found = await read_guards(connection)
    return [name for name in GUARDS if found.get(name) != _ALWAYS]


async def set_guards(connection: AsyncConnection) -> list[str]:
    """Let each guard work always, as the owner; return those that did not.

    Raises:
        GuardMissing: one does not exist. Nothing was changed.
    """
    found = await read_guards(connection)
    missing = [name for name in GUARDS if name not in found]
    if missing:
        raise GuardMissing(
            f"The ledger has no {' and no '.join(missing)}: this trigger refuses to change it. "
            "Restore the schema too, not the data alone."
        )
    idle = await idle_guards(connection)
    for name in idle:
        await connection.execute(text(f"ALTER TABLE pos_sync.stock_movement ENABLE ALWAYS TRIGGER {name}"))
    return idle


async def read_guards(connection: AsyncConnection) -> dict[str, str]:
    """The guards of the ledger that exist, and when they fire, as pg_trigger tells it."""
    return {str(name): str(state) for name, state in await connection.execute(_GUARDS, {"names": list(GUARDS)})}


async def missing_rights(connection: AsyncConnection) -> list[str]:
    """What this connection's role lacks of the service's rights, for a person."""
    return await _missing(connection, SERVICE_RIGHTS, SERVICE_FUNCTIONS)


async def missing_read_rights(connection: AsyncConnection) -> list[str]:
    """What this connection's role lacks to read from a standby, for a person."""
    return await _missing(connection, dict.fromkeys(READ_TABLES, "SELECT"), ())


async def _missing(connection: AsyncConnection, on_tables: Mapping[str, str], functions: Sequence[str]) -> list[str]:
    schema = quoted(schema_of(connection))
    missing = [
        f"{right} on {table}"
        for table, rights in on_tables.items()
        for right in rights.split(", ")
        if not await has_right(connection, table, right)
    ]
    query = text(
        "SELECT proname FROM pg_proc WHERE oid = ANY (CAST(:names AS regproc[])) AND NOT has_function_privilege(oid, 'EXECUTE')"
    )
    names = [f"{schema}.{function}" for function in functions]
    return missing + [f"EXECUTE on {name}" for name in await connection.scalars(query, {"names": names})]


async def has_right(connection: AsyncConnection, table: str, right: str) -> bool:
    """Whether this connection's role has `right` on our `table`."""
    name = f"{quoted(schema_of(connection))}.{table}"
    return bool(await connection.scalar(text("SELECT has_table_privilege(:table, :right)"), {"table": name, "right": right}))
