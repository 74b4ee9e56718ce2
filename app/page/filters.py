"""The filters of a list: they live in its address, so that a link shows the same list."""

import re
from datetime import UTC, datetime, time, timedelta, tzinfo

from fastapi import Request

from app.page.faults import WrongField
from app.page.rendering import address
from app.page.words import of_fault
from app.stock.text import MAX_TEXT_LENGTH, fault_in
from app.visible_text import as_seen

MAX_SHOWN = 60
_LOCAL_TIME = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?)?")


class Filters:
    """The filters of a request that this list knows. A misspelt one would show everything, so it is refused."""

    def __init__(self, request: Request, names: tuple[str, ...]) -> None:
        given = request.query_params
        for name in given:
            if name not in {*names, "done", "form"}:
                raise WrongField(
                    "%(name)s is no filter of this list, which has: %(names)s", name=text_of(name), names=", ".join(names)
                )
        self._values = {name: given[name].strip() for name in names if given.get(name, "").strip()}
        for name, value in self._values.items():
            if fault := fault_in(value, max_length=2 * MAX_TEXT_LENGTH):
                raise WrongField("The filter %(name)s %(fault)s", name=name, fault=of_fault(fault))

    def get(self, name: str) -> str | None:
        """Its value; None where it is not set."""
        return self._values.get(name)

    def is_set(self, name: str) -> bool:
        """Whether a box is ticked."""
        return name in self._values

    def any(self, *names: str) -> bool:
        """Whether one of them is set."""
        return any(name in self._values for name in names)

    def number(self, name: str) -> int | None:
        """A whole number.

        Raises:
            WrongField: it is none.
        """
        value = self._values.get(name)
        if value is not None and not re.fullmatch("[0-9]{1,18}", value):
            raise WrongField("The filter %(name)s has to be a number", name=name)
        return None if value is None else int(value)

    def address(self, path: str, **changes: str | None) -> str:
        """The same list with some filters changed; None takes one away."""
        return address(path, **{**self._values, **changes})


def read_time(value: str | None, zone: tzinfo, day_starts: time, *, now: datetime) -> datetime | None:
    """A time as a browser's field gives it, in the zone of the store; a day alone is its end, when the next one starts.

    Of a day that has not ended, it is `now`.

    Raises:
        WrongField: it is none.
    """
    if value is None:
        return None
    if not _LOCAL_TIME.fullmatch(value):
        raise WrongField("The time has to be written as 2026-05-30 18:00")
    try:
        moment = datetime.fromisoformat(value).replace(tzinfo=zone)
        if len(value) == len("2026-05-30"):
            day, today = moment.date(), now.astimezone(zone).date()
            moment = datetime.combine(day + timedelta(days=1), day_starts, zone)
            if day <= today and moment > now:
                moment = now
        # Compared as UTC: at the edges of the calendar there is no such time.
        moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise WrongField("There is no such day or time") from None
    return moment


def start_of_day(now: datetime, zone: tzinfo, day_starts: time) -> datetime:
    """When the day of business began that `now` belongs to, in the zone of the store."""
    local = now.astimezone(zone)
    began = datetime.combine(local.date(), day_starts, zone)
    return began if began <= local else datetime.combine(local.date() - timedelta(days=1), day_starts, zone)


def text_of(value: str) -> str:
    """What somebody typed, for a message."""
    return as_seen(value[:MAX_SHOWN])
