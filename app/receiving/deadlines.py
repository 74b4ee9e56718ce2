"""The deadlines of all deliveries by one timer: a timer for each costs more than all the rest of waiting for an answer."""

import asyncio
from collections.abc import Callable

from app.receiving.delivery import Delivery


class Deadlines:
    """Calls `expire` for each delivery that is still here when its deadline passes."""

    def __init__(self, expire: Callable[[Delivery], None]) -> None:
        self._expire = expire
        self._deliveries: set[Delivery] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._next = float("inf")

    def add(self, delivery: Delivery) -> None:
        """Watch `delivery`."""
        self._deliveries.add(delivery)
        if delivery.deadline < self._next:
            self._wake_at(delivery.deadline)

    def discard(self, delivery: Delivery) -> None:
        """Watch it no more. The timer stays: it finds nothing of it, and is set for the next."""
        self._deliveries.discard(delivery)

    def _wake_at(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = deadline
        self._timer = asyncio.get_running_loop().call_at(deadline, self._sweep)

    def _sweep(self) -> None:
        now = asyncio.get_running_loop().time()
        # A timer may come a moment early; without the look at `_next` it could then be set for the past again and again.
        passed = max(now, self._next)
        self._timer, self._next = None, float("inf")
        for delivery in list(self._deliveries):
            if delivery.deadline <= passed:
                self._deliveries.discard(delivery)
                self._expire(delivery)
        if self._deliveries:
            self._wake_at(min(delivery.deadline for delivery in self._deliveries))
