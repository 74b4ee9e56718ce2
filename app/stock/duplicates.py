"""Telling a copy that may be a movement of its own from a plain retry.

Two real movements share an identity only where their stock came back to the same value within one date text: +5 to 15, -5 to
10, +5 to 15. A retry carries a new `now` too, so what tells them apart is continuity: the third follows from what the system
reported last, a retry of the first does not. Source: docs/reference/mipos-api.md, "Exactly once, without an event id".
"""

from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal

from app.stock.movement import Movement
from app.stock.quantity import EXACT
from app.stock.rules import ReportedStock, stock_after


@dataclass(frozen=True, slots=True)
class LaterReport:
    """The last report of the same system about the same level after the original: applied, or itself a suspected duplicate."""

    level_version: int
    reported_stock: Decimal
    delta: Decimal
    suspected_duplicate_id: int | None = None
    same_occurrence: int | None = None
    """Its occurrence, where it is a suspected duplicate with the identity of the copy: sent once more"""


@dataclass(frozen=True, slots=True)
class Trace:
    """What the ledger, and the suspected duplicates that wait, hold of an identity."""

    occurrences: int
    sent_at_texts: Collection[str | None]
    """`now` of each of them"""
    later: LaterReport | None
    dismissed_after: Collection[tuple[int, int | None]] = ()
    """After which reports (level_version, suspected_duplicate_id) an operator has dismissed one"""
    applies_repeated: bool = False
    """Whether an operator has decided that such a delivery of this system is applied."""


def is_maybe_distinct(copy: Movement, trace: Trace, reading: ReportedStock) -> bool:
    """Whether `copy`, whose identity the ledger holds, may be another movement; never sure, so a person decides."""
    later = trace.later
    if later is None or copy.reported_stock is None or copy.sent_at_text in trace.sent_at_texts:
        return False
    if (later.level_version, later.suspected_duplicate_id) in trace.dismissed_after:
        # Nothing was reported since: it is what was dismissed, sent once more.
        return False
    before = stock_after(later.reported_stock, later.delta, reading)
    return EXACT.add(before, copy.delta) == stock_after(copy.reported_stock, copy.delta, reading)
