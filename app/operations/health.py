"""Whether this worker can write, by what its own transactions say: a server that answers questions may still refuse to write."""

import time
from collections.abc import Callable

from app.operations.ailment import Ailment
from app.operations.metrics import Metrics
from app.problems import kinds
from app.storage.transactions import sqlstate
from app.storage.watch import ServerState

DISK_FULL = "53100"
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

    @property
    def ailment(self) -> Ailment | None:
        """None where this worker can write, as far as is known."""
        state = self._state()
        if state is not ServerState.WRITES:
            return Ailment(kinds.DATABASE, _WORDS.get(state, "It cannot be used"))
        codes = [code for at, code in self._faults.values() if self._clock() - at < MAX_FAULT_AGE]
        if DISK_FULL in codes:
            return Ailment(kinds.DISK, f"The database's disk is full (SQLSTATE {DISK_FULL}): nothing is applied")
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
