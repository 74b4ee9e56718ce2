"""Ours against theirs, and why: by hand, and for every history that a model can make."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.stock.drift import CauseKind, Drift, LevelHistory, compare
from app.stock.reports import LedgerRow, Unapplied, UnappliedReport
from app.stock.rules import ReportedStock

START = datetime(2026, 5, 30, tzinfo=UTC)


@dataclass
class History:
    """A store's ledger and the true stock of an inventory system X, as things happen."""

    ours: Decimal = Decimal(10)
    theirs: Decimal = Decimal(10)
    reading: ReportedStock = ReportedStock.AFTER
    dated: bool = True
    rows: list[LedgerRow] = field(default_factory=list)
    unapplied: list[UnappliedReport] = field(default_factory=list)
    clock: int = 0

    def __post_init__(self) -> None:
        self._write("opening", None, self.ours, before=Decimal(0))

    def moves(self, change: str | Decimal, *, day: str | None = None, theirs: str | Decimal | None = None) -> None:
        """X moves stock, and it is applied here."""
        delta = Decimal(change)
        before_theirs = self.theirs
        self.theirs += delta
        after = self.theirs if theirs is None else Decimal(theirs)
        reported = after if self.reading is ReportedStock.AFTER else before_theirs
        self._write("inventory_system", "x", delta, reported=reported, date=day)

    def loses(self, change: str | Decimal) -> None:
        """X moves stock, and we never hear of it."""
        self.theirs += Decimal(change)

    def refuses(self, change: str | Decimal, kind: Unapplied = Unapplied.REFUSED) -> None:
        """X moves stock, and it is not applied here."""
        delta = Decimal(change)
        reported = self.theirs + delta if self.reading is ReportedStock.AFTER else self.theirs
        self.theirs += delta
        after = self.rows[-1].level_version if kind is Unapplied.SUSPECTED_DUPLICATE else None
        text, moment = self._tick(None)
        self.unapplied.append(UnappliedReport(kind, 17, "x", delta, reported, text, text, moment, after))

    def sells(self, change: str | Decimal, *, told: bool = False) -> None:
        """Somebody else moves stock here."""
        delta = Decimal(change)
        self._write("pos_sale", None, delta)
        if told:
            self.theirs += delta

    def adopts(self, system: str | None, number: Decimal | None = None) -> None:
        """An operator adopts a number."""
        target = self.ours - self.compare().drift if number is None else number
        self._write("reconcile", system, target - self.ours, note="counted")

    def compare(self) -> Drift:
        return compare(LevelHistory("1", "a", self.ours, self.rows, self.unapplied), "x", self.reading)

    def _tick(self, date: str | None) -> tuple[str, datetime]:
        self.clock += 1
        moment = START + timedelta(minutes=self.clock)
        return date or (moment.strftime("%Y-%m-%d %H:%M:%S") if self.dated else f"no date {self.clock}"), moment

    def _write(  # noqa: PLR0913 - the parts of a row
        self,
        source: str,
        system: str | None,
        delta: Decimal,
        *,
        reported: Decimal | None = None,
        date: str | None = None,
        before: Decimal | None = None,
        note: str | None = None,
    ) -> None:
        text, moment = self._tick(date)
        self.ours = (self.ours if before is None else before) + delta
        kind = 2 if delta < 0 else 1
        version = len(self.rows) + 1
        self.rows.append(LedgerRow(version, source, system, kind, abs(delta), self.ours, reported, text, text, moment, note))


def causes(drift: Drift) -> list[tuple[CauseKind, str]]:
    return [(cause.kind, str(cause.amount)) for cause in drift.causes]


def test_what_never_was_reported_has_no_drift() -> None:
    found = History().compare()

    assert (None, Decimal(0), ()) == (found.theirs, found.drift, found.causes)


@pytest.mark.parametrize("reading", list(ReportedStock))
def test_in_sync_there_is_no_cause(reading: ReportedStock) -> None:
    history = History(reading=reading)
    for change in ("-1.25", "+6", "-0.15", "-0.15"):
        history.moves(change)

    found = history.compare()

    assert (Decimal("14.45"), Decimal("14.45"), Decimal(0), ()) == (found.ours, found.theirs, found.drift, found.causes)


def test_a_gap_is_named_with_its_size_and_between_which_reports() -> None:
    history = History()
    history.moves("-1")
    history.loses("-2.5")
    history.moves("-1")

    found = history.compare()

    assert (Decimal("2.5"), [(CauseKind.GAP, "2.5")]) == (found.drift, causes(found))
    assert "changed by -2.5 between its reports of 2026-05-30 00:02:00 and 2026-05-30 00:03:00" in found.causes[0].words


@pytest.mark.parametrize("kind", list(Unapplied))
@pytest.mark.parametrize("goes_on", [True, False], ids=["reports go on", "the last report"])
def test_what_waits_explains_the_drift(kind: Unapplied, *, goes_on: bool) -> None:
    history = History()
    history.moves("-1")
    history.refuses("-4", kind)
    if goes_on:
        history.moves("+6")

    found = history.compare()

    assert (Decimal(4), [(CauseKind(kind.value), "4")]) == (found.drift, causes(found))
    assert "number 17" in found.causes[0].words


def test_what_was_refused_first_is_no_opening_difference() -> None:
    history = History()
    history.refuses("-4")
    history.moves("+1")

    assert [(CauseKind.REFUSED, "4")] == causes(history.compare())


def test_an_opening_difference_is_named() -> None:
    history = History(theirs=Decimal(13))
    history.moves("-1")
    history.moves("-1")

    assert [(CauseKind.OPENING, "-3")] == causes(history.compare())


def test_a_movement_that_came_twice_with_another_stock_is_a_suspected_double() -> None:
    history = History()
    history.moves("-1")
    history.moves("-2", day="2026-05-30 00:03:00")
    history.moves("+5", day="2026-05-30 00:03:00")
    history.theirs += 2
    history.moves("-2", day="2026-05-30 00:03:00", theirs="12")
    history.theirs = Decimal(12)
    history.moves("-1")

    assert [(CauseKind.SUSPECTED_DOUBLE, "-2")] == causes(history.compare())


@pytest.mark.parametrize("reading", list(ReportedStock))
def test_the_other_reading_is_noticed(reading: ReportedStock) -> None:
    history = History(reading=ReportedStock.BEFORE if reading is ReportedStock.AFTER else ReportedStock.AFTER)
    for change in ("-1", "-2", "-3", "+4"):
        history.moves(change)

    found = compare(LevelHistory("1", "a", history.ours, history.rows), "x", reading)

    assert [CauseKind.READING] == [cause.kind for cause in found.causes]
    assert f"REPORTED_STOCK={history.reading}" in found.causes[0].words


@pytest.mark.parametrize("told", [True, False])
def test_what_others_moved_is_no_drift(*, told: bool) -> None:
    history = History()
    history.moves("-1")
    history.sells("-2", told=told)
    history.moves("-1")
    history.sells("-0.5")

    found = history.compare()

    assert (Decimal(0), ()) == (found.drift, found.causes)
    assert (Decimal("-0.5") if told else Decimal("-2.5")) == found.not_told


def test_a_late_movement_of_monday_takes_back_nothing_that_tuesday_s_said() -> None:
    history = History()
    history.theirs -= 3
    history.moves("-1", day="2026-06-02 10:00:00")
    history.theirs += 4
    history.moves("-3", day="2026-06-01 10:00:00")

    found = history.compare()

    assert (Decimal(6), "2026-06-02 10:00:00", Decimal(0), ()) == (found.theirs, found.as_of, found.drift, found.causes)


@pytest.mark.parametrize(
    "days",
    [("yesterday", "2026-05-29"), ("2026-05-30T00:00:00Z", "2026-05-29 00:00:00")],
    ids=["no date", "with and without zone"],
)
def test_where_dates_cannot_be_compared_the_place_in_the_ledger_counts(days: tuple[str, str]) -> None:
    history = History()
    for day in days:
        history.moves("-1", day=day)

    found = history.compare()

    assert (Decimal(8), days[1], Decimal(0)) == (found.theirs, found.as_of, found.drift)


def test_a_date_in_the_future_of_its_own_delivery_is_not_believed() -> None:
    history = History()
    history.moves("-1")
    typo = history.rows[-1]
    history.rows[-1] = LedgerRow(
        typo.level_version, typo.source, "x", 2, typo.quantity, typo.balance_after, typo.reported_stock,
        "2062-05-30 00:00:00", typo.sent_at_text, typo.received_at,
    )  # fmt: skip
    history.moves("-1")

    assert Decimal(8) == history.compare().theirs


@pytest.mark.parametrize("sold", [False, True])
def test_adopting_their_number_leaves_no_drift_and_loses_nothing_that_others_moved(*, sold: bool) -> None:
    history = History(theirs=Decimal(13))
    history.moves("-1")
    history.loses("-2")
    history.moves("-1")
    if sold:
        history.sells("-0.5")

    history.adopts("x")
    adopted = history.compare()
    history.moves("-1")
    history.moves("-1")
    later = history.compare()

    assert (Decimal(0), ()) == (adopted.drift, adopted.causes)
    assert (Decimal("8.5") if sold else Decimal(9)) == adopted.ours
    assert (Decimal(0), ()) == (later.drift, later.causes)
    assert (Decimal("-0.5") if sold else Decimal(0)) == later.not_told


def test_a_number_set_by_hand_is_named_where_it_differs() -> None:
    history = History()
    history.moves("-1")
    history.adopts(None, Decimal(7))
    history.moves("-1")

    assert [(CauseKind.RECONCILED, "-2")] == causes(history.compare())
    assert "counted" in history.compare().causes[0].words


changes = st.sampled_from(["-2", "-1", "-0.25", "0", "0.125", "3", "1000"]).map(Decimal)
events = st.lists(
    st.tuples(
        st.sampled_from(["moves", "moves", "loses", "refuses", "suspects", "sells", "sells and tells", "adopts", "sets"]), changes
    ),
    max_size=25,
)


def play(history: History, happened: list[tuple[str, Decimal]]) -> None:
    for name, change in happened:
        match name:
            case "suspects":
                history.refuses(change, Unapplied.SUSPECTED_DUPLICATE)
            case "sells and tells":
                history.sells(change, told=True)
            case "adopts":
                history.adopts("x")
            case "sets":
                history.adopts(None, change)
            case _:
                getattr(history, name)(change)


@given(happened=events, reading=st.sampled_from(ReportedStock), dated=st.booleans())
def test_the_causes_always_add_up_to_the_drift_and_leave_nothing_unexplained(
    happened: list[tuple[str, Decimal]], reading: ReportedStock, *, dated: bool
) -> None:
    history = History(reading=reading, dated=dated)
    play(history, happened)

    found = history.compare()

    assert found.drift == sum((cause.amount for cause in found.causes), Decimal(0))
    assert CauseKind.UNEXPLAINED not in {cause.kind for cause in found.causes}
    assert found.theirs is None or found.ours == found.theirs + found.not_told + found.drift


@given(events.map(lambda all_of_them: [event for event in all_of_them if event[0] in {"moves", "loses", "refuses"}]))
def test_what_was_lost_and_refused_is_found_to_the_last_digit(happened: list[tuple[str, Decimal]]) -> None:
    history = History(reading=ReportedStock.AFTER)
    history.moves("-1")
    play(history, happened)
    history.moves("-1")

    found = history.compare()

    expected: dict[CauseKind, Decimal] = {}
    for name, change in happened:
        kind = {"loses": CauseKind.GAP, "refuses": CauseKind.REFUSED}.get(name)
        if kind is not None:
            expected[kind] = expected.get(kind, Decimal(0)) - change
    if all(cause.kind is not CauseKind.READING for cause in found.causes):
        got = {kind: sum((c.amount for c in found.causes if c.kind is kind), Decimal(0)) for kind in expected}
        assert expected == got
        assert set(expected) >= {cause.kind for cause in found.causes}
