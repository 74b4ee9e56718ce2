"""Random histories in which the true difference is known: the drift equals it, and the causes are those that were injected.

POS_SYNC_HISTORIES=20000 looks at more than the default. Each history is made from its number, so that a failure can be repeated.
"""

import os
from collections import Counter
from dataclasses import replace

import pytest

from app.stock.drift import CauseKind, LevelHistory, anchor_of, compare
from app.stock.rules import ReportedStock
from tests.support.drift_world import USUAL, WILD, ZERO, World, X, happen, play

HISTORIES = int(os.environ.get("POS_SYNC_HISTORIES", "200"))
READINGS = list(ReportedStock)
CALM = {"moves": 1, "sells": 1}


def judged(world: World) -> str:
    """What becomes of the drift of one history; fails where it does not add up."""
    found = world.compare()
    causes: Counter[CauseKind] = Counter()
    for cause in found.causes:
        causes[cause.kind] += cause.amount  # type: ignore[assignment]
    got = {kind: amount for kind, amount in causes.items() if amount}
    assert found.drift == sum((cause.amount for cause in found.causes), ZERO)
    assert found.theirs == found.ours - found.pending - found.drift
    assert CauseKind.UNEXPLAINED not in got
    if not found.is_known:
        return "not known" if abs(found.drift - world.injected()) <= found.uncertain else "beyond its bound"
    if found.drift != world.injected():
        return "wrong"
    if got != world.causes():
        return "other causes"
    return "right" if got else "in sync"


def judge(weights: dict[str, int], *, has_repeated_hour: bool = False, are_small: bool = False) -> Counter[str]:
    """How many of the histories come out how."""
    seen: Counter[str] = Counter()
    doubtful = []
    for seed in range(HISTORIES):
        world = World(seed, READINGS[seed % 2], has_repeated_hour=has_repeated_hour, are_small=are_small)
        outcome = judged(play(world, weights))
        seen[outcome] += 1
        if outcome in ("wrong", "beyond its bound"):
            doubtful.append(seed)
    print(dict(seen), doubtful[:20])  # noqa: T201 - shown where it fails
    return seen


def share_of_right_causes(seen: Counter[str]) -> float:
    """Of the histories in which something is known to differ."""
    return seen["right"] / (seen["right"] + seen["other causes"] + seen["wrong"])


def test_where_the_drift_is_known_it_is_what_was_injected_and_so_are_its_causes() -> None:
    seen = judge(USUAL)

    assert seen["wrong"] + seen["beyond its bound"] == 0
    assert seen["not known"] <= 0.12 * HISTORIES
    assert share_of_right_causes(seen) >= 0.95


def test_a_clock_that_is_set_back_makes_no_drift() -> None:
    assert {"in sync": HISTORIES} == judge(CALM, has_repeated_hour=True)


# A late report, a loss and the repeated hour in one history, four odd things in ten, or equal amounts of different things: there
# is more than one way to read what came, and now and then the wrong one looks better.
@pytest.mark.parametrize(
    ("weights", "world", "wrong", "right"),
    [
        (USUAL, {"has_repeated_hour": True}, 0.01, 0.95),
        (WILD, {"has_repeated_hour": True}, 0.02, 0.8),
        (USUAL, {"are_small": True}, 0.02, 0.85),
    ],
    ids=["the repeated hour", "four odd things in ten", "equal amounts"],
)
def test_in_harder_histories_it_is_hardly_ever_known_wrongly(
    weights: dict[str, int], world: dict[str, bool], wrong: float, right: float
) -> None:
    seen = judge(weights, **world)

    assert seen["wrong"] + seen["beyond its bound"] <= wrong * HISTORIES
    assert share_of_right_causes(seen) >= right


def test_a_stored_anchor_tells_the_same_drift_as_the_rows_that_it_stands_for() -> None:
    for seed in range(HISTORIES // 2):
        world = play(World(seed, READINGS[seed % 2]), USUAL)
        world.comes_up()
        world.settle()
        stored = anchor_of(world.history(), X, world.reading)
        assert stored is not None
        for name in world.chance.choices(["sells", "dead", "not told", "lost", "dismissed"], k=5):
            happen(world, name)
        world.settle()
        whole = world.history()
        # An echo is an anchor too: only what came before the stored one is cut off.
        if len(whole.unapplied) > sum(one.seen_at <= stored.until for one in whole.unapplied):
            continue
        cut = replace(
            LevelHistory("1", "a", whole.quantity, messages=whole.messages, syncs=whole.syncs, anchors={X: stored}),
            rows=[row for row in whole.rows if row.level_version > stored.level_version],
        )
        near, far = compare(cut, X, world.reading), compare(whole, X, world.reading)

        assert (far.drift, far.theirs, far.pending) == (near.drift, near.theirs, near.pending), seed
        assert near.uncertain >= far.uncertain
