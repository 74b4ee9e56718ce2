"""A prune changes no drift: random histories, written into a real database, are compared before and after their messages go."""

import os
from datetime import timedelta
from decimal import Decimal

import pytest

from app.operator.drift import refresh
from app.operator.prune import Ages, prune
from app.stock.drift import CauseKind, Drift
from app.stock.rules import Rules
from app.storage.transactions import database_now
from tests.support.drift_database import Written, connect_x, drifts, write
from tests.support.drift_world import USUAL, WILD, play
from tests.support.drift_world import World as DriftWorld
from tests.support.world import World

HISTORIES = int(os.environ.get("POS_SYNC_PRUNED", "24"))
"""How many; POS_SYNC_PRUNED=500 looks at more."""
DAYS = 100
REST = timedelta(days=40).total_seconds()


def amounts(found: Drift) -> dict[CauseKind, Decimal]:
    causes = dict.fromkeys((cause.kind for cause in found.causes), Decimal(0))
    for cause in found.causes:
        causes[cause.kind] += cause.amount
    return {kind: amount for kind, amount in causes.items() if amount}


def number(found: Drift) -> tuple[object, ...]:
    return found.ours, found.theirs, found.pending, found.drift, found.uncertain


@pytest.mark.slow
@pytest.mark.parametrize("weights", [USUAL, WILD], ids=["usual", "wild"])
async def test_the_drift_is_the_same_after_the_messages_are_deleted(world: World, weights: dict[str, int]) -> None:
    """What is left of a cause from before the cut is told as an opening difference; no cause is made up."""
    async with world.engine.begin() as connection:
        now = await database_now(connection)
    await connect_x(world)
    worlds = []
    for seed in range(HISTORIES):
        it = play(DriftWorld(seed), weights)
        # The first part is old enough, the second is not.
        worlds.append(Written(f"w{seed}", it, now - timedelta(days=DAYS + 10) - it.moment()))
        it.pass_time(REST)
        play(it, weights)
    await write(world, worlds)
    before = await drifts(world)
    assert all(before[one.item_id].drift == one.it.compare().drift for one in worlds)

    await refresh(world.engine, Rules(), limit=10000)
    kept = await world.scalar("SELECT count(*) FROM pos_sync.outbox_message")
    expected = await prune(world.engine, Ages(outbox_days=DAYS, days=0), actor="ana", is_dry=True, max_share=1)
    pruned = await prune(world.engine, Ages(outbox_days=DAYS, days=0), actor="ana", max_share=1)
    after = await drifts(world)

    left = await world.scalar("SELECT count(*) FROM pos_sync.outbox_message")
    old = await world.scalar(f"SELECT count(*) FROM pos_sync.outbox_message WHERE closed_at < now() - interval '{DAYS} days'")
    assert pruned == expected
    assert kept - left == pruned.messages > HISTORIES
    print(f"{pruned.messages} of {kept} deleted, {old} old ones left")  # noqa: T201 - shown where it fails
    agree(before, after)

    for one in worlds:
        one.it.pass_time(REST)
        play(one.it, weights)
    await write(world, worlds)
    await refresh(world.engine, Rules(), limit=10000)
    agree({one.item_id: one.it.compare() for one in worlds}, await drifts(world))


def agree(full: dict[str, Drift], cut: dict[str, Drift]) -> None:
    for item, found in full.items():
        if not (found.is_known or cut[item].is_known) or found.uncertain or cut[item].uncertain:
            # Readings that are as good: a shorter history may leave more of them, and says so.
            assert abs(found.drift - cut[item].drift) <= found.uncertain + cut[item].uncertain, (item, found, cut[item])
            continue
        assert number(found) == number(cut[item]), (item, found, cut[item])
        assert sum(amounts(cut[item]).values()) == cut[item].drift
        assert amounts(cut[item]).keys() <= {*amounts(found), CauseKind.OPENING}, (item, found, cut[item])
        if not found.drift and not found.causes:
            assert not cut[item].causes, (item, cut[item])
