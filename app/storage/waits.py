"""The waits that are stored, how long each may be, and the cut of those that a changed clock has made longer.

A wait is a time of the database's clock until which something is held or put off. Where that clock goes back, as at a failover,
it would last by as much longer. `app.storage.leases.acquire` cuts the lease that it is asked for; all else is cut here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy import Column, ColumnElement, Table, true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.leases import MARGIN, SYNC_LEASE, SYNC_LEASE_PREFIX
from app.storage.mipos_tables import lease, outbox_message
from app.storage.page_tables import page_failure, page_job
from app.storage.problem_tables import alert_message, problem
from app.storage.transactions import database_now

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
class Wait:
    """A stored time, how far ahead of now it may lie, and the rows where it counts."""

    time: Column[object]
    longest: timedelta
    counts: ColumnElement[bool] = field(default_factory=true)

    @property
    def name(self) -> str:
        """As a person reads it in the log."""
        return f"{self.time.table.name}.{self.time.name}"


_IS_PENDING = outbox_message.c.state == "pending"
WAITS: Sequence[Wait] = (
    Wait(outbox_message.c.claimed_until, CLAIM, _IS_PENDING),
    Wait(outbox_message.c.next_attempt_at, MAX_CALL_PAUSE, _IS_PENDING),
    Wait(lease.c.held_until, SYNC_LEASE, lease.c.name.startswith(SYNC_LEASE_PREFIX, autoescape=True)),
    Wait(alert_message.c.next_attempt_at, MAX_ALERT_PAUSE),
    Wait(page_failure.c.free_at, MAX_LOGIN_WAIT),
    # Of what is told or ended so long after them.
    Wait(alert_message.c.sent_at, _NOT_LATER),
    Wait(problem.c.since, _NOT_LATER),
    Wait(problem.c.cleared_at, _NOT_LATER),
    Wait(problem.c.told_at, _NOT_LATER),
    Wait(page_job.c.beat_at, _NOT_LATER, page_job.c.ended_at.is_(None)),
)
"""The registration and the looks of the watch compare both ways by themselves."""


async def cut_waits(connection: AsyncConnection) -> dict[str, int]:
    """Cut the waits that are longer than they may be; how many there were, by name.

    Whoever holds a lease or a claim that is cut has lost it, and the next one still waits for its length.
    """
    # As a parameter: Citus takes no function of the clock beside columns.
    now = await database_now(connection)
    cut = {}
    for wait in WAITS:
        assert isinstance(wait.time.table, Table)
        end = now + wait.longest
        statement = update(wait.time.table).where(wait.time > end + MARGIN, wait.counts).values({wait.time.name: end})
        found = (await connection.execute(statement)).rowcount
        if found:
            cut[wait.name] = found
    return cut
