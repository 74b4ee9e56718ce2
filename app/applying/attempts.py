"""How often a batch is tried again, how long is waited in between, and into which parts it is split."""

import asyncio

from app.applying.batch_writer import Delivery

MAX_CONFLICTS = 3
MIN_PAUSE_SECONDS = 0.05
MAX_PAUSE_SECONDS = 0.5


class Attempts:
    """How often a batch has failed since something of it was last committed."""

    def __init__(self) -> None:
        self._conflicts = 0
        self._pause = 0.0

    def may_conflict_again(self) -> bool:
        """Whether another conflict is still likely to be one of many senders, and not of a ledger that does not add up."""
        self._conflicts += 1
        return self._conflicts <= MAX_CONFLICTS

    async def pause(self) -> None:
        """Wait before the next try: not at all at first, since a lost connection is mostly replaced at once."""
        await asyncio.sleep(self._pause)
        self._pause = min(max(self._pause * 2, MIN_PAUSE_SECONDS), MAX_PAUSE_SECONDS)


def halves(group: list[Delivery]) -> list[list[Delivery]]:
    """Both halves of `group`; one that cannot be split stays whole."""
    middle = len(group) // 2
    return [group[:middle], group[middle:]] if middle else [group]


def by_levels(group: list[Delivery]) -> list[list[Delivery]]:
    """Split `group` by the levels of each delivery, so that each level that is held costs one wait."""
    parts: dict[frozenset[tuple[str, str]], list[Delivery]] = {}
    for delivery in group:
        parts.setdefault(frozenset(movement.key for movement in delivery.movements), []).append(delivery)
    return list(parts.values())
