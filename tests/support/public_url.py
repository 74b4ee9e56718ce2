"""A service that mipOS could call: it listens at its PUBLIC_URL."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.main import create_app
from app.settings import Settings
from tests.conftest import settings_for
from tests.support.mipos import listening
from tests.support.service import free_port
from tests.support.world import World


@asynccontextmanager
async def reached(world: World, **changes: object) -> AsyncIterator[Settings]:
    """A service that listens at its PUBLIC_URL."""
    port = free_port()
    values = {"public_url": f"http://127.0.0.1:{port}", "mipos_register_on_startup": False, "ping_every": 0}
    settings = settings_for(world, **{**values, **changes})
    async with listening(create_app(settings), port=port):
        yield settings
