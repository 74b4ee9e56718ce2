"""Commands as an operator would type them, in this process."""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio.to_thread
import pytest
from click.testing import CliRunner, Result

from app.cli.program import commands
from app.settings import Settings

_LOG_LINE = re.compile(rb"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \[.*\n", re.MULTILINE)
Run = Callable[..., Awaitable[Result]]


def runner_for(url: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Run:
    """Runs a command with nothing but DATABASE_URL set."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.chdir(folder)

    async def run(*arguments: str, input: bytes | None = None) -> Result:  # noqa: A002 - click's word
        # In a thread, since a command runs an event loop of its own.
        result = await anyio.to_thread.run_sync(lambda: CliRunner().invoke(commands, arguments, input, prog_name="pos-sync"))
        # While a command runs, its output takes the place of sys.stdout, and a service in this process logs into it.
        result.stdout_bytes = _LOG_LINE.sub(b"", result.stdout_bytes)
        result.output_bytes = _LOG_LINE.sub(b"", result.output_bytes)
        return result

    return run
