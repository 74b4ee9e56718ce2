"""A finding of `doctor`."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What a check found."""

    OK = "ok"
    WARNING = "warning"
    """It works, and somebody should know."""
    FAILED = "failed"
    SKIPPED = "skipped"
    """Could not be looked at, because of something said before."""


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `remedy` says what to do where `verdict` is not ok."""

    name: str
    verdict: Verdict
    reason: str
    remedy: str = ""
