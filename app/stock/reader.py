"""Reads the reports of one system about one level in order, and keeps the likely readings side by side."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from itertools import islice, permutations, product

from app.stock.anchors import AnchorKind
from app.stock.causes import Cause, CauseKind, is_noise
from app.stock.messages import Timeline
from app.stock.quantity import EXACT, ZERO, to_signed
from app.stock.readings import (
    DOUBLE,
    FAR_SHIFT,
    GAP,
    LATE,
    MISSING,
    SHIFT,
    TIE,
    TWICE,
    UNFOUNDED_LATE,
    Reading,
    Twins,
    double_cause,
    gap_cause,
    waiting_cause,
    with_cause,
)
from app.stock.reports import IN_TRANSIT, Report

GAPS = {CauseKind.GAP, CauseKind.OPENING}
MAX_READINGS = 32
MAX_COMBINATIONS = 64
ALL_ORDERS = 3
"""So many reports of one block are tried in all orders."""
LOOKED_AT = 6
"""How many reports of a longer block are tried as the next one."""


class Reader:
    """Reads the reports of one system about one level."""

    def __init__(self, timeline: Timeline, twins: Twins, late: Mapping[int, int], since: str) -> None:
        self._timeline = timeline
        self._twins = twins
        self._late = late
        """id of a report -> what it costs to read it as made before the newest start, if there is a reason."""
        self._since = since

    def read(self, readings: Sequence[Reading], orders: Sequence[Sequence[Report]]) -> list[Reading]:
        """Go on from `readings` by one block of reports, in each order that is likely."""
        found: list[Reading] = []
        for order in orders:
            found += self._in_order(readings, order)
        received = orders[-1]
        if len(received) == 1 or min(one.cost for one in found) == min(one.cost for one in readings):
            return _best(found)
        if len(received) <= ALL_ORDERS:
            return _best([*found, *(one for order in permutations(received) for one in self._in_order(readings, order))])
        for reading in readings:
            found += self._in_order([reading], self._chain(reading, received))
        return _best(found)

    def _in_order(self, readings: Sequence[Reading], order: Sequence[Report]) -> list[Reading]:
        current = list(readings)
        for report, bound in zip(order, _bounds(order), strict=True):
            current = _best(next_one for one in current for next_one in self._next(one, report, bound))
        return current

    def _chain(self, reading: Reading, received: Sequence[Report]) -> list[Report]:
        """The reports in an order in which each follows from the one before, as far as there is one."""
        left, order = list(received), []
        while left:
            bound = left[0].received_at
            found: list[tuple[int, int, Reading]] = []
            for index, report in enumerate(left[:LOOKED_AT]):
                nearest = min(self._next(reading, report, bound), key=lambda one: one.cost)
                found.append((nearest.cost, index, nearest))
                if nearest.cost == reading.cost:
                    break
            _, index, reading = min(found, key=lambda one: one[:2])
            order.append(left.pop(index))
        return order

    def _next(self, reading: Reading, report: Report, bound: datetime) -> Iterator[Reading]:
        usual = max(reading.reached, self._timeline.until(bound))
        if report.is_echo:
            yield from self._echo(reading, report, bound, usual)
            return
        doubtful = list(self._doubtful(reading.reached, usual, bound, self._earliest(report, bound)))
        if is_noise(self._rest(reading, report, usual)):
            yield self._at(reading, report, bound, usual)
            if id(report) in self._late:
                yield from self._overtaken(reading, report, most=TIE)
            if self._timeline.has_unknown:
                yield from self._arrived(reading, report, bound, doubtful)
            return
        fitting = list(self._fitting(reading, report, bound, usual, doubtful))
        yield from fitting
        if reading.kind is not None:
            yield from self._repeated(reading, report, bound, (usual, *doubtful))
            yield from self._overtaken(reading, report)
            yield from self._missing(reading, report)
        if all(one.cost - reading.cost >= FAR_SHIFT for one in fitting):
            for place in (usual, *doubtful):
                gap = self._rest(reading, report, place)
                found = self._at(reading, report, bound, place, cost=GAP + SHIFT * (place != usual))
                lost = [self._timeline.tellings[one] for one in self._lost(reading, bound, place)]
                yield with_cause(found, gap_cause(reading, report, gap, lost), place=len(reading.causes))

    def _rest(self, reading: Reading, report: Report, reached: int) -> Decimal:
        """What the report's stock before its own movement differs by from what is expected where it holds `reached` messages."""
        expected = EXACT.add(reading.stock, self._timeline.between(reading.reached, reached))
        return EXACT.subtract(EXACT.subtract(report.stock, report.change), expected)

    def _doubtful(self, reached: int, usual: int, bound: datetime, earliest: datetime) -> Iterator[int]:
        """Where else the boundary can be: one message was on its way, or some were acknowledged just before."""
        tellings = self._timeline.tellings
        if usual < len(tellings) and tellings[usual].surely_started <= bound and tellings[usual].counted:
            yield usual + 1
        for place in range(usual - 1, reached - 1, -1):
            closed = tellings[place].message.closed_at
            if closed is None or closed <= earliest:
                return
            yield place

    @staticmethod
    def _earliest(report: Report, bound: datetime) -> datetime:
        """From when on the report can have been on its way."""
        return min(bound - IN_TRANSIT, report.made_after)

    def _fitting(
        self, reading: Reading, report: Report, bound: datetime, usual: int, doubtful: Sequence[int]
    ) -> Iterator[Reading]:
        """The readings in which the stock follows from the one before."""
        places = [*doubtful, *(place for place in range(usual - 1, reading.reached - 1, -1) if place not in doubtful)]
        for place in places:
            if is_noise(self._rest(reading, report, place)):
                yield self._at(reading, report, bound, place, cost=SHIFT if place in doubtful else FAR_SHIFT)
        if self._timeline.has_unknown:
            yield from self._arrived(reading, report, bound, (usual,), shift=0)
            yield from self._arrived(reading, report, bound, doubtful)

    def _arrived(
        self, reading: Reading, report: Report, bound: datetime, places: Sequence[int], *, shift: int = SHIFT
    ) -> Iterator[Reading]:
        """The readings in which the stock follows because sends had arrived whose answers were lost."""
        for place in places:
            twice = self._twice(reading, bound, place, self._rest(reading, report, place))
            if twice:
                found = self._at(reading, report, bound, place, cost=TWICE + shift)
                yield replace(found, twice=reading.twice + twice)

    def _twice(self, reading: Reading, bound: datetime, place: int, rest: Decimal) -> tuple[int, ...]:
        """The doubtful sends that had arrived, if these explain `rest`; as few as possible."""
        tellings = self._timeline.tellings
        candidates = self._lost(reading, bound, place)
        counts = [range(tellings[one].message.unknown_sends - reading.twice.count(one) + 1) for one in candidates]
        combinations = sorted(islice(product(*counts), MAX_COMBINATIONS), key=sum)
        for combination in combinations:
            arrived = tuple(one for one, times in zip(candidates, combination, strict=True) for _ in range(times))
            left = rest
            for one in arrived:
                left = EXACT.subtract(left, tellings[one].delta)
            if arrived and is_noise(left):
                return arrived
        return ()

    def _lost(self, reading: Reading, bound: datetime, place: int) -> list[int]:
        """The places of the messages whose sends with a lost answer a report may hold, without our knowing."""
        undecided = self._timeline.undecided(reading.reached, reading.made_after)
        return [one for one, _ in undecided if one <= place and self._timeline.tellings[one].started <= bound]

    def _repeated(self, reading: Reading, report: Report, bound: datetime, places: Sequence[int]) -> Iterator[Reading]:
        """The movement is one that was applied before, sent again with another date or another stock."""
        twins = self._twins.before(report)
        if not twins:
            return
        cause = double_cause(report, twins[-1][0])
        for place in places:
            rest = EXACT.add(self._rest(reading, report, place), report.delta)
            twice = () if is_noise(rest) else self._twice(reading, bound, place, rest)
            if is_noise(rest) or twice:
                cost = DOUBLE + SHIFT * (place != places[0]) + TWICE * bool(twice)
                found = self._at(reading, report, bound, place, cost=cost, moved=ZERO)
                yield replace(with_cause(found, cause, place=len(reading.causes)), twice=reading.twice + twice)
        if any(stock == report.stock for _, stock in twins):
            # Sent again word for word but for its date: it tells the stock of then.
            yield replace(reading, cost=reading.cost + DOUBLE, causes=(*reading.causes, cause))

    def _overtaken(self, reading: Reading, report: Report, *, most: int = UNFOUNDED_LATE) -> Iterator[Reading]:
        """The report was made before the start: it tells nothing about the stock since."""
        cost = min(most, self._late.get(id(report), UNFOUNDED_LATE))
        if cost == UNFOUNDED_LATE and not reading.is_fresh:
            return
        words = f"{to_signed(report.delta)} of {report.date_text} came before {self._since}, and arrived after it"
        cause = Cause(CauseKind.OVERTAKEN, report.delta, words, report.place[0])
        causes = (cause,) if report.unapplied is None and report.delta else ()
        yield replace(reading, cost=reading.cost + cost, causes=reading.causes + causes)

    @staticmethod
    def _missing(reading: Reading, report: Report) -> Iterator[Reading]:
        """The movement is what an earlier gap was about, or a part of it: the report of it was on its way until now."""
        gaps = [place for place, cause in enumerate(reading.causes) if cause.kind in GAPS]
        for place in reversed(gaps if report.delta else []):
            cause = reading.causes[place]
            left = EXACT.add(cause.amount, report.delta)
            is_whole = is_noise(left)
            if is_whole or (report.delay and place == gaps[-1]):
                words = f"{cause.words}; {to_signed(report.delta)} of it was reported later"
                rest = () if is_whole else (replace(cause, amount=left, words=words),)
                causes = (*reading.causes[:place], *rest, *reading.causes[place + 1 :], *waiting_cause(report))
                yield replace(reading, causes=causes, cost=reading.cost + (MISSING - GAP if is_whole else LATE))

    def _echo(self, reading: Reading, report: Report, bound: datetime, usual: int) -> Iterator[Reading]:
        """An echo is an anchor where it fits; where it does not, it may only repeat the stock that we sent."""
        assert report.unapplied is not None
        version = report.unapplied.echo_of
        place = None if version is None else self._timeline.place_of(version)
        doubtful = list(self._doubtful(reading.reached, usual, bound, self._earliest(report, bound)))
        found = list(self._fitting(reading, report, bound, usual, doubtful))
        if is_noise(self._rest(reading, report, usual)):
            found.insert(0, self._at(reading, report, bound, usual))
        # It holds the message that it echoes.
        fitting = [
            one
            for one in found
            if one.cost - reading.cost < FAR_SHIFT and (place is None or one.reached > place or place in one.twice)
        ]
        yield from fitting
        if not fitting:
            note = f"An echo of {report.date_text} does not fit, and is not counted: it may repeat our stock instead of its own."
            yield replace(reading, notes=(*reading.notes, note))

    def _at(  # noqa: PLR0913 - what makes the next reading
        self, reading: Reading, report: Report, bound: datetime, reached: int, *, cost: int = 0, moved: Decimal | None = None
    ) -> Reading:
        """The reading with `report` as its anchor."""
        expected = EXACT.add(reading.stock, self._timeline.between(reading.reached, reached))
        follows = EXACT.add(expected, report.change if moved is None else moved)
        return Reading(
            # What follows, and not what was reported, so that the noise of floats does not add up.
            stock=follows if is_noise(EXACT.subtract(report.stock, follows)) else report.stock,
            reached=reached,
            causes=reading.causes + waiting_cause(report),
            cost=reading.cost + cost,
            twice=reading.twice,
            settled=reading.settled,
            kind=AnchorKind.ECHO if report.is_echo else AnchorKind.REPORT,
            report=report,
            since=f"its report of {report.date_text}",
            made_after=self._earliest(report, bound),
            is_fresh=False,
            notes=reading.notes,
        )


def _bounds(order: Sequence[Report]) -> list[datetime]:
    """Until when each report can have been made: it was received by then, or one that was made later was."""
    bounds: list[datetime] = []
    for report in reversed(order):
        bounds.append(min(report.received_at, bounds[-1]) if bounds else report.received_at)
    return bounds[::-1]


def _best(readings: Iterable[Reading]) -> list[Reading]:
    """The cheapest, one for each state that the next reports can tell apart."""
    found: dict[tuple[Decimal, int, tuple[int, ...]], Reading] = {}
    for reading in sorted(readings, key=lambda one: one.cost):
        found.setdefault((reading.stock, reading.reached, reading.twice), reading)
    return list(found.values())[:MAX_READINGS]
