"""The access token: one for all workers and replicas, kept in the database, fetched by one of them at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.mipos.answers import Answer, Done, NeedsHuman, Transient, Unauthorized
from app.mipos.client import CALL_SECONDS, Credentials, MiposClient
from app.storage import leases
from app.storage.leases import Lease
from app.storage.mipos_account import put_token, read_token
from app.storage.transactions import database_now

SHORT_LIFE = timedelta(minutes=5)
"""For how long a token is used whose expiry mipOS did not say in a way that we understand; then 401 tells."""
MARGIN = timedelta(seconds=30)
"""A token that expires sooner than this is not worth starting a call with."""
POLL_SECONDS = 0.1
LEASE = timedelta(seconds=3 * CALL_SECONDS)
"""Longer than a token call and a refresh can take together."""
_MIN_EPOCH = 1_000_000_000
_MAX_EPOCH = 32_503_680_000


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token, and when it stops working."""

    secret: SecretStr
    expires_at: datetime

    def is_usable(self, now: datetime, *, rejected: SecretStr | None) -> bool:
        """Whether it is worth trying: not expired, and not the one that mipOS has just refused."""
        return self.expires_at > now + MARGIN and self.secret != rejected


def token_in(data: Mapping[str, Any], now: datetime) -> Token | None:
    """The token in the answer of a token call; None where there is none.

    `expires_in` is a string that holds an absolute Unix time ("1585815796" is 2020-04-02), against its name
    (reference/mipos-api.md); a small number is read as seconds from now, and what is missing or garbage as short-lived.
    """
    secret = data.get("token")
    if not isinstance(secret, str) or not is_sendable(secret):
        return None
    return Token(SecretStr(secret), _expiry(data.get("expires_in"), now))


def is_sendable(token: str) -> bool:
    """Whether `token` can stand in a header, and in the database."""
    return bool(token) and token.isascii() and token.isprintable() and " " not in token


def _expiry(value: object, now: datetime) -> datetime:
    text = str(value).strip() if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    if not text.isdecimal() or not text.isascii() or len(text) > len(str(_MAX_EPOCH)):
        return now + SHORT_LIFE
    number = int(text)
    if number > _MAX_EPOCH:
        return now + SHORT_LIFE
    if number > _MIN_EPOCH:
        return datetime.fromtimestamp(number, UTC)
    return now + timedelta(seconds=number)


class AccessTokens:
    """Hands out the token: the fixed one of the settings, or the shared one of the database."""

    def __init__(  # noqa: PLR0913 - what `wiring` puts together, each by name
        self,
        engine: AsyncEngine,
        client: MiposClient,
        *,
        account: str,
        credentials: Sequence[Credentials],
        fixed: SecretStr | None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._engine = engine
        self._client = client
        self._credentials = credentials
        self._fixed = fixed
        self._own_clock = clock
        self._offset = timedelta()
        """What the database's clock is ahead of this machine's: an expiry is shared with other machines."""
        self._account = account
        self._lease = f"token {self._account}"
        self._known: Token | None = None

    async def get(self, *, rejected: SecretStr | None = None) -> SecretStr | Transient | NeedsHuman:
        """A token to call with, or why there is none. `rejected` is the one that mipOS has just answered 401 to.

        A known token is used until it expires or is rejected. Then the row is read again: another process may have replaced
        it. Only the holder of the lease calls mipOS, and it refreshes only a token that the token call hands back expired
        or rejected, since a refresh kills the token that all the others use.
        """
        if self._known is not None and self._known.is_usable(self._clock(), rejected=rejected):
            return self._known.secret
        if self._fixed is not None:
            if self._fixed != rejected:
                return self._fixed
            return NeedsHuman("The token in MIPOS_ACCESS_TOKEN is not accepted any more. Set a new one.", 401)
        if not self._credentials:
            return NeedsHuman("There are no credentials for mipOS. Set MIPOS_CLIENT_ID, MIPOS_EMAIL and MIPOS_PASSWORD.", 401)
        while True:
            async with self._engine.begin() as connection:
                if (token := await self._stored(connection, rejected)) is not None:
                    return token
                held = await leases.acquire(connection, self._lease, lasts=LEASE)
                # Once more: between the two looks the last holder may have stored a new one.
                if held is not None and (token := await self._stored(connection, rejected)) is not None:
                    await leases.give_back(connection, held)
                    return token
            if held is not None:
                return await self._renew(held, rejected)
            await asyncio.sleep(POLL_SECONDS)

    async def call(self, send: Callable[[SecretStr], Awaitable[Answer]]) -> Answer:
        """What `send` answers with a token, and after a 401 once more with another token.

        `Unauthorized` means that mipOS accepts no token of this account, or that there is none. What was to be sent is not
        at fault.
        """
        answer: Answer = Unauthorized("")
        rejected = None
        for _ in range(2):
            token = await self.get(rejected=rejected)
            if isinstance(token, Transient):
                return replace(token, may_have_arrived=False)
            if isinstance(token, NeedsHuman):
                return Unauthorized(token.words)
            answer = await send(token)
            if not isinstance(answer, Unauthorized):
                return answer
            rejected = token
        return answer

    def _clock(self) -> datetime:
        return self._own_clock() + self._offset

    async def _stored(self, connection: AsyncConnection, rejected: SecretStr | None) -> SecretStr | None:
        """The shared token, where it is worth trying."""
        self._offset = await database_now(connection) - self._own_clock()
        stored = await read_token(connection, self._account)
        if stored is None:
            return None
        token = Token(SecretStr(stored.token), stored.expires_at)
        if not token.is_usable(self._clock(), rejected=rejected):
            return None
        self._known = token
        return token.secret

    async def _renew(self, held: Lease, rejected: SecretStr | None) -> SecretStr | Transient | NeedsHuman:
        """Ask mipOS, as the holder of the lease. One that is cut off in here keeps it: its call may still be under way."""
        fetched = await self._fetch_by_any(rejected)
        async with self._engine.begin() as connection:
            if isinstance(fetched, Token):
                token = fetched.secret.get_secret_value()
                await put_token(connection, self._account, token=token, expires_at=fetched.expires_at)
            await leases.give_back(connection, held)
        if not isinstance(fetched, Token):
            return fetched
        self._known = fetched
        return fetched.secret

    async def _fetch_by_any(self, rejected: SecretStr | None) -> Token | Transient | NeedsHuman:
        """By the first credentials that mipOS takes: while the client secret is replaced, either may be the one that it knows."""
        first: Token | Transient | NeedsHuman | None = None
        for credentials in self._credentials:
            fetched = await self._fetch(credentials, rejected)
            if not isinstance(fetched, NeedsHuman):
                return fetched
            first = first or fetched
        assert first is not None
        return first

    async def _fetch(self, credentials: Credentials, rejected: SecretStr | None) -> Token | Transient | NeedsHuman:
        token = self._understand(await self._client.fetch_token(credentials))
        if isinstance(token, Token) and not token.is_usable(self._clock(), rejected=rejected):
            return self._understand(await self._client.refresh_token(credentials, token.secret))
        return token

    def _understand(self, answer: Answer) -> Token | Transient | NeedsHuman:
        match answer:
            case Done(data=data):
                token = token_in(data, self._clock())
                return Transient("mipOS's answer to the token call holds no token") if token is None else token
            case Unauthorized(words):
                return NeedsHuman(words, 401)
        return answer
