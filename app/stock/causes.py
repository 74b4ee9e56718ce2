"""Why ours and theirs differ: each cause has its part of the drift."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum

from app.stock.quantity import EXACT, ZERO

NOISE = Decimal("1e-9")
"""A smaller difference is what floats leave behind in an inventory system, and no stock."""


class CauseKind(StrEnum):
    """Why ours and theirs differ."""

    REFUSED = "refused"
    SUSPECTED_DUPLICATE = "suspected_duplicate"
    SUSPECTED_DOUBLE = "suspected_double"
    """One movement was applied twice: the sender changed its date or its stock when it sent it again."""
    GAP = "gap"
    """The stock of the inventory system changed between two reports without a movement that reached us."""
    DEAD = "dead"
    """The stock update is not sent any more: mipOS refused it, or it was held after a restore."""
    DISMISSED = "dismissed"
    """An operator dismissed the stock update."""
    NOT_TOLD = "not_told"
    """No stock update was ever queued."""
    SENT_TWICE = "sent_twice"
    """The stock update arrived again: the answer to an earlier send of it was lost."""
    OVERTAKEN = "overtaken"
    """The movement arrived here after a full synchronisation or an adopted number that it came before."""
    REVERSED = "reversed"
    """An operator reversed the system's own movement, which the system is not told."""
    OPENING = "opening_difference"
    RECONCILED = "reconciled"
    READING = "reading"
    UNEXPLAINED = "unexplained"


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason, and its part of the drift."""

    kind: CauseKind
    amount: Decimal
    words: str
    level_version: int | None = None
    """The ledger row that it is about."""


def is_noise(amount: Decimal) -> bool:
    """Whether the amount is too small to be stock."""
    return abs(amount) < NOISE


def total(amounts: Iterable[Decimal]) -> Decimal:
    """The exact sum."""
    found = ZERO
    for amount in amounts:
        found = EXACT.add(found, amount)
    return found


def without_repaired(causes: Sequence[Cause], repairs: Iterable[tuple[CauseKind, set[CauseKind]]]) -> list[Cause]:
    """The causes without those that cancel each other: one of the first kind against one of the others, equal but opposite.

    Of several, the one about the same row is taken.
    """
    left = list(causes)
    for repairing, repaired in repairs:
        for cause in [one for one in left if one.kind is repairing]:
            fitting = [one for one in left if one.kind in repaired and one.amount == cause.amount.copy_negate()]
            if fitting:
                left.remove(cause)
                left.remove(min(fitting, key=lambda one: one.level_version != cause.level_version))
    return left


def adding_up(causes: Sequence[Cause], drift: Decimal) -> tuple[list[Cause], Decimal]:
    """The causes and the drift without noise; their sum is the drift, to the last digit."""
    left = [cause for cause in causes if not is_noise(cause.amount)]
    explained = total(cause.amount for cause in left)
    rest = EXACT.subtract(drift, explained)
    if not is_noise(rest):
        left.append(Cause(CauseKind.UNEXPLAINED, rest, "nothing that is known here explains it"))
        explained = drift
    if left and explained and is_noise(explained):
        largest = max(range(len(left)), key=lambda place: abs(left[place].amount))
        left[largest] = replace(left[largest], amount=EXACT.subtract(left[largest].amount, explained))
        explained = ZERO
    return left, explained
