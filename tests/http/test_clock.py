"""The database's clock beside this machine's."""

import asyncio
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Self

import httpx2
import pytest
import structlog
from structlog.testing import capture_logs

from app.operations.clock import ClockWatch
from tests.conftest import running, settings_for
from tests.support.world import World


async def test_a_clock_that_differs_is_told_once_and_once_more_when_it_agrees_again(world: World) -> None:
    structlog.reset_defaults()
    own_is_ahead = timedelta()
    found: list[timedelta] = []
    watch = ClockWatch(world.engine, on_skew=found.append, own_clock=lambda: datetime.now(UTC) + own_is_ahead)
    with capture_logs() as lines:
        await watch.look()
        own_is_ahead = timedelta(seconds=30)
        await watch.look()
        await watch.look()
        own_is_ahead = timedelta()
        await watch.look()

    assert [0, -30, -30, 0] == [round(skew.total_seconds()) for skew in found]
    assert [("warning", "database clock differs"), ("info", "database clock agrees again")] == [
        (line["log_level"], line["event"]) for line in lines
    ]


async def test_the_difference_is_a_metric(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.operations.clock.datetime", Ahead)
    async with running(settings_for(world)) as (_, client), asyncio.timeout(30):
        while await metric(client) == 0:  # noqa: ASYNC110 - it has to be asked
            await asyncio.sleep(0.05)
        assert -30 == round(await metric(client))


class Ahead(datetime):
    """Of this machine, by half a minute"""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return super().now(tz) + timedelta(seconds=30)


async def metric(client: httpx2.AsyncClient) -> float:
    lines = (await client.get("/metrics")).text.splitlines()
    (value,) = (line.split()[1] for line in lines if line.startswith("pos_sync_database_clock_skew_seconds "))
    return float(value)
