"""Anchors: the moments at which we know an inventory system's stock."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from app.stock.quantity import ZERO


class AnchorKind(StrEnum):
    """By what we know it."""

    REPORT = "report"
    SYNC = "sync"
    """A full synchronisation that ended done."""
    ECHO = "echo"
    ADOPTED = "adopted"
    """An operator adopted the system's stock, and the report that it came from is not looked at any more."""


@dataclass(frozen=True, slots=True)
class SyncAnchor:
    """The newest full synchronisation that ended done: the version of the level in its snapshot, and the stock that it told."""

    level_version: int
    stock: Decimal
    at: datetime
    """When it ended."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """The newest anchor of a system and level, and what was acknowledged since. One table row, which outlives retention."""

    kind: AnchorKind
    stock: Decimal
    level_version: int
    """Everything up to this ledger row has been taken into account."""
    at: datetime
    """When it was received here, or the synchronisation ended."""
    as_of: str | None = None
    """The report's own date, as it was sent."""
    told_since: Decimal = ZERO
    """The sum of the messages that the anchor does not hold and that were acknowledged up to `told_until`."""
    told_until: datetime | None = None
    """None: `at`."""
    uncertain: Decimal = ZERO
    """By how much `stock` and `told_since` may be wrong together."""

    @property
    def until(self) -> datetime:
        """Up to when acknowledged messages are in `stock` and `told_since`."""
        return self.told_until or self.at
