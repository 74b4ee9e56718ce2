"""The sender's book: every movement that was sent, which answers came, and which were acknowledged."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import count

from tests.support.sender import body_of, raw_request, signed

ITEMS = ("avcc123", "tom001", "saf001")
"""Items of store 1 of the sample catalogue: few, so that movements contend for the same levels."""
NO_CONTENT = 204


@dataclass(slots=True, eq=False)
class Sent:
    """One movement, unique by `date_text`, signed once: each sending of it is the same bytes."""

    item_id: str
    delta: Decimal
    date_text: str
    request: bytes
    """A whole HTTP request."""
    is_acknowledged: bool = False


@dataclass
class Book:
    """What one sender did, and what it was told."""

    name: str
    """Begins each movement's `date`; cut, since a date is at most 64 characters. A database holds the movements of one book."""
    movements: list[Sent] = field(default_factory=list)
    answers: Counter[int] = field(default_factory=Counter)
    """By status."""
    broken: int = 0
    """Connections that ended without an answer."""
    problems: Counter[str] = field(default_factory=Counter)
    """What must not be, and how often it was."""
    slowest: float = 0.0
    """The slowest answer, in seconds."""
    _numbers: "count[int]" = field(default_factory=count)

    @property
    def deliveries(self) -> int:
        """How often anything was sent."""
        return self.answers.total() + self.broken

    @property
    def acknowledged(self) -> list[Sent]:
        """The movements that were answered 204."""
        return [movement for movement in self.movements if movement.is_acknowledged]

    @property
    def unsettled(self) -> list[Sent]:
        """The movements that were never answered 204."""
        return [movement for movement in self.movements if not movement.is_acknowledged]

    def write(self, *, item_id: str | None = None) -> Sent:
        """A new movement."""
        number = next(self._numbers)
        item_id = item_id or ITEMS[number % len(ITEMS)]
        # Both directions and several sizes, so that a movement in another's place does not go unnoticed.
        movement_type, quantity = 1 + number % 2, Decimal(1 + number % 7) / 1000
        date_text = f"{self.name[:40]} {number}"
        body = body_of(external_id=item_id, movement_type=movement_type, quantity=str(quantity), date=date_text)
        delta = quantity if movement_type == 1 else -quantity
        sent = Sent(item_id, delta, date_text, raw_request(body, signed(body)))
        self.movements.append(sent)
        return sent

    def write_many(self, number: int) -> list[Sent]:
        """`number` new movements."""
        return [self.write() for _ in range(number)]


def total_by_item(movements: Iterable[Sent]) -> dict[str, Decimal]:
    """The sum of the deltas of each item."""
    totals: dict[str, Decimal] = dict.fromkeys(ITEMS, Decimal(0))
    for movement in movements:
        totals[movement.item_id] += movement.delta
    return totals
