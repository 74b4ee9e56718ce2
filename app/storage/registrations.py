"""The state of our webhook's registration at mipOS: one row for each type of webhook."""

from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.tables import webhook_registration

STOCK_WEBHOOK = "3"
"""The type of our webhook, as the document numbers it."""


class State(StrEnum):
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
    state: State
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

    def is_about(self, url: str, account: bytes) -> bool:
        """Whether it tells of registering `url` with `account`."""
        return self.url == url and self.account == account


async def read(connection: AsyncConnection, webhook_type: str) -> Registration | None:
    """The state; None before the first attempt."""
    columns = [webhook_registration.c[name] for name in Registration.__slots__]
    query = select(*columns).where(webhook_registration.c.type == webhook_type)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        return None
    url, state, *rest = row
    return Registration(url, State(state), *rest)


async def put(connection: AsyncConnection, webhook_type: str, registration: Registration) -> None:
    """Replace the state."""
    values = {**asdict(registration), "state": registration.state.value}
    statement = insert(webhook_registration).values(type=webhook_type, **values)
    await connection.execute(statement.on_conflict_do_update(index_elements=["type"], set_=values))
