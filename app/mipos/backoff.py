"""The pause between two tries of a call or of the database: the one retry curve of all that goes on by itself. Pure."""

from datetime import timedelta

MIN_PAUSE = timedelta(seconds=1)
MAX_PAUSE = timedelta(minutes=5)


def backoff(attempts: int, *, jitter: float, asked: float | None = None) -> timedelta:
    """How long to wait after the `attempts`-th failure: doubling from a second to minutes, less up to half by jitter."""
    pause = min(MIN_PAUSE * 2 ** min(attempts - 1, 20), MAX_PAUSE)
    pause -= pause * jitter / 2
    return pause if asked is None else min(max(pause, timedelta(seconds=asked)), MAX_PAUSE)
