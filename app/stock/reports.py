"""What one inventory system reported about one item in one store, in the orders in which it may have happened there."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum

from app.stock.movement import MovementType, Source
from app.stock.quantity import ZERO
from app.stock.rules import ReportedStock, stock_after

MAX_LEAD = timedelta(hours=26)
"""A date that is this much later than the `now` it was sent with is no date of a movement, in no two timezones."""

NEIGHBOURS = 2
IN_TRANSIT = timedelta(seconds=2)
"""So long a report may be on its way: a message that was acknowledged in that time may not be in it."""
CLOCK_CHANGE = timedelta(hours=1)
MIDNIGHT = time()

Place = tuple[int, int]
"""(level_version, 0) of a ledger row; (that of the row before it, 1) of what was not applied."""


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
    happened_at: datetime | None = None
    """None: when it was received."""
    refers_to: int | None = None
    """The version of the row that this one corrects or reverses."""

    @property
    def delta(self) -> Decimal:
        """The signed change of the level."""
        return self.quantity if self.movement_type == MovementType.ADD else self.quantity.copy_negate()

    def is_report_of(self, system_id: str) -> bool:
        """Whether `system_id` made this movement, and told its stock with it."""
        return (
            self.source == Source.INVENTORY_SYSTEM and self.inventory_system_id == system_id and self.reported_stock is not None
        )


class Unapplied(StrEnum):
    """Why a delivery that tells the system's stock is not in the ledger."""

    REFUSED = "refused"
    SUSPECTED_DUPLICATE = "suspected_duplicate"
    ECHO = "echo"
    """It equals a stock update that we sent: the movement is our own."""


@dataclass(frozen=True, slots=True)
class UnappliedReport:
    """A delivery that was not applied. It was made after the row `after_version`, or (None) as `seen_at` tells."""

    kind: Unapplied
    number: int
    inventory_system_id: str
    delta: Decimal
    reported_stock: Decimal
    date_text: str
    sent_at_text: str
    seen_at: datetime
    after_version: int | None = None
    echo_of: int | None = None
    """The version of the row that the echoed stock update told."""


@dataclass(frozen=True, slots=True)
class Report:
    """One report. `stock` is the system's own after the movement, whichever way it reports."""

    place: Place
    stock: Decimal
    delta: Decimal
    date_text: str
    sent_at_text: str
    received_at: datetime
    unapplied: UnappliedReport | None = None
    delay: timedelta = timedelta()
    """How much longer it was on its way than its neighbours, if its date is right."""

    @property
    def made_after(self) -> datetime:
        """When it was made, at the earliest."""
        return self.received_at - self.delay - IN_TRANSIT

    @property
    def is_echo(self) -> bool:
        """Whether its movement is ours."""
        return self.unapplied is not None and self.unapplied.kind is Unapplied.ECHO

    @property
    def change(self) -> Decimal:
        """What the system itself moved with it."""
        return ZERO if self.is_echo else self.delta


def reports_of(
    system_id: str, rows: Sequence[LedgerRow], unapplied: Sequence[UnappliedReport], reading: ReportedStock
) -> list[Report]:
    """The reports of a system in order of receipt."""
    reports = [
        Report(
            (row.level_version, 0),
            stock_after(row.reported_stock, row.delta, reading),
            row.delta,
            row.date_text or "",
            row.sent_at_text or "",
            row.received_at,
        )
        for row in rows
        if row.is_report_of(system_id) and row.reported_stock is not None
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
    reports.sort(key=lambda report: (report.place, report.received_at))
    return _with_delays(reports)


def orders_of(reports: Sequence[Report]) -> list[list[Sequence[Report]]]:
    """The reports cut into the shortest blocks that do not overlap, and of each block the orders that are likely.

    A block of one report has one order. In a longer one the dates contradict the receipt (a movement of Monday arrived after
    Tuesday's, or the clock was set back, or somebody typed a date), or the reports were on their way together. Each block is
    judged by itself, so that a late arrival in May does not change how the hour that occurs twice in October is read.
    """
    dated = by_date(reports) or reports
    blocks: list[list[Sequence[Report]]] = []
    start = 0
    # The reports that one order has seen and the other has not: a block ends where there are none.
    seen_once: set[int] = set()
    for index, (received, by_its_date) in enumerate(zip(reports, dated, strict=True)):
        seen_once ^= {id(received)}
        seen_once ^= {id(by_its_date)}
        is_last = index + 1 == len(reports)
        if not seen_once and (is_last or reports[index + 1].received_at - received.received_at > IN_TRANSIT):
            block, other = reports[start : index + 1], dated[start : index + 1]
            blocks.append([block] if list(block) == list(other) else [other, block])
            start = index + 1
    return blocks


def by_date(reports: Sequence[Report]) -> list[Report] | None:
    """The reports by the movement's own date, then `now`, then place.

    None where dates cannot be compared: one is not ISO 8601, some have a zone and some have none, or one lies after its own
    `now`.
    """
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
    places = range(len(reports))
    keys = zip(known, sent_known if has_sent else known, places, strict=True)
    return [report for _, report in sorted(zip(keys, reports, strict=True), key=lambda pair: pair[0])]


def are_late(reports: Sequence[Report], before: Sequence[Report]) -> list[bool]:
    """Of each report whether it is dated before one of `before`, all of which arrived earlier; False where dates do not tell."""
    dated = by_date([*before, *reports]) if before else None
    if dated is None:
        return [False] * len(reports)
    places = {id(report): index for index, report in enumerate(dated)}
    newest = max(places[id(report)] for report in before)
    return [places[id(report)] < newest for report in reports]


def _with_delays(reports: list[Report]) -> list[Report]:
    """The reports with their delays: how much further behind its receipt a date lies than those of the reports around it.

    Only the difference counts, so the zone of the dates does not matter. A date without a time of day tells nothing.
    """
    dates = [_moment(report.date_text) for report in reports]
    ages = [
        None if date is None or date.time() == MIDNIGHT else report.received_at.replace(tzinfo=None) - date.replace(tzinfo=None)
        for report, date in zip(reports, dates, strict=True)
    ]
    found = []
    for index, (report, age) in enumerate(zip(reports, ages, strict=True)):
        around = [one for one in ages[max(0, index - NEIGHBOURS) : index + NEIGHBOURS + 1] if one is not None]
        delay = timedelta() if age is None else age - min(around)
        # The clock may have been set back meanwhile, which takes an hour off the difference.
        found.append(replace(report, delay=delay + CLOCK_CHANGE) if delay > IN_TRANSIT else report)
    return found


def _place_of(one: UnappliedReport, rows: Sequence[LedgerRow]) -> int:
    if one.after_version is not None:
        return one.after_version
    return max((row.level_version for row in rows if row.received_at <= one.seen_at), default=0)


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
