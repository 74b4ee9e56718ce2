"""The cells of a CSV: nothing runs, nothing is hidden, and all of it can be read back."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.stock.csv_cells import from_cell, row_of, to_cell


@given(st.text(st.characters(exclude_categories=["Cs"])))
@example("<U+202E>")
@example("<U+003C>U+003C>")
@example("'=\u202e;=\ue000")
def test_any_text_is_seen_and_comes_back(text: str) -> None:
    cell = to_cell(text)

    assert all(one.isprintable() for one in cell)
    assert text == from_cell(cell)


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("Tomato", "Tomato"),
        ("\u202eTomato\x07", "<U+202E>Tomato<U+0007>"),
        ("=1;\u200b@x", "'=1;<U+200B>@x"),
        ("a <U+202E> b", "a <U+003C>U+202E> b"),
    ],
)
def test_what_is_hidden_stands_there_as_a_code_point(text: str, cell: str) -> None:
    assert cell == to_cell(text)


@pytest.mark.parametrize("cell", ["<U+0041>", "<U+D800>", "<U+110000>", "<U+41>"])
def test_what_names_no_hidden_character_is_text(cell: str) -> None:
    assert cell == from_cell(cell)


def test_a_number_is_not_guarded() -> None:
    document = {"name": "-x", "delta": "-1.25", "counted": None}

    assert ["'-x", "-1.25", ""] == row_of(document, ("name", "delta", "counted"), numbers={"delta", "counted"})
