"""Fault 4: two replicas behind the shipped nginx configuration, restarted one after the other under load."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from proof.book import Book
from proof.cluster import NGINX, compared, new_world, started
from proof.finding import Finding
from proof.route import Route
from proof.sender import Sender
from tests.support.service import Service, free_port
from tests.system.test_proxy import proxying

NAME = "4. rolling restart of two replicas behind nginx"
RESTARTS = 6


async def run(route: Route) -> AsyncIterator[Finding]:
    """Restart each replica in turn."""
    if NGINX is None:
        yield Finding(NAME, skipped="nginx is not installed")
        return
    yield await _restart_in_turn(route)


async def _restart_in_turn(route: Route) -> Finding:
    finding = Finding(NAME, rounds=RESTARTS)
    ports = [free_port(), free_port()]
    upstream = f"127.0.0.1:{ports[0]} max_fails=0; server 127.0.0.1:{ports[1]}"
    async with new_world() as world, contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pos-sync-nginx-")))
        replicas = [_Replica(route.url(world), port) for port in ports]
        for replica in replicas:
            await replica.start()
            stack.push_async_callback(replica.stop)
        nginx = stack.enter_context(proxying(folder, upstream=upstream))
        sender = Sender(Book("rolling"), lambda: nginx, seed=route.seed)
        async with compared(finding, world, sender):
            async with sender.load():
                for number in range(RESTARTS):
                    await asyncio.sleep(0.5)
                    replica = replicas[number % 2]
                    status = await replica.stop()
                    if status != 0:
                        finding.problems[f"a replica ended with status {status} on SIGTERM"] += 1
                    await replica.start()
                await asyncio.sleep(0.5)
            if sender.book.answers.total() != sender.book.answers[204]:
                finding.problems["an answer was not 204"] += 1
    finding.notes.append("while a replica was away, only 204 was allowed, and no connection might break")
    return finding


class _Replica:
    """A service on a port of its own that can be stopped and started again."""

    def __init__(self, url: str, port: int) -> None:
        self._url = url
        self._port = port
        self._context: contextlib.AbstractAsyncContextManager[Service] | None = None
        self._service: Service | None = None

    async def start(self) -> None:
        self._context = started(self._url, port=self._port)
        self._service = await self._context.__aenter__()

    async def stop(self) -> int | None:
        """Stop it as an orchestrator does; its exit status."""
        if self._context is None or self._service is None:
            return None
        self._service.signal()
        status = await asyncio.to_thread(self._service.wait)
        await self._context.__aexit__(None, None, None)
        self._context = self._service = None
        return status
