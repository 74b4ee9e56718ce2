"""A restaurant for each scenario."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import running, settings_for
from tests.support.commands import Run
from tests.support.restaurant import Restaurant
from tests.support.world import World


@pytest.fixture
async def restaurant(world: World, run: Run, tmp_path: Path) -> AsyncIterator[Restaurant]:
    async with running(settings_for(world)) as (_, client):
        yield Restaurant(world, client, run, tmp_path)
    assert {} == await world.broken_invariants()
