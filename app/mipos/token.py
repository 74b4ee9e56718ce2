"""The access token: one for all workers and replicas, kept in the database, fetched by one of them at a time."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine

from app.mipos.answers import Answer, Done, NeedsHuman, Transient, Unauthorized
from app.mipos.client import Credentials, MiposClient
from app.storage import tokens

SHORT_LIFE = timedelta(minutes=5)
"""For how long a token is used whose expiry mipOS did not say in a way that we understand; then 401 tells."""
MARGIN = timedelta(seconds=30)
"""A token that expires sooner than this is not worth starting a call with."""
POLL_SECONDS = 0.1
_EARLIEST_EPOCH = 1_000_000_000
_LATEST_EPOCH = 32_503_680_000


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token, and when it stops working."""

    secret: SecretStr
    expires_at: datetime

    def is_usable(self, now: datetime, *, rejected: SecretStr | None) -> bool:
        """Whether it is worth trying: not expired, and not the one that mipOS has just refused."""
        return self.expires_at > now + MARGIN and self.secret != rejected


def read_token(data: Mapping[str, Any], now: datetime) -> Token | None:
    """The token in the answer of a token call; None where there is none.

    `expires_in` is a string that holds an absolute Unix time ("1585815796" is 2020-04-02), against its name
    (reference/mipos-api.md); a small number is read as seconds from now, and what is missing or garbage as short-lived.
    """
    secret = data.get("token")
    if not isinstance(secret, str) or not secret.strip() or not secret.isascii():
        return None
    return Token(SecretStr(secret), _expiry(data.get("expires_in"), now))


def _expiry(value: object, now: datetime) -> datetime:
    text = str(value).strip() if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    if not text.isdecimal() or not text.isascii() or len(text) > len(str(_LATEST_EPOCH)):
        return now + SHORT_LIFE
    number = int(text)
    if number > _LATEST_EPOCH:
        return now + SHORT_LIFE
    if number > _EARLIEST_EPOCH:
        return datetime.fromtimestamp(number, UTC)
    return now + timedelta(seconds=number)


class AccessTokens:
    """Hands out the token: the fixed one of the settings, or the shared one of the database."""

    def __init__(
        self,
        engine: AsyncEngine,
        client: MiposClient,
        *,
        credentials: Credentials | None,
        fixed: SecretStr | None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._engine = engine
        self._client = client
        self._credentials = credentials
        self._fixed = fixed
        self._clock = clock

    async def get(self, *, rejected: SecretStr | None = None) -> SecretStr | Transient | NeedsHuman:
        """A token to call with, or why there is none. `rejected` is the one that mipOS has just answered 401 to.

        The row is read again first: another process may have replaced the rejected token already. Only the holder of the lock
        calls mipOS, and it refreshes only a token that the token call hands back expired or rejected, since a refresh
        kills the token that all the others use.
        """
        if self._fixed is not None:
            if self._fixed != rejected:
                return self._fixed
            return NeedsHuman("The token in MIPOS_ACCESS_TOKEN is not accepted any more. Set a new one.", 401)
        if self._credentials is None:
            return NeedsHuman("There are no credentials for mipOS. Set MIPOS_CLIENT_ID, MIPOS_EMAIL and MIPOS_PASSWORD.", 401)
        while True:
            async with self._engine.begin() as connection:
                stored = await tokens.read(connection, self._credentials.client_id)
                if stored is not None:
                    token = Token(SecretStr(stored.token), stored.expires_at)
                    if token.is_usable(self._clock(), rejected=rejected):
                        return token.secret
                if await tokens.try_lock(connection, self._credentials.client_id):
                    # Read under the lock once more: between the two looks the last holder may have stored a new one.
                    again = await tokens.read(connection, self._credentials.client_id)
                    if again is not None and again != stored:
                        continue
                    fetched = await self._fetch(self._credentials, rejected)
                    if not isinstance(fetched, Token):
                        return fetched
                    await tokens.put(
                        connection,
                        self._credentials.client_id,
                        token=fetched.secret.get_secret_value(),
                        expires_at=fetched.expires_at,
                    )
                    return fetched.secret
            await asyncio.sleep(POLL_SECONDS)

    async def _fetch(self, credentials: Credentials, rejected: SecretStr | None) -> Token | Transient | NeedsHuman:
        token = self._understand(await self._client.fetch_token(credentials))
        if isinstance(token, Token) and not token.is_usable(self._clock(), rejected=rejected):
            return self._understand(await self._client.refresh_token(credentials, token.secret))
        return token

    def _understand(self, answer: Answer) -> Token | Transient | NeedsHuman:
        match answer:
            case Done(data=data):
                token = read_token(data, self._clock())
                return Transient("mipOS's answer to the token call holds no token") if token is None else token
            case Unauthorized(words):
                return NeedsHuman(words, 401)
        return answer
