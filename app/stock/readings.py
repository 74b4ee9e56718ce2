"""One reading of an inventory system's reports, and what it costs.

A report tells a stock. Which of our messages it holds, when it was made, and whether a message arrived twice is inferred. A
reading in which the stock follows from the one before costs nothing; each assumption costs. Later reports show which reading is
right, so only the newest one can leave several that are as good: then the drift is not known, by what they differ.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

from app.stock.anchors import AnchorKind
from app.stock.causes import Cause, CauseKind
from app.stock.messages import Telling
from app.stock.quantity import ZERO, to_signed
from app.stock.reports import Report

# The costs were chosen by the random histories of tests/unit/test_drift_histories.py.
TIE = 2
"""Readings that cost at most so much more than the best are as good as it."""
OVERTAKEN_TIE = 4
"""The same, where the best says that a report was made before a full synchronisation which was under way with it."""
SHIFT = 1
"""The report holds one message more or fewer than usual, of those that were on their way with it."""
TWICE = 1
"""A send whose answer was lost had arrived."""
MISSING = 1
"""The report had been on its way, and is what an earlier gap was about."""
SURELY_LATE = 1
"""It arrived before a full synchronisation had ended, so it may have been made before it, whatever it tells."""
DOUBLE = 3
"""It repeats a movement."""
FAR_SHIFT = 4
"""It lacks a message that was acknowledged long before."""
LATE = 5
"""It was made before something that arrived earlier, by its date."""
GAP = 6
"""The stock does not follow."""
UNFOUNDED_LATE = 9
"""It was made before the start, although nothing but its stock says so."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read the reports up to one of them."""

    stock: Decimal
    """Theirs at the newest anchor."""
    reached: int = 0
    """How many messages of the timeline it holds."""
    causes: tuple[Cause, ...] = ()
    cost: int = 0
    twice: tuple[int, ...] = ()
    """Places in the timeline of messages with doubtful sends, one for each of these sends that had arrived."""
    settled: int = 0
    """How many of `twice` came before the newest adopted number."""
    kind: AnchorKind | None = None
    """None: nothing is known yet, and `stock` is what it was if nothing differed."""
    report: Report | None = None
    since: str = ""
    made_after: datetime | None = None
    """When the newest anchor can have been made, at the earliest."""
    is_fresh: bool = True
    """Whether there was no report since the start or an adopted number."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Twins:
    """The movements that a resent one may repeat: (movement type, quantity) -> version and reported stock, None of ours."""

    known: Mapping[tuple[bool, Decimal], Sequence[tuple[int, Decimal | None]]] = field(default_factory=dict)

    def before(self, report: Report) -> list[tuple[int, Decimal | None]]:
        """Those that were here before this report was applied."""
        if report.unapplied is not None or not report.delta:
            return []
        same = self.known.get((report.delta > ZERO, abs(report.delta)), ())
        return [twin for twin in same if twin[0] < report.place[0]]


def tie_of(best: Reading) -> int:
    """By how much more a reading may cost and still be as good: the more the best one assumes, the less it proves."""
    kinds = [cause.kind for cause in best.causes]
    if kinds.count(CauseKind.GAP) > 1:
        return best.cost // 2
    return OVERTAKEN_TIE if CauseKind.OVERTAKEN in kinds else TIE


def waiting_cause(report: Report) -> tuple[Cause, ...]:
    """The cause that the system's own movement is, if it was not applied here."""
    waiting = report.unapplied
    if waiting is None or report.is_echo or not report.delta:
        return ()
    words = f"{to_signed(report.delta)} of {report.date_text} was not applied, number {waiting.number}"
    return (Cause(CauseKind(waiting.kind.value), report.delta.copy_negate(), words),)


def gap_cause(reading: Reading, report: Report, gap: Decimal, lost: Sequence[Telling]) -> Cause:
    """The cause that a stock is which does not follow from `reading`, by `gap`.

    A send whose answer was `lost` may be a part of it: of two amounts only their sum is known.
    """
    amount = gap.copy_negate()
    if reading.kind is None:
        words = f"since its first report that was looked at, of {report.date_text}"
        return Cause(CauseKind.OPENING, amount, words, report.place[0])
    if reading.report is not None and not reading.is_fresh:
        between = f"between its reports of {reading.report.date_text} and {report.date_text}"
    else:
        between = f"between {reading.since} and its report of {report.date_text}"
    words = f"its stock changed by {to_signed(gap)} {between} without a movement that reached us"
    if lost:
        held = " and ".join(f"{to_signed(one.delta)}, ledger row {one.level_version}" for one in lost)
        words += f"; it may hold {held}, a stock update sent twice since its answer was lost"
    return Cause(CauseKind.GAP, amount, words, report.place[0])


def double_cause(report: Report, twin: int) -> Cause:
    """The cause that a movement is which repeats that of the ledger row `twin`."""
    words = (
        f"{to_signed(report.delta)} of {report.date_text} did not change its stock: it repeats ledger row {twin} with another "
        "date or another stock"
    )
    return Cause(CauseKind.SUSPECTED_DOUBLE, report.delta, words, report.place[0])


def with_cause(reading: Reading, cause: Cause, *, place: int) -> Reading:
    """The reading with one more cause, at `place` among the others."""
    return replace(reading, causes=(*reading.causes[:place], cause, *reading.causes[place:]))
