"""The access token that all workers and replicas share."""

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.tables import access_token


@dataclass(frozen=True, slots=True)
class StoredToken:
    """The token of one account."""

    token: str = field(repr=False)
    expires_at: datetime
    obtained_at: datetime


async def read(connection: AsyncConnection, account: str) -> StoredToken | None:
    """The stored token of `account` (mipOS's address and the client id); None before the first one."""
    columns = access_token.c.token, access_token.c.expires_at, access_token.c.obtained_at
    row = (await connection.execute(select(*columns).where(access_token.c.account == account))).one_or_none()
    return None if row is None else StoredToken(*row)


async def put(connection: AsyncConnection, account: str, *, token: str, expires_at: datetime) -> None:
    """Replace the stored token."""
    statement = insert(access_token).values(account=account, token=token, expires_at=expires_at)
    changed = {"token": token, "expires_at": expires_at, "obtained_at": func.now()}
    await connection.execute(statement.on_conflict_do_update(index_elements=["account"], set_=changed))
