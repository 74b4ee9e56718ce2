"""The stock updates to one inventory system, as far as comparing needs them, in the order in which they arrived there."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum

from app.stock.quantity import EXACT, ZERO

_BEFORE_ALL = datetime.min.replace(tzinfo=UTC)


class MessageState(StrEnum):
    """What became of a message; the values are those of the outbox."""

    PENDING = "pending"
    SENT = "sent"
    DEAD = "dead"
    COVERED = "covered"
    DISMISSED = "dismissed"


UNSENT = {MessageState.DEAD, MessageState.DISMISSED}
"""These will not arrive by themselves."""


@dataclass(frozen=True, slots=True)
class Message:
    """One stock update, that of a ledger row with this delta."""

    state: MessageState
    delta: Decimal
    closed_at: datetime | None = None
    """When it was acknowledged, refused for good, covered or dismissed."""
    sent_at: datetime | None = None
    """When its first send began; None: it was never sent, or nobody knows."""
    unknown_sends: int = 0
    """How many sends of it ended without a known outcome: each may have arrived."""
    unknown_until: datetime | None = None
    """When the newest of these sends ended."""


@dataclass(frozen=True, slots=True)
class Telling:
    """A message that the system has, or may have."""

    level_version: int
    message: Message
    started: datetime
    """It cannot have arrived before."""

    @property
    def delta(self) -> Decimal:
        """The change that it tells."""
        return self.message.delta

    @property
    def surely_started(self) -> datetime:
        """The send with a known outcome cannot have arrived before: it came after those with an unknown one."""
        return max(self.started, self.message.unknown_until or self.started)

    @property
    def is_open(self) -> bool:
        """Whether its fate is not decided: it is, or was, on its way, and it is pending."""
        return self.message.state is MessageState.PENDING

    @property
    def counted(self) -> Decimal:
        """What it changes there for sure once it has arrived; of a message with doubtful sends alone: nothing."""
        is_sure = self.message.state is MessageState.SENT or (self.is_open and not self.message.unknown_sends)
        return self.delta if is_sure else ZERO


class Timeline:
    """The messages that a system has or may have, in the order in which they arrived there.

    There is one send at a time for each system and level, so they arrived in the order in which they were closed, and at most
    the oldest pending one is on its way.
    """

    def __init__(self, messages: Mapping[int, Message], written: Mapping[int, datetime]) -> None:
        told = [(version, one) for version, one in messages.items() if one.state is MessageState.SENT or _is_doubtful(one)]
        told.sort(key=lambda pair: (pair[1].closed_at or _BEFORE_ALL, pair[0]))
        head = min((version for version, one in messages.items() if one.state is MessageState.PENDING), default=None)
        if head is not None and (messages[head].sent_at is not None or messages[head].unknown_sends):
            told.append((head, messages[head]))
        self.tellings: list[Telling] = []
        before = _BEFORE_ALL
        for version, one in told:
            started = one.sent_at or max(before, written.get(version, _BEFORE_ALL))
            self.tellings.append(Telling(version, one, started))
            before = one.closed_at or before
        self._closed = [one.closed_at or _BEFORE_ALL for _, one in told if one.state is not MessageState.PENDING]
        self.has_unknown = any(one.unknown_sends for _, one in told)
        """Whether the outcome of a send is not known."""
        self.sums = [ZERO]
        """What the first n of them change there."""
        for telling in self.tellings:
            self.sums.append(EXACT.add(self.sums[-1], telling.counted))

    @property
    def closed(self) -> int:
        """How many are decided."""
        return len(self._closed)

    def until(self, moment: datetime) -> int:
        """How many were decided by `moment`."""
        return bisect_right(self._closed, moment)

    def between(self, start: int, end: int) -> Decimal:
        """What those from the place `start` up to `end` change there; negative where `end` is less."""
        return EXACT.subtract(self.sums[end], self.sums[start])

    def place_of(self, level_version: int) -> int | None:
        """The place of the message of a row."""
        return next((index for index, one in enumerate(self.tellings) if one.level_version == level_version), None)

    def undecided(self, reached: int, made_after: datetime | None) -> Iterator[tuple[int, Message]]:
        """The messages with sends of an unknown outcome of which an anchor that holds `reached` messages does not tell yet.

        It tells of a send that came before one that it holds, and of one that was over when the anchor was made, at the earliest.
        """
        for place, one in enumerate(self.tellings):
            message = one.message
            if not message.unknown_sends or (place < reached and one.counted):
                continue
            over = message.unknown_until or message.closed_at
            if made_after is None or over is None or over > made_after:
                yield place, message


def _is_doubtful(one: Message) -> bool:
    return one.state in UNSENT and one.unknown_sends > 0
