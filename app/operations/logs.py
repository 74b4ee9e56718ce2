"""One line per event on standard output, JSON or for the console; uvicorn's and every library's lines look the same."""

import asyncio
import json
import logging
import sys
from typing import Literal, TextIO, cast

import structlog
from structlog.typing import EventDict, Processor

_SHARED: list[Processor] = [
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
]
_ENCODE = json.JSONEncoder(ensure_ascii=False, default=repr).encode
_QUIET = ("alembic", "uvicorn", "httpx2", "httpcore2", "asyncio")
"""Loggers that speak from WARNING on: what they say below that, our own lines say better."""


class _PatientFile:
    """A file that is flushed once in a turn of the event loop: deliveries that are answered together share a system call."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.write = file.write
        self._flushing: asyncio.AbstractEventLoop | None = None

    def flush(self) -> None:
        """Flush at the end of this turn, or now where no loop runs."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._file.flush()
            return
        if self._flushing is not loop:
            self._flushing = loop
            loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = None
        self._file.flush()


def _to_json(_logger: object, _method: str, event: EventDict) -> str:
    return _ENCODE(event)


def configure_logging(*, log_format: Literal["json", "console"], log_level: str) -> None:
    """Send structlog and the standard library's logging to standard output, in one shape. Callable again."""
    level = logging.getLevelNamesMapping()[log_level]
    renderer: list[Processor]
    if log_format == "json":
        renderer = [structlog.processors.format_exc_info, _to_json]
    else:
        renderer = [
            structlog.dev.ConsoleRenderer(
                colors=sys.stdout.isatty(),
                pad_event_to=0,
                # Not the prettier one of rich, should that be installed: it prints local variables, bodies among them.
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
    structlog.configure(
        processors=[*_SHARED, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _PatientFile(sys.stdout))),
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
