"""Which store and system a body names whose signature is wrong: only such a body may be mipOS's own, and no scanner's."""

import time

from app.receiving.body import read_subject

MAX_READ = 20
"""A second: reading costs more than refusing, and anybody can send such bodies."""


class Claims:
    """Reads bodies, not too many."""

    def __init__(self) -> None:
        self._second = 0
        self._read = 0

    def read(self, body: bytes) -> tuple[str, str] | None:
        """(store_id, inventory_system_id), as the body claims; None where it names none, or too many came."""
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._read = second, 0
        if self._read >= MAX_READ:
            return None
        self._read += 1
        subject = read_subject(body)
        if subject.store_id is None or subject.inventory_system_id is None:
            return None
        return subject.store_id, subject.inventory_system_id
