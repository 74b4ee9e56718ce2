"""What spreadsheets and people make of ids and amounts, and what they are told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.stock.damage import WrongEncoding, damage_in, decode, parse_number
from app.stock.quantity import NotAQuantity, parse_quantity


@pytest.mark.parametrize(
    "external_id",
    [
        *("7.70205E+12", "7,70205E+12", "1E+12", "1e+16", "7.70205E12", "1E-05", "-1.5E-07", "123.4E+09"),
        *('="00123"', '= "00123"', '=""', "'00124", "'", "'abc"),
        *("#N/A", "#n/a", "#N/D", "#REF!", "#VALUE!", "#NAME?", "#DIV/0!", "#NULL!", "#NUM!", "#\u00a1REF!", "#\u00bfNOMBRE?"),
        *("NULL", "null", "N/A", "n/a"),
    ],
)
def test_an_id_that_a_program_has_damaged_is_known(external_id: str) -> None:
    assert damage_in(external_id) is not None


@pytest.mark.parametrize(
    "external_id",
    [
        *("12345", "00123", "12E5", "4E10", "E+12", "1.5", "12.139", "A-7E+12", "7.70205E+12x", "1234E+10"),
        *("=x", "'=x", "''+1", '="x', "-1", "@home", "O'Brien"),
        *("#1", "#N", "N/A-7", "NULLA", "none", "nan", "TRUE", "REF!"),
    ],
)
def test_an_id_that_somebody_may_have_chosen_is_none(external_id: str) -> None:
    assert damage_in(external_id) is None


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("$12.50", "with a currency sign. Write 12.50"),
        ("12,50 \u20ac", "with a currency sign. Write 12.50"),
        ("US$ 1,250.00", "with a currency sign. Write 1250.00"),
        ("R$1.250,00", "with a currency sign. Write 1250.00"),
        ("S/ 12.50", "with a currency sign. Write 12.50"),
        ("USD 12.50", "with a currency sign. Write 12.50"),
        ("12.50 EUR", "with a currency sign. Write 12.50"),
        ("-$12.50", "with a currency sign. Write -12.50"),
        ("$1,250", "with a currency sign. Write the number alone"),
        ("1,250.00", "with a thousands separator. Write 1250.00"),
        ("1.250,00", "with a thousands separator. Write 1250.00"),
        ("1,250,000", "with a thousands separator. Write 1250000"),
        ("1.250.000", "with a thousands separator. Write 1250000"),
        ("-1 250,5", "with a thousands separator. Write -1250.5"),
        ("1\u00a0250.5", "with a thousands separator. Write 1250.5"),
        ("1\u202f250", "with a thousands separator. Write 1250"),
        ("1'250.00", "with a thousands separator. Write 1250.00"),
        ("12,34,567.50", "with a thousands separator. Write 1234567.50"),
        ("1250,50", "with a decimal comma. Write 1250.50"),
        ("0,5", "with a decimal comma. Write 0.5"),
        ("1,250", "which can mean 1250 or 1.250. Write the one that is meant"),
    ],
)
def test_an_amount_as_people_write_it_is_shown_with_the_way_to_write_it(text: str, advice: str) -> None:
    with pytest.raises(NotAQuantity) as refused:
        parse_number(text)

    assert advice in str(refused.value)
    assert str(refused.value).startswith('is "')
    assert "--decimal-comma" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "x", "12kg", "1,2,3", "1..2", "12,345.67.89", "#N/A", "1e99999", "1" * 16, "$", "-", ","])
@pytest.mark.parametrize("decimal_comma", [None, False, True])
def test_what_is_no_amount_is_told_nothing_of_how_it_was_meant(text: str, decimal_comma: bool | None) -> None:  # noqa: FBT001
    with pytest.raises(NotAQuantity) as refused:
        parse_number(text, decimal_comma=decimal_comma)

    assert "Write" not in str(refused.value)


@given(st.text(alphabet="0123456789.,'+-eE$ \u00a0", max_size=20), st.sampled_from([None, False, True]))
def test_an_amount_is_read_as_a_quantity_or_refused(text: str, decimal_comma: bool | None) -> None:  # noqa: FBT001
    try:
        value = parse_number(text, decimal_comma=decimal_comma)
    except NotAQuantity:
        return
    assert value == parse_quantity(text.replace(",", ".") if decimal_comma else text)
    assert "." not in text or not decimal_comma


@given(st.text(max_size=40))
def test_every_text_in_utf_8_is_decoded(text: str) -> None:
    content = text.encode("utf-8", "ignore")
    try:
        assert decode(b"\xef\xbb\xbf" + content) == content.decode()
    except WrongEncoding:
        assert "\0" in text[:4]
