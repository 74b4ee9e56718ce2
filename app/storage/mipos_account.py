"""What all workers and replicas share about our account at mipOS: the access token, and the registration of our webhook."""

from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.mipos_tables import access_token, webhook_registration


@dataclass(frozen=True, slots=True)
class StoredToken:
    """The token of one account."""

    token: str = field(repr=False)
    expires_at: datetime
    obtained_at: datetime


async def read_token(connection: AsyncConnection, account: str) -> StoredToken | None:
    """The stored token of `account` (mipOS's address and the client id); None before the first one."""
    columns = access_token.c.token, access_token.c.expires_at, access_token.c.obtained_at
    row = (await connection.execute(select(*columns).where(access_token.c.account == account))).one_or_none()
    return None if row is None else StoredToken(*row)


async def put_token(connection: AsyncConnection, account: str, *, token: str, expires_at: datetime) -> None:
    """Replace the stored token."""
    statement = insert(access_token).values(account=account, token=token, expires_at=expires_at)
    changed = {"token": token, "expires_at": expires_at, "obtained_at": statement.excluded.obtained_at}
    await connection.execute(statement.on_conflict_do_update(index_elements=["account"], set_=changed))


STOCK_WEBHOOK = "3"
"""The type of our webhook, as the document numbers it."""


class RegistrationState(StrEnum):
    """Where a registration stands."""

    PENDING = "pending"
    """Not done yet; it is tried again by itself."""
    REGISTERED = "registered"
    FAILED = "failed"
    """mipOS refused it: a person has to act. It is still tried again, slowly."""


@dataclass(frozen=True, slots=True)
class Registration:
    """What was tried last, and what mipOS said."""

    url: str
    """What `state` is about."""
    state: RegistrationState
    attempts: int
    """Of this URL, since it last succeeded."""
    words: str
    attempted_at: datetime
    next_attempt_at: datetime | None
    registered_url: str | None
    """The last URL that mipOS took; it may be another than `url`."""
    registered_at: datetime | None
    account: bytes
    """With which mipOS and account, as a hash: another one means that nothing of the above is known."""
    renewals: int = 0
    """Calls after a silence that brought deliveries back, and not for long"""

    def is_about(self, url: str, account: bytes) -> bool:
        """Whether it tells of registering `url` with `account`."""
        return self.url == url and self.account == account


async def read_registration(connection: AsyncConnection, webhook_type: str) -> Registration | None:
    """The state; None before the first attempt."""
    columns = [webhook_registration.c[name] for name in Registration.__slots__]
    query = select(*columns).where(webhook_registration.c.type == webhook_type)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        return None
    url, state, *rest = row
    return Registration(url, RegistrationState(state), *rest)


async def put_registration(connection: AsyncConnection, webhook_type: str, registration: Registration) -> None:
    """Replace the state."""
    values = {**asdict(registration), "state": registration.state.value}
    statement = insert(webhook_registration).values(type=webhook_type, **values)
    await connection.execute(statement.on_conflict_do_update(index_elements=["type"], set_=values))
