from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.stock.quantity import (
    EXACT,
    NotAQuantity,
    parse_quantity,
    require_unsigned,
    round_quantity,
    to_canonical,
    to_plain,
    to_signed,
)

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
        ("+5", "5"),
        ("+1.50", "1.50"),
        (".5", "0.5"),
        ("-.5", "-0.5"),
        ("+.5", "0.5"),
        ("5.", "5"),
        ("-5.", "-5"),
        ("5.e3", "5000"),
        ("+5E-3", "0.005"),
        (".5e1", "5"),
        ("+0", "0"),
        ("-0.", "0"),
        ("+007.", "7"),
        ("1e-14", "0.00000000000001"),
    ],
)
def test_reads_numbers_exactly(text: str, expected: str) -> None:
    assert expected == to_plain(parse_quantity(text))


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "1 ", " 1", "1,25", "1_000", "1.2.3", "--1", "+-1", "++1", ".", "+", "-", "-.", "+.", ".e5", "+e5",
        "5..", "..5", "5.5.", ".5.", "+ 5", "5 .", "\uff0b5", "\u22125", "0x10", "NaN", "nan", "sNaN", "Infinity",
        "-Infinity", "inf", "1e", "e5", "1e5.5", "٣", "１", "½", "1\n", "1\x00", "1000000000000000", "1e15", "1e999",
        "1e999999999", "-1e999999999999999999999", "1e-9999", "1e0001", "9" * 65, "0." + "0" * 70 + "1", "abc",
        "999999999999999.999999999999999", "-999999999999999.999999999999995", "9999999999999999999e-3", "+1e15",
    ],
)  # fmt: skip
def test_refuses_what_is_not_an_exact_number_within_bounds(text: str) -> None:
    with pytest.raises(NotAQuantity):
        parse_quantity(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12.139999999999999", "12.14"),
        ("0.30000000000000004", "0.3"),
        ("994.9999999999999", "994.9999999999999"),
        ("3.0000000000000004E-7", "0.0000003"),
        ("1.0E-15", "0"),
        ("-1.0E-15", "0"),
        ("5.55E-17", "0"),
        ("-0.000000000000004999", "0"),
        ("5e-324", "0"),
        ("1e-999", "0"),
        # A half goes to the even neighbour.
        ("0.000000000000005", "0"),
        ("-0.000000000000005", "0"),
        ("0.000000000000015", "0.00000000000002"),
        ("0.000000000000025", "0.00000000000002"),
        ("-0.000000000000035", "-0.00000000000004"),
        ("0.0000000000000050000000000000000000000001", "0.00000000000001"),
        ("999999999999999.999999999999994", "999999999999999.99999999999999"),
        ("-999999999999999.999999999999985", "-999999999999999.99999999999998"),
        ("0.1000000000000000055511151231257827021181583404541015625", "0.1"),
        ("1.00000000000000000000000", "1"),
        ("100000000000000000E-16", "10"),
    ],
)
def test_more_than_14_decimals_are_rounded_half_even(text: str, expected: str) -> None:
    assert expected == to_plain(parse_quantity(text))


def test_a_negative_number_that_is_rounded_to_0_has_no_sign() -> None:
    assert Decimal(0) == require_unsigned(parse_quantity("-1.0E-15"))


@given(st.floats(min_value=-1e14, max_value=1e14))
def test_every_float_that_a_machine_writes_is_read_to_14_decimals(number: float) -> None:
    written, read = Decimal(repr(number)), parse_quantity(repr(number))

    assert abs(written - read) <= Decimal("0.000000000000005")
    assert to_canonical(read) == to_canonical(round_quantity(written))


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
