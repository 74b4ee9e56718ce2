"""Every kind of problem that a person is told of, with its severities and what to do: the one place that decides them.

`status`, `doctor`, the metrics, the alert rules, the alert webhook and docs/runbook.md read it; a test holds the last two to it.
"""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How soon a person has to act."""

    INFO = "info"
    """Worth knowing; nothing has to be done."""
    WARNING = "warning"
    """A number is wrong, or will be: act within the day."""
    CRITICAL = "critical"
    """Stock movements do not come in, or do not go out: act now."""

    @property
    def rank(self) -> int:
        """Higher is worse."""
        return _RANKS[self]


_RANKS = {Severity.INFO: 1, Severity.WARNING: 2, Severity.CRITICAL: 3}
EXIT_STATUS = {Severity.INFO: 0, Severity.WARNING: 3, Severity.CRITICAL: 4}
"""How `status` and `doctor` end, by the worst that they found; 0 where there is nothing."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of problem."""

    name: str
    """In every place the same: the column, the label of the metric, the message of the webhook, the anchor in the runbook."""
    title: str
    severities: tuple[Severity, ...]
    """Those that it can have."""
    remedy: str
    """What to do first, as a sentence or a command."""


_INFO, _WARNING, _CRITICAL = Severity.INFO, Severity.WARNING, Severity.CRITICAL

DATABASE = Kind(
    "database", "The database cannot be written to", (_CRITICAL,), "Check that Postgres runs and is the primary: pos-sync doctor"
)
SCHEMA = Kind(
    "schema",
    "The schema is not as this version needs it",
    (_CRITICAL,),
    "Run pos-sync migrate; if the schema is newer, deploy the version that made it",
)
WATCH = Kind("watch", "Nobody looks for problems", (_WARNING, _CRITICAL), "Start the service: pos-sync serve")
SIGNATURES = Kind(
    "signatures",
    "Deliveries without a right signature",
    (_WARNING, _CRITICAL),
    "pos-sync capture --for 10m --max 20, and after the next delivery: pos-sync explain-signature --capture NUMBER",
)
SILENCE = Kind(
    "silence",
    "No deliveries where some were expected",
    (_INFO, _WARNING, _CRITICAL),
    "Ask whether the shop is closed (pos-sync store set STORE --closed-until DATE), else look at: pos-sync ping",
)
REGISTRATION = Kind("registration", "The webhook is not registered", (_WARNING, _CRITICAL), "pos-sync register")
ANOTHER_DEPLOYMENT = Kind(
    "another_deployment",
    "Another deployment takes the webhook",
    (_CRITICAL,),
    "Stop the other deployment, or give it an account of its own; then: pos-sync register",
)
PUBLIC_URL = Kind("public_url", "PUBLIC_URL does not lead to this service", (_INFO, _CRITICAL), "pos-sync ping")
UNSETTLED = Kind(
    "unsettled",
    "Deliveries that could not be applied in time",
    (_WARNING, _CRITICAL),
    "Look at the database's load and locks: pos-sync doctor",
)
REFUSALS = Kind("refusals", "Refused deliveries wait for a person", (_WARNING,), "pos-sync refused list")
DUPLICATES = Kind("duplicates", "Suspected duplicates wait for a person", (_WARNING,), "pos-sync duplicates list")
OUTBOX_DEAD = Kind("outbox_dead", "Stock updates that are not sent any more", (_WARNING,), "pos-sync outbox list --state dead")
OUTBOX_LATE = Kind("outbox_late", "Stock updates that wait for long", (_WARNING, _CRITICAL), "pos-sync outbox list")
DRIFT = Kind("drift", "Our stock differs from an inventory system's", (_WARNING,), "pos-sync drift")
SYNC = Kind("sync", "A full synchronisation failed", (_WARNING,), "pos-sync sync --store STORE")
LOW_STOCK = Kind("low_stock", "Items are below their threshold", (_WARNING,), "pos-sync stock --low")
DISK = Kind("disk", "The database's disk fills", (_INFO, _WARNING, _CRITICAL), "Make room, or enlarge it: docs/runbook.md#disk")
SLOT = Kind(
    "replication_slot",
    "A replication slot that nobody reads keeps files",
    (_WARNING,),
    "Start its reader again, or drop it: SELECT pg_drop_replication_slot('NAME')",
)
DURABILITY = Kind(
    "durability", "A commit does not wait for a standby", (_WARNING,), "Replicate synchronously (docs/deploying.md)."
)

ALL_PAIRS = "all"
"""The subject of a silence of all stores and systems"""

KINDS = (
    DATABASE,
    SCHEMA,
    WATCH,
    SIGNATURES,
    SILENCE,
    REGISTRATION,
    ANOTHER_DEPLOYMENT,
    PUBLIC_URL,
    UNSETTLED,
    REFUSALS,
    DUPLICATES,
    OUTBOX_DEAD,
    OUTBOX_LATE,
    DRIFT,
    SYNC,
    LOW_STOCK,
    DISK,
    SLOT,
    DURABILITY,
)
BY_NAME = {kind.name: kind for kind in KINDS}


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem: a kind, and what it is about."""

    kind: Kind
    subject: str
    """What tells it from others of its kind, such as "store 1, system 7"; empty where there is only one."""
    severity: Severity
    words: str
    """One sentence with the numbers."""

    @property
    def key(self) -> tuple[str, str]:
        """(name, subject)."""
        return self.kind.name, self.subject


def worst(severities: "list[Severity]") -> Severity | None:
    """The worst of them; None of none."""
    return max(severities, key=lambda severity: severity.rank, default=None)
