"""Asks whether PUBLIC_URL leads to this service, the way that mipOS comes: DNS, TLS, proxy, signature, database."""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

import httpx2
from sqlalchemy.ext.asyncio import AsyncEngine

from app.errors import DatabaseAway
from app.errors.requests import NotSigned, UnknownPing
from app.failure import reason_of_call
from app.mipos.client import beginning_of
from app.operations.periodic import repeat
from app.receiving.mipos_sender import signed_headers
from app.receiving.ping import ping_body
from app.scope import WEBHOOK_PATH
from app.settings import Settings
from app.storage import leases, pings

PING_SECONDS = 10.0
LEASE = "ping"
LOOKS = 10
"""At the lease within the time between two pings"""
_NONCE_BYTES = 16


class PingState(StrEnum):
    """What came of a ping."""

    RETURNED = "returned"
    REFUSED = "refused"
    """A service of this kind answered, and refused it."""
    LOST = "lost"
    """Nobody answered, or somebody else did."""


@dataclass(frozen=True, slots=True)
class PingResult:
    """What came of a ping, and one sentence that says so."""

    state: PingState
    words: str


async def send_ping(settings: Settings, engine: AsyncEngine) -> PingResult:
    """Send one, and keep what came of it. `settings.public_url` has to be set.

    Raises:
        OSError, TimeoutError, SQLAlchemyError: the database cannot be used, so nothing was sent, or nobody can tell.
    """
    nonce = secrets.token_hex(_NONCE_BYTES)
    async with engine.begin() as connection:
        await pings.put(connection, nonce, url=settings.public_url or "")
    url = f"{settings.public_url}{WEBHOOK_PATH}"
    body = ping_body(nonce)
    headers = signed_headers(body, settings.mipos_client_secret.get_secret_value().encode("ascii"))
    try:
        async with (
            asyncio.timeout(PING_SECONDS),
            httpx2.AsyncClient(timeout=PING_SECONDS) as client,
            client.stream("POST", url, content=body, headers=headers) as answer,
        ):
            beginning = await beginning_of(answer)
    except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as error:
        result = PingResult(PingState.LOST, f"{url} cannot be reached ({reason_of_call(error)})")
    else:
        async with engine.connect() as connection:
            has_arrived = await pings.has_arrived(connection, nonce)
        result = _result(url, answer.status_code, beginning, has_arrived=has_arrived)
    async with engine.begin() as connection:
        await pings.end(connection, nonce, state=result.state.value, words=result.words)
    return result


def _result(url: str, status: int, beginning: bytes, *, has_arrived: bool) -> PingResult:
    if has_arrived:
        if status == httpx2.codes.NO_CONTENT:
            return PingResult(PingState.RETURNED, f"{url} leads to this service")
        return PingResult(PingState.LOST, f"{url} leads to this service, and its answer came back as {status}: look at the proxy")
    if NotSigned().message.encode() in beginning:
        return PingResult(
            PingState.REFUSED,
            f"{url} leads to a service with another MIPOS_CLIENT_SECRET, or something on the way changes header or body",
        )
    if UnknownPing().message.encode() in beginning:
        return PingResult(PingState.REFUSED, f"{url} leads to a service with another database: another deployment")
    if DatabaseAway().message.encode() in beginning:
        return PingResult(PingState.REFUSED, f"{url} leads to a service whose database is away")
    return PingResult(PingState.LOST, f"{url} is answered by something else ({status})")


class Pinger:
    """Pings now and then, one replica for all."""

    def __init__(self, settings: Settings, engine: AsyncEngine, *, on_state: Callable[[str], None], every: timedelta) -> None:
        self._settings = settings
        self._engine = engine
        self._on_state = on_state
        self._every = every

    async def run(self) -> None:
        """Until it is cancelled. The first comes late: a service that starts is not yet reached."""
        seconds = self._every.total_seconds() / LOOKS
        await asyncio.sleep(seconds)
        await repeat("ping", self._turn, pause=lambda: seconds)

    async def _turn(self) -> None:
        if await leases.take_turn(self._engine, LEASE, every=self._every):
            self._on_state((await send_ping(self._settings, self._engine)).state.value)
