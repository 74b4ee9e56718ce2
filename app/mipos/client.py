"""The documented calls as typed methods. No library exception escapes, and no secret gets into a log or an error."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx2
from pydantic import SecretStr

from app.failure import reason_of_call
from app.mipos.answers import Answer, Transient, read_answer
from app.storage.mipos_account import STOCK_WEBHOOK
from app.tracing import TRACEPARENT

CALL_SECONDS = 10.0
"""For a whole call, from connecting to the last byte read."""
SYNC_SECONDS = 120.0
"""For a whole synchronisation: its body can be tens of megabytes, and mipOS hands it on before it answers."""
CONNECT_SECONDS = 5.0
CHUNK = 65536
"""Bytes between two reports of how much was sent."""
MAX_CONNECTIONS = 20
UNREACHED = "mipOS could not be reached"
MAX_ANSWER_BYTES = 65536
"""Bytes that we read of an answer; the rest is left unread."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the token call asks for, all five of it (`grant_type` is fixed)."""

    client_id: str
    client_secret: SecretStr
    email: str
    password: SecretStr


class MiposClient:
    """One connection pool to one mipOS."""

    def __init__(
        self,
        base_url: str,
        *,
        call_seconds: float | None = None,
        sync_seconds: float | None = None,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self._call_seconds = call_seconds or CALL_SECONDS
        self._sync_seconds = sync_seconds or SYNC_SECONDS
        self._http = httpx2.AsyncClient(
            base_url=base_url,
            headers={"Accept": "application/json", "User-Agent": "mipos-pos-sync"},
            limits=httpx2.Limits(max_connections=max_connections),
            follow_redirects=False,
            trust_env=True,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the connections back."""
        await self._http.aclose()

    async def fetch_token(self, credentials: Credentials) -> Answer:
        """The current token, in `data`; a safe read. Bad credentials are a 409, so `NeedsHuman`."""
        return await self._call(
            "/api/oauth/token",
            {
                "client_id": credentials.client_id,
                "client_secret": credentials.client_secret.get_secret_value(),
                "grant_type": "client_credentials",
                "email": credentials.email,
                "password": credentials.password.get_secret_value(),
            },
            is_for_token=True,
        )

    async def refresh_token(self, credentials: Credentials, token: SecretStr) -> Answer:
        """A new token, in `data`. **The old one dies**, for everybody who holds it: never call it twice at once."""
        return await self._call(
            "/api/oauth/token/refresh",
            {
                "client_id": credentials.client_id,
                "client_secret": credentials.client_secret.get_secret_value(),
                "grant_type": "refresh_token",
                "refresh_token": token.get_secret_value(),
            },
            token=token,
            is_for_token=True,
        )

    async def manage_webhook(self, url: str, *, token: SecretStr) -> Answer:
        """Create or change the webhook of type 3."""
        return await self._call("/api/v1/inventory/pos/webhook/manage", {"type": STOCK_WEBHOOK, "url": url}, token=token)

    async def sync(
        self,
        mipos_store_id: str,
        body: Mapping[str, Any],
        *,
        token: SecretStr,
        on_sent: Callable[[int, int], None] = lambda _sent, _total: None,
    ) -> Answer:
        """Send a store's whole inventory; `mipos_store_id` is mipOS's id of the store, not ours.

        `on_sent` is told how many bytes of how many have gone.
        """
        # Beside the event loop: a large catalogue takes seconds to write, and deliveries are received meanwhile.
        content = (await asyncio.to_thread(json.dumps, body)).encode("ascii")

        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, len(content), CHUNK):
                yield content[start : start + CHUNK]
                on_sent(min(start + CHUNK, len(content)), len(content))

        path = f"{_store(mipos_store_id)}/system/sync"
        headers = {"Content-Length": str(len(content))}
        return await self._send(path, chunks(), headers=headers, seconds=self._sync_seconds, secrets=[], token=token)

    async def update_stock(
        self, mipos_store_id: str, body: Mapping[str, Any], *, token: SecretStr, traceparent: str | None = None
    ) -> Answer:
        """Send one movement; `mipos_store_id` is mipOS's id of the store, not ours."""
        headers = {} if traceparent is None else {TRACEPARENT: traceparent}
        return await self._call(f"{_store(mipos_store_id)}/system/stock/update", body, token=token, headers=headers)

    async def _call(
        self,
        path: str,
        body: Mapping[str, Any],
        *,
        token: SecretStr | None = None,
        is_for_token: bool = False,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> Answer:
        content, secrets = json.dumps(body).encode("ascii"), _secrets(body)
        return await self._send(
            path, content, headers=headers, seconds=self._call_seconds, secrets=secrets, token=token, is_for_token=is_for_token
        )

    async def _send(  # noqa: PLR0913 - one call's parts, each by name
        self,
        path: str,
        content: bytes | AsyncIterator[bytes],
        *,
        headers: Mapping[str, str],
        seconds: float,
        secrets: list[str],
        token: SecretStr | None,
        is_for_token: bool = False,
    ) -> Answer:
        headers = {"Content-Type": "application/json", **headers}
        if token is not None:
            headers["Authorization"] = f"Bearer {token.get_secret_value()}"
            secrets = [*secrets, token.get_secret_value()]
        timeout = httpx2.Timeout(seconds, connect=CONNECT_SECONDS)
        try:
            # The client's own timeouts are per read: an answer that drips a byte at a time would never end.
            async with (
                asyncio.timeout(seconds),
                self._http.stream("POST", path, content=content, headers=headers, timeout=timeout) as response,
            ):
                received = await beginning_of(response)
                retry_after = response.headers.get("retry-after")
                return read_answer(
                    response.status_code, received, retry_after=retry_after, secrets=secrets, only_documented=is_for_token
                )
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.InvalidURL) as error:
            # Nothing was sent.
            return Transient(f"{UNREACHED}: {_why(error)}")
        except (TimeoutError, httpx2.TimeoutException):
            return Transient("mipOS did not answer in time", may_have_arrived=True)
        except (httpx2.HTTPError, httpx2.StreamError, OSError, ValueError) as error:
            return Transient(f"{UNREACHED}: {_why(error)}", may_have_arrived=True)


def _why(error: BaseException) -> str:
    return "MIPOS_BASE_URL is no address" if isinstance(error, httpx2.InvalidURL) else reason_of_call(error)


def _secrets(body: Mapping[str, Any]) -> list[str]:
    """What a body carries and no answer may bring into a log: error pages quote requests."""
    carried = [body.get(name) for name in ("client_secret", "password", "refresh_token")]
    return [secret for secret in carried if isinstance(secret, str) and secret]


async def beginning_of(response: httpx2.Response) -> bytes:
    """What there is of a streamed answer, up to `MAX_ANSWER_BYTES` bytes."""
    received = bytearray()
    async for chunk in response.aiter_bytes():
        received += chunk
        if len(received) >= MAX_ANSWER_BYTES:
            break
    return bytes(received[:MAX_ANSWER_BYTES])


def _store(mipos_store_id: str) -> str:
    return f"/api/v1/inventory/pos/store/{quote(mipos_store_id, safe='')}"
