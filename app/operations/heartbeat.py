"""Tells the database that this worker process runs, with which code: a migration names those that it would leave behind."""

import asyncio
import os
import secrets
import socket
from contextlib import suppress

from sqlalchemy.ext.asyncio import AsyncEngine

from app import version
from app.storage import replicas
from app.storage.migrations import head
from app.storage.transactions import DATABASE_FAILURES

END_SECONDS = 1.0


class Heartbeat:
    """One worker's row among the replicas."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._host = socket.gethostname()
        self._replica_id = f"pid {os.getpid()}-{secrets.token_hex(4)}"

    async def run(self) -> None:
        """Until it is cancelled. A database that is away is others' business."""
        try:
            while True:
                with suppress(*DATABASE_FAILURES):
                    async with self._engine.begin() as connection:
                        await replicas.beat(connection, self._replica_id, host=self._host, version=version(), head=head())
                await asyncio.sleep(replicas.HEARTBEAT_SECONDS)
        finally:
            with suppress(*DATABASE_FAILURES):
                async with asyncio.timeout(END_SECONDS), self._engine.begin() as connection:
                    await replicas.end(connection, self._replica_id)
