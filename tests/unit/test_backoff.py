"""The retry curve."""

from datetime import timedelta

import pytest

from app.mipos.answers import backoff
from app.storage.waits import MAX_CALL_PAUSE


@pytest.mark.parametrize(("attempts", "seconds"), [(1, 1), (2, 2), (3, 4), (8, 128), (9, 256), (10, 300), (1000, 300)])
def test_backoff_doubles_up_to_minutes(attempts: int, seconds: int) -> None:
    assert timedelta(seconds=seconds) == backoff(attempts, jitter=0)
    assert timedelta(seconds=seconds / 2) == backoff(attempts, jitter=1)


def test_backoff_waits_at_least_as_long_as_mipos_asks_and_not_for_ever() -> None:
    assert timedelta(seconds=60) == backoff(1, jitter=0.5, asked=60)
    assert MAX_CALL_PAUSE == backoff(1, jitter=0.5, asked=86400)
    assert timedelta(seconds=128) == backoff(8, jitter=0, asked=1)
