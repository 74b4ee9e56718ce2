"""Checks of the schema: its revision, its owner, the rights of the service's role, and what keeps the ledger as it is."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.doctor.check import Check, Verdict
from app.settings import Settings
from app.storage.engine import schema_of
from app.storage.migrations import read_schema_state
from app.storage.rights import (
    Owner,
    creators,
    deputies,
    foreign_content,
    has_right,
    idle_guards,
    missing_rights,
    owner_of_schema,
    self_promotions,
)
from app.storage.schema import quoted
from app.storage.tables import stock_movement
from app.storage.transactions import is_encrypted
from app.visible_text import typed

MAX_NAMED = 5
"""Of what has another owner. More than that has one cause: the schema was made by another role."""


async def examine_schema(connection: AsyncConnection) -> Check:
    """Whether this version can work with the schema."""
    state = await read_schema_state(connection)
    if state.fault is None:
        newer = ", made by a newer version, with which this one can work" if state.is_newer else ""
        return Check("schema", Verdict.OK, f"at revision {state.revision}{newer}")
    reason, _, remedy = state.fault.rpartition(". ")
    return Check("schema", Verdict.FAILED, reason, remedy)


async def examine_encryption(connection: AsyncConnection, settings: Settings) -> Check:
    """Whether what goes to the database over a network can be read on the way."""
    if await is_encrypted(connection):
        return Check("encryption", Verdict.OK, "the connection to the database is encrypted")
    if all(host.is_near for host in settings.database_address.hosts):
        return Check("encryption", Verdict.OK, "not encrypted, and the database is on this machine or in its own network")
    remedy = "Write sslmode=verify-full into DATABASE_URL (docs/deploying.md)."
    return Check("encryption", Verdict.WARNING, "the connection to the database is not encrypted", remedy)


async def examine_rights(connection: AsyncConnection) -> Check:
    """Whether the role has what the service needs, and no more."""
    role = await connection.scalar(text("SELECT current_user"))
    missing = await missing_rights(connection)
    if missing:
        remedy = "As the schema's owner, run: pos-sync migrate --grant-to ROLE"
        return Check("rights", Verdict.FAILED, f"role {role} lacks {', '.join(missing)}", remedy)
    ways = await self_promotions(connection)
    if ways:
        owner = await owner_of_schema(connection)
        reason = f"role {role} can make itself a member of {owner.in_sql}, the schema's owner"
        return Check("rights", Verdict.FAILED, reason, f"As a superuser, run: {_statements(ways)}")
    if any([await has_right(connection, stock_movement.name, right) for right in ("INSERT", "UPDATE", "DELETE")]):
        remedy = "Let the service use a role of its own: pos-sync migrate --grant-to ROLE"
        return Check("rights", Verdict.WARNING, f"role {role} may do more than the service needs", remedy)
    return Check("rights", Verdict.OK, f"role {role} may apply movements and not write the ledger by itself")


async def examine_owner(connection: AsyncConnection) -> Check:
    """Functions of the schema run with their owner's rights: a role that could create in it, or be that owner, could use them."""
    schema = schema_of(connection)
    owner = await owner_of_schema(connection)
    faults: list[tuple[str, str]] = []
    if others := await creators(connection):
        remedy = f"As its owner, run: REVOKE CREATE ON SCHEMA {quoted(schema)} FROM {', '.join(others)};"
        faults.append((f"{', '.join(others)} may create in the schema {schema}", remedy))
    members, revokes = await deputies(connection)
    if members:
        remedy = f"As a superuser, run: {_statements(revokes)}"
        faults.append((f"{', '.join(members)} may do what {owner.in_sql} may, as a member of that role", remedy))
    if foreign := await foreign_content(connection):
        faults.append(_foreign(owner, foreign))
    if faults:
        return Check("owner", Verdict.FAILED, "; ".join(reason for reason, _ in faults), " ".join(remedy for _, remedy in faults))
    if owner.is_superuser:
        remedy = "Make a role that is none, and run: pos-sync migrate --owner ROLE"
        return Check("owner", Verdict.WARNING, f"the schema belongs to {owner.in_sql}, a superuser", remedy)
    return Check("owner", Verdict.OK, f"the schema {schema} belongs to {owner.in_sql}, and only {owner.in_sql} may create in it")


def _foreign(owner: Owner, names: list[str]) -> tuple[str, str]:
    """What is wrong with the owners of what is in the schema, and what to do."""
    reason = f"the schema belongs to {owner.in_sql}, and to another role: {', '.join(names[:MAX_NAMED])}"
    if len(names) <= MAX_NAMED:
        return reason, f"As a superuser, run: {_statements([f'ALTER {name} OWNER TO {owner.in_sql}' for name in names])}"
    return f"{reason} and {len(names) - MAX_NAMED} more", f"As a superuser, run: pos-sync migrate --owner {typed(owner.name)}"


def _statements(statements: list[str]) -> str:
    return " ".join(f"{statement};" for statement in statements)


async def examine_guards(connection: AsyncConnection) -> Check:
    """Whether no row of the ledger can be changed."""
    idle = await idle_guards(connection)
    if idle:
        remedy = "As the schema's owner, run: " + " ".join(
            f"ALTER TABLE {quoted(schema_of(connection))}.{stock_movement.name} ENABLE ALWAYS TRIGGER {name};" for name in idle
        )
        reason = f"the ledger's {' and '.join(idle)} {'does' if len(idle) == 1 else 'do'} not work always"
        return Check("guards", Verdict.FAILED, reason, remedy)
    return Check("guards", Verdict.OK, "no row of the ledger can be changed or deleted")
