from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.stock.quantity import EXACT, NotAQuantity, parse_quantity, to_canonical, to_plain, to_signed

BOUND = Decimal(10) ** 15


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.25", "1.25"),
        ("1.250", "1.250"),
        ("5.50", "5.50"),
        ("0", "0"),
        ("-0", "0"),
        ("-0.00", "0"),
        ("007", "7"),
        ("-3.5", "-3.5"),
        ("1.0E-5", "0.000010"),
        ("1e3", "1000"),
        ("1.5E+2", "150"),
        ("0.33333333333333", "0.33333333333333"),
        ("1234567890123.12345678901234", "1234567890123.12345678901234"),
        ("999999999999999.99999999999999", "999999999999999.99999999999999"),
        ("1.00000000000000000000000", "1"),
        ("0e999", "0"),
    ],
)
def test_reads_numbers_exactly(text: str, expected: str) -> None:
    assert expected == to_plain(parse_quantity(text))


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "1 ", " 1", "1,25", "1_000", "1.2.3", "--1", "+1", ".5", "5.", "0x10", "NaN", "nan", "sNaN", "Infinity",
        "-Infinity", "inf", "1e", "e5", "1e5.5", "٣", "１", "½", "1\n", "1\x00", "1000000000000000", "1e15", "1e999",
        "1e999999999", "-1e999999999999999999999", "1e-15", "0.000000000000001", "5.55E-17", "9" * 65, "abc",
    ],
)  # fmt: skip
def test_refuses_what_is_not_an_exact_number_within_bounds(text: str) -> None:
    with pytest.raises(NotAQuantity):
        parse_quantity(text)


@given(
    st.decimals(min_value=-BOUND, max_value=BOUND, allow_nan=False, allow_infinity=False, places=14).filter(
        lambda number: abs(number) < BOUND
    )
)
def test_every_number_within_bounds_survives(number: Decimal) -> None:
    assert number == parse_quantity(str(number))


@given(st.text(max_size=70))
def test_no_text_does_worse_than_being_refused(text: str) -> None:
    try:
        value = parse_quantity(text)
    except NotAQuantity:
        return
    assert abs(value) < 10**15
    assert -14 <= value.as_tuple().exponent <= 0  # type: ignore[operator]


@pytest.mark.parametrize(
    ("number", "expected"),
    [("1.250", "1.25"), ("1.25", "1.25"), ("100", "100"), ("1E+2", "100"), ("-0.0", "0"), ("0.00", "0"), ("-1.50", "-1.5")],
)
def test_canonical_text_is_one_for_equal_numbers(number: str, expected: str) -> None:
    assert expected == to_canonical(Decimal(number))


def test_sums_of_saffron_are_exact() -> None:
    level = Decimal(0)
    for _ in range(1000):
        level = EXACT.add(level, Decimal("0.001"))

    assert Decimal(0) == EXACT.subtract(level, Decimal(1))


@pytest.mark.parametrize(("value", "expected"), [("1.250", "+1.25"), ("-4", "-4"), ("0", "0"), ("-0.0", "0"), ("1E+2", "+100")])
def test_a_change_is_written_with_its_sign(value: str, expected: str) -> None:
    assert expected == to_signed(Decimal(value))
