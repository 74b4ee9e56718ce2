"""Ids and names: what a person cannot see is in no id, and nothing that breaks a line is in any text."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.stock.text import MAX_ID_BYTES, fault_in, fault_in_id
from app.visible_text import shown, typed


@pytest.mark.parametrize(
    "external_id",
    [
        "1",
        "avcc123",
        "SKU 7",
        "café / 1",
        "cafe\u0301",
        "Ñandú-12",
        "=x",
        "-1",
        "12E5",
        "りんご",
        "🍅",
        "a" * 255,
        "é" * 255,
        "🍅" * 128,
    ],
)
def test_what_a_person_can_read_is_an_id(external_id: str) -> None:
    assert fault_in_id(external_id) is None


@pytest.mark.parametrize(
    ("external_id", "fault"),
    [
        ("", "must not be blank"),
        (" ", "must not be blank"),
        ("\u00a0", "must not be blank"),
        ("SKU123 ", "has a blank at its end (U+0020)"),
        (" SKU9", "has a blank at its start (U+0020)"),
        ("SKU123\u00a0", "has a blank at its end (U+00A0)"),
        ("\u3000SKU9", "has a blank at its start (U+3000)"),
        ("SKU9\u2003", "has a blank at its end (U+2003)"),
        ("SKU9\u202f", "has a blank at its end (U+202F)"),
        ("SKU\u00a07", "holds the blank U+00A0"),
        ("SKU\t7", "holds the control character U+0009"),
        ("SKU7\n", "holds the control character U+000A"),
        ("SKU7\x85", "holds the control character U+0085"),
        ("SKU\u20287", "holds the line separator U+2028"),
        ("avcc\u200b123", "holds the invisible character U+200B"),
        ("\ufeffavcc123", "holds the invisible character U+FEFF"),
        ("avcc123\u200e", "holds the invisible character U+200E"),
        ("avcc\u00ad123", "holds the invisible character U+00AD"),
        ("\u202eabc", "holds the invisible character U+202E"),
        ("a\u200db", "holds the invisible character U+200D"),
        ("\u3164", "holds the invisible character U+3164"),
        ("a\u034fb", "holds the invisible character U+034F"),
        ("a\ufe0f", "holds the invisible character U+FE0F"),
        ("a\U000e0041", "holds the invisible character U+E0041"),
        ("a\ue000", "holds the private character U+E000"),
        ("a\u0378", "holds the unassigned character U+0378"),
        ("a\ud800", "holds the half character U+D800"),
        ("caf\ufffd1", "holds U+FFFD, which stands for a character that was lost"),
        ("a" * 256, "is longer than 255 characters"),
        ("é" * 256, "is longer than 255 characters"),
        ("🍅" * 129, "is longer than 512 bytes"),
    ],
    ids=ascii,
)
def test_an_id_that_a_person_would_misread_is_refused(external_id: str, fault: str) -> None:
    assert (fault_in_id(external_id) or "").startswith(fault)


@pytest.mark.parametrize(
    "name", ["Tomato", " Tomato ", "Tomato\u00a0red", "👩\u200d🍳", "soft\u00adhyphen", "\u200eעברית", "❤\ufe0f"]
)
def test_a_name_may_hold_what_is_not_seen(name: str) -> None:
    assert fault_in(name, max_length=255) is None


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", "must not be blank"),
        ("\u3000", "must not be blank"),
        ("Two\nLines", "holds the control character U+000A"),
        ("Two\tWords", "holds the control character U+0009"),
        ("Two\u2029Paragraphs", "holds the line separator U+2029"),
        ("a\udc00", "holds the half character U+DC00"),
        ("Caf\ufffd", "holds U+FFFD"),
        ("a" * 256, "is longer than 255 characters"),
    ],
    ids=ascii,
)
def test_a_name_that_breaks_a_line_or_lost_a_character_is_refused(name: str, fault: str) -> None:
    assert (fault_in(name, max_length=255) or "").startswith(fault)


@given(st.text(max_size=300))
def test_what_is_taken_for_an_id_is_printable_and_fits_into_an_index(text: str) -> None:
    if fault_in_id(text) is None:
        assert text.isprintable()
        assert text == text.strip()
        assert 0 < len(text.encode()) <= MAX_ID_BYTES
        assert fault_in(text, max_length=255) is None


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("SKU123 ", '"SKU123 "'),
        ("SKU\u00a07", '"SKU<U+00A0>7"'),
        ("a\u200b\n", '"a<U+200B><U+000A>"'),
        ("\ud800", '"<U+D800>"'),
        ("x" * 80, f'"{"x" * 80}"'),
        ("x" * 81, f'"{"x" * 79}…"'),
        ("\u200b" * 300, f'"{("<U+200B>" * 10)[:79]}…"'),
    ],
    ids=ascii,
)
def test_a_message_shows_what_cannot_be_seen_as_code_points(text: str, seen: str) -> None:
    assert seen == shown(text)


@pytest.mark.parametrize("external_id", ["1", "<b>st</b>", "a b", "it's", "a;ls", '"', "$(ls)", "café", "-1"])
def test_an_id_in_a_command_is_one_word_for_a_shell(external_id: str) -> None:
    assert ["pos-sync", "--store", external_id] == shlex.split(f"pos-sync --store {typed(external_id)}")
