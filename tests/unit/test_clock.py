"""By how much two clocks differ, where the answer took a while."""

from datetime import UTC, datetime, timedelta

import pytest

from app.operations.clock import skew_of

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "answered", "expected"),
    [
        (0, 0, 0),
        (3, 0, 3),
        (-3, 0, -3),
        # It was read before the answer came, and nobody knows when.
        (0, 10, 0),
        (5, 10, 0),
        (10, 10, 0),
        (13, 10, 3),
        (-3, 10, -3),
    ],
)
def test_a_slow_answer_is_no_difference(now: int, answered: int, expected: int) -> None:
    skew = skew_of(NOON + timedelta(seconds=now), asked=NOON, answered=NOON + timedelta(seconds=answered))

    assert timedelta(seconds=expected) == skew
