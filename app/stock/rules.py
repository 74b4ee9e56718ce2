"""The rules that decide what becomes of a movement, beside the ledger itself: the same for every door and every replica."""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from app.stock.quantity import EXACT


class NegativeStock(StrEnum):
    """What a store does with a movement that takes a level below zero.

    Allow is the default: the goods have left the kitchen already, and a refusal only makes the two stocks differ.
    """

    ALLOW = "allow"
    REFUSE = "refuse"


class ReportedStock(StrEnum):
    """How an inventory system's `current_stock` is read: as its stock after or before the movement that it came with.

    mipOS's document does not say, so it is a setting (docs/reference/mipos-api.md, "Readings to take").
    """

    AFTER = "after"
    BEFORE = "before"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The recorded rules. `timezone` is the zone of stores that have none of their own."""

    pos_id: str | None = None
    negative_stock: NegativeStock = NegativeStock.ALLOW
    reported_stock: ReportedStock = ReportedStock.AFTER
    timezone: str = "UTC"
    max_count_age_days: int = 7
    """A count that is older is refused."""


def differing(own: Rules, recorded: Rules) -> list[str]:
    """Name the rules in which `own` differs from those that are recorded."""
    return [name for name in Rules.__dataclass_fields__ if getattr(own, name) != getattr(recorded, name)]


def stock_after(reported: Decimal, delta: Decimal, reading: ReportedStock) -> Decimal:
    """Return the inventory system's own stock after the movement with which it reported `reported`."""
    return reported if reading is ReportedStock.AFTER else EXACT.add(reported, delta)
