from decimal import Decimal

import pytest

from app.stock.duplicates import LaterReport, Trace, is_maybe_distinct
from app.stock.movement import Movement, MovementType, reported_movement
from app.stock.rules import ReportedStock, stock_after


def received(reported: str, *, quantity: str = "5", now: str = "later") -> Movement:
    return reported_movement(
        inventory_system_id="x",
        store_id="1",
        item_id="a",
        movement_type=MovementType.ADD,
        quantity=Decimal(quantity),
        reported_stock=Decimal(reported),
        date_text="d",
        sent_at_text=now,
    )


def later(reported: str, delta: str) -> LaterReport:
    return LaterReport(2, Decimal(reported), Decimal(delta))


@pytest.mark.parametrize(
    ("copy", "found", "expected"),
    [
        (received("15"), later("10", "-5"), True),
        (received("15.0"), later("10.00", "-5"), True),
        (received("15"), None, False),
        (received("15"), later("12", "-3"), False),
        (received("15", now="first"), later("10", "-5"), False),
        (received("15", quantity="0"), later("15", "3"), True),
    ],
    ids=["follows", "however written", "nothing in between", "does not follow", "the same bytes", "a count"],
)
def test_a_copy_may_be_distinct_where_it_follows_from_what_came_in_between(
    copy: Movement, found: LaterReport | None, *, expected: bool
) -> None:
    assert expected == is_maybe_distinct(copy, Trace(1, ["first"], found), ReportedStock.AFTER)


def test_read_as_before_the_report_follows_from_the_stock_after_the_one_in_between() -> None:
    trace = Trace(1, ["first"], later("15", "-5"))

    assert is_maybe_distinct(received("10"), trace, ReportedStock.BEFORE)
    assert not is_maybe_distinct(received("10"), trace, ReportedStock.AFTER)


def test_stock_after_a_movement_is_what_was_reported_or_that_and_the_movement() -> None:
    assert Decimal(3) == stock_after(Decimal(3), Decimal(-1), ReportedStock.AFTER)
    assert Decimal(2) == stock_after(Decimal(3), Decimal(-1), ReportedStock.BEFORE)
