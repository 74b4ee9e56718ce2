"""Applying kept refused deliveries: the same reading, judging and writing as when a delivery arrives.

The signature is not looked at again: only verified bytes are kept, and the secret may have been replaced since.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.errors import Refusal, UnstorableValue
from app.receiving.body import read_report
from app.stock.movement import Applied, Known, Movement, Outcome, Refused
from app.stock.text import zone_of
from app.storage import refusals
from app.storage.ledger import apply_movements
from app.storage.levels import read_count
from app.storage.refusals import KeptDelivery, State
from app.storage.transactions import Fault, First, classify, run_transaction


class Verdict(StrEnum):
    """What became of it, or would become of it."""

    APPLIED = "applied"
    ALREADY_APPLIED = "already applied"
    REFUSED = "refused again"
    UNDECIDED = "needs a decision"
    """It happened before the level's newest count, which may have held it."""
    COUNTED = "closed, since the count held it"
    SET_ASIDE = "dismissed"
    DISMISSED = "dismissed before"
    GONE = "cannot be replayed"
    """Its body was deleted."""
    UNKNOWN = "not found"

    @property
    def is_good(self) -> bool:
        """Whether nothing is left to do."""
        return self in (Verdict.APPLIED, Verdict.ALREADY_APPLIED, Verdict.COUNTED, Verdict.SET_ASIDE)


@dataclass(frozen=True, slots=True)
class OperatorResult:
    """What became of the delivery with this number. `message` says why it was not applied, `about` which level it is about."""

    number: int
    verdict: Verdict
    message: str = ""
    about: str = ""


PREVIEW_BATCH = 500


def body_deleted(pruned_at: datetime | None) -> str:
    """For a person, of one whose body is gone."""
    return f"Its body was deleted{f' on {pruned_at:%Y-%m-%d}' if pruned_at else ''}, so it cannot be replayed."


async def replay(  # noqa: PLR0913 - what, who, why, and how
    engine: AsyncEngine,
    refused_delivery_ids: Sequence[int],
    *,
    actor: str,
    note: str | None = None,
    was_counted: bool | None = None,
    first: First = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[OperatorResult]:
    """Apply each in a transaction of its own, in the order given; again, or by two at once, changes nothing more.

    What is refused again stays open, and keeps why. A movement from before the newest count of its level is applied only where
    `was_counted` says that the count did not hold it; where it says that it did, the movement is closed. `first` begins each
    transaction.
    """
    order = _Order(actor, note, was_counted, first)
    replays = []
    for refused_delivery_id in refused_delivery_ids:
        replays.append(await _replay_one(engine, refused_delivery_id, order))
        on_progress(len(replays), len(refused_delivery_ids))
    return replays


@dataclass(frozen=True, slots=True)
class _Order:
    """Who replays, why, and what they say of counts."""

    actor: str
    note: str | None
    was_counted: bool | None
    first: First


async def dismiss(connection: AsyncConnection, refused_delivery_ids: Iterable[int], *, actor: str, note: str) -> dict[int, bool]:
    """Close open ones, with all other open refusals of the same movements; whether each was open until then."""
    numbers = sorted(set(refused_delivery_ids))
    dismissed = await refusals.dismiss(connection, numbers, actor=actor, note=note)
    return {number: number in dismissed for number in numbers}


async def reopen(
    engine: AsyncEngine, refused_delivery_ids: Sequence[int], *, actor: str, note: str, first: First = None
) -> list[KeptDelivery]:
    """Open dismissed ones again, so that they can be replayed, and are applied when they come again; those that were.

    One whose body was deleted cannot be replayed: it is folded.
    """
    async with engine.begin() as connection:
        if first is not None:
            await first(connection)
        opened = await refusals.reopen(connection, refused_delivery_ids, actor=actor, note=note)
        kept = await refusals.read(connection, opened)
    return [kept[number] for number in opened]


async def preview(
    engine: AsyncEngine, refused_delivery_ids: Sequence[int], *, was_counted: bool | None = None
) -> list[OperatorResult]:
    """Return what `replay` would do if it ran now, each on what those before it would leave.

    Applies them in one transaction and rolls it back, so deliveries about the same levels wait meanwhile.
    """

    async def work(connection: AsyncConnection, driver: asyncpg.Connection) -> list[OperatorResult]:
        replays: list[OperatorResult] = []
        for start in range(0, len(refused_delivery_ids), PREVIEW_BATCH):
            asked = refused_delivery_ids[start : start + PREVIEW_BATCH]
            kept = await refusals.read(connection, asked)
            read = {number: _read(kept[number]) for number in asked if _is_open(kept.get(number))}
            held: dict[int, OperatorResult] = {}
            for number, movement in read.items():
                counted_at = None if was_counted is False else await _count_after(connection, movement, kept[number])
                if counted_at is not None:
                    held[number] = _held(kept[number], counted_at, was_counted=was_counted)
            movements = [m for number, m in read.items() if isinstance(m, Movement) and number not in held]
            outcomes = iter(await apply_movements(driver, movements) if movements else ())
            for number in asked:
                found = read.get(number)
                if found is None:
                    replays.append(_closed(number, kept.get(number)))
                elif number in held:
                    replays.append(held[number])
                else:
                    replays.append(_as_replay(kept[number], next(outcomes) if isinstance(found, Movement) else Refused(found)))
        return replays

    return await run_transaction(engine, work, is_dry=True)


async def _replay_one(engine: AsyncEngine, refused_delivery_id: int, order: _Order) -> OperatorResult:
    actor, was_counted = order.actor, order.was_counted

    async def work(connection: AsyncConnection, driver: asyncpg.Connection) -> OperatorResult:
        delivery = (await refusals.read(connection, [refused_delivery_id])).get(refused_delivery_id)
        if delivery is None or not _is_open(delivery):
            return _closed(refused_delivery_id, delivery)
        found = _read(delivery)
        counted_at = None if was_counted is False else await _count_after(connection, found, delivery)
        if counted_at is not None:
            if was_counted:
                note = f"the count of {counted_at.isoformat()} held it{f': {order.note}' if order.note else ''}"
                await refusals.dismiss(connection, [refused_delivery_id], actor=actor, note=note)
            return _held(delivery, counted_at, was_counted=was_counted)
        (outcome,) = await apply_movements(driver, [found]) if isinstance(found, Movement) else (Refused(found),)
        # Read again under the level's lock, which orders us with other operators: one may have dismissed it meanwhile.
        left = (await refusals.read(connection, [refused_delivery_id]))[refused_delivery_id]
        if left.state is State.DISMISSED:
            await connection.rollback()
            return _closed(refused_delivery_id, left)
        if isinstance(outcome, Applied):
            # Applying it has closed all refusals of the movement; who did it, and how, is told of them here.
            await refusals.note_replayed(connection, left.delivery_key, actor=actor, note=order.note)
        elif isinstance(outcome, Refused):
            await refusals.note_replay(
                connection, refused_delivery_id, message=outcome.error.message, actor=actor, note=order.note
            )
        return _as_replay(delivery, outcome)

    try:
        return await run_transaction(engine, work, first=order.first)
    except (asyncpg.PostgresError, DBAPIError) as error:
        if classify(error) is Fault.DATA:
            return await _keep_unstorable(engine, refused_delivery_id, order)
        raise


async def _keep_unstorable(engine: AsyncEngine, refused_delivery_id: int, order: _Order) -> OperatorResult:
    refusal = UnstorableValue()
    async with engine.begin() as connection:
        if order.first is not None:
            await order.first(connection)
        await refusals.note_replay(connection, refused_delivery_id, message=refusal.message, actor=order.actor, note=order.note)
    return OperatorResult(refused_delivery_id, Verdict.REFUSED, refusal.message)


def _read(delivery: KeptDelivery) -> Movement | Refusal:
    try:
        return read_report(delivery.raw_body)
    except Refusal as refusal:
        return refusal


async def _count_after(connection: AsyncConnection, movement: Movement | Refusal, delivery: KeptDelivery) -> datetime | None:
    """The newest count of the movement's level, if the movement happened before it."""
    if isinstance(movement, Refusal):
        return None
    state = await read_count(connection, *movement.key)
    if state is None or state.counted_at is None:
        return None
    happened_at = movement.happened_at
    if movement.local_at is not None:
        happened_at = movement.local_at.replace(tzinfo=zone_of(state.timezone))
    # Without a time of its own, it happened when it first came, at the latest.
    happened_at = delivery.first_seen_at if happened_at is None else min(happened_at, delivery.first_seen_at)
    return state.counted_at if happened_at <= state.counted_at else None


def _held(delivery: KeptDelivery, counted_at: datetime, *, was_counted: bool | None) -> OperatorResult:
    number = delivery.refused_delivery_id
    if was_counted:
        return OperatorResult(number, Verdict.COUNTED, about=_about(delivery))
    message = (
        f"It happened before the count of {counted_at.isoformat(timespec='seconds')}. If the count held it, close it with "
        f"--counted; if not, apply it with --not-counted."
    )
    return OperatorResult(number, Verdict.UNDECIDED, message, _about(delivery))


def _is_open(delivery: KeptDelivery | None) -> bool:
    return delivery is not None and delivery.state is State.OPEN


def _closed(refused_delivery_id: int, delivery: KeptDelivery | None) -> OperatorResult:
    """For one that is not open."""
    if delivery is None:
        return OperatorResult(refused_delivery_id, Verdict.UNKNOWN, "There is no refused delivery with this number.")
    if delivery.state is State.FOLDED:
        message = f"{body_deleted(delivery.pruned_at)} If it comes again, it is decided then."
        return OperatorResult(refused_delivery_id, Verdict.GONE, message, _about(delivery))
    if delivery.state is State.DISMISSED:
        message = f"It was dismissed by {delivery.actor or 'somebody'}: {delivery.note or 'no note'}"
        if delivery.pruned_at is not None:
            message += f". {body_deleted(delivery.pruned_at)}"
        return OperatorResult(refused_delivery_id, Verdict.DISMISSED, message, _about(delivery))
    return OperatorResult(refused_delivery_id, Verdict.ALREADY_APPLIED, about=_about(delivery))


def _as_replay(delivery: KeptDelivery, outcome: Outcome) -> OperatorResult:
    match outcome:
        case Applied():
            return OperatorResult(delivery.refused_delivery_id, Verdict.APPLIED, about=_about(delivery))
        case Known():
            return OperatorResult(delivery.refused_delivery_id, Verdict.ALREADY_APPLIED, about=_about(delivery))
        case Refused(error):
            return OperatorResult(delivery.refused_delivery_id, Verdict.REFUSED, error.message, _about(delivery))
        case _:
            raise AssertionError("locks are waited for here, and a report has no idempotency key")


def _about(delivery: KeptDelivery) -> str:
    return f"store {delivery.store_id or '-'}, item {delivery.item_id or '-'}"
