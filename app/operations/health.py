"""Whether this worker can write, by what its own transactions say: a server that answers questions may still refuse to write."""

import time
from collections.abc import Callable

from app.operations.ailment import Ailment
from app.operations.metrics import Metrics
from app.problems import kinds
from app.storage.transactions import sqlstate
from app.storage.watch import ServerState

DISK_FULL = "53100"
_MISSING = {"3F000", "42P01", "42703", "42883", "42704"}
"""SQLSTATEs by which Postgres says that our schema, or a table, column, function or type of it, is not there"""
MAX_FAULT_AGE = 120.0
"""Seconds. A fault that is older says nothing any more: nobody has written since."""
_WORDS = {
    ServerState.UNKNOWN: "It cannot be reached",
    ServerState.READ_ONLY: "It is read-only, such as a standby",
    ServerState.SILENT: "It does not answer",
}
_FAULTS = {"away", "not_set_up", "broken"}


class Health:
    """Told of each transaction of the deliveries, and of each look for problems, which writes too."""

    def __init__(self, state: Callable[[], ServerState], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._state = state
        self._clock = clock
        self._faults: dict[str, tuple[float, str]] = {}
        """What failed last, when, and with which SQLSTATE; without what has worked since"""
        self._schema: tuple[float, str] | None = None
        """Why this code cannot work with the schema, and when that was found"""

    def on_fault(self, fault: str, code: str) -> None:
        """A transaction of deliveries failed."""
        if fault in _FAULTS:
            self._faults["deliveries"] = (self._clock(), code)

    def on_batch(self) -> None:
        """A transaction of deliveries was committed."""
        self._faults.pop("deliveries", None)

    def note_look(self, error: BaseException | None) -> None:
        """A look for problems failed, or worked."""
        if error is None:
            self._faults.pop("look", None)
        else:
            self._faults["look"] = (self._clock(), sqlstate(error))

    def note_schema(self, fault: str | None) -> None:
        """Why this code cannot work with the schema, as a look has found; None where it can."""
        if fault is None and self._schema is not None:
            # What failed on the schema as it was says nothing of the one that is there now.
            self._faults = {name: seen for name, seen in self._faults.items() if seen[1] not in _MISSING}
        self._schema = None if fault is None else (self._clock(), fault)

    @property
    def ailment(self) -> Ailment | None:
        """None where this worker can write, as far as is known."""
        state = self._state()
        if state is not ServerState.WRITES:
            return Ailment(kinds.DATABASE, _WORDS.get(state, "It cannot be used"))
        codes = [code for at, code in self._faults.values() if self._clock() - at < MAX_FAULT_AGE]
        if DISK_FULL in codes:
            return Ailment(kinds.DISK, f"The database's disk is full (SQLSTATE {DISK_FULL}): nothing is applied")
        if self._schema is not None and self._clock() - self._schema[0] < MAX_FAULT_AGE:
            return Ailment(kinds.SCHEMA, self._schema[1])
        missing = next((code for code in codes if code in _MISSING), None)
        if missing is not None:
            return Ailment(kinds.SCHEMA, f"A part of the schema is missing (SQLSTATE {missing}). Run: pos-sync doctor")
        if codes:
            code = next(filter(None, codes), "")
            return Ailment(kinds.DATABASE, f"It refuses to write{f' (SQLSTATE {code})' if code else ''}")
        return None


class BatchObservers:
    """Tells the metrics and the health of each batch."""

    def __init__(self, metrics: Metrics, health: Health) -> None:
        self._metrics = metrics
        self._health = health

    def on_batch(self, *, size: int, seconds: float) -> None:
        """A batch was committed."""
        self._metrics.on_batch(size=size, seconds=seconds)
        self._health.on_batch()

    def on_fault(self, fault: str, code: str) -> None:
        """A transaction failed."""
        self._metrics.on_fault(fault)
        self._health.on_fault(fault, code)
