"""Days of business: they begin in the small hours, in the store's time zone."""

from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

import pytest

from app.page.faults import WrongField
from app.page.filters import read_time, start_of_day

GUAYAQUIL, NEW_YORK, TOKYO = ZoneInfo("America/Guayaquil"), ZoneInfo("America/New_York"), ZoneInfo("Asia/Tokyo")
FOUR = time(4)
NOW = datetime(2026, 6, 30, tzinfo=UTC)


def test_a_day_alone_ends_when_the_next_one_starts() -> None:
    assert datetime(2026, 5, 31, 9, tzinfo=UTC) == read_time("2026-05-30", GUAYAQUIL, FOUR, now=NOW)
    assert datetime(2026, 5, 30, 23, tzinfo=UTC) == read_time("2026-05-30T18:00", GUAYAQUIL, FOUR, now=NOW)


@pytest.mark.parametrize("hour", [0, 3, 4, 23])
def test_a_day_that_has_not_ended_means_now(hour: int) -> None:
    now = datetime(2026, 5, 30, hour, 30, tzinfo=GUAYAQUIL)
    assert now == read_time("2026-05-30", GUAYAQUIL, FOUR, now=now)
    tomorrow = read_time("2026-05-31", GUAYAQUIL, FOUR, now=now)
    assert tomorrow is not None
    assert tomorrow > now


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


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "2026-05-30 25:00", "30.05.2026", "9999-12-31", "0001-01-01T00:00"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(WrongField):
        read_time(text, TOKYO, FOUR, now=NOW)
