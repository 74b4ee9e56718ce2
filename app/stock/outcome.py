"""What becomes of a movement: applied, known, refused, its key reused, or not decided yet."""

from dataclasses import dataclass
from decimal import Decimal

from app.errors import Refusal


@dataclass(frozen=True, slots=True)
class Applied:
    """The movement changed the level; its ledger row has this version, and left this balance."""

    level_version: int
    balance: Decimal


@dataclass(frozen=True, slots=True)
class Known:
    """The ledger holds this movement already, by this row. Nothing changes, and the sender may stop."""

    level_version: int
    balance: Decimal


@dataclass(frozen=True, slots=True)
class Refused:
    """The movement changes nothing, and `error` says why."""

    error: Refusal


@dataclass(frozen=True, slots=True)
class KeyReused:
    """The idempotency key of the POS was used for another movement. Nothing changes."""


@dataclass(frozen=True, slots=True)
class Busy:
    """Not decided: another session holds the level. Ask again later."""


Outcome = Applied | Known | Refused | KeyReused | Busy
