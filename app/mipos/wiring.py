"""From settings to the parts that call mipOS, for the service and for commands alike."""

import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncEngine

from app.mipos.client import Credentials, MiposClient
from app.mipos.outbox import Relay, RelayObserver
from app.mipos.registration import Registrar
from app.mipos.token import AccessTokens
from app.settings import Settings
from app.storage.engine import Database
from app.storage.mipos_account import RegistrationState
from app.tracing import Tracing

_NO_ACCOUNT = "no mipOS account is set (MIPOS_CLIENT_ID, MIPOS_EMAIL, MIPOS_PASSWORD, or MIPOS_ACCESS_TOKEN)"


def why_not_registering(settings: Settings) -> str | None:
    """Why the service does not register its webhook by itself, for a person; None where it does."""
    if not settings.mipos_register_on_startup:
        return "MIPOS_REGISTER_ON_STARTUP is off"
    if settings.public_url is None:
        return "PUBLIC_URL is not set"
    if not settings.has_mipos_account:
        return _NO_ACCOUNT
    return None


def why_not_sending(settings: Settings) -> str | None:
    """Why nothing is sent to mipOS, neither messages nor synchronisations, for a person; None where it can be."""
    return None if settings.has_mipos_account else _NO_ACCOUNT


def credentials_of(settings: Settings) -> list[Credentials]:
    """What the token call needs, where it is set: with the client secret, and then with the previous one."""
    if settings.mipos_client_id is None or settings.mipos_email is None or settings.mipos_password is None:
        return []
    secrets = [settings.mipos_client_secret]
    if settings.mipos_client_secret_previous is not None:
        secrets.append(settings.mipos_client_secret_previous)
    return [Credentials(settings.mipos_client_id, secret, settings.mipos_email, settings.mipos_password) for secret in secrets]


def token_account(settings: Settings) -> str:
    """By what the shared token is found: mipOS's address and the client id."""
    return f"{settings.mipos_base_url} {settings.mipos_client_id or ''}"


def tokens_of(settings: Settings, engine: AsyncEngine, client: MiposClient) -> AccessTokens:
    """The tokens that these settings lead to."""
    return AccessTokens(
        engine, client, account=token_account(settings), credentials=credentials_of(settings), fixed=settings.mipos_access_token
    )


def account_of(settings: Settings) -> bytes:
    """A hash that changes with mipOS's address and with every part of the account; keyed, so that it tells nothing of them."""
    secrets = [settings.mipos_password, settings.mipos_access_token]
    parts = [settings.mipos_base_url, settings.mipos_client_id, settings.mipos_email]
    parts += [None if secret is None else secret.get_secret_value() for secret in secrets]
    key = settings.mipos_client_secret.get_secret_value().encode("ascii")
    return hmac.digest(key, json.dumps(parts).encode("ascii"), "sha256")


@asynccontextmanager
async def mipos_of(settings: Settings, engine: AsyncEngine) -> AsyncIterator[tuple[MiposClient, AccessTokens]]:
    """What every call to mipOS needs."""
    async with MiposClient(settings.mipos_base_url) as client:
        yield client, tokens_of(settings, engine, client)


@asynccontextmanager
async def registrar(
    settings: Settings,
    engine: AsyncEngine,
    *,
    webhook_path: str,
    on_state: Callable[[RegistrationState, int], None] = lambda _state, _attempts: None,
) -> AsyncIterator[Registrar]:
    """A registrar of these settings' webhook; `settings.public_url` has to be set."""
    async with mipos_of(settings, engine) as (client, tokens):
        url = f"{settings.public_url}{webhook_path}"
        yield Registrar(engine, client, tokens, url=url, account=account_of(settings), on_state=on_state)


@asynccontextmanager
async def relay(
    settings: Settings, database: Database, engine: AsyncEngine, *, observer: RelayObserver, tracing: Tracing | None = None
) -> AsyncIterator[Relay]:
    """A relay of the outbox to these settings' mipOS."""
    # A connection for each call, and some for the token's: a call that waits for one would be counted as too slow.
    async with MiposClient(settings.mipos_base_url, max_connections=settings.outbox_parallel + 4) as client:
        tokens = tokens_of(settings, engine, client)
        yield Relay(database, engine, client, tokens, parallel=settings.outbox_parallel, observer=observer, tracing=tracing)
