"""Text in columns, tables that fit, and colours where a terminal shows them."""

import io
import sys
import threading
from contextlib import redirect_stdout

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cli.output import show_table
from app.cli.progress import Progress, progress
from app.terminal import MIN_COLUMN_WIDTH, column_widths, padded, shows_colours, width_of, wrapped

HEADINGS = ["item", "name", "stock"]
ROWS = [["avcc123", "Chicken breast, free range, from the farm on the hill", "11.44"], ["tom001", "番茄", "-3"]]
LINES = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=60)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    terminal = _Terminal()
    with redirect_stdout(terminal):
        show_table(HEADINGS, ROWS, right=(2,))
    return terminal.getvalue().splitlines()


@given(LINES, st.integers(2, 40))
def test_wrapped_lines_fit_and_hold_all_that_was_there(text: str, width: int) -> None:
    lines = wrapped(text, width)

    assert all(width_of(line) <= width for line in lines)
    assert text.replace(" ", "") == "".join(lines).replace(" ", "")


@given(st.lists(st.integers(0, 60), min_size=1, max_size=8), st.integers(20, 200))
def test_columns_fit_or_cannot(natural: list[int], room: int) -> None:
    widths = column_widths(natural, room)

    narrowest = sum(min(width, MIN_COLUMN_WIDTH) for width in natural) + 2 * (len(natural) - 1)
    if widths is None:
        assert narrowest > room
    else:
        assert sum(widths) + 2 * (len(natural) - 1) <= room
        assert all(width <= before for width, before in zip(widths, natural, strict=True))


def test_wide_characters_take_two_columns_and_marks_none() -> None:
    assert [4, 4, 1] == [width_of("番茄"), width_of("café"), width_of("e\u0301")]
    assert "番茄  " == padded("番茄", 6)


def test_a_table_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown_on_a_terminal(monkeypatch, 40)

    assert all(width_of(line) <= 40 for line in lines)
    assert 5 == len(lines)
    assert "tom001   番茄" in lines[-1]
    assert lines[-1].endswith("-3")
    assert ["Chicken", "breast,", "free", "range,", "from", "the", "farm", "on", "the", "hill"] == [
        word for line in lines[1:4] for word in line[9:33].split()
    ]


def test_where_a_table_cannot_fit_each_row_is_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown_on_a_terminal(monkeypatch, 20)

    assert ["item   avcc123", "name   Chicken"] == lines[:2]
    assert all(width_of(line) <= 20 for line in lines)
    assert "" in lines


def test_a_pipe_gets_whole_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")

    show_table(HEADINGS, ROWS, right=(2,), colours={(0, 2): "red"})

    lines = capsys.readouterr().out.splitlines()
    assert 3 == len(lines)
    assert lines[1].endswith("on the hill  11.44")


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colours_are_shown_on_a_terminal_that_wants_them(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    terminal = _Terminal()
    assert shows_colours(terminal)
    assert not shows_colours(io.StringIO())

    monkeypatch.setenv(name, value)

    assert not shows_colours(terminal)


def test_progress_is_a_line_on_a_terminal_that_is_gone_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    made = _Terminal()
    monkeypatch.setattr(sys, "stderr", made)
    line = Progress("Sending", is_shown=True)

    line.update(done=1, total=4)
    line.tick()
    line.update("Waiting for mipOS")
    line.tick()
    line.clear()

    assert "Sending ... 25 % 0 s" in made.getvalue()
    assert "Waiting for mipOS ... 0 s" in made.getvalue()
    assert made.getvalue().endswith(" \r")


@pytest.mark.parametrize(("terminal", "is_drawn"), [("xterm", True), ("dumb", False)])
def test_progress_draws_by_itself_on_a_terminal_that_can(
    monkeypatch: pytest.MonkeyPatch, terminal: str, *, is_drawn: bool
) -> None:
    made, drawn = _Terminal(), threading.Event()
    monkeypatch.setenv("TERM", terminal)
    monkeypatch.setattr(sys, "stderr", made)
    monkeypatch.setattr("app.cli.progress.FIRST_SECONDS", 0)
    monkeypatch.setattr(made, "flush", drawn.set)

    with progress("Sending"):
        assert not is_drawn or drawn.wait(60)

    assert is_drawn == ("Sending ..." in made.getvalue())


def test_progress_says_nothing_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("Sending") as line:
        line.tick()

    assert "" == capsys.readouterr().err
