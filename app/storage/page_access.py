"""Who is logged in at the operator page, links that log in once, and failed logins. Only hashes are kept."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.page_tables import page_failure, page_link, page_session
from app.storage.transactions import database_now

FORGET_FAILURES = timedelta(minutes=15)
"""After the last one, a network has none."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Who a session or a link is for."""

    name: str
    role: str
    """viewer or operator"""


async def open_session(connection: AsyncConnection, session_hash: bytes, grant: Grant, *, lasts: timedelta) -> None:
    """Log in; sessions that are over are forgotten."""
    await connection.execute(delete(page_session).where(page_session.c.expires_at < func.now()))
    values = {"session_hash": session_hash, "name": grant.name, "role": grant.role, "expires_at": func.now() + lasts}
    await connection.execute(insert(page_session).values(values))


async def read_session(connection: AsyncConnection, session_hash: bytes) -> Grant | None:
    """None where nobody is logged in with it, or not any more."""
    table = page_session.c
    query = select(table.name, table.role).where(table.session_hash == session_hash, table.expires_at > func.now())
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else Grant(*row)


async def close_session(connection: AsyncConnection, session_hash: bytes) -> None:
    """Log out."""
    await connection.execute(delete(page_session).where(page_session.c.session_hash == session_hash))


async def put_link(connection: AsyncConnection, link_hash: bytes, grant: Grant, *, lasts: timedelta) -> None:
    """Make a link; old ones are forgotten."""
    await connection.execute(delete(page_link).where(page_link.c.expires_at < func.now()))
    values = {"link_hash": link_hash, "name": grant.name, "role": grant.role, "expires_at": func.now() + lasts}
    await connection.execute(insert(page_link).values(values))


async def spend_link(connection: AsyncConnection, link_hash: bytes) -> Grant | None:
    """Who it is for; None where it was spent, is too old, or never was."""
    table = page_link.c
    statement = (
        update(page_link)
        .where(table.link_hash == link_hash, table.spent_at.is_(None), table.expires_at > func.now())
        .values(spent_at=func.now())
        .returning(table.name, table.role)
    )
    row = (await connection.execute(statement)).one_or_none()
    return None if row is None else Grant(*row)


# One after another: each login waits until after the one before it, so that many at once are no faster. One that would have to
# wait for too long is not queued, so that it makes no other login wait for longer. In UTC, the sum is immutable: Citus takes
# nothing else in an upsert.
_QUEUE_LOGIN = text("""
INSERT INTO pos_sync.page_failure AS kept (network, failures, failed_at, free_at)
VALUES (:network, 0, :now, :now)
ON CONFLICT (network) DO UPDATE SET
  failures = CASE WHEN kept.failed_at < :forgotten THEN 0 ELSE kept.failures END,
  free_at = (
    greatest(excluded.free_at, kept.free_at) AT TIME ZONE 'UTC' + make_interval(secs => least(:max_delay, CASE
      WHEN kept.failed_at < :forgotten OR kept.failures = 0 THEN 0 ELSE 0.25 * 2 ^ least(kept.failures, 10) END))
  ) AT TIME ZONE 'UTC'
WHERE kept.free_at <= :last
RETURNING free_at
""")


async def queue_login(connection: AsyncConnection, network: str, *, max_delay: float, max_wait: float) -> float | None:
    """Queue a login from `network`: the seconds that it has to wait. None where that could be longer than `max_wait`.

    A failed login makes the next ones from the same network wait longer, up to `max_delay` seconds each.
    """
    # As a parameter: Citus takes no function of the clock in an upsert.
    now = await database_now(connection)
    asked = {
        "network": network,
        "max_delay": max_delay,
        "now": now,
        "forgotten": now - FORGET_FAILURES,
        "last": now + timedelta(seconds=max_wait - max_delay),
    }
    free_at: datetime | None = await connection.scalar(_QUEUE_LOGIN, asked)
    return None if free_at is None else max(0.0, (free_at - now).total_seconds())


async def note_failure(connection: AsyncConnection, network: str) -> int:
    """Count a failed login; how many there were lately. Networks that have been quiet are forgotten."""
    quiet = page_failure.c.free_at < func.now() - FORGET_FAILURES
    await connection.execute(delete(page_failure).where(quiet, page_failure.c.network != network))
    statement = (
        update(page_failure)
        .where(page_failure.c.network == network)
        .values(failures=page_failure.c.failures + 1, failed_at=func.now())
        .returning(page_failure.c.failures)
    )
    return await connection.scalar(statement) or 0


async def forget_failures(connection: AsyncConnection, network: str) -> None:
    """After a login that worked."""
    await connection.execute(delete(page_failure).where(page_failure.c.network == network))
