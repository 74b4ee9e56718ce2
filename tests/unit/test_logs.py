"""The lines of the service's log."""

import json
import logging
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Literal

import pytest
import structlog

from app.operations.logs import configure_logging, write_line


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_holds_its_fields_its_event_its_level_and_a_time_in_utc(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(log_format="json", log_level="INFO")
    write_line("warning", "delivery", {"store_id": "é", "quantity": Decimal("1.5"), "status": 204})
    structlog.get_logger("pos_sync").info("started", port=8080)

    line, other = (json.loads(text) for text in capsys.readouterr().out.splitlines())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line.pop("time"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", other.pop("time"))
    expected = {"store_id": "é", "quantity": "Decimal('1.5')", "status": 204, "event": "delivery", "level": "warning"}
    assert expected == line
    assert {"event": "started", "level": "info", "port": 8080} == other


def test_a_line_below_the_level_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(log_format="json", log_level="INFO")
    write_line("debug", "request", {})

    assert "" == capsys.readouterr().out


@pytest.mark.parametrize("value", ["half a character: \ud83c", 2**70, {1: "a key that is no text"}])
def test_a_value_that_orjson_does_not_take_costs_no_line(value: object, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(log_format="json", log_level="INFO")
    write_line("info", "delivery", {"value": value})
    write_line("info", "delivery", {"value": 1})

    assert 2 == len([json.loads(text) for text in capsys.readouterr().out.splitlines()])


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_what_would_steer_a_terminal_is_written_as_its_code(
    log_format: Literal["json", "console"], capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(log_format=log_format, log_level="INFO")
    steering = "\x1b]52;c;eA==\x07 \x9b31m \u202eabc \u2028 \U000e0041"
    write_line("info", "delivery", {"path": steering})
    structlog.get_logger("pos_sync").info("said", words=steering)

    for line in capsys.readouterr().out.splitlines():
        assert line.isprintable(), line
        assert log_format == "console" or steering in json.loads(line).values()
