"""Our level against the stock that an inventory system must have, and why they differ. Pure.

theirs = its newest anchor + what it was told since; drift = ours - theirs - what waits to be sent. The causes add up to drift.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal

from app.stock.anchors import Anchor, AnchorKind, SyncAnchor
from app.stock.baseline import Baselines, LevelHistory, Start, tellings_since
from app.stock.causes import Cause, CauseKind, adding_up, is_noise, total, without_repaired
from app.stock.messages import UNSENT, Message, MessageState, Timeline
from app.stock.movement import Source
from app.stock.quantity import EXACT, ZERO, to_signed
from app.stock.reader import Reader
from app.stock.readings import LATE, SURELY_LATE, Reading, Twins, tie_of
from app.stock.reports import IN_TRANSIT, LedgerRow, Report, are_late, orders_of, reports_of
from app.stock.rules import ReportedStock, stock_after

__all__ = ["Cause", "CauseKind", "Drift", "LevelHistory", "anchor_of", "compare"]

MIN_REPORTS_FOR_A_READING = 3
READING_SHARE = Decimal("0.9")
_BEFORE_ALL = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Drift:
    """Ours against one system's stock; `theirs` is None where no anchor of it is known."""

    store_id: str
    item_id: str
    inventory_system_id: str
    ours: Decimal
    theirs: Decimal | None = None
    """The stock that it must have: `reported` and what it was told since."""
    anchor: AnchorKind | None = None
    reported: Decimal | None = None
    """The stock at the anchor."""
    as_of: str | None = None
    """The anchor's own date, as it was sent."""
    received_at: datetime | None = None
    """When the anchor was received here, or the synchronisation ended."""
    told_since: Decimal = ZERO
    """The sum of the messages that were acknowledged and that the anchor does not hold."""
    pending: Decimal = ZERO
    """The sum of the messages that wait to be sent."""
    drift: Decimal = ZERO
    uncertain: Decimal = ZERO
    """By how much `theirs` may be wrong until the next anchor; 0 where it is known."""
    causes: tuple[Cause, ...] = ()
    notes: tuple[str, ...] = ()
    """What may play a part, by an amount that nobody knows."""

    @property
    def is_known(self) -> bool:
        """Whether the drift is known, and not only a bound of it."""
        return self.theirs is not None and not self.uncertain


def compare(history: LevelHistory, system_id: str, reading: ReportedStock) -> Drift:
    """The drift of `history` against `system_id`."""
    return _Comparison(history, system_id, reading).drift()


def anchor_of(history: LevelHistory, system_id: str, reading: ReportedStock) -> Anchor | None:
    """The row to store: the newest anchor in `history`, and what was acknowledged since. None where there is no anchor."""
    return _Comparison(history, system_id, reading).anchor()


class _Comparison:
    """One level against one system."""

    def __init__(self, history: LevelHistory, system_id: str, reading: ReportedStock) -> None:
        self._rows, self._pruned = history.rows, history.pruned.get(system_id, 0)
        self._history = history = history.since_pruned(system_id)
        self._system_id = system_id
        self._rule = reading
        reports = reports_of(system_id, history.rows, history.unapplied, reading)
        sync, stored = history.syncs.get(system_id), history.anchors.get(system_id)
        later = [one for one in reports if sync is None or _is_after(one, sync)]
        earlier = [one for one in reports if sync is not None and not _is_after(one, sync)]
        self._stored = stored if stored and not later and (sync is None or stored.level_version > sync.level_version) else None
        self._sync = None if self._stored else sync
        self._reports = later
        told = history.messages_to(system_id)
        if history.begun_at is not None and not self._stored:
            # What was closed before the rows begin is in the stock from which comparing starts, also where it was never told.
            told = {version: one for version, one in told.items() if not _is_over(one, history.begun_at)}
        messages = tellings_since(told, self._sync)
        if self._stored:
            messages = {version: one for version, one in messages.items() if not _is_in(self._stored, one)}
        self._timeline = Timeline(messages, {row.level_version: row.received_at for row in history.rows})
        self._baselines = Baselines(history, system_id, told, self._timeline)
        self._readings = self._read(earlier)

    def _read(self, before: Sequence[Report]) -> list[Reading]:
        """Through all reports, with a stop at the newest adopted number."""
        readings = self._start()
        adopted = self._adopted()
        split = len(self._reports) if adopted is None else sum(one.place[0] < adopted.level_version for one in self._reports)
        first, second = self._reports[:split], self._reports[split:]
        for part, earlier in ((first, before), (second, first)):
            reader = Reader(self._timeline, self._twins(), self._late(part, earlier), readings[0].since)
            for orders in orders_of(part):
                readings = reader.read(readings, orders)
            if adopted is not None and part is first:
                readings = [self._settle(one, adopted) for one in readings]
        return readings

    def _late(self, reports: Sequence[Report], earlier: Sequence[Report]) -> dict[int, int]:
        """What it costs, by the id of a report, to read it as made before the start, if there is a reason."""
        found = {id(one): LATE for one, is_late in zip(reports, are_late(reports, earlier), strict=True) if is_late}
        for one in reports:
            if self._sync and one.made_after <= self._sync.at:
                found[id(one)] = SURELY_LATE if one.received_at - IN_TRANSIT <= self._sync.at else LATE
        return found

    def _start(self) -> list[Reading]:
        """The readings before the first report."""
        if self._sync:
            start = Start(rows_after=self._sync.level_version, reports_after=self._sync.level_version, is_sync=True)
            since = f"the full synchronisation of {self._sync.at:%Y-%m-%d %H:%M:%S %Z}"
            reading = Reading(self._sync.stock, kind=AnchorKind.SYNC, since=since, made_after=self._sync.at)
            return [self._with_rest(reading, start, CauseKind.UNEXPLAINED, f"since {since}")]
        if self._stored:
            version = self._stored.level_version
            start = Start(rows_after=version, reports_after=version, unsent_after=self._stored.until)
            stock = EXACT.add(self._stored.stock, self._stored.told_since)
            reading = Reading(stock, kind=self._stored.kind, made_after=self._stored.until)
            return [self._with_rest(reading, start, CauseKind.OPENING, "since before the movements that were looked at")]
        first = min((one.place[0] for one in self._reports), default=0)
        whole = Start(rows_after=first, reports_after=0, unsent_after=_BEFORE_ALL)
        # In other words: the baseline holds what was dead by then; or what was never queued is no part of it.
        variants = [whole, replace(whole, unsent_after=None), replace(whole, rows_after=0)]
        found: dict[Decimal, Reading] = {}
        for variant in variants:
            base, causes = self._baselines.at(variant)
            found.setdefault(base, Reading(base, causes=causes, cost=2 if found else 0))
        return list(found.values())

    def _settle(self, reading: Reading, adopted: LedgerRow) -> Reading:
        """The reading after an operator adopted its number: what differed until then is settled."""
        version = adopted.level_version
        start = Start(rows_after=version, reports_after=version, unsent_after=adopted.received_at)
        words = f"the number that was adopted by ledger row {version}"
        settled = replace(reading, settled=len(reading.twice), is_fresh=True, since=words)
        if reading.kind is None:
            base, causes = self._baselines.at(start)
            return replace(settled, stock=base, reached=0, causes=causes, kind=AnchorKind.ADOPTED, made_after=adopted.received_at)
        return self._with_rest(settled, start, CauseKind.RECONCILED, f"{words} was not its stock")

    def _with_rest(self, reading: Reading, start: Start, kind: CauseKind, words: str) -> Reading:
        """The reading with the causes since `start`, and with what it differed by there."""
        base, causes = self._baselines.at(start)
        rest = EXACT.subtract(EXACT.add(base, self._timeline.sums[reading.reached]), reading.stock)
        if is_noise(rest):
            return replace(reading, stock=EXACT.add(reading.stock, rest), causes=causes)
        return replace(reading, causes=(Cause(kind, rest, words), *causes))

    def _adopted(self) -> LedgerRow | None:
        """The newest row by which an operator adopted this system's number, if nothing after it settles more."""
        least = self._sync.level_version if self._sync else self._stored.level_version if self._stored else 0
        for row in reversed(self._history.rows):
            is_adopted = row.source == Source.RECONCILE and row.inventory_system_id == self._system_id
            if is_adopted and row.level_version > least:
                return row
        return None

    def _twins(self) -> Twins:
        known: dict[tuple[bool, Decimal], list[tuple[int, Decimal | None]]] = {}
        told = {one.level_version for one in self._timeline.tellings if not one.is_open}
        # Also of rows whose messages were deleted: those were told.
        for row in self._rows:
            key = (row.delta > ZERO, row.quantity)
            if row.is_report_of(self._system_id) and row.reported_stock is not None:
                known.setdefault(key, []).append((row.level_version, stock_after(row.reported_stock, row.delta, self._rule)))
            elif row.level_version in told or row.level_version <= self._pruned:
                known.setdefault(key, []).append((row.level_version, None))
        return Twins(known)

    def _told_since(self, reading: Reading) -> Decimal:
        return self._timeline.between(reading.reached, max(reading.reached, self._timeline.closed))

    def _theirs(self, reading: Reading) -> Decimal:
        return EXACT.add(reading.stock, self._told_since(reading))

    def _difference(self, reading: Reading) -> Decimal:
        waiting = self._baselines.pending(reading.reached)
        return EXACT.subtract(EXACT.subtract(self._history.quantity, self._theirs(reading)), waiting)

    def _uncertain(self, best: Reading) -> Decimal:
        """By how much the equally good readings differ, and how much may have arrived since the anchor without our knowing."""
        drift = self._difference(best)
        good = [one for one in self._readings if one.kind is not None and one.cost <= best.cost + tie_of(best)]
        found = max(EXACT.add(abs(EXACT.subtract(self._difference(one), drift)), self._lost(one)) for one in good)
        stored = self._stored.uncertain if self._stored else ZERO
        return EXACT.add(ZERO if is_noise(found) else found, stored)

    def _lost(self, reading: Reading) -> Decimal:
        """How much may have arrived since the anchor, by sends whose answers were lost."""
        return total(
            EXACT.multiply(abs(one.delta), Decimal(one.unknown_sends - reading.twice.count(place)))
            for place, one in self._timeline.undecided(reading.reached, reading.made_after)
        )

    def anchor(self) -> Anchor | None:
        """The newest anchor as a row to store."""
        best = self._readings[0]
        found = self.drift()
        if best.kind is None or found.received_at is None:
            return None
        known = [one.place[0] for one in self._reports]
        known += [one.level_version for one in (self._sync, self._stored, self._adopted()) if one is not None]
        closed = [one.message.closed_at for one in self._timeline.tellings if one.message.closed_at is not None]
        until = max((*closed, found.received_at, *([self._stored.until] if self._stored else [])))
        stock = self._stored.stock if self._stored else best.stock
        told = EXACT.add(self._stored.told_since if self._stored else ZERO, self._told_since(best))
        return Anchor(best.kind, stock, max(known), found.received_at, found.as_of, told, until, found.uncertain)

    def drift(self) -> Drift:
        """The result."""
        best = self._readings[0]
        ours, pending = self._history.quantity, self._baselines.pending(best.reached)
        notes = best.notes + tuple(
            f"The applied delivery number {number} is dated before a count, and may be in it already."
            for number in self._history.suspects_before_count
        )
        found = Drift(self._history.store_id, self._history.item_id, self._system_id, ours, pending=pending, notes=notes)
        if best.kind is None:
            return found
        found_causes = without_repaired((*best.causes, *self._twice(best)), _REPAIRS)
        causes, drift = adding_up(found_causes, self._difference(best))
        if drift and _is_other_reading(self._history.rows, self._system_id, self._rule):
            other = ReportedStock.BEFORE if self._rule is ReportedStock.AFTER else ReportedStock.AFTER
            words = f"it reports its stock {other} each movement: set REPORTED_STOCK={other}"
            causes = [Cause(CauseKind.READING, drift, words)]
        anchor, stored = best.report, self._stored
        return replace(
            found,
            theirs=EXACT.subtract(EXACT.subtract(ours, pending), drift),
            anchor=best.kind,
            reported=anchor.stock if anchor else stored.stock if stored else best.stock,
            as_of=anchor.date_text if anchor else stored.as_of if stored else None,
            received_at=anchor.received_at if anchor else stored.at if stored else best.made_after,
            told_since=EXACT.add(self._told_since(best), stored.told_since if stored else ZERO),
            drift=drift,
            uncertain=self._uncertain(best),
            causes=tuple(causes),
        )

    def _twice(self, reading: Reading) -> list[Cause]:
        """One cause for each doubtful send that had arrived; that of a refused message cancels that it was not told."""
        causes = []
        for place in reading.twice[reading.settled :]:
            one = self._timeline.tellings[place]
            again = "stands there already, and will be sent again" if one.is_open else "was applied once more there"
            words = f"{to_signed(one.delta)}, ledger row {one.level_version}, {again}: the answer to a send of it was lost"
            causes.append(Cause(CauseKind.SENT_TWICE, one.delta.copy_negate(), words, one.level_version))
        return causes


_REPAIRS = (
    (CauseKind.SENT_TWICE, {CauseKind.DEAD, CauseKind.DISMISSED}),
    (CauseKind.REVERSED, {CauseKind.SUSPECTED_DOUBLE, CauseKind.GAP}),
)


def _is_after(report: Report, sync: SyncAnchor) -> bool:
    """Whether a report may have been made after a full synchronisation; where no row tells, by the time of its receipt."""
    version, is_unapplied = report.place
    return version > sync.level_version or (version == sync.level_version and bool(is_unapplied) and report.received_at > sync.at)


def _is_in(stored: Anchor, message: Message) -> bool:
    """Whether a stored anchor has taken the message into account."""
    return message.state in {MessageState.SENT, *UNSENT} and (message.closed_at or _BEFORE_ALL) <= stored.until


def _is_over(message: Message, moment: datetime) -> bool:
    """Whether it was decided by `moment`."""
    return message.state is not MessageState.PENDING and (message.closed_at or _BEFORE_ALL) <= moment


def _is_other_reading(rows: Sequence[LedgerRow], system_id: str, reading: ReportedStock) -> bool:
    """Whether on nearly every row the report equals our balance on the other side of the movement."""
    moved = [row for row in rows if row.inventory_system_id == system_id and row.reported_stock is not None and row.delta]
    if reading is ReportedStock.AFTER:
        matching = sum(row.reported_stock == EXACT.subtract(row.balance_after, row.delta) for row in moved)
    else:
        matching = sum(row.reported_stock == row.balance_after for row in moved)
    return len(moved) >= MIN_REPORTS_FOR_A_READING and matching > READING_SHARE * len(moved)
