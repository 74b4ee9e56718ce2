"""One level with all that comparing needs, and where the comparing starts.

From a starting point on, ours changes by known amounts: the system's own movements, those that it was told, those that wait, and
those that it will not learn. So the stock that it must have had there follows from ours now. That is the baseline.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal

from app.stock.anchors import Anchor, SyncAnchor
from app.stock.causes import Cause, CauseKind, total
from app.stock.messages import UNSENT, Message, MessageState, Timeline
from app.stock.movement import Source
from app.stock.quantity import EXACT, to_signed
from app.stock.reports import LedgerRow, Unapplied, UnappliedReport


@dataclass(frozen=True, slots=True)
class LevelHistory:
    """One item in one store: its level, its newest ledger rows (oldest first), and what is known beside them.

    `messages` are those of the rows, and every other one that is pending or that was closed after the oldest row was received.
    A row without a message counts as never queued; `since_pruned` leaves out those whose messages were deleted for their age.
    """

    store_id: str
    item_id: str
    quantity: Decimal
    rows: list[LedgerRow] = field(default_factory=list)
    unapplied: list[UnappliedReport] = field(default_factory=list)
    messages: Mapping[tuple[str, int], Message] = field(default_factory=dict)
    """(inventory system, level_version) -> the message about this row."""
    syncs: Mapping[str, SyncAnchor] = field(default_factory=dict)
    """inventory system -> its newest full synchronisation that ended done."""
    anchors: Mapping[str, Anchor] = field(default_factory=dict)
    """inventory system -> its stored anchor, for where the rows hold none."""
    pruned: Mapping[str, int] = field(default_factory=dict)
    """inventory system -> the row up to which the settled messages to it were deleted. The stored anchor holds what they told."""
    begun_at: datetime | None = None
    """When the last row was received that `since_pruned` has left out."""
    suspects_before_count: Sequence[int] = ()
    """The numbers of applied deliveries that are dated before a count, and may be in it."""

    def since_pruned(self, system_id: str) -> "LevelHistory":
        """The history against this system: it begins after the rows whose messages were deleted.

        So what the system told before is in the stored anchor alone, and so is a synchronisation that the rows do not reach.
        """
        pruned = self.pruned.get(system_id, 0)
        rows, unapplied, begun_at = self.rows, self.unapplied, None
        if pruned:
            begun_at = next((row.received_at for row in reversed(rows) if row.level_version <= pruned), None)
            rows = [row for row in rows if row.level_version > pruned]
            unapplied = [one for one in unapplied if not _is_before(one, pruned, begun_at)]
        begun = max(pruned, rows[0].level_version - 1 if rows else 0)
        syncs = {system: sync for system, sync in self.syncs.items() if system != system_id or sync.level_version >= begun}
        return replace(self, rows=rows, unapplied=unapplied, syncs=syncs, begun_at=begun_at)

    def messages_to(self, system_id: str) -> dict[int, Message]:
        """level_version -> the message to this system."""
        return {version: one for (system, version), one in self.messages.items() if system == system_id}


def _is_before(one: UnappliedReport, pruned: int, received_at: datetime | None) -> bool:
    """Whether it came before the first row that is left. An echo tells its place; of others it may be an old one."""
    if one.kind is Unapplied.ECHO and one.after_version is not None:
        return one.after_version <= pruned
    return received_at is not None and one.seen_at <= received_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A point to start from. What it settles, or holds as it is, is no cause any more."""

    rows_after: int
    """Rows above this version were not settled."""
    reports_after: int
    """The system's own movements above this version were not in its stock."""
    unsent_after: datetime | None = None
    """Messages that were refused or dismissed after this were on their way then; None: only those of later rows."""
    is_sync: bool = False


class Baselines:
    """The baselines of one level against one system."""

    def __init__(self, history: LevelHistory, system_id: str, messages: Mapping[int, Message], timeline: Timeline) -> None:
        self._history = history
        self._system_id = system_id
        self._messages = messages
        self._timeline = timeline

    def at(self, start: Start) -> tuple[Decimal, tuple[Cause, ...]]:
        """The stock that the system had at `start` before the first of the timeline if nothing differed, and the causes since."""
        causes = tuple(cause for cause in (*self._unsent(start), *self._untold(start), *self._again(start)) if cause.amount)
        own = total(
            row.delta
            for row in self._history.rows
            if row.level_version > start.reports_after and row.is_report_of(self._system_id)
        )
        waiting = self.pending(len(self._timeline.tellings))
        later = total((own, self._timeline.sums[-1], waiting, *(cause.amount for cause in causes)))
        return EXACT.subtract(self._history.quantity, later), causes

    def pending(self, reached: int) -> Decimal:
        """What waits to be sent; not a message that the system turned out to have while its answer is awaited."""
        waiting = total(one.delta for one in self._messages.values() if one.state is MessageState.PENDING)
        arrived = total(one.counted for one in self._timeline.tellings[:reached] if one.is_open)
        return EXACT.subtract(waiting, arrived)

    def _unsent(self, start: Start) -> Iterator[Cause]:
        for version, one in sorted(self._messages.items()):
            was_open = start.unsent_after is not None and one.closed_at is not None and one.closed_at > start.unsent_after
            if one.state in UNSENT and (version > start.rows_after or was_open):
                is_dead = one.state is MessageState.DEAD
                became = "is not sent any more" if is_dead else "was dismissed"
                words = f"the stock update of {to_signed(one.delta)}, ledger row {version}, {became}"
                yield Cause(CauseKind.DEAD if is_dead else CauseKind.DISMISSED, one.delta, words, version)

    def _untold(self, start: Start) -> Iterator[Cause]:
        for row in self._history.rows:
            version = row.level_version
            if version <= start.rows_after or version in self._messages or row.is_report_of(self._system_id):
                continue
            words = f"{to_signed(row.delta)}, ledger row {version}"
            if row.inventory_system_id == self._system_id and row.source == Source.RECONCILE:
                continue
            if row.inventory_system_id == self._system_id and row.source == Source.REVERSAL:
                yield Cause(CauseKind.REVERSED, row.delta, f"its own movement was reversed here: {words}", row.refers_to)
            elif row.source == Source.OPENING:
                yield Cause(CauseKind.OPENING, row.delta, f"the level was opened with {words}", version)
            elif row.source == Source.RECONCILE:
                yield Cause(CauseKind.RECONCILED, row.delta, f"a number was set by hand: {row.note} ({words})", version)
            else:
                yield Cause(CauseKind.NOT_TOLD, row.delta, f"no stock update was queued for {words}", version)

    def _again(self, start: Start) -> Iterator[Cause]:
        """What a full synchronisation held, and what was, or will be, sent after it all the same."""
        if not start.is_sync:
            return
        sent = [(one.level_version, one.counted) for one in self._timeline.tellings if not one.is_open]
        waiting = [(version, one.delta) for version, one in self._messages.items() if one.state is MessageState.PENDING]
        for version, delta in (*sent, *waiting):
            if version <= start.rows_after:
                words = f"{to_signed(delta)}, ledger row {version}, is sent again after the full synchronisation that held it"
                yield Cause(CauseKind.SENT_TWICE, delta.copy_negate(), words, version)


def tellings_since(messages: Mapping[int, Message], sync: SyncAnchor | None) -> dict[int, Message]:
    """The messages that count from a full synchronisation on: of later rows, and those sent after it or still to be sent."""
    if sync is None:
        return dict(messages)
    return {
        version: one
        for version, one in messages.items()
        if version > sync.level_version
        or one.state is MessageState.PENDING
        or (one.state is MessageState.SENT and (one.closed_at or datetime.min.replace(tzinfo=UTC)) > sync.at)
    }
