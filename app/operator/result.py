"""Result of an operator's attempt to apply a kept delivery."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What became of it, or would become of it."""

    APPLIED = "applied"
    ALREADY_APPLIED = "already applied"
    REFUSED = "refused again"
    DISMISSED = "dismissed before"
    UNKNOWN = "not found"

    @property
    def is_good(self) -> bool:
        """Whether the movement is in the ledger."""
        return self in (Verdict.APPLIED, Verdict.ALREADY_APPLIED)


@dataclass(frozen=True, slots=True)
class OperatorResult:
    """What became of the delivery with this number. `message` says why it was not applied, `about` which level it is about."""

    number: int
    verdict: Verdict
    message: str = ""
    about: str = ""
