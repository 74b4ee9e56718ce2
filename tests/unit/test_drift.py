"""Ours against theirs, and why: each rule by hand. Random histories are in test_drift_histories.py."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from app.stock.anchors import Anchor, AnchorKind, SyncAnchor
from app.stock.drift import CauseKind, Drift, LevelHistory, anchor_of, compare
from app.stock.messages import Message, MessageState
from app.stock.reports import LedgerRow, Unapplied, UnappliedReport
from app.stock.rules import ReportedStock

START = datetime(2026, 5, 30, tzinfo=UTC)


@dataclass
class History:
    """Our level and the true stock of an inventory system X. Each thing that happens takes a minute."""

    ours: Decimal = Decimal(10)
    theirs: Decimal = Decimal(10)
    reading: ReportedStock = ReportedStock.AFTER
    dated: bool = True
    rows: list[LedgerRow] = field(default_factory=list)
    unapplied: list[UnappliedReport] = field(default_factory=list)
    messages: dict[int, Message] = field(default_factory=dict)
    sync: SyncAnchor | None = None
    stored: Anchor | None = None
    clock: timedelta = timedelta()

    def __post_init__(self) -> None:
        opening, self.ours = self.ours, Decimal(0)
        self.writes("opening", None, opening)

    def moves(self, change: str, *, date: str | None = None, reported: str | None = None) -> None:
        """X moves stock, and it is applied here."""
        before, self.theirs = self.theirs, self.theirs + Decimal(change)
        stock = before if self.reading is ReportedStock.BEFORE else self.theirs
        self.writes("inventory_system", "x", change, stock=stock if reported is None else Decimal(reported), date=date)

    def repeats(self, change: str, *, stock: str, date: str | None = None) -> None:
        """A movement of X comes once more, and is applied here."""
        self.writes("inventory_system", "x", change, stock=Decimal(stock), date=date)

    def loses(self, change: str) -> None:
        """X moves stock, and we never hear of it."""
        self.theirs += Decimal(change)

    def keeps(self, change: str, kind: Unapplied = Unapplied.REFUSED) -> None:
        """X moves stock, and it waits here."""
        self.theirs += Decimal(change)
        after = self.rows[-1].level_version if kind is Unapplied.SUSPECTED_DUPLICATE else None
        text = self._tick()
        self.unapplied.append(UnappliedReport(kind, 17, "x", Decimal(change), self.theirs, text, text, self.now, after))

    def sells(self, change: str, state: MessageState | None = MessageState.SENT, **message: int | timedelta) -> int:
        """Somebody else moves stock here; None: no message was queued."""
        self.writes("pos_sale", None, change)
        version = self.rows[-1].level_version
        if state is not None:
            took = message.pop("took", timedelta(seconds=1))
            assert isinstance(took, timedelta)
            closed = None if state is MessageState.PENDING else self.now + took
            sent = None if state is MessageState.PENDING and not message else self.now
            self.messages[version] = Message(state, Decimal(change), closed, sent, **message)  # type: ignore[arg-type]
        if state is MessageState.SENT:
            self.theirs += Decimal(change)
        return version

    def echoes(self, version: int, *, stock: str | None = None) -> None:
        """X sends back what it was told by the row `version`."""
        text = self._tick()
        row = self.rows[version - 1]
        reported = self.theirs if stock is None else Decimal(stock)
        echo = UnappliedReport(Unapplied.ECHO, 18, "x", row.delta, reported, text, text, self.now, len(self.rows), version)
        self.unapplied.append(echo)

    def syncs(self) -> None:
        """A full synchronisation that ends done."""
        self._tick()
        self.sync = SyncAnchor(len(self.rows), self.ours, self.now)
        self.theirs = self.ours
        for version, one in self.messages.items():
            if one.state in (MessageState.PENDING, MessageState.DEAD):
                self.messages[version] = replace(one, state=MessageState.COVERED, closed_at=self.now)

    def adopts(self) -> None:
        """An operator adopts X's number."""
        self.writes("reconcile", "x", str(-self.compare().drift), note="counted")

    def reverses(self, version: int) -> None:
        """An operator reverses a movement that X made."""
        self.writes("reversal", "x", str(-self.rows[version - 1].delta), refers_to=version)

    def sets(self, number: str) -> None:
        """An operator sets a number by hand, and nobody is told."""
        self.writes("reconcile", None, str(Decimal(number) - self.ours), note="counted on Monday")

    @property
    def now(self) -> datetime:
        return START + self.clock

    def history(self) -> LevelHistory:
        return LevelHistory(
            "1",
            "a",
            self.ours,
            self.rows,
            self.unapplied,
            {("x", version): one for version, one in self.messages.items()},
            {"x": self.sync} if self.sync else {},
            {"x": self.stored} if self.stored else {},
        )

    def compare(self) -> Drift:
        found = compare(self.history(), "x", self.reading)
        assert found.drift == sum((cause.amount for cause in found.causes), Decimal(0))
        assert found.theirs is None or found.theirs == found.ours - found.pending - found.drift
        return found

    def _tick(self) -> str:
        self.clock += timedelta(minutes=1)
        return f"{self.now:%Y-%m-%d %H:%M:%S}" if self.dated else f"no date {self.clock}"

    def writes(  # noqa: PLR0913 - the parts of a row
        self,
        source: str,
        system: str | None,
        change: str | Decimal,
        *,
        stock: Decimal | None = None,
        date: str | None = None,
        note: str | None = None,
        refers_to: int | None = None,
    ) -> None:
        text, delta = self._tick(), Decimal(change)
        self.ours += delta
        kind = 2 if delta < 0 else 1
        version = len(self.rows) + 1
        self.rows.append(
            LedgerRow(
                version, source, system, kind, abs(delta), self.ours, stock, date or text, text, self.now, note, None, refers_to
            )
        )


def causes(drift: Drift) -> list[tuple[str, str]]:
    return [(cause.kind.value, format(cause.amount.normalize(), "f")) for cause in drift.causes]


def test_where_no_anchor_is_known_there_is_no_drift() -> None:
    history = History()
    history.sells("-1")
    history.sells("-2", MessageState.PENDING)

    found = history.compare()

    assert (None, Decimal(0), (), Decimal(-2)) == (found.theirs, found.drift, found.causes, found.pending)
    assert not found.is_known


@pytest.mark.parametrize("reading", list(ReportedStock))
def test_in_sync_there_is_no_cause(reading: ReportedStock) -> None:
    history = History(reading=reading)
    for change in ("-1.25", "+6", "-0.15", "-0.15"):
        history.moves(change)

    found = history.compare()

    assert (Decimal("14.45"), Decimal("14.45"), Decimal(0), ()) == (found.ours, found.theirs, found.drift, found.causes)
    assert found.is_known
    assert AnchorKind.REPORT is found.anchor


def test_a_stock_update_that_was_acknowledged_is_in_their_stock_and_a_pending_one_is_named_apart() -> None:
    history = History()
    history.moves("-1")
    history.sells("-3")
    history.sells("-0.5", MessageState.PENDING)

    found = history.compare()

    assert (Decimal(9), Decimal(-3), Decimal(6)) == (found.reported, found.told_since, found.theirs)
    assert (Decimal("-0.5"), Decimal(0), ()) == (found.pending, found.drift, found.causes)


def test_a_sale_between_two_reports_hides_no_loss() -> None:
    history = History()
    history.moves("-1")
    history.sells("-3")
    history.loses("-0.5")
    history.moves("-1")

    found = history.compare()

    assert (Decimal("0.5"), [("gap", "0.5")], True) == (found.drift, causes(found), found.is_known)
    assert (
        "its stock changed by -0.5 between its reports of 2026-05-30 00:02:00 and 2026-05-30 00:04:00 without a movement"
        in found.causes[0].words
    )


@pytest.mark.parametrize("kind", [Unapplied.REFUSED, Unapplied.SUSPECTED_DUPLICATE])
@pytest.mark.parametrize("goes_on", [True, False], ids=["reports go on", "the last report"])
def test_what_waits_explains_the_drift(kind: Unapplied, *, goes_on: bool) -> None:
    history = History()
    history.moves("-1")
    history.keeps("-4", kind)
    if goes_on:
        history.moves("+6")

    found = history.compare()

    assert (Decimal(4), [(kind.value, "4")]) == (found.drift, causes(found))
    assert "number 17" in found.causes[0].words


def test_what_was_refused_first_is_no_opening_difference() -> None:
    history = History()
    history.keeps("-4")
    history.moves("+1")

    assert [("refused", "4")] == causes(history.compare())


def test_an_opening_difference_is_named() -> None:
    history = History(theirs=Decimal(13))
    history.moves("-1")
    history.moves("-1")

    assert [("opening_difference", "-3")] == causes(history.compare())


def test_what_waited_when_the_first_report_came_is_no_opening_difference() -> None:
    history = History()
    history.sells("-2", took=timedelta(minutes=5))
    history.theirs += 2
    history.moves("-1")
    history.theirs -= 2
    history.clock += timedelta(minutes=10)

    assert (Decimal(7), ()) == (history.compare().theirs, history.compare().causes)


@pytest.mark.parametrize("state", [MessageState.DEAD, MessageState.DISMISSED, None], ids=["dead", "dismissed", "not_told"])
@pytest.mark.parametrize("goes_on", [True, False], ids=["reports go on", "no report since"])
def test_what_it_will_not_learn_is_a_cause_with_its_amount(state: MessageState | None, *, goes_on: bool) -> None:
    history = History()
    history.moves("-1")
    history.sells("-2", state)
    if goes_on:
        history.moves("+6")

    assert [(state.value if state else "not_told", "-2")] == causes(history.compare())


def test_a_dead_message_before_the_first_report_is_named_and_a_movement_before_the_integration_is_not() -> None:
    history = History()
    history.sells("-2", None)
    history.theirs -= 2
    history.sells("-3", MessageState.DEAD)
    history.moves("-1")

    assert [("dead", "-3")] == causes(history.compare())


@pytest.mark.parametrize("reported", [False, True], ids=["before its first report", "after it"])
def test_a_level_that_was_opened_later_is_an_opening_difference(*, reported: bool) -> None:
    history = History(ours=Decimal(0), theirs=Decimal(0))
    if reported:
        history.moves("-1")
    history.writes("opening", None, "5")
    history.moves("-1")

    assert [("opening_difference", "5")] == causes(history.compare())


@pytest.mark.parametrize("date", [None, "2026-05-30T00:02:00.000000Z"], ids=["another date", "another date format"])
def test_a_movement_that_comes_again_with_another_date_is_a_suspected_double(date: str | None) -> None:
    history = History()
    history.moves("-1")
    history.repeats("-1", stock="9", date=date)

    assert [("suspected_double", "-1")] == causes(history.compare())


def test_a_movement_that_comes_again_with_the_stock_of_now_is_a_suspected_double_at_any_distance() -> None:
    history = History()
    history.moves("-1")
    history.moves("-5")
    history.sells("-2")
    history.repeats("-1", stock="2", date="2026-05-30 00:02:00")
    history.moves("+3")

    assert [("suspected_double", "-1")] == causes(history.compare())


def test_a_movement_that_comes_again_word_for_word_but_for_its_date_tells_nothing_of_the_stock_of_now() -> None:
    history = History()
    history.moves("-1")
    history.moves("-5")
    history.repeats("-1", stock="9")

    found = history.compare()

    assert (Decimal(4), [("suspected_double", "-1")]) == (found.theirs, causes(found))


def test_a_sale_that_comes_back_as_a_movement_of_theirs_is_a_suspected_double() -> None:
    history = History()
    history.moves("-1")
    history.sells("-2")
    history.repeats("-2", stock="7")

    assert [("suspected_double", "-2")] == causes(history.compare())


def test_reversing_a_double_movement_removes_the_cause_and_the_drift() -> None:
    history = History()
    history.moves("-1")
    history.repeats("-1", stock="9")
    history.reverses(3)

    assert (Decimal(0), ()) == (history.compare().drift, history.compare().causes)


def test_reversing_a_right_movement_of_theirs_is_a_cause() -> None:
    history = History()
    history.moves("-1")
    history.reverses(2)

    assert [("reversed", "1")] == causes(history.compare())


@pytest.mark.parametrize("reading", list(ReportedStock))
def test_the_other_reading_is_noticed(reading: ReportedStock) -> None:
    history = History(reading=ReportedStock.BEFORE if reading is ReportedStock.AFTER else ReportedStock.AFTER)
    for change in ("-1", "-2", "-3", "+4"):
        history.moves(change)

    found = compare(history.history(), "x", reading)

    assert [CauseKind.READING] == [cause.kind for cause in found.causes]
    assert f"REPORTED_STOCK={history.reading}" in found.causes[0].words


def test_after_a_synchronisation_the_drift_is_0_at_once() -> None:
    history = History()
    history.moves("-1")
    history.loses("-2")
    history.moves("-1")
    history.sells("-3", MessageState.DEAD)
    history.keeps("-4")
    history.syncs()

    found = history.compare()

    assert (AnchorKind.SYNC, history.ours, Decimal(0), ()) == (found.anchor, found.theirs, found.drift, found.causes)


def test_what_differs_after_a_synchronisation_is_all_that_differs() -> None:
    history = History()
    history.loses("-2")
    history.moves("-1")
    history.syncs()
    history.sells("-3")
    history.loses("-0.5")
    history.sells("-1", None)
    history.moves("-1")

    assert [("not_told", "-1"), ("gap", "0.5")] == causes(history.compare())
    assert "between its reports of" not in history.compare().causes[1].words


def test_a_synchronisation_without_any_report_is_an_anchor() -> None:
    history = History()
    history.sells("-3")
    history.syncs()
    history.sells("-1")

    found = history.compare()

    assert (Decimal(7), Decimal(-1), Decimal(6), ()) == (found.reported, found.told_since, found.theirs, found.causes)


def test_a_movement_that_a_synchronisation_overtook_is_named() -> None:
    history = History()
    history.moves("-1")
    history.syncs()
    history.repeats("-3", stock="5", date="2026-05-30 00:01:30")

    found = history.compare()

    assert (Decimal(9), [("overtaken", "-3")]) == (found.theirs, causes(found))


def test_a_message_that_is_sent_after_the_synchronisation_that_held_it_is_told_twice() -> None:
    history = History()
    history.moves("-1")
    version = history.sells("-2", MessageState.DEAD)
    history.syncs()
    history.clock += timedelta(minutes=1)
    history.messages[version] = Message(MessageState.SENT, Decimal(-2), history.now, history.now)

    assert [("sent_twice", "2")] == causes(history.compare())


@pytest.mark.parametrize("sold", [MessageState.SENT, MessageState.PENDING, None])
def test_adopting_their_number_settles_all_that_differed_and_loses_no_sale(sold: MessageState | None) -> None:
    history = History(theirs=Decimal(13))
    history.moves("-1")
    history.loses("-2")
    history.moves("-1")
    history.sells("-4", MessageState.DEAD)
    if sold:
        history.sells("-0.5", sold)

    history.adopts()
    adopted = history.compare()
    history.moves("-1")
    history.sells("-1", MessageState.DEAD)
    later = history.compare()

    assert (Decimal(0), ()) == (adopted.drift, adopted.causes)
    assert (Decimal("8.5") if sold else Decimal(9)) == adopted.ours
    assert [("dead", "-1")] == causes(later)


def test_a_number_that_was_adopted_in_error_is_named() -> None:
    history = History()
    history.moves("-1")
    history.writes("reconcile", "x", "-2", note="counted")

    assert [("reconciled", "-2")] == causes(history.compare())


def test_where_only_the_adopted_number_is_looked_at_it_is_the_anchor() -> None:
    history = History()
    history.moves("-1")
    history.loses("-2")
    history.moves("-1")
    history.adopts()
    history.sells("-3")
    history.sells("-1", None)
    history.rows = history.rows[3:]

    found = history.compare()

    assert (AnchorKind.ADOPTED, Decimal(3), [("not_told", "-1")]) == (found.anchor, found.theirs, causes(found))


def test_a_number_set_by_hand_is_named_where_nobody_was_told() -> None:
    history = History()
    history.moves("-1")
    history.sets("7")
    history.moves("-1")

    assert [("reconciled", "-2")] == causes(history.compare())
    assert "counted on Monday" in history.compare().causes[0].words


def test_a_late_movement_of_monday_takes_back_nothing_that_tuesday_s_said() -> None:
    history = History()
    history.loses("-3")
    history.moves("-1", date="2026-06-02 10:00:00")
    history.repeats("-3", stock="7", date="2026-06-01 10:00:00")

    found = history.compare()

    assert (Decimal(6), "2026-06-02 10:00:00", Decimal(0), ()) == (found.theirs, found.as_of, found.drift, found.causes)


def test_the_hour_that_occurs_twice_makes_no_drift() -> None:
    history = History()
    for date in ("02:10:00", "02:50:00", "02:05:00", "02:55:00", "03:01:00"):
        history.moves("-1", date=f"2026-10-25 {date}")

    assert (Decimal(5), ()) == (history.compare().theirs, history.compare().causes)


@pytest.mark.parametrize(
    "days",
    [("yesterday", "2026-05-29"), ("2026-05-30T00:00:00Z", "2026-05-29 00:00:00")],
    ids=["no date", "with and without zone"],
)
def test_where_dates_cannot_be_compared_the_place_in_the_ledger_counts(days: tuple[str, str]) -> None:
    history = History()
    for day in days:
        history.moves("-1", date=day)

    found = history.compare()

    assert (Decimal(8), days[1], Decimal(0)) == (found.theirs, found.as_of, found.drift)


def test_a_date_in_the_future_of_its_own_delivery_is_not_believed() -> None:
    history = History()
    history.moves("-1", date="2062-05-30 00:00:00")
    history.moves("-1")

    assert (Decimal(8), ()) == (history.compare().theirs, history.compare().causes)


@pytest.mark.parametrize("holds", [True, False])
def test_whether_a_report_holds_the_message_that_was_in_flight_is_read_from_its_stock(*, holds: bool) -> None:
    history = History()
    history.moves("-1")
    history.sells("-3", took=timedelta(minutes=2))
    history.theirs += 0 if holds else 3
    history.moves("-1")
    history.theirs -= 0 if holds else 3
    history.clock += timedelta(minutes=5)

    found = history.compare()

    assert (Decimal(5), (), True) == (found.theirs, found.causes, found.is_known)


def test_where_a_report_neither_fits_with_nor_without_the_message_in_flight_the_drift_is_not_known_until_the_next() -> None:
    history = History()
    history.moves("-1")
    history.sells("-3", took=timedelta(minutes=2))
    history.loses("-0.5")
    history.moves("-1")
    history.clock += timedelta(minutes=5)
    found = history.compare()
    history.moves("-1")
    later = history.compare()

    assert (Decimal(3), False) == (found.uncertain, found.is_known)
    assert ([("gap", "0.5")], True) == (causes(later), later.is_known)


def test_a_message_that_was_acknowledged_just_before_a_report_may_not_be_in_it() -> None:
    history = History()
    history.moves("-1")
    version = history.sells("-3")
    history.theirs += 3
    history.moves("-1")
    history.theirs -= 3
    history.messages[version] = replace(history.messages[version], closed_at=history.now - timedelta(milliseconds=300))

    assert (Decimal(5), (), True) == (history.compare().theirs, history.compare().causes, history.compare().is_known)


def test_a_message_that_stands_there_while_its_answer_is_awaited_is_not_pending() -> None:
    history = History()
    history.moves("-1")
    version = history.sells("-3", MessageState.PENDING)
    history.messages[version] = replace(history.messages[version], sent_at=history.now)
    history.theirs -= 3
    history.moves("-1")

    found = history.compare()

    assert (Decimal(5), Decimal(0), Decimal(0)) == (found.theirs, found.pending, found.drift)


@pytest.mark.parametrize("state", [MessageState.SENT, MessageState.PENDING, MessageState.DEAD, MessageState.DISMISSED])
def test_after_a_lost_answer_the_drift_is_not_known_until_the_next_anchor(state: MessageState) -> None:
    history = History()
    history.moves("-1")
    history.sells("-3", state, unknown_sends=2)

    found = history.compare()

    assert (Decimal(6), False) == (found.uncertain, found.is_known)


@pytest.mark.parametrize(
    ("state", "times", "expected"),
    [
        (MessageState.SENT, 1, []),
        (MessageState.SENT, 2, [("sent_twice", "3")]),
        (MessageState.SENT, 3, [("sent_twice", "3"), ("sent_twice", "3")]),
        (MessageState.DEAD, 0, [("dead", "-3")]),
        (MessageState.DEAD, 1, []),
        (MessageState.DEAD, 2, [("sent_twice", "3")]),
    ],
)
def test_the_next_report_shows_how_often_a_message_arrived(
    state: MessageState, times: int, expected: list[tuple[str, str]]
) -> None:
    history = History()
    history.moves("-1")
    history.sells("-3", state, unknown_sends=2)
    history.theirs = Decimal(9) - 3 * times
    history.moves("-1")

    found = history.compare()

    assert (expected, True) == (causes(found), found.is_known)


def test_a_pending_message_that_stands_there_already_will_stand_there_twice() -> None:
    history = History()
    history.moves("-1")
    version = history.sells("-3", MessageState.PENDING, unknown_sends=1)
    history.messages[version] = replace(history.messages[version], unknown_until=history.now + timedelta(seconds=20))
    history.theirs -= 3
    history.moves("-1")

    found = history.compare()

    assert ([("sent_twice", "3")], Decimal(-3)) == (causes(found), found.pending)


def test_an_echo_is_an_anchor_and_no_cause() -> None:
    history = History()
    history.moves("-1")
    history.echoes(history.sells("-3", unknown_sends=1))

    found = history.compare()

    assert (AnchorKind.ECHO, Decimal(6), (), True) == (found.anchor, found.theirs, found.causes, found.is_known)


def test_an_echo_that_repeats_our_stock_instead_of_theirs_hides_no_drift() -> None:
    history = History()
    history.moves("-1")
    history.loses("-2")
    history.moves("-1")
    history.echoes(history.sells("-3"), stock="5")

    found = history.compare()

    assert (AnchorKind.REPORT, [("gap", "2")]) == (found.anchor, causes(found))
    assert "does not fit" in found.notes[0]


def test_the_noise_of_floats_is_no_drift_and_does_not_add_up() -> None:
    history = History()
    history.moves("-0.1", reported="9.9000000000001")
    history.moves("-0.2", reported="9.70000000000004")
    calm = history.compare()
    history.loses("-0.5")
    history.moves("-0.2", reported="9.00000000000003")

    assert (Decimal("9.7"), Decimal(0), ()) == (calm.theirs, calm.drift, calm.causes)
    assert ["gap"] == [kind for kind, _ in causes(history.compare())]


def test_a_delivery_that_may_be_in_a_count_is_named_without_an_amount() -> None:
    history = History()
    history.moves("-1")

    found = compare(replace(history.history(), suspects_before_count=(41,)), "x", ReportedStock.AFTER)

    assert (Decimal(0), ()) == (found.drift, found.causes)
    assert "number 41 is dated before a count" in found.notes[0]


def test_another_system_s_movement_is_told_like_any_other() -> None:
    history = History()
    history.moves("-1")
    history.writes("inventory_system", "y", "-2", stock=Decimal(100))
    history.messages[3] = Message(MessageState.SENT, Decimal(-2), history.now + timedelta(seconds=1), history.now)

    found = history.compare()

    assert (Decimal(7), Decimal(0)) == (found.theirs, found.drift)


@pytest.mark.parametrize("kept", [0, 1, 3], ids=["no row", "the newest row", "the rows since"])
def test_a_stored_anchor_serves_where_the_rows_hold_none(kept: int) -> None:
    history = History()
    history.moves("-1")
    history.loses("-0.5")
    history.moves("-1")
    history.sells("-3")
    history.stored = anchor_of(history.history(), "x", ReportedStock.AFTER)
    history.sells("-1")
    history.sells("-2", MessageState.DEAD)

    before = history.compare()
    history.rows = history.rows[len(history.rows) - kept :]
    after = history.compare()

    assert before.theirs == after.theirs == Decimal("3.5")
    assert before.drift == after.drift == Decimal("-1.5")
    assert [("dead", "-2"), ("gap", "0.5")] == causes(before)
    assert {("opening_difference", "0.5"), ("dead", "-2")} == set(causes(after))
    assert Decimal(-4) == after.told_since
    assert before.as_of == after.as_of


def test_a_stored_anchor_keeps_what_is_not_known() -> None:
    history = History()
    history.moves("-1")
    history.sells("-3", unknown_sends=1)

    stored = anchor_of(history.history(), "x", ReportedStock.AFTER)

    assert stored is not None
    assert (Decimal(9), Decimal(-3), Decimal(3), 2) == (stored.stock, stored.told_since, stored.uncertain, stored.level_version)
    history.stored = stored
    history.rows = history.rows[-1:]
    assert Decimal(3) == history.compare().uncertain


def test_a_report_after_a_stored_anchor_ends_it() -> None:
    history = History()
    history.moves("-1")
    history.stored = anchor_of(history.history(), "x", ReportedStock.AFTER)
    history.moves("-1")
    history.rows = history.rows[-1:]

    assert (Decimal(8), Decimal(8), ()) == (history.compare().reported, history.compare().theirs, history.compare().causes)


def test_where_nothing_is_known_no_anchor_is_stored() -> None:
    assert anchor_of(History().history(), "x", ReportedStock.AFTER) is None
