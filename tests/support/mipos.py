"""The remote of the tests: the sandbox over real HTTP, in this process."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

import uvicorn
from pydantic import SecretStr
from starlette.types import ASGIApp

from app.mipos.client import Credentials
from app.sandbox.faults import Fault
from app.sandbox.platform import Account, InventorySystem, Platform
from app.sandbox.server import Sandbox
from tests.support.sender import SECRET

SYSTEM = "4344be8c-c6b9-4c51-88a6-d620144ab406"
SETTINGS = {"mipos_client_id": "sandbox-client", "mipos_email": "pos@example.com", "mipos_password": "open sesame"}
CREDENTIALS = Credentials("sandbox-client", SecretStr(SECRET), "pos@example.com", SecretStr("open sesame"))


def credentials_with(**changes: str) -> Credentials:
    values = {
        "client_id": "sandbox-client",
        "client_secret": SECRET,
        "email": "pos@example.com",
        "password": "open sesame",
        **changes,
    }
    return Credentials(values["client_id"], SecretStr(values["client_secret"]), values["email"], SecretStr(values["password"]))


KEY = "a-key-of-the-tills-of-all-stores"
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}


@dataclass
class Remote:
    """A running sandbox."""

    sandbox: Sandbox
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def platform(self) -> Platform:
        return self.sandbox.platform

    @property
    def calls(self) -> dict[str, int]:
        return dict(self.sandbox.calls)

    def fail(self, call: str, **how: Any) -> None:
        """Let the next calls of this kind go wrong."""
        self.sandbox.faults.append(Fault.model_validate({"call": call, **how}))

    def settings(self, **changes: Any) -> dict[str, Any]:
        """The settings of a service that registers here, and tells of it to who has `KEY`."""
        # Nobody is at this URL, and nobody is to be asked: tests send to loopback only.
        own = {"pos_api_key": KEY, "mipos_base_url": self.url, "public_url": "https://pos.example.com", "ping_every": "0"}
        return {**SETTINGS, **own, **changes}


def platform(**changes: Any) -> Platform:
    account = Account("sandbox-client", SECRET, "pos@example.com", "open sesame")
    it = Platform(account, **changes)
    it.systems[SYSTEM] = InventorySystem("30", {"1"}, stock={"avcc123": "13.69"})
    return it


@asynccontextmanager
async def mipos(*, port: int = 0, **changes: Any) -> AsyncIterator[Remote]:
    """A sandbox that listens, on a port of its own unless one is named."""
    sandbox = Sandbox(platform(**changes))
    async with listening(sandbox, port=port, lifespan="off") as it:
        yield Remote(sandbox, it)


@asynccontextmanager
async def listening(app: ASGIApp, *, port: int = 0, lifespan: Literal["on", "off"] = "on") -> AsyncIterator[int]:
    """Serve `app` in this process; the port."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, access_log=False, lifespan=lifespan, timeout_graceful_shutdown=1)
    )
    task = asyncio.create_task(server._serve(sockets=[listener]))  # noqa: SLF001 - without uvicorn's signal handlers
    while not server.started:  # noqa: ASYNC110 - uvicorn tells by a flag
        await asyncio.sleep(0.01)
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await task
