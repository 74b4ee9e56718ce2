"""What one inventory system reported about one item in one store, put in the order in which it happened there."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from app.stock.movement import MovementType
from app.stock.rules import ReportedStock, stock_after

MAX_LEAD = timedelta(hours=26)
"""A date that is this much later than the `now` it was sent with is no date of a movement, in no two timezones."""


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """A row of the ledger, as far as comparing needs it."""

    level_version: int
    source: str
    inventory_system_id: str | None
    movement_type: int
    quantity: Decimal
    balance_after: Decimal
    reported_stock: Decimal | None
    date_text: str | None
    sent_at_text: str | None
    received_at: datetime
    note: str | None = None

    @property
    def delta(self) -> Decimal:
        """The signed change of the level."""
        return self.quantity if self.movement_type == MovementType.ADD else self.quantity.copy_negate()


class Unapplied(StrEnum):
    """Why a movement that the system made is not in the ledger."""

    REFUSED = "refused"
    SUSPECTED_DUPLICATE = "suspected_duplicate"


@dataclass(frozen=True, slots=True)
class UnappliedReport:
    """A delivery that waits for somebody. It was made after the row `after_version`, or (None) as `seen_at` tells."""

    kind: Unapplied
    number: int
    inventory_system_id: str
    delta: Decimal
    reported_stock: Decimal
    date_text: str
    sent_at_text: str
    seen_at: datetime
    after_version: int | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """One report. `stock` is the system's own after the movement, whichever way it reports."""

    place: tuple[int, int]
    """(level_version, 0) of a ledger row; (that of the row before it, 1) of what was not applied"""
    stock: Decimal
    delta: Decimal
    date_text: str
    sent_at_text: str
    received_at: datetime
    twin: tuple[int, Decimal, str] | None = None
    """What a resent movement shares with its original; None of what was not applied"""
    unapplied: UnappliedReport | None = None


def reports_of(
    system_id: str, rows: Sequence[LedgerRow], unapplied: Sequence[UnappliedReport], reading: ReportedStock
) -> list[Report]:
    """The reports of a system, oldest first.

    By the movement's own date, then `now`, then place in the ledger: a movement of Monday that arrives after Tuesday's does
    not take back what Tuesday's says. By place alone where dates cannot be compared: one is not ISO 8601, some have a zone and
    some have none, or one lies after its own `now`.
    """
    reports = [
        Report(
            (row.level_version, 0),
            stock_after(row.reported_stock, row.delta, reading),
            row.delta,
            row.date_text or "",
            row.sent_at_text or "",
            row.received_at,
            twin=(row.movement_type, row.quantity, row.date_text or ""),
        )
        for row in rows
        if row.inventory_system_id == system_id and row.reported_stock is not None
    ]
    reports += [
        Report(
            (_place_of(one, rows), 1),
            stock_after(one.reported_stock, one.delta, reading),
            one.delta,
            one.date_text,
            one.sent_at_text,
            one.seen_at,
            unapplied=one,
        )
        for one in unapplied
        if one.inventory_system_id == system_id
    ]
    reports.sort(key=lambda report: report.place)
    return _by_date(reports) or reports


def _place_of(one: UnappliedReport, rows: Sequence[LedgerRow]) -> int:
    if one.after_version is not None:
        return one.after_version
    return max((row.level_version for row in rows if row.received_at <= one.seen_at), default=0)


def _by_date(reports: Sequence[Report]) -> list[Report] | None:
    """None where dates cannot be compared."""
    dates = [_moment(report.date_text) for report in reports]
    sent = [_moment(report.sent_at_text) for report in reports]
    known = [date for date in dates if date is not None]
    if len(known) < len(reports) or len({date.tzinfo is None for date in known}) > 1:
        return None
    sent_known = [moment for moment in sent if moment is not None]
    has_sent = len(sent_known) == len(reports) and len({moment.tzinfo is None for moment in sent_known}) == 1
    for date, moment in zip(known, sent, strict=True):
        if moment is not None and date.replace(tzinfo=None) > moment.replace(tzinfo=None) + MAX_LEAD:
            return None
    keys = zip(known, sent_known if has_sent else known, (report.place for report in reports), strict=True)
    return [report for _, report in sorted(zip(keys, reports, strict=True), key=lambda pair: pair[0])]


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
