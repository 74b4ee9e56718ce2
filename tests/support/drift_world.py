"""A small world for drift: our level, one inventory system X with a stock of its own, and the ways between them. No database.

Time is in seconds. What is injected is known: the true difference, and of each kind of cause its amount.
"""

import heapq
import itertools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from app.stock.anchors import SyncAnchor
from app.stock.drift import CauseKind, Drift, LevelHistory, compare
from app.stock.messages import Message, MessageState
from app.stock.reports import LedgerRow, Unapplied, UnappliedReport
from app.stock.rules import ReportedStock

X = "x"
ZONE = ZoneInfo("Europe/Madrid")
CLOCK_SET_BACK = datetime(2026, 10, 25, 1, 0, tzinfo=UTC)
SUMMER = datetime(2026, 6, 1, 1, 0, tzinfo=UTC)
OPENING = Decimal(100)
ZERO = Decimal(0)


@dataclass
class Made:
    """A report as X made it."""

    at: float
    delta: Decimal
    stock: Decimal
    """After the movement."""
    before: Decimal


@dataclass
class World:
    """Our level and X's stock, the messages and reports that are on their way, and what was injected."""

    seed: int
    reading: ReportedStock = ReportedStock.AFTER
    has_repeated_hour: bool = False
    """Whether the clock of X is set back in the middle of most histories."""
    are_small: bool = False
    """Whether quantities are of a few round values, so that different things have the same amount."""
    now: float = 0.0
    ours: Decimal = ZERO
    truth: Decimal = OPENING
    rows: list[LedgerRow] = field(default_factory=list)
    unapplied: list[UnappliedReport] = field(default_factory=list)
    messages: dict[int, Message] = field(default_factory=dict)
    sync: SyncAnchor | None = None
    is_down: bool = False
    """Whether mipOS does not answer, so that messages wait."""
    losses: list[tuple[float, Decimal]] = field(default_factory=list)
    expected: dict[CauseKind, Decimal] = field(default_factory=dict)
    anchored: float = -1.0
    """When X made the newest report that arrived."""

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count(1)
        self._fates: dict[int, list[str]] = {}
        self._is_sending = False
        self._is_syncing = False
        self._synced = -1.0
        # level_version -> when X made the movement.
        self._made: dict[int, float] = {}
        self.start = (CLOCK_SET_BACK if self.has_repeated_hour else SUMMER) - timedelta(hours=self.chance.uniform(-1, 6))
        self.happened: list[str] = []
        self._write("opening", None, OPENING)

    # Time

    def moment(self, at: float | None = None) -> datetime:
        return self.start + timedelta(seconds=self.now if at is None else at)

    def text(self, at: float | None = None) -> str:
        return f"{self.moment(at).astimezone(ZONE):%Y-%m-%d %H:%M:%S}"

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), act))

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, act = heapq.heappop(self._events)
            act()
        self.now = end

    def settle(self) -> None:
        """Until nothing is on its way."""
        while self._events:
            self.now, _, act = heapq.heappop(self._events)
            act()
        self.now += 60

    def quantity(self) -> Decimal:
        return Decimal(
            self.chance.choice(("0.25", "0.5", "1", "2", "3")) if self.are_small else f"{self.chance.randint(1, 9999)}e-3"
        )

    def signed(self) -> Decimal:
        return self.quantity() * self.chance.choice([-1, -1, 1])

    # Ours

    def sells(self, fate: str = "sent") -> None:
        """Somebody else moves stock here, and X is told, or not."""
        delta = self.signed()
        version = self._write("pos_sale", None, delta)
        if fate == "not_told":
            self._expect(CauseKind.NOT_TOLD, delta)
            return
        self._fates[version] = {
            "sent": ["ack"],
            "dead": ["dead"],
            "dismissed": ["dismissed"],
            "lost": ["arrived", "ack"],
            "lost twice": ["arrived", "arrived", "ack"],
            "lost on the way": ["missed", "ack"],
            "lost and dead": ["arrived", "dead"],
        }[fate]
        self.messages[version] = Message(MessageState.PENDING, delta)
        self._relay()

    def _relay(self) -> None:
        waiting = [version for version, one in self.messages.items() if one.state is MessageState.PENDING]
        if not waiting or self._is_sending or self._is_syncing or self.is_down:
            return
        version = min(waiting)
        one = self.messages[version]
        self.messages[version] = replace(one, sent_at=one.sent_at or self.moment())
        self._is_sending = True
        outcome = self._fates[version].pop(0)
        arrives = self.chance.uniform(0.05, 0.7)
        if outcome in ("ack", "arrived"):
            self.after(arrives, lambda: self._arrives(version, is_known=outcome == "ack"))
        is_lost = outcome in ("arrived", "missed")
        self.after(arrives + self.chance.uniform(0.05, 0.7) + 5 * is_lost, lambda: self._answered(version, outcome))

    def _arrives(self, version: int, *, is_known: bool) -> None:
        delta = self.messages[version].delta
        self.truth += delta
        if not is_known:
            # What was refused in the end, although it had arrived, is no difference.
            self._expect(CauseKind.DEAD if "dead" in self._fates[version] else CauseKind.SENT_TWICE, -delta)
        row = self.rows[version - 1]
        if self.chance.random() < 0.15 and self.truth == row.balance_after:
            made = Made(self.now, delta, self.truth, self.truth - delta)
            self.after(self.chance.uniform(0.05, 1.5), lambda: self._echoes(made, version))

    def _answered(self, version: int, outcome: str) -> None:
        self._is_sending = False
        one = self.messages[version]
        if outcome in ("arrived", "missed"):
            self.messages[version] = replace(one, unknown_sends=one.unknown_sends + 1, unknown_until=self.moment())
            self.after(self.chance.uniform(0.5, 30), self._relay)
            return
        state = {"ack": MessageState.SENT, "dead": MessageState.DEAD, "dismissed": MessageState.DISMISSED}[outcome]
        self.messages[version] = replace(one, state=state, closed_at=self.moment())
        if state is MessageState.DEAD:
            self._expect(CauseKind.DEAD, one.delta)
        elif state is MessageState.DISMISSED:
            self._expect(CauseKind.DISMISSED, one.delta)
        self._relay()

    def goes_down(self) -> None:
        self.is_down = True

    def comes_up(self) -> None:
        self.is_down = False
        self._relay()

    # Theirs

    def moves(self, fate: str = "applied", delta: Decimal | None = None) -> None:
        """X moves stock and reports it."""
        change = self.signed() if delta is None else delta
        made = Made(self.now, change, self.truth + change, self.truth)
        self.truth += change
        latency = self.chance.uniform(600, 9000) if fate == "late" else self.chance.uniform(0.05, 1.5)
        self.after(latency, lambda: self._delivers(made, fate))

    def loses(self) -> None:
        """X moves stock, and we never hear of it."""
        delta = self.signed()
        self.truth += delta
        self.losses.append((self.now, delta))

    def resends(self, *, with_new_stock: bool) -> None:
        """An applied movement comes once more, with the date of now."""
        applied = [row for row in self.rows if row.source == "inventory_system"]
        if not applied:
            return
        row = self.chance.choice(applied)
        stock = self.truth
        if not with_new_stock:
            assert row.reported_stock is not None
            stock = row.reported_stock + (row.delta if self.reading is ReportedStock.BEFORE else 0)
        made = Made(self.now if with_new_stock else -1, row.delta, stock, stock - row.delta)
        text = self.text()
        self.after(self.chance.uniform(0.05, 1.5), lambda: self._delivers(made, "resent", text))

    def _delivers(self, made: Made, fate: str, text: str | None = None) -> None:
        text = text or self.text(made.at)
        reported = made.stock if self.reading is ReportedStock.AFTER else made.before
        is_overtaken = self.sync is not None and 0 <= made.at < self._synced
        if fate in ("refused", "suspected"):
            kind = Unapplied.REFUSED if fate == "refused" else Unapplied.SUSPECTED_DUPLICATE
            self._keep(kind, made.delta, reported, text)
            if not is_overtaken:
                self._expect(CauseKind(kind.value), -made.delta)
        else:
            self._write("inventory_system", X, made.delta, reported=reported, date=text, sent_at=self.text())
            self._made[len(self.rows)] = self.now if fate == "resent" else made.at
            if fate == "resent":
                self._expect(CauseKind.SUSPECTED_DOUBLE, made.delta)
            elif is_overtaken:
                self._expect(CauseKind.OVERTAKEN, made.delta)
        self.anchored = max(self.anchored, made.at)

    def _echoes(self, made: Made, version: int) -> None:
        reported = made.stock if self.reading is ReportedStock.AFTER else made.before
        self._keep(Unapplied.ECHO, made.delta, reported, self.text(made.at), version)
        self.anchored = max(self.anchored, made.at)

    # People

    def syncs(self) -> None:
        """A full synchronisation; it begins once no message is on its way."""
        if self._is_sending or self._is_syncing:
            self.after(0.3, self.syncs)
            return
        self._is_syncing = True
        version, stock = len(self.rows), self.ours
        self.after(self.chance.uniform(0.1, 0.5), lambda: self._set(stock))
        self.after(self.chance.uniform(0.6, 1.0), lambda: self._done(version, stock))

    def _set(self, stock: Decimal) -> None:
        self.truth = stock
        self._synced = self.now
        self.losses.clear()

    def _done(self, version: int, stock: Decimal) -> None:
        self._is_syncing = False
        self.sync = SyncAnchor(version, stock, self.moment())
        self.anchored = max(self.anchored, self._synced)
        for number, one in self.messages.items():
            if number <= version and one.state in (MessageState.PENDING, MessageState.DEAD):
                self.messages[number] = replace(one, state=MessageState.COVERED, closed_at=self.moment())
        self.expected = {}
        # What came between the snapshot and the end counts after the synchronisation.
        for row in self.rows[version:]:
            if row.source == "inventory_system":
                if self._made[row.level_version] < self._synced:
                    self._expect(CauseKind.OVERTAKEN, row.delta)
            elif row.level_version not in self.messages:
                self._expect(CauseKind.NOT_TOLD, row.delta)
        self._relay()

    def adopts(self) -> None:
        """An operator adopts X's number, if it is known."""
        found = self.compare()
        if not found.is_known or self._is_sending or self._is_syncing or self._events:
            return
        self._write("reconcile", X, -found.drift)
        self.expected = {}
        self.losses = [loss for loss in self.losses if loss[0] > self.anchored]

    # What is there

    def history(self) -> LevelHistory:
        return LevelHistory(
            "1",
            "a",
            self.ours,
            list(self.rows),
            list(self.unapplied),
            {(X, version): one for version, one in self.messages.items()},
            {X: self.sync} if self.sync else {},
        )

    def compare(self) -> Drift:
        return compare(self.history(), X, self.reading)

    def injected(self) -> Decimal:
        """The true difference, without what X lost after its newest report: nobody can know of that."""
        hidden = sum((delta for at, delta in self.losses if at > self.anchored), ZERO)
        pending = sum((one.delta for one in self.messages.values() if one.state is MessageState.PENDING), ZERO)
        return self.ours - (self.truth - hidden) - pending

    def causes(self) -> dict[CauseKind, Decimal]:
        """The injected amount of each kind of cause."""
        found = dict(self.expected)
        for at, delta in self.losses:
            if at <= self.anchored:
                found[CauseKind.GAP] = found.get(CauseKind.GAP, ZERO) - delta
        return {kind: amount for kind, amount in found.items() if amount}

    def _expect(self, kind: CauseKind, amount: Decimal) -> None:
        self.expected[kind] = self.expected.get(kind, ZERO) + amount

    def _keep(self, kind: Unapplied, delta: Decimal, reported: Decimal, text: str, echo_of: int | None = None) -> None:
        number = next(self._numbers)
        after = len(self.rows) if kind is not Unapplied.REFUSED else None
        self.unapplied.append(UnappliedReport(kind, number, X, delta, reported, text, self.text(), self.moment(), after, echo_of))

    def _write(  # noqa: PLR0913 - the parts of a row
        self,
        source: str,
        system: str | None,
        delta: Decimal,
        *,
        reported: Decimal | None = None,
        date: str | None = None,
        sent_at: str | None = None,
    ) -> int:
        self.ours += delta
        version = len(self.rows) + 1
        kind = 2 if delta < 0 else 1
        row = LedgerRow(version, source, system, kind, abs(delta), self.ours, reported, date, sent_at, self.moment(), "counted")
        self.rows.append(row)
        return version


ODD = (
    "loses",
    "refused",
    "suspected",
    "late",
    "resent",
    "dead",
    "dismissed",
    "not told",
    "lost",
    "lost on the way",
    "lost and dead",
    "outage",
    "syncs",
    "adopts",
)
USUAL = {"moves": 60, "sells": 60, **dict.fromkeys(ODD, 1)}
"""What happens, with its weight: one thing in ten is odd."""
WILD = {"moves": 30, "sells": 30, **dict.fromkeys(ODD, 3)}
"""As USUAL, but four in ten are odd, so that odd things happen together."""


def play(world: World, weights: Mapping[str, int] = USUAL) -> World:
    """Let things happen to the world at random moments, and then let what is on its way arrive."""
    world.moves()
    world.settle()
    steps = world.chance.randint(3, 40)
    for name in world.chance.choices(list(weights), list(weights.values()), k=steps):
        happen(world, name)
        world.pass_time(world.chance.choice([0.05, 0.3, 1.0, 4.0, 60.0, 600.0, 1800.0]) * world.chance.uniform(0.5, 1.5))
    if world.chance.random() < 0.7:
        world.comes_up()
    world.settle()
    return world


def happen(world: World, name: str) -> None:
    """Let one thing happen."""
    world.happened.append(f"{world.text()} {name}")
    match name:
        case "refused" | "suspected" | "late":
            world.moves(name)
        case "not told":
            world.sells("not_told")
        case "dead" | "dismissed" | "lost" | "lost on the way" | "lost and dead":
            world.sells(name)
        case "resent":
            world.resends(with_new_stock=world.chance.random() < 0.5)
        case "outage":
            world.goes_down()
            world.after(world.chance.uniform(5, 3600), world.comes_up)
        case _:
            getattr(world, name)()
