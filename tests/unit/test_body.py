from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidField, NotParseable, Refusal
from app.receiving.body import read_report
from app.stock.movement import MovementType
from app.stock.quantity import to_plain
from app.wire import MAX_NESTING
from tests.support.bodies import NOT_PARSEABLE
from tests.support.sender import MISSING, body_of


def test_reads_the_documented_example() -> None:
    report = read_report(body_of())

    assert "1" == report.pos_id
    assert "1" == report.store_id
    assert "avcc123" == report.item_id
    assert "4344be8c-c6b9-4c51-88a6-d620144ab406" == report.inventory_system_id
    assert MovementType.REMOVE is report.movement_type
    assert Decimal("-1.25") == report.delta
    assert Decimal("12.44") == report.reported_stock
    assert "2020-05-30 12:45:03" == report.date_text
    assert "2020-06-01 02:55:18" == report.sent_at_text


def test_a_json_number_keeps_all_of_its_27_digits() -> None:
    body = body_of(quantity="@").replace(b'"@"', b"1234567890123.12345678901234")

    assert Decimal("1234567890123.12345678901234") == read_report(body).quantity


@pytest.mark.parametrize(
    ("field", "literal", "expected"),
    [
        ("store_id", b"1", "1"),
        ("store_id", b'"1"', "1"),
        ("store_id", b"123456789012345678901234567890", "123456789012345678901234567890"),
        ("external_id", b'"caf\\u00e9 \\/ 1"', "café / 1"),
        ("external_id", '"café / 1"'.encode(), "café / 1"),
        ("external_id", b'"\\ud83c\\udf45"', "🍅"),
        ("inventory_system_id", b"7", "7"),
    ],
)
def test_ids_are_text_or_whole_numbers(field: str, literal: bytes, expected: str) -> None:
    movement = read_report(body_of(**{field: "@"}).replace(b'"@"', literal))

    assert expected == getattr(movement, "item_id" if field == "external_id" else field)


@pytest.mark.parametrize(
    ("literal", "expected"),
    [(b"1", MovementType.ADD), (b"2", MovementType.REMOVE), (b'"1"', MovementType.ADD), (b'"2"', MovementType.REMOVE)],
)
def test_movement_type_is_a_number_or_its_text(literal: bytes, expected: MovementType) -> None:
    assert expected is read_report(body_of(movement_type="@").replace(b'"@"', literal)).movement_type


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "it is empty"),
        (b'{"store_id":"\xff"}', "it is not UTF-8"),
        (b"\xef\xbb\xbf{}", "it starts with a byte order mark"),
        (b'{"a":1,"a":2}', 'the key "a" occurs twice (line 1, column 12), and parsers disagree on which one counts'),
        (b"[" * 33 + b"]" * 33, "it is not a JSON object"),
        (b"[" * 300 + b"]" * 300, "it is nested more than 32 levels deep"),
        (b'{"a":' + b"[" * 32 + b"]" * 32 + b"}", "it is nested more than 32 levels deep"),
        (b"{} x", "it is not JSON (trailing characters at line 1 column 4)"),
    ],
)
def test_says_why_it_cannot_be_read(body: bytes, words: str) -> None:
    with pytest.raises(NotParseable) as refusal:
        read_report(body)

    assert f"The request body cannot be read: {words}." == refusal.value.message


def test_the_whole_number_minus_zero_is_a_number_and_no_id() -> None:
    minus_zero = body_of(current_stock="@", quantity="$").replace(b'"@"', b"-0").replace(b'"$"', b"1234567890123.5")

    movement = read_report(minus_zero)
    with pytest.raises(InvalidField, match="store_id must be text or a whole number"):
        read_report(body_of(store_id="@").replace(b'"@"', b"-0"))

    assert (Decimal(0), Decimal("1234567890123.5")) == (movement.reported_stock, movement.quantity)


@pytest.mark.parametrize("literal", [b"1e0001", b"0." + b"0" * 70 + b"1e71", b"1e99999999999999999999"])
def test_a_number_is_bounded_as_it_was_written_and_not_by_its_value(literal: bytes) -> None:
    with pytest.raises(InvalidField, match="quantity"):
        read_report(body_of(quantity="@").replace(b'"@"', literal))


@pytest.mark.parametrize("field", ["quantity", "current_stock"])
@pytest.mark.parametrize(
    ("literal", "expected"),
    [
        (b'"12.139999999999999"', "12.14"),
        (b"12.139999999999999", "12.14"),
        (b"0.30000000000000004", "0.3"),
        (b'"1.0E-15"', "0"),
        (b'"-1.0E-15"', "0"),
        (b"5.55E-17", "0"),
        (b"-5.55E-17", "0"),
        (b"3.0000000000000004E-7", "0.0000003"),
        (b'".5"', "0.5"),
        (b'"+5."', "5"),
    ],
)
def test_the_noise_of_floats_is_rounded_off(field: str, literal: bytes, expected: str) -> None:
    report = read_report(body_of(**{field: "@"}).replace(b'"@"', literal))

    assert expected == to_plain(report.quantity if field == "quantity" else report.reported_stock or Decimal(0))


def test_zero_is_a_quantity_and_a_report_may_be_negative() -> None:
    movement = read_report(body_of(quantity="0", current_stock="-3.5"))

    assert Decimal(0) == movement.quantity
    assert Decimal("-3.5") == movement.reported_stock


@pytest.mark.parametrize("body", NOT_PARSEABLE.values(), ids=NOT_PARSEABLE.keys())
def test_refuses_what_parsers_could_read_differently(body: bytes) -> None:
    with pytest.raises(NotParseable):
        read_report(body)


def test_nesting_in_an_unknown_key_is_ignored_up_to_a_bound() -> None:
    depth = MAX_NESTING - 1

    read_report(body_of(extra="@").replace(b'"@"', b"[" * depth + b"]" * depth))


def test_brackets_in_text_are_not_nesting() -> None:
    read_report(body_of(extra='[[[[{{{{"\\' * 20))


TEXT_FIELDS = ["pos_id", "inventory_system_id", "external_id", "store_id"]
ALL_FIELDS = [*TEXT_FIELDS, "quantity", "current_stock", "date", "now", "movement_type"]


@pytest.mark.parametrize("field", ALL_FIELDS)
@pytest.mark.parametrize("value", [MISSING, None, True, False, [], {}, "", "   "], ids=repr)
def test_names_the_field_that_is_missing_or_of_the_wrong_kind(field: str, value: Any) -> None:
    with pytest.raises(InvalidField, match=field) as refusal:
        read_report(body_of(**{field: value}))

    assert field == refusal.value.field


@pytest.mark.parametrize("field", [*TEXT_FIELDS, "date", "now"])
@pytest.mark.parametrize("value", ["a\x00b", "a\nb", "\x7f", "\u0085", "a\ufffd", "x" * 256], ids=ascii)
def test_ids_and_dates_hold_nothing_unseen_and_are_short(field: str, value: str) -> None:
    with pytest.raises(InvalidField, match=field):
        read_report(body_of(**{field: value}))


@pytest.mark.parametrize("field", TEXT_FIELDS)
@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("avcc123 ", r"has a blank at its end \(U\+0020\)"),
        ("\u00a0avcc123", r"has a blank at its start \(U\+00A0\)"),
        ("avcc\u200b123", r"holds the invisible character U\+200B"),
        ("avcc123\ufeff", r"holds the invisible character U\+FEFF"),
        ("\ue000", r"holds the private character U\+E000"),
        ("🍅" * 129, "is longer than 512 bytes"),
    ],
    ids=ascii,
)
def test_an_id_that_can_be_nobody_s_is_named_with_what_is_not_seen(field: str, value: str, words: str) -> None:
    with pytest.raises(InvalidField, match=f"The field {field} {words}"):
        read_report(body_of(**{field: value}))


@pytest.mark.parametrize("field", TEXT_FIELDS)
@pytest.mark.parametrize("literal", [b"1.0", b"1e3", b"-1.5", b"1E400"])
def test_an_id_is_no_fraction(field: str, literal: bytes) -> None:
    with pytest.raises(InvalidField, match=field):
        read_report(body_of(**{field: "@"}).replace(b'"@"', literal))


@pytest.mark.parametrize(
    "literal", [b"0", b"3", b"-1", b"1.0", b"2e0", b"true", b'"01"', b'" 1"', b'"add"', b'"\xd9\xa1"', b"[1]", b"99999999999"]
)
def test_movement_type_is_1_or_2_and_nothing_like_them(literal: bytes) -> None:
    with pytest.raises(InvalidField, match="movement_type"):
        read_report(body_of(movement_type="@").replace(b'"@"', literal))


@pytest.mark.parametrize("field", ["quantity", "current_stock"])
@pytest.mark.parametrize(
    "literal",
    [b"1e15", b"1e400", b"1e-1000", b"999999999999999.999999999999999", b"1" * 4000, b"1" * 4000 + b".5", b"1E999999999"],
)
def test_numbers_stay_within_bounds(field: str, literal: bytes) -> None:
    with pytest.raises(InvalidField, match=field):
        read_report(body_of(**{field: "@"}).replace(b'"@"', literal))


def test_a_negative_quantity_is_refused_since_the_sign_is_in_the_type() -> None:
    with pytest.raises(InvalidField, match="quantity must not be negative"):
        read_report(body_of(quantity="-1"))


@given(st.binary(max_size=200))
def test_no_bytes_do_worse_than_being_refused(raw: bytes) -> None:
    with pytest.raises(Refusal):
        read_report(raw)
