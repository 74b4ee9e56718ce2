"""Delivering what was captured: verified again, under today's secrets, and then as if it had just arrived."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from app.applying.batch_writer import BatchWriter
from app.applying.group_commit import GroupCommit
from app.receiving.body import read_delivery
from app.receiving.signature import HEADER, Key, verify
from app.stock.movement import Applied, Echo, Known, Outcome, Refused
from app.storage import captures
from app.storage.captures import CapturedDelivery
from app.storage.engine import Database
from app.storage.transactions import Connection, First

DELIVER_SECONDS = 10.0


class UnknownCaptured(Exception):
    """There is no captured delivery with this number."""


class NotVerified(Exception):
    """It does not verify under today's secrets, so it is not delivered."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """What became of it, for a person, and the secret that verified it."""

    key: Key
    outcome: str
    is_good: bool
    """Not refused."""


def verifies(captured: CapturedDelivery, secrets: Sequence[tuple[Key, bytes]]) -> Key | None:
    """The secret that verifies it today, by the rule of the webhook: one header, and no more."""
    values = [value for name, value in captured.signatures if name.lower() == HEADER.lower()]
    return verify(captured.raw_body, values[0].encode("latin-1"), secrets) if len(values) == 1 else None


async def deliver(  # noqa: PLR0913 - the database in its two forms
    database: Database,
    engine: AsyncEngine,
    captured_delivery_id: int,
    *,
    secrets: Sequence[tuple[Key, bytes]],
    actor: str,
    first: First = None,
) -> Delivered:
    """Verify one and hand it to the engine that deliveries go through, which keeps what it refuses. Again, nothing changes.

    `first` begins the transaction that notes what became of it. The engine has committed by then.

    Raises:
        UnknownCaptured: there is none, or it is older than a day.
        NotVerified: nobody but its sender knows who that was.
        TryAgain: the database is away, or the outcome is unknown. Running it again is safe.
    """
    async with engine.connect() as connection:
        captured = await captures.read(connection, captured_delivery_id)
    if captured is None:
        raise UnknownCaptured
    key = verifies(captured, secrets)
    if key is None:
        raise NotVerified
    outcome = await _submit(database, captured.raw_body)
    delivered = Delivered(key, _described(outcome), is_good=not isinstance(outcome, Refused))
    async with engine.begin() as connection:
        if first is not None:
            await first(connection)
        await captures.note_delivered(connection, captured_delivery_id, outcome=delivered.outcome, actor=actor)
    return delivered


async def _submit(database: Database, raw_body: bytes) -> Outcome:
    movement, refusal, subject = read_delivery(raw_body)
    writer = BatchWriter(Connection(database, statement_seconds=DELIVER_SECONDS, on_connect=_nothing))
    group_commit = GroupCommit(writer, waiting_line=1, observer=_Nobody())
    running = asyncio.create_task(group_commit.run())
    try:
        deadline = asyncio.get_running_loop().time() + DELIVER_SECONDS
        return await group_commit.submit(raw_body, movement=movement, refusal=refusal, subject=subject, deadline=deadline)
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def _described(outcome: Outcome) -> str:
    match outcome:
        case Applied():
            return "applied"
        case Known():
            return "already applied"
        case Echo():
            return "not applied: it equals a stock update of ours (pos-sync duplicates list)"
        case Refused(error):
            return f"refused, and kept (pos-sync refused list): {error.message}"
        case _:
            raise AssertionError("a report is decided, and has no idempotency key")


async def _nothing(_connection: asyncpg.Connection) -> None:
    """The rules are recorded by the service."""


class _Nobody:
    """Has no metrics."""

    def on_batch(self, *, size: int, seconds: float) -> None:
        """Nothing."""

    def on_fault(self, fault: str, code: str) -> None:
        """Nothing: the caller is told."""
