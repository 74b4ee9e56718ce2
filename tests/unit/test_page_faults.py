"""What the page says no to: in the visitor's language, and what is English in it marked so."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.page.faults import Ours, WrongField, quoting
from app.page.rendering import translations_of
from app.page.words import of_fault
from app.stock.quantity import NotAQuantity, parse_quantity, require_unsigned
from app.stock.text import fault_in

SPANISH = translations_of("es").gettext


@given(st.text(max_size=9) | st.text("\x00\ud800\u2028\ufffd a", max_size=9))
def test_each_fault_of_a_text_has_words_and_reads_as_before(text: str) -> None:
    if fault := fault_in(text, max_length=7):
        assert isinstance(of_fault(fault), Ours)
        assert f"Nothing was done. The name {fault}." == str(WrongField("The name %(fault)s", fault=of_fault(fault)))


@pytest.mark.parametrize("text", ["", "x", "1e4444", "1e40", "1" * 16, "1" * 65, "-1", "999999999999999.999999999999999"])
def test_each_fault_of_a_quantity_has_words(text: str) -> None:
    with pytest.raises(NotAQuantity) as caught:
        require_unsigned(parse_quantity(text))
    assert isinstance(of_fault(caught.value), Ours)


def test_words_of_a_use_case_are_marked_as_english_and_cannot_be_markup() -> None:
    fault = quoting(ValueError("There is no store <b>\u202e."))
    assert "Nothing was done. There is no store <b>\u202e." == str(fault)
    assert 'No se hizo nada. <span lang="en">There is no store &lt;b&gt;&lt;U+202E&gt;</span>.' == fault.shown(SPANISH)
