"""Worker processes that run, so that a migration can name those that it would leave behind.

Heartbeats inform; what protects is the schema itself: a revision that old code cannot work with changes what old code calls.
"""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import delete, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.engine import APPLICATION_NAME
from app.storage.mipos_tables import replica

HEARTBEAT_SECONDS = 10.0
DEAD_AFTER = timedelta(seconds=30)
"""A process that has not been heard of for so long runs no more."""
_FORGOTTEN_AFTER = timedelta(hours=1)


async def beat(connection: AsyncConnection, replica_id: str, *, host: str, version: str, head: str) -> None:
    """Say that this process runs; its time is by the database's clock."""
    statement = insert(replica).values(replica_id=replica_id, host=host, version=version, head=head)
    # As a parameter: Citus takes no function of the clock in an upsert.
    now = await connection.scalar(select(func.clock_timestamp()))
    changed = {"host": host, "version": version, "head": head, "seen_at": now}
    await connection.execute(statement.on_conflict_do_update(index_elements=["replica_id"], set_=changed))
    await connection.execute(delete(replica).where(replica.c.seen_at < now - _FORGOTTEN_AFTER))


async def end(connection: AsyncConnection, replica_id: str) -> None:
    """Say that this process ends."""
    await connection.execute(delete(replica).where(replica.c.replica_id == replica_id))


async def running_without(connection: AsyncConnection, heads: Sequence[str]) -> list[str]:
    """Those that run and whose code knows none of `heads` as its newest revision, for a person."""
    is_alive = replica.c.seen_at > func.clock_timestamp() - DEAD_AFTER
    query = select(replica.c.host, replica.c.version, replica.c.replica_id).where(is_alive, replica.c.head.not_in(heads))
    rows = await connection.execute(query.order_by(replica.c.host, replica.c.replica_id))
    return [f"{row.host} (version {row.version}, {row.replica_id})" for row in rows]


async def connected(connection: AsyncConnection) -> list[str]:
    """Sessions of the service, for releases that send no heartbeat: by the name that they give themselves."""
    query = text(
        "SELECT 'pid ' || pid || coalesce(' at ' || host(client_addr), '') FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = :name AND pid <> pg_backend_pid()"
        " ORDER BY pid"
    )
    return list(await connection.scalars(query, {"name": APPLICATION_NAME}))
