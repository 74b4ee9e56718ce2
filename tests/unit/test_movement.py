from typing import Any

import pytest

from app.receiving.body import read_report
from app.stock.movement import Movement, opening_movement
from app.stock.quantity import parse_quantity
from tests.support.sender import body_of


def of(**changes: Any) -> Movement:
    return read_report(body_of(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"now": "2031-01-01 00:00:00"},
        {"pos_id": "9"},
        {"quantity": "1.250"},
        {"quantity": "125e-2"},
        {"current_stock": "12.440"},
        {"quantity": "1.250000000000004"},
        {"quantity": "+1.25"},
        {"current_stock": "12.439999999999999"},
        {"current_stock": "12.440000000000001"},
        {"movement_type": "2"},
        {"store_id": "1"},
        {"user_id_tps": "30"},
    ],
)
def test_a_retry_is_the_same_movement(changes: dict[str, Any]) -> None:
    assert of().dedupe_key == of(**changes).dedupe_key


@pytest.mark.parametrize(
    "changes",
    [
        {"current_stock": "11.19"},
        {"quantity": "1.26"},
        {"date": "2020-05-30 12:45:04"},
        {"date": "2020-05-30 12:45:03 "},
        {"movement_type": 1},
        {"external_id": "avcc124"},
        {"store_id": 2},
        {"inventory_system_id": "other"},
    ],
)
def test_another_movement_has_another_identity(changes: dict[str, Any]) -> None:
    assert of().dedupe_key != of(**changes).dedupe_key


def test_parts_of_an_identity_do_not_run_into_each_other() -> None:
    assert of(store_id="1", external_id="23").dedupe_key != of(store_id="12", external_id="3").dedupe_key


def test_the_identity_never_changes_between_releases() -> None:
    """Ledgers keep these keys: a change takes a migration of them all, or applies each retry once more."""
    assert b"2020-05-30".hex() + "334b958e27a0b4e1898eb05d6bb61d512bec03520ef3" == (of().dedupe_key or b"").hex()


@pytest.mark.parametrize(
    ("date", "first"),
    [
        ("2020-05-30 12:45:03", b"2020-05-30"),
        ("30.5.20", b"30.5.20\0\0\0"),
        ("mañana por la mañana", b"ma\xc3\xb1ana po"),
        ("12345678é", b"12345678\xc3\xa9"),
        ("123456789é", b"123456789\xc3"),
    ],
)
def test_an_identity_begins_with_its_date_however_that_is_written(date: str, first: bytes) -> None:
    """So the movements of one time lie side by side in the ledger's index."""
    one, other = of(date=date).dedupe_key, of(date=date, quantity="1.26").dedupe_key

    assert one is not None
    assert other is not None
    assert (first, first) == (one[:10], other[:10])
    assert one != other
    assert (32, 32) == (len(one), len(other))


@pytest.mark.parametrize(("stock", "delta"), [("5.5", "5.5"), ("0", "0"), ("-2", "-2")])
def test_an_opening_row_brings_the_level_to_the_stock(stock: str, delta: str) -> None:
    opening = opening_movement(store_id="1", item_id="a", stock=parse_quantity(stock))

    assert parse_quantity(delta) == opening.delta
    assert opening.quantity >= 0
    assert opening.dedupe_key is None
