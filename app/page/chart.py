"""The level of an item over time, as SVG: no script, values on hover, and the numbers in a table behind it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from itertools import pairwise

from app.storage.page_item import Course

WIDTH, HEIGHT = 960, 260
LEFT, RIGHT, TOP, BOTTOM = 70, 10, 12, 28
TICKS = 4


@dataclass(frozen=True, slots=True)
class Step:
    """A stretch of time with one level."""

    x: float
    width: float
    begins: datetime
    ends: datetime
    level: Decimal
    reports: Sequence[tuple[str, Decimal]]
    is_counted: bool


@dataclass(frozen=True, slots=True)
class Mark:
    """A point: what a system reported, or where it was counted."""

    x: float
    y: float
    system: int
    """Its place among the systems"""


@dataclass(frozen=True, slots=True)
class Chart:
    """What the template draws."""

    line: str
    steps: Sequence[Step]
    reported: Sequence[Mark]
    counted: Sequence[Mark]
    systems: Sequence[str]
    zero: float | None
    rows: Sequence[tuple[float, Decimal]]
    """Horizontal lines: y and the quantity"""
    columns: Sequence[tuple[float, str]]
    """Times along the bottom"""
    view: str = f"0 0 {WIDTH} {HEIGHT}"


def chart_of(course: Course, zone: tzinfo) -> Chart:
    """Draw it."""
    reports: dict[int, list[tuple[str, Decimal]]] = {}
    for bucket, system, stock in course.reports:
        reports.setdefault(bucket, []).append((system, stock))
    systems = sorted({system for _, system, _ in course.reports})
    values = [course.before, *course.levels, *(stock for _, _, stock in course.reports), Decimal(0)]
    low, high = min(values), max(values)
    if low == high:
        high = low + 1
    number = len(course.levels)
    wide = (WIDTH - LEFT - RIGHT) / number

    def x_of(bucket: float) -> float:
        return round(LEFT + bucket * wide, 2)

    def y_of(value: Decimal) -> float:
        share = float((value - low) / (high - low))
        return round(TOP + (1 - share) * (HEIGHT - TOP - BOTTOM), 2)

    points = [f"M{x_of(0)} {y_of(course.before)}"]
    for bucket, (before, level) in enumerate(pairwise([course.before, *course.levels])):
        if level != before:
            points.append(f"H{x_of(bucket + 0.5)}V{y_of(level)}")
    points.append(f"H{x_of(number)}")
    moments = [course.since + timedelta(seconds=course.step * bucket) for bucket in range(number + 1)]
    counted = set(course.counted)
    steps: list[Step] = []
    for bucket, level in enumerate(course.levels):
        is_same = steps and steps[-1].level == level and bucket not in reports and bucket not in counted
        if is_same and not steps[-1].reports and not steps[-1].is_counted:
            last = steps.pop()
            steps.append(Step(last.x, round(last.width + wide, 2), last.begins, moments[bucket + 1], level, (), is_counted=False))
        else:
            steps.append(
                Step(
                    x_of(bucket),
                    round(wide, 2),
                    moments[bucket],
                    moments[bucket + 1],
                    level,
                    reports.get(bucket, ()),
                    is_counted=bucket in counted,
                )
            )
    is_long = course.step * number > timedelta(days=3).total_seconds()
    marks = [(x_of(number * tick / TICKS), moments[number * tick // TICKS]) for tick in range(TICKS + 1)]
    return Chart(
        line="".join(points),
        steps=steps,
        reported=[Mark(x_of(bucket + 0.5), y_of(stock), systems.index(system)) for bucket, system, stock in course.reports],
        counted=[Mark(x_of(bucket + 0.5), y_of(course.levels[bucket]), 0) for bucket in course.counted],
        systems=systems,
        zero=y_of(Decimal(0)) if low < 0 else None,
        rows=[(y_of(value), value) for value in dict.fromkeys((low, high))],
        columns=[(x, moment.astimezone(zone).strftime("%Y-%m-%d" if is_long else "%m-%d %H:%M")) for x, moment in marks],
    )
