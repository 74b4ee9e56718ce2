"""Our level against an inventory system's last report, and why they differ. Pure.

drift = ours - theirs - what that system has not been told of. It is the sum of its causes: what the two differed by at first,
what moved in the inventory system without reaching us (a gap between two reports), and what reached us and was not applied.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from app.stock.movement import Source
from app.stock.quantity import EXACT, ZERO, to_signed
from app.stock.reports import LedgerRow, Report, UnappliedReport, reports_of
from app.stock.rules import ReportedStock

MIN_REPORTS_FOR_A_READING = 3
READING_SHARE = Decimal("0.9")


class CauseKind(StrEnum):
    """Why ours and theirs differ."""

    REFUSED = "refused"
    SUSPECTED_DUPLICATE = "suspected_duplicate"
    SUSPECTED_DOUBLE = "suspected_double"
    """One movement was applied twice: the sender changed its date or its stock when it sent it again"""
    GAP = "gap"
    """The stock of the inventory system changed between two reports without a movement that reached us"""
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


@dataclass(frozen=True, slots=True)
class LevelHistory:
    """One item in one store: its level, its newest ledger rows (oldest first), and what waits to be applied."""

    store_id: str
    item_id: str
    quantity: Decimal
    rows: list[LedgerRow] = field(default_factory=list)
    unapplied: list[UnappliedReport] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Drift:
    """Ours against one system's last report; `theirs` is None where it has made none in the rows that were looked at."""

    store_id: str
    item_id: str
    inventory_system_id: str
    ours: Decimal
    theirs: Decimal | None = None
    as_of: str | None = None
    """The last report's own date, as it was sent"""
    received_at: datetime | None = None
    not_told: Decimal = ZERO
    """The sum of movements by others that the system does not know of"""
    drift: Decimal = ZERO
    causes: tuple[Cause, ...] = ()


def compare(history: LevelHistory, system_id: str, reading: ReportedStock) -> Drift:
    """The drift of `history` against `system_id`."""
    reports = reports_of(system_id, history.rows, history.unapplied, reading)
    if not reports:
        return Drift(history.store_id, history.item_id, system_id, history.quantity)
    account = _Account(history, system_id)
    account.go_through(reports)
    last = reports[-1]
    drift = _minus(_minus(history.quantity, last.stock), account.not_told)
    causes = account.causes
    rest = _minus(drift, _sum(cause.amount for cause in causes))
    if rest:
        causes.append(Cause(CauseKind.UNEXPLAINED, rest, "not told by the reports"))
    if drift and _is_other_reading(history.rows, system_id, reading):
        other = ReportedStock.BEFORE if reading is ReportedStock.AFTER else ReportedStock.AFTER
        words = f"it reports its stock {other} each movement: set REPORTED_STOCK={other}"
        causes = [Cause(CauseKind.READING, drift, words)]
    return Drift(
        history.store_id,
        history.item_id,
        system_id,
        history.quantity,
        theirs=last.stock,
        as_of=last.date_text,
        received_at=last.received_at,
        not_told=account.not_told,
        drift=drift,
        causes=tuple(causes),
    )


class _Account:
    """Goes through one system's reports in order, and keeps what it finds."""

    def __init__(self, history: LevelHistory, system_id: str) -> None:
        self.causes: list[Cause] = []
        self.not_told = ZERO
        self._pair = history
        self._system_id = system_id
        self._baseline = next((row for row in reversed(history.rows) if row.source == Source.RECONCILE), None)

    def go_through(self, reports: Sequence[Report]) -> None:
        """Fill `causes` and `not_told`."""
        previous, following, carried = self._start(reports)
        seen = {previous.twin}
        settled = 0 if self._baseline is None else self._baseline.level_version
        reached = max(settled, min(report.place[0] for report in (previous, *following)))
        for report in following:
            foreign = EXACT.add(carried, self._foreign(reached, report.place[0]))
            gap = _minus(_minus(report.stock, previous.stock), report.delta)
            if not self._was_told(foreign, gap):
                self.not_told = EXACT.add(self.not_told, foreign)
                if gap:
                    self._add_gap(gap, previous, report, is_twin=report.twin is not None and report.twin in seen)
            self._add_unapplied(report)
            carried, previous = ZERO, report
            reached = max(reached, report.place[0])
            seen.add(report.twin)
        since = EXACT.add(carried, self._foreign(reached, None))
        self.not_told = EXACT.add(self.not_told, since)

    def _start(self, reports: Sequence[Report]) -> tuple[Report, Sequence[Report], Decimal]:
        """The report to start from, those after it, and what the system had not been told of by then.

        From the last number that an operator adopted, if there is one: what was before it is settled.
        """
        baseline = self._baseline
        if baseline is not None:
            before = [index for index, report in enumerate(reports) if report.place[0] < baseline.level_version]
            if before:
                start = reports[before[-1]]
                difference = _minus(baseline.balance_after, start.stock)
                following = [report for report in reports[before[-1] + 1 :] if report.place[0] >= baseline.level_version]
                if baseline.inventory_system_id == self._system_id:
                    # It is this system's own number: whatever the two differ by then is what it has not been told of.
                    return start, following, difference
                self._add(CauseKind.RECONCILED, difference, f"a number was set by hand: {baseline.note}")
                return start, following, ZERO
        first = reports[0]
        earliest = min(report.place for report in reports)
        ours = self._balance_before(earliest)
        difference = _minus(ours, _minus(first.stock, first.delta))
        self._add(CauseKind.OPENING, difference, f"since its first report that was looked at, of {first.date_text}")
        self._add_unapplied(first)
        return first, reports[1:], ZERO

    @staticmethod
    def _was_told(foreign: Decimal, gap: Decimal) -> bool:
        """Whether the system knew of the movements of others (their sum: `foreign`) when it made the later of two reports.

        Inferred from its own reports: its stock changed by just that. What the outbox knows of acknowledged messages
        belongs here.
        """
        return bool(foreign) and gap == foreign

    def _foreign(self, after: int, until: int | None) -> Decimal:
        """The sum of what others moved after one place, up to another."""
        return _sum(
            row.delta
            for row in self._pair.rows
            if after < row.level_version
            and (until is None or row.level_version <= until)
            and row.inventory_system_id != self._system_id
            and row.source not in (Source.RECONCILE, Source.OPENING)
        )

    def _balance_before(self, place: tuple[int, int]) -> Decimal:
        """Our level before the row at `place`, or where something was not applied there."""
        version, is_unapplied = place
        for row in reversed(self._pair.rows):
            if row.level_version == version and not is_unapplied:
                return _minus(row.balance_after, row.delta)
            if row.level_version <= version:
                return row.balance_after
        rows = self._pair.rows
        return _minus(rows[0].balance_after, rows[0].delta) if rows else self._pair.quantity

    def _add(self, kind: CauseKind, amount: Decimal, words: str) -> None:
        if amount:
            self.causes.append(Cause(kind, amount, words))

    def _add_gap(self, gap: Decimal, previous: Report, report: Report, *, is_twin: bool) -> None:
        between = f"between its reports of {previous.date_text} and {report.date_text}"
        if is_twin and gap == report.delta.copy_negate():
            words = f"{to_signed(report.delta)} of {report.date_text} came twice, with another current_stock"
            self._add(CauseKind.SUSPECTED_DOUBLE, gap.copy_negate(), words)
        else:
            words = f"its stock changed by {to_signed(gap)} {between} without a movement"
            self._add(CauseKind.GAP, gap.copy_negate(), words)

    def _add_unapplied(self, report: Report) -> None:
        waiting = report.unapplied
        if waiting is None:
            return
        words = f"{to_signed(report.delta)} of {report.date_text} was not applied, number {waiting.number}"
        self._add(CauseKind(waiting.kind.value), report.delta.copy_negate(), words)


def _is_other_reading(rows: Sequence[LedgerRow], system_id: str, reading: ReportedStock) -> bool:
    """Whether on nearly every row the report equals our balance on the other side of the movement."""
    moved = [row for row in rows if row.inventory_system_id == system_id and row.reported_stock is not None and row.delta]
    if reading is ReportedStock.AFTER:
        matching = sum(row.reported_stock == _minus(row.balance_after, row.delta) for row in moved)
    else:
        matching = sum(row.reported_stock == row.balance_after for row in moved)
    return len(moved) >= MIN_REPORTS_FOR_A_READING and matching > READING_SHARE * len(moved)


def _minus(left: Decimal, right: Decimal) -> Decimal:
    return EXACT.subtract(left, right)


def _sum(values: Iterable[Decimal]) -> Decimal:
    total = ZERO
    for value in values:
        total = EXACT.add(total, value)
    return total
