"""How often a batch is tried again, and how long is waited in between."""

import asyncio

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
