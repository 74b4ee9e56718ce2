"""The waits that are stored, how long each may be, and the cut of those that a changed clock has made longer.

A wait is a time of the database's clock until which something is held or put off, or since when it has lasted. Where that clock
goes back, as at a failover, it would last by as much longer. `app.storage.leases.acquire` cuts the lease that it is asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from sqlalchemy import Column, ColumnElement, Table, true, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.storage.captures import MAX_CAPTURE_TIME
from app.storage.delivery_tables import capture
from app.storage.leases import MARGIN, SYNC_LEASE, SYNC_LEASE_PREFIX
from app.storage.mipos_tables import lease, outbox_message, sync_run
from app.storage.page_tables import page_failure, page_job
from app.storage.problem_tables import alert_message, pair_delivery, problem
from app.storage.transactions import database_now, run_transaction

CLAIM = timedelta(seconds=60)
"""How long a message is claimed to be sent"""
MAX_CALL_PAUSE = timedelta(minutes=5)
"""Between two tries of a call to mipOS"""
MAX_ALERT_PAUSE = timedelta(minutes=15)
"""Between two tries to reach the alert webhook"""
MAX_LOGIN_WAIT = timedelta(seconds=8)
"""Of a login, behind failed ones"""
_NOT_LATER = timedelta()


@dataclass(frozen=True, slots=True)
class StoredWait:
    """A stored time, how far ahead of now it may lie, and the rows where it counts."""

    time: Column[object]
    longest: timedelta
    counts: ColumnElement[bool] = field(default_factory=true)

    @property
    def name(self) -> str:
        """As a person reads it in the log."""
        return f"{self.time.table.name}.{self.time.name}"


_IS_PENDING = outbox_message.c.state == "pending"
WAITS: Sequence[StoredWait] = (
    StoredWait(outbox_message.c.claimed_until, CLAIM, _IS_PENDING),
    StoredWait(outbox_message.c.next_attempt_at, MAX_CALL_PAUSE, _IS_PENDING),
    StoredWait(lease.c.held_until, SYNC_LEASE, lease.c.name.startswith(SYNC_LEASE_PREFIX, autoescape=True)),
    StoredWait(alert_message.c.next_attempt_at, MAX_ALERT_PAUSE),
    StoredWait(page_failure.c.free_at, MAX_LOGIN_WAIT),
    # Of what is told or ended so long after them.
    StoredWait(alert_message.c.sent_at, _NOT_LATER),
    StoredWait(problem.c.looked_at, _NOT_LATER),
    StoredWait(problem.c.since, _NOT_LATER),
    StoredWait(problem.c.cleared_at, _NOT_LATER),
    StoredWait(problem.c.told_at, _NOT_LATER),
    StoredWait(pair_delivery.c.unsigned_at, _NOT_LATER),
    StoredWait(sync_run.c.started_at, _NOT_LATER),
    StoredWait(capture.c.ends_at, MAX_CAPTURE_TIME),
    StoredWait(page_job.c.beat_at, _NOT_LATER, page_job.c.ended_at.is_(None)),
)
"""The registration and the looks of the watch compare both ways by themselves."""


async def cut_waits(engine: AsyncEngine) -> dict[str, int]:
    """Cut the waits that are longer than they may be; how many there were, by name.

    The holder of a lease or a claim that is cut has lost it, and the next one still waits for its length.
    """
    cut = {}
    for wait in WAITS:
        # Each by itself, so that it holds nothing while it waits for another one.
        if found := await run_transaction(engine, partial(_cut, wait)):
            cut[wait.name] = found
    return cut


async def _cut(wait: StoredWait, connection: AsyncConnection, _driver: object) -> int:
    assert isinstance(wait.time.table, Table)
    # As a parameter: Citus takes no function of the clock beside columns.
    end = await database_now(connection) + wait.longest
    statement = update(wait.time.table).where(wait.time > end + MARGIN, wait.counts).values({wait.time.name: end})
    return (await connection.execute(statement)).rowcount
