"""Commands as an operator would type them, in this process."""

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio.to_thread
import pytest
import structlog
from click.testing import CliRunner, Result

from app.cli.program import commands
from app.settings import Settings

Run = Callable[..., Awaitable[Result]]


def runner_for(url: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Run:
    """Runs a command with nothing but DATABASE_URL set."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.chdir(folder)
    # While a command runs, its output takes the place of sys.stdout: a service in this process must not log into it.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.__stderr__))

    async def run(*arguments: str, input: bytes | None = None) -> Result:  # noqa: A002 - click's word
        # In a thread, since a command runs an event loop of its own.
        return await anyio.to_thread.run_sync(lambda: CliRunner().invoke(commands, arguments, input, prog_name="pos-sync"))

    return run
