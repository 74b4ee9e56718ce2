"""The one policy for background tasks."""

import asyncio

import pytest

from app.operations import supervisor
from app.operations.supervisor import supervise


async def test_what_fails_is_run_again_after_a_longer_pause_each_time_until_it_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    runs = 0

    async def note(seconds: float) -> None:
        pauses.append(seconds)

    async def fail_four_times() -> None:
        nonlocal runs
        runs += 1
        if runs < 5:
            raise RuntimeError("a bug")

    monkeypatch.setattr(asyncio, "sleep", note)
    monkeypatch.setattr(supervisor, "MAX_RESTART_SECONDS", 30)
    await supervise("task", fail_four_times)

    assert [5, 10, 20, 30] == pauses


async def test_a_task_that_ran_for_long_starts_again_with_the_first_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def note(seconds: float) -> None:
        pauses.append(seconds)

    async def fail_twice() -> None:
        if len(pauses) < 2:
            raise RuntimeError("a bug")

    monkeypatch.setattr(asyncio, "sleep", note)
    monkeypatch.setattr(supervisor, "SETTLED_SECONDS", -1)
    await supervise("task", fail_twice)

    assert [5, 5] == pauses


async def test_a_cancelled_task_ends() -> None:
    async def wait() -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(supervise("task", wait))
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
