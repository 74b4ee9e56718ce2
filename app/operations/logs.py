"""One line per event on standard output, JSON or for the console; uvicorn's and every library's lines look the same."""

import asyncio
import json
import logging
import sys
import time
from contextlib import suppress
from typing import Literal, TextIO, cast

import orjson
import structlog
from structlog.typing import EventDict, Processor

from app.terminal import shows_colours
from app.visible_text import as_seen, to_seen_json

_SHARED: list[Processor] = [
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
]
_LEVELS = {name.lower(): number for name, number in logging.getLevelNamesMapping().items()}
_QUIET = ("alembic", "uvicorn", "httpx2", "httpcore2", "asyncio")
"""Loggers that speak from WARNING on: what they say below that, our own lines say better."""


class _PatientFile:
    """A file that is flushed once in a turn of the event loop: deliveries that are answered together share a system call.

    A line that cannot be written (a full disk) is lost: it must not change what becomes of a delivery.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._texts: list[str] = []
        self._flushing: asyncio.AbstractEventLoop | None = None

    def write(self, text: str) -> None:
        """Keep `text` until `flush`."""
        self._texts.append(text)

    def flush(self) -> None:
        """Flush at the end of this turn, or now where no loop runs."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._flush()
            return
        if self._flushing is not loop:
            self._flushing = loop
            loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = None
        texts, self._texts = self._texts, []
        with suppress(OSError, ValueError):
            self._file.write("".join(texts))
            self._file.flush()


def _encode(fields: EventDict) -> str:
    try:
        return to_seen_json(orjson.dumps(fields, default=repr).decode())
    except TypeError:
        # Half a character, or an integer of more than 64 bits: rare, and worth a slow line rather than none.
        return json.dumps(fields, default=repr)


def _make_visible(_logger: object, _method: str, event: EventDict) -> EventDict:
    """For the console, which prints text as it is."""
    return {name: as_seen(value) if isinstance(value, str) else value for name, value in event.items()}


def _to_json(_logger: object, _method: str, event: EventDict) -> str:
    return _encode(event)


class _Lines:
    """Writes a line as structlog does where lines are JSON, past its processors: a line costs a third of what it costs there."""

    def __init__(self, file: _PatientFile, level: int) -> None:
        self._file = file
        self._level = level
        self._second = 0
        self._text = ""

    def __call__(self, level: str, event: str, fields: dict[str, object]) -> None:
        """Write one line."""
        if _LEVELS[level] < self._level:
            return
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second, self._text = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        fields["event"], fields["level"] = event, level
        fields["time"] = f"{self._text}.{int((now - second) * 1_000_000):06d}Z"
        self._file.write(_encode(fields) + "\n")
        self._file.flush()


_lines: _Lines | None = None


def write_line(level: str, event: str, fields: dict[str, object]) -> None:
    """One line for an answered request; `level` in lower case, `fields` may be changed."""
    if _lines is not None:
        _lines(level, event, fields)
    else:
        getattr(structlog.get_logger(), level)(event, **fields)


def configure_logging(*, log_format: Literal["json", "console"], log_level: str) -> None:
    """Send structlog and the standard library's logging to standard output, in one shape. Callable again."""
    global _lines  # noqa: PLW0603 - as structlog's own configuration is
    level = logging.getLevelNamesMapping()[log_level]
    file = _PatientFile(sys.stdout)
    _lines = _Lines(file, level) if log_format == "json" else None
    renderer: list[Processor]
    if log_format == "json":
        renderer = [structlog.processors.format_exc_info, _to_json]
    else:
        renderer = [
            _make_visible,
            structlog.dev.ConsoleRenderer(
                colors=shows_colours(sys.stdout),
                pad_event_to=0,
                # Not the prettier one of rich, should that be installed: it prints local variables, bodies among them.
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ]
    structlog.configure(
        processors=[*_SHARED, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, file)),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
