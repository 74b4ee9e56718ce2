"""A finding of `doctor`."""

from dataclasses import dataclass
from enum import StrEnum

from app.storage.transactions import Fault, classify, why_failed


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


def not_looked_at(name: str, error: BaseException) -> Check:
    """What is to be checked there could not be read in the database."""
    is_right = classify(error) is Fault.NOT_SET_UP
    remedy = (
        "Check the role's rights: pos-sync migrate --grant-to ROLE"
        if is_right
        else "Run it again. If it stays, the log of Postgres says more."
    )
    return Check(name, Verdict.FAILED, f"could not be looked at ({why_failed(error)})", remedy)
