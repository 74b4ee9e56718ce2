"""Whether a store's inventory system is silent: how many deliveries were expected since the last one. Pure.

What is expected is learnt by hour of the week in the store's time zone, so that nights and closing days are quiet by themselves.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from zoneinfo import ZoneInfo

MAX_MISSED = 8
"""Expected deliveries that have to be missed; where a week brings fewer, a week's number."""
LEARNT_WEEKS = 4
MIN_WEEKS = 3
"""With less history, what is expected is a guess: worth saying, and no problem."""
HOURS_OF_WEEK = 168
_HOUR = timedelta(hours=1)
_WEEK = timedelta(weeks=1)


@dataclass(frozen=True, slots=True)
class Profile:
    """What one store and system usually send."""

    by_hour: tuple[float, ...]
    """Expected deliveries for each hour of the week, from Monday 00:00 in the store's zone."""
    weekly: float
    weeks: int
    """Weeks of history that had deliveries, at most `LEARNT_WEEKS`"""

    @property
    def is_known(self) -> bool:
        """Whether there is enough history to judge by."""
        return self.weeks >= MIN_WEEKS and self.weekly > 0

    @property
    def max_missed(self) -> float:
        """How many deliveries have to be missed for a silence."""
        return min(MAX_MISSED, self.weekly)


def learn(counts: Mapping[datetime, int], *, zone: ZoneInfo, now: datetime) -> Profile:
    """The profile by `counts`: deliveries by the hour in which they came (UTC).

    Of the last weeks before `now` only those count that had deliveries: a closed week teaches nothing.
    """
    weeks: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for hour, deliveries in counts.items():
        age = int((now - hour) / _WEEK)
        if hour <= now and age < 2 * LEARNT_WEEKS:
            weeks[age][hour_of_week(hour, zone)] += deliveries
    chosen = [weeks[age] for age in sorted(weeks)][:LEARNT_WEEKS]
    if not chosen:
        return Profile((0.0,) * HOURS_OF_WEEK, 0.0, 0)
    weekly = float(median(sum(week.values()) for week in chosen))
    by_hour = [float(median(week.get(hour, 0) for week in chosen)) for hour in range(HOURS_OF_WEEK)]
    if sum(by_hour) < weekly / 2:
        # Few deliveries, at no hours of their own: their number in a week is all that is known, spread as it came.
        total = sum(sum(week.values()) for week in chosen)
        by_hour = [sum(week.get(hour, 0) for week in chosen) * weekly / total for hour in range(HOURS_OF_WEEK)]
    return Profile(tuple(by_hour), weekly, len(chosen))


def hour_of_week(moment: datetime, zone: ZoneInfo) -> int:
    """0 is Monday from 00:00 to 01:00 in `zone`."""
    local = moment.astimezone(zone)
    return local.weekday() * 24 + local.hour


def missed(profile: Profile, *, since: datetime, now: datetime, zone: ZoneInfo) -> float:
    """How many deliveries were expected from `since` to `now`."""
    total = 0.0
    start = max(since, now - LEARNT_WEEKS * _WEEK)
    while start < now:
        end = min(_next_hour(start), now)
        total += profile.by_hour[hour_of_week(start, zone)] * ((end - start) / _HOUR)
        start = end
    return total


def _next_hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0) + _HOUR


def is_silent(profile: Profile, *, since: datetime, now: datetime, zone: ZoneInfo) -> bool:
    """Whether too many expected deliveries were missed, as far as is known; `profile.is_known` says whether that is enough."""
    return profile.weekly > 0 and missed(profile, since=since, now=now, zone=zone) >= profile.max_missed
