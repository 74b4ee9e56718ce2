"""Days of business: they begin in the small hours, in the store's time zone."""

from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

import pytest

from app.page.faults import WrongField
from app.page.filters import read_time, start_of_day

GUAYAQUIL, NEW_YORK = ZoneInfo("America/Guayaquil"), ZoneInfo("America/New_York")
FOUR = time(4)


def test_a_day_alone_ends_when_the_next_one_starts() -> None:
    assert datetime(2026, 5, 31, 9, tzinfo=UTC) == read_time("2026-05-30", GUAYAQUIL, FOUR)
    assert datetime(2026, 5, 30, 23, tzinfo=UTC) == read_time("2026-05-30T18:00", GUAYAQUIL, FOUR)


@pytest.mark.parametrize(
    ("now", "began"),
    [
        (datetime(2026, 5, 30, 8, 59, tzinfo=UTC), datetime(2026, 5, 29, 9, tzinfo=UTC)),
        (datetime(2026, 5, 30, 9, tzinfo=UTC), datetime(2026, 5, 30, 9, tzinfo=UTC)),
    ],
)
def test_what_is_sold_after_midnight_belongs_to_the_day_before(now: datetime, began: datetime) -> None:
    assert began == start_of_day(now, GUAYAQUIL, FOUR)


def test_the_day_on_which_clocks_go_back_has_25_hours() -> None:
    began = start_of_day(datetime(2026, 11, 1, 12, tzinfo=UTC), NEW_YORK, time(0))
    assert datetime(2026, 11, 1, 4, tzinfo=UTC) == began
    assert (
        25 * 3600
        == (start_of_day(datetime(2026, 11, 2, 5, tzinfo=UTC), NEW_YORK, time(0)) - began.astimezone(UTC)).total_seconds()
    )


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "2026-05-30 25:00", "30.05.2026"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(WrongField):
        read_time(text, UTC, FOUR)
