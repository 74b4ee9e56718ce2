"""Real processes: `pos-sync serve` as production runs it, and raw connections to it."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx2

from app.settings import Settings
from tests.support.sender import SECRET

READY_SECONDS = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def held_port() -> Iterator[int]:
    """A free port that no other test gets meanwhile; a server that shares its address (SO_REUSEADDR), as ours do, may take it."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield int(holder.getsockname()[1])


def environment(**values: str) -> dict[str, str]:
    """This process's environment without any setting of the service, and with `values`."""
    names = {"POS_SYNC_POSTGRES", *(name.upper() for name in Settings.model_fields)}
    return {**{k: v for k, v in os.environ.items() if k.upper() not in names}, "POS_SYNC_ENV_FILE": os.devnull, **values}


def run_command(*arguments: str, **values: str) -> subprocess.CompletedProcess[str]:
    """A command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        env=environment(**values),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@dataclass
class Service:
    """A running `pos-sync serve`."""

    port: int
    process: subprocess.Popen[bytes]
    log_file: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    async def delivery_line(self) -> dict[str, Any]:
        """The log line of the first delivery; it is written just after the answer is."""
        while True:
            # Whole lines only: the last one may still be on its way.
            for line in self.log.split("\n")[:-1]:
                if line.startswith("{") and (event := json.loads(line))["event"] == "delivery":
                    return dict(event)
            await asyncio.sleep(0.01)

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """The exit status, once it has ended."""
        return self.process.wait(30)

    def wait_until_ready(self, path: str = "/readyz") -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log
            try:
                if httpx2.get(f"{self.url}{path}", timeout=5).status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(self.log)


@contextmanager
def serving(
    database_url: str, *arguments: str, until: Literal["ready", "alive", "listening"] = "ready", **settings: Any
) -> Iterator[Service]:
    """A service of its own, ready; stopped at the end if the test has not done so.

    It is waited for until it is ready, or only alive (its database is away), or only listening.
    """
    values: Mapping[str, str] = {
        "DATABASE_URL": database_url,
        "MIPOS_CLIENT_SECRET": SECRET,
        "PORT": "0",
        **{name.upper(): str(value) for name, value in settings.items()},
    }
    with tempfile.TemporaryDirectory() as folder:
        log_file = Path(folder) / "log"
        with log_file.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "app", "serve", *arguments],
                env=environment(**values),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            service = Service(_port_in(log_file, process), process, log_file)
            if until != "listening":
                service.wait_until_ready("/livez" if until == "alive" else "/readyz")
            yield service
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(20)
                finally:
                    process.kill()


def _port_in(log_file: Path, process: subprocess.Popen[bytes]) -> int:
    """The port that the kernel chose, from the line that says so."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        lines = [json.loads(line) for line in log_file.read_text().splitlines() if '"listening"' in line]
        if lines:
            return int(lines[0]["address"].rpartition(":")[2])
        assert process.poll() is None, log_file.read_text()
        time.sleep(0.05)
    raise AssertionError(log_file.read_text())


class Connection:
    """A raw TCP connection that speaks HTTP/1.1 byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> "Connection":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers in lower case, and body of the next answer."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await self._reader.readexactly(int(headers.get("content-length", 0)))
        return int(head[0].split()[1]), headers, body

    async def is_closed(self) -> bool:
        """Wait until the other side closes without saying anything more."""
        try:
            return await self._reader.read(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self._writer.close()


async def send_copies(port: int, request: bytes, count: int) -> list[int]:
    """The statuses of so many copies of a request over one connection."""
    connection = await Connection.open(port)
    statuses = []
    for _ in range(count):
        await connection.send(request)
        statuses.append((await connection.answer())[0])
    connection.close()
    return statuses
