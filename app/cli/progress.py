"""What a long command is doing, for how long, and how much of it is done: one line on standard error, only on a terminal."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click

from app.terminal import is_plain

FIRST_SECONDS = 0.5
"""What takes less is not worth a line."""
TICK_SECONDS = 0.5


class Progress:
    """The line. Its methods may be called from any thread."""

    def __init__(self, label: str, *, is_shown: bool) -> None:
        self._label = label
        self._is_shown = is_shown
        self._began = time.monotonic()
        self._done = self._total = 0
        self._width = 0
        self._lock = threading.Lock()

    def update(self, label: str | None = None, *, done: int = 0, total: int = 0) -> None:
        """Say what is done now, and how much of it, of how much where that is known; a new label starts its time."""
        with self._lock:
            if label is not None and label != self._label:
                self._label, self._began = label, time.monotonic()
            self._done, self._total = done, total

    def count(self, done: int, total: int) -> None:
        """As `update`, with the same label."""
        self.update(done=done, total=total)

    def say(self, text: str, *, err: bool = False) -> None:
        """Print a line of the command itself, past this one."""
        with self._lock:
            self._clear()
            click.echo(text, err=err)

    def tick(self) -> None:
        """Draw the line as it is now."""
        with self._lock:
            share = f" {self._done}" if self._done else ""
            if self._total:
                share = f" {min(100, 100 * self._done // self._total)} %"
            text = f"{self._label} ...{share} {time.monotonic() - self._began:.0f} s"
            self._clear()
            self._write(text)
            self._width = len(text)

    def clear(self) -> None:
        """Take the line away."""
        with self._lock:
            self._clear()

    def _clear(self) -> None:
        if self._width:
            self._write(f"\r{' ' * self._width}\r")
            self._width = 0

    def _write(self, text: str) -> None:
        if not self._is_shown:
            return
        with suppress(OSError):
            # A terminal that was closed ends nothing.
            sys.stderr.write(text)
            sys.stderr.flush()


@contextmanager
def progress(label: str, *, is_wanted: bool = True) -> Iterator[Progress]:
    """Show a line while the block runs, from `FIRST_SECONDS` on; nothing where there is no terminal that can."""
    is_shown = is_wanted and sys.stderr.isatty() and not is_plain()
    line = Progress(label, is_shown=is_shown)
    if not is_shown:
        yield line
        return
    ended = threading.Event()

    def draw() -> None:
        if ended.wait(FIRST_SECONDS):
            return
        while True:
            line.tick()
            if ended.wait(TICK_SECONDS):
                return

    drawing = threading.Thread(target=draw, daemon=True)
    drawing.start()
    try:
        yield line
    finally:
        ended.set()
        drawing.join()
        line.clear()
