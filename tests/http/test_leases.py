"""Leases of background tasks: one that is cancelled, at whatever point, leaves none behind."""

import asyncio
from datetime import timedelta
from itertools import count

import pytest
from sqlalchemy import event

from app.storage import leases
from tests.support.world import World

HOUR = timedelta(hours=1)


@pytest.mark.parametrize("moment", ["begin", "commit", "checkin"])
async def test_who_is_cancelled_leaves_no_lease(world: World, moment: str) -> None:
    """At each of the moments at which a transaction begins, is committed, or gives its connection back, until none is left."""
    for number in count():
        passed = 0

        def cancel_at(*_: object) -> None:
            nonlocal passed
            if passed == number:  # noqa: B023 - called within this turn
                holder.cancel()  # noqa: B023
            passed += 1

        async def hold() -> None:
            async with leases.holding(world.engine, "a task", lasts=HOUR) as is_held:
                assert is_held
                async with world.engine.begin() as connection:
                    await connection.exec_driver_sql("SELECT 1")

        target = world.engine.sync_engine.pool if moment == "checkin" else world.engine.sync_engine
        event.listen(target, moment, cancel_at)
        holder = asyncio.create_task(hold())
        try:
            await asyncio.wait([holder])
        finally:
            event.remove(target, moment, cancel_at)
        async with world.engine.connect() as connection:
            assert not await leases.is_held(connection, "a task"), f"cancelled at {moment} {number}"
        if number >= passed:
            assert holder.exception() is None
            assert passed == 3
            return


async def test_who_comes_second_is_told_so_and_takes_nothing_away(world: World) -> None:
    async with leases.holding(world.engine, "a task", lasts=HOUR) as first:
        async with leases.holding(world.engine, "a task", lasts=HOUR) as second:
            assert (first, second) == (True, False)
        async with world.engine.connect() as connection:
            assert await leases.is_held(connection, "a task")
    async with world.engine.connect() as connection:
        assert not await leases.is_held(connection, "a task")
