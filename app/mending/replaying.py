"""Applying kept refused deliveries after all: the same reading, deciding and writing as when a delivery arrives.

The signature is not looked at again: only verified bytes are kept, and the secret may have been replaced since.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.errors import Refusal, UnstorableValue
from app.mending.verdict import Mended, Verdict
from app.receiving.payload import read_report, require_pos
from app.stock.applying import (
    AlreadyApplied,
    Applied,
    Busy,
    Decision,
    Knowledge,
    Level,
    LevelKey,
    NegativeStock,
    Outcome,
    Refused,
    decide,
)
from app.stock.movement import Movement
from app.storage import movements, refused_deliveries
from app.storage.engine import driver_of
from app.storage.faults import Fault, classify
from app.storage.patience import again_on_conflict, limit_waiting
from app.storage.refused_deliveries import KeptDelivery, State

PREVIEW_BATCH = 500


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings by which movements are decided."""

    pos_id: str | None
    negative_stock: NegativeStock


async def replay(
    engine: AsyncEngine,
    refused_delivery_ids: Sequence[int],
    rules: Rules,
    *,
    actor: str,
    on_each: Callable[[], None] = lambda: None,
) -> list[Mended]:
    """Apply each in a transaction of its own, in the order given; again, or by two at once, changes nothing more.

    What is refused again stays open, and keeps why.
    """
    replays = []
    for refused_delivery_id in refused_delivery_ids:
        replays.append(await _replay_one(engine, refused_delivery_id, rules, actor=actor))
        on_each()
    return replays


async def preview(engine: AsyncEngine, refused_delivery_ids: Sequence[int], rules: Rules) -> list[Mended]:
    """What `replay` would do if it ran now, each on what those before it would leave; changes nothing."""
    replays: list[Mended] = []
    levels: dict[LevelKey, Level] = {}
    identities: set[tuple[str, bytes]] = set()
    for start in range(0, len(refused_delivery_ids), PREVIEW_BATCH):
        asked = refused_delivery_ids[start : start + PREVIEW_BATCH]
        async with engine.connect() as connection:
            kept = await refused_deliveries.read(connection, asked)
            read = {number: _read(kept[number], rules) for number in asked if _is_open(kept.get(number))}
            moves = [move for move in read.values() if isinstance(move, Movement)]
            knowledge = await _read_knowledge(connection, moves, rules)
            await connection.rollback()
        decision = decide(
            moves,
            replace(knowledge, levels={**knowledge.levels, **levels}, identities={*knowledge.identities, *identities}),
        )
        levels.update(decision.levels)
        identities |= {(e.movement.store_id, e.movement.dedupe_key) for e in decision.entries if e.movement.dedupe_key}
        outcomes = iter(decision.outcomes)
        for number in asked:
            found = read.get(number)
            if found is None:
                replays.append(_closed(number, kept.get(number)))
            else:
                outcome = next(outcomes) if isinstance(found, Movement) else Refused(found)
                replays.append(_as_replay(kept[number], outcome))
    return replays


async def _replay_one(engine: AsyncEngine, refused_delivery_id: int, rules: Rules, *, actor: str) -> Mended:
    try:
        return await again_on_conflict(lambda: _try_one(engine, refused_delivery_id, rules, actor=actor))
    except asyncpg.PostgresError as error:
        if classify(error) is Fault.DATA:
            return await _keep_unstorable(engine, refused_delivery_id, actor=actor)
        raise


async def _try_one(engine: AsyncEngine, refused_delivery_id: int, rules: Rules, *, actor: str) -> Mended:
    async with engine.begin() as connection:
        await limit_waiting(connection)
        delivery = (await refused_deliveries.read(connection, [refused_delivery_id])).get(refused_delivery_id)
        if delivery is None or not _is_open(delivery):
            return _closed(refused_delivery_id, delivery)
        found = _read(delivery, rules)
        if isinstance(found, Refusal):
            await refused_deliveries.note_replay(connection, refused_delivery_id, message=found.message, actor=actor)
            return _as_replay(delivery, Refused(found))
        await _read_knowledge(connection, [found], rules)
        # Under the level's lock now, so whoever had it before us is done: what counts is what they left.
        if await refused_deliveries.lock_state(connection, refused_delivery_id) is not State.OPEN:
            left = await refused_deliveries.read(connection, [refused_delivery_id])
            return _closed(refused_delivery_id, left[refused_delivery_id])
        decision = decide([found], await _read_knowledge(connection, [found], rules))
        await _write(connection, delivery, decision, actor=actor)
        return _as_replay(delivery, decision.outcomes[0])


async def _write(connection: AsyncConnection, delivery: KeptDelivery, decision: Decision, *, actor: str) -> None:
    number, (outcome,) = delivery.refused_delivery_id, decision.outcomes
    match outcome:
        case Applied(entry):
            await refused_deliveries.close(
                connection, number, state=State.REPLAYED, actor=actor, also_fingerprint=entry.movement.dedupe_key
            )
            await movements.write(await driver_of(connection), decision.entries, decision.levels)
        case AlreadyApplied():
            await refused_deliveries.close(connection, number, state=State.RESOLVED)
        case Refused(error):
            await refused_deliveries.note_replay(connection, number, message=error.message, actor=actor)
        case Busy():
            raise AssertionError("locks are waited for here")


async def _keep_unstorable(engine: AsyncEngine, refused_delivery_id: int, *, actor: str) -> Mended:
    refusal = UnstorableValue()
    async with engine.begin() as connection:
        await refused_deliveries.note_replay(connection, refused_delivery_id, message=refusal.message, actor=actor)
    return Mended(refused_delivery_id, Verdict.REFUSED, refusal.message)


async def _read_knowledge(connection: AsyncConnection, moves: Sequence[Movement], rules: Rules) -> Knowledge:
    await limit_waiting(connection)
    driver = await driver_of(connection)
    return await movements.read_knowledge(driver, moves, default_negative_stock=rules.negative_stock)


def _read(delivery: KeptDelivery, rules: Rules) -> Movement | Refusal:
    try:
        report = read_report(delivery.raw_body)
        require_pos(report, rules.pos_id)
    except Refusal as refusal:
        return refusal
    return report.movement


def _is_open(delivery: KeptDelivery | None) -> bool:
    return delivery is not None and delivery.state is State.OPEN


def _closed(refused_delivery_id: int, delivery: KeptDelivery | None) -> Mended:
    """For one that is not open."""
    if delivery is None:
        return Mended(refused_delivery_id, Verdict.UNKNOWN, "There is no refused delivery with this number.")
    if delivery.state is State.DISMISSED:
        message = f"It was dismissed by {delivery.actor or 'somebody'}: {delivery.note or 'no note'}"
        return Mended(refused_delivery_id, Verdict.DISMISSED, message, _about(delivery))
    return Mended(refused_delivery_id, Verdict.ALREADY_APPLIED, about=_about(delivery))


def _as_replay(delivery: KeptDelivery, outcome: Outcome) -> Mended:
    match outcome:
        case Applied():
            return Mended(delivery.refused_delivery_id, Verdict.APPLIED, about=_about(delivery))
        case AlreadyApplied():
            return Mended(delivery.refused_delivery_id, Verdict.ALREADY_APPLIED, about=_about(delivery))
        case Refused(error):
            return Mended(delivery.refused_delivery_id, Verdict.REFUSED, error.message, _about(delivery))
        case Busy():
            raise AssertionError("locks are waited for here")


def _about(delivery: KeptDelivery) -> str:
    return f"store {delivery.store_id or '-'}, item {delivery.item_id or '-'}"
