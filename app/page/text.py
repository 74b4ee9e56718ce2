"""What codes are called for people. Messages are translated where they are shown; the code stands beside them."""

from app.operator.refusals import Verdict
from app.page.rendering import later, later_of
from app.stock.causes import CauseKind
from app.storage.duplicates import State as SuspectState
from app.storage.duplicates import Suspicion
from app.storage.outbox import OutboxState
from app.storage.refusals import State

REASONS = {
    "not_parseable": later("cannot be read"),
    "invalid_field": later("a field is missing or wrong"),
    "unstorable_value": later("a value that the database does not take"),
    "other_pos": later("meant for another POS"),
    "unknown_store": later("unknown store"),
    "unknown_item": later("unknown item"),
    "no_integration": later("store and system are not connected"),
    "integration_disabled": later("the integration is disabled"),
    "below_zero": later("would take the stock below zero"),
    "beyond_range": later("too large to be held"),
    "unit_unclear": later("the unit is not clear"),
    "unit_differs": later("the stores have different units"),
    "count_in_future": later("a count in the future"),
    "count_too_old": later("a count that is too old"),
    "put_aside": later("dismissed before"),
    "unknown_row": later("no such row in the ledger"),
    "not_reversible": later("cannot be taken back"),
}
"""Why a delivery was refused"""

REFUSAL_STATES = {
    State.OPEN: later("open"),
    State.RESOLVED: later("resolved"),
    State.REPLAYED: later("replayed"),
    State.DISMISSED: later("dismissed"),
    State.FOLDED: later("only counted"),
}
SUSPICIONS = {
    Suspicion.REPEATED: later("equals an applied movement, and may be another one"),
    Suspicion.ECHO: later("equals a stock update that we sent"),
    Suspicion.BEFORE_COUNT: later("was applied, and is older than the newest count"),
}
SUSPECT_STATES = {
    SuspectState.OPEN: later_of("suspected duplicate", "open"),
    SuspectState.APPLIED: later_of("suspected duplicate", "applied"),
    SuspectState.DISMISSED: later_of("suspected duplicate", "dismissed"),
}
CAUSES = {
    CauseKind.REFUSED: later("refused deliveries"),
    CauseKind.SUSPECTED_DUPLICATE: later("a suspected duplicate that was not applied"),
    CauseKind.SUSPECTED_DOUBLE: later("one movement that was applied twice"),
    CauseKind.GAP: later("their stock changed without a movement that reached us"),
    CauseKind.DEAD: later("stock updates that are not sent any more"),
    CauseKind.DISMISSED: later("dismissed stock updates"),
    CauseKind.NOT_TOLD: later("movements that they were never told of"),
    CauseKind.SENT_TWICE: later("a stock update that arrived twice"),
    CauseKind.OVERTAKEN: later("a movement from before a synchronisation"),
    CauseKind.REVERSED: later("a movement of theirs that was taken back here"),
    CauseKind.OPENING: later("a difference from the beginning"),
    CauseKind.RECONCILED: later("a number that was set here"),
    CauseKind.READING: later("how their number was read"),
    CauseKind.UNEXPLAINED: later("not explained"),
}
"""Why our stock and theirs differ"""
OUTBOX_STATES = {
    OutboxState.PENDING: later("waits"),
    OutboxState.SENT: later("sent"),
    OutboxState.DEAD: later("not sent any more"),
    OutboxState.COVERED: later("told by a full synchronisation"),
    OutboxState.DISMISSED: later("dismissed"),
}
VERDICTS = {
    Verdict.APPLIED: later("applied"),
    Verdict.ALREADY_APPLIED: later("already applied"),
    Verdict.REFUSED: later("refused again"),
    Verdict.UNDECIDED: later("needs a decision"),
    Verdict.COUNTED: later("closed, since the count held it"),
    Verdict.SET_ASIDE: later("dismissed"),
    Verdict.DISMISSED: later("dismissed before"),
    Verdict.GONE: later("cannot be replayed"),
    Verdict.UNKNOWN: later("not found"),
}
"""What became of a replay, or would become of it"""
SUSPECT_VERDICTS = {
    **VERDICTS,
    Verdict.APPLIED: later_of("suspected duplicate", "applied"),
    Verdict.ALREADY_APPLIED: later_of("suspected duplicate", "already applied"),
    Verdict.REFUSED: later_of("suspected duplicate", "refused again"),
    Verdict.COUNTED: later_of("suspected duplicate", "closed, since the count held it"),
    Verdict.SET_ASIDE: later_of("suspected duplicate", "dismissed"),
    Verdict.DISMISSED: later_of("suspected duplicate", "dismissed before"),
}
"""What became of a suspected duplicate: in some languages words have a gender"""
