"""Silence: how many deliveries were expected, by what the last weeks taught."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from app.problems.silence import MIN_WEEKS, is_silent, learn, missed

NOW = datetime(2026, 11, 30, 12, 30, tzinfo=UTC)  # a Monday
ZONE = ZoneInfo("America/Guayaquil")
HOUR = timedelta(hours=1)


def hours(*, weeks: int, of_day: range, per_hour: int, but: int | None = None) -> dict[datetime, int]:
    """Deliveries in these hours of each day in the store's zone, for so many weeks back; none on the weekday `but`."""
    start = NOW.replace(minute=0)
    every = [start - HOUR * back for back in range(1, weeks * 168)]
    local = [(moment, moment.astimezone(ZONE)) for moment in every]
    return {moment: per_hour for moment, there in local if there.hour in of_day and there.weekday() != but}


def test_nights_and_closing_days_are_quiet_by_themselves() -> None:
    profile = learn(hours(weeks=4, of_day=range(11, 23), per_hour=6, but=6), zone=ZONE, now=NOW)
    saturday_evening = datetime(2026, 11, 28, 22, 59, tzinfo=ZONE)
    monday_morning = datetime(2026, 11, 30, 10, 59, tzinfo=ZONE)

    assert not is_silent(profile, since=saturday_evening, now=monday_morning, zone=ZONE)
    assert is_silent(profile, since=saturday_evening, now=monday_morning + 2 * HOUR, zone=ZONE)


def test_an_outage_on_a_wednesday_is_found_within_two_hours() -> None:
    profile = learn(hours(weeks=4, of_day=range(11, 23), per_hour=6, but=6), zone=ZONE, now=NOW)
    last = datetime(2026, 11, 25, 13, 0, tzinfo=ZONE)

    assert [False, True] == [is_silent(profile, since=last, now=last + HOUR * n, zone=ZONE) for n in (1, 2)]


def test_under_three_weeks_nothing_is_known() -> None:
    for weeks in range(MIN_WEEKS):
        profile = learn(hours(weeks=weeks, of_day=range(24), per_hour=9), zone=ZONE, now=NOW)
        assert not profile.is_known


def test_a_closed_week_teaches_nothing() -> None:
    counts = {
        hour: number
        for hour, number in hours(weeks=6, of_day=range(11, 23), per_hour=6).items()
        if not timedelta(days=8) < NOW - hour < timedelta(days=14)
    }
    profile = learn(counts, zone=ZONE, now=NOW)

    assert 6 * 12 * 7 * 0.9 < profile.weekly <= 6 * 12 * 7


def test_few_deliveries_are_missed_only_after_a_week_of_them() -> None:
    """Three a week, at other hours in each."""
    counts = {
        NOW.replace(minute=0) - timedelta(days=7 * week + day, hours=3 * week + day): 1 for week in range(4) for day in (1, 3, 5)
    }
    profile = learn(counts, zone=ZONE, now=NOW)

    assert 3 == profile.weekly
    assert not is_silent(profile, since=NOW - timedelta(days=4), now=NOW, zone=ZONE)
    assert is_silent(profile, since=NOW - timedelta(days=9), now=NOW, zone=ZONE)


@given(st.integers(0, 20 * 24 * 60), st.integers(0, 20 * 24 * 60), st.integers(0, 5), st.integers(1, 20))
def test_what_is_expected_adds_up_and_never_shrinks(first: int, second: int, first_hour: int, per_hour: int) -> None:
    profile = learn(hours(weeks=3, of_day=range(first_hour, 20), per_hour=per_hour), zone=ZONE, now=NOW)
    start = NOW - timedelta(days=20)
    one, two = sorted((start + timedelta(minutes=first), start + timedelta(minutes=second)))
    parts = missed(profile, since=start, now=one, zone=ZONE) + missed(profile, since=one, now=two, zone=ZONE)

    assert abs(parts - missed(profile, since=start, now=two, zone=ZONE)) < 1e-6
