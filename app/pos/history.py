"""GET /pos/stores/{store_id}/ledger and /changes: the ledger of a period, and every committed row once."""

import base64
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.errors import InvalidField
from app.errors.requests import NotReadable
from app.pos.api_key import ApiKey, guarded_router
from app.pos.changes import MAX_WAIT, ChangeFeed
from app.pos.queries import (
    ANSWERS,
    ERRORS_OF_THE_FEED,
    LedgerMovement,
    Limit,
    Number,
    read_cursor,
    read_moment,
    require_id,
)
from app.pos.reader import StoreReader
from app.storage.ledger_rows import Account, LedgerRow, Period, account, list_newest

MAX_CURSOR = 2**63 - 1


class TimedMovement(LedgerMovement):
    """A row of the ledger where rows stand in order of time, and no balance has a meaning."""

    balance_after: Number = Field(exclude=True)


class Change(LedgerMovement):
    """A committed row of the ledger, with its place in the feed."""

    cursor: int


class ItemAccount(BaseModel):
    """An item over the period: opening + added - removed = closing."""

    model_config = ConfigDict(from_attributes=True)

    item_id: str
    opening: Number
    added: Number
    removed: Number
    closing: Number


class LedgerPeriod(BaseModel):
    """The rows of a period, newest first, and with its first page the account of each item that moved."""

    movements: list[TimedMovement]
    accounts: list[ItemAccount] | None = None
    next: str | None = Field(description="The `after` of the next page; null where there is none.")


class Changes(BaseModel):
    """What was committed behind the cursor, in the order in which it is told; each row once."""

    changes: list[Change]
    cursor: int = Field(description="The `after` of the next call.")


def history_router(reader: StoreReader, api_key: ApiKey, feed: ChangeFeed) -> APIRouter:
    """The routes, guarded by the key."""
    router = guarded_router(api_key)

    @router.get(
        "/ledger",
        operation_id="read_ledger",
        summary="The ledger of a period, newest first by when movements happened, and what it comes to.",
        responses=ANSWERS,
        response_model_exclude_none=False,
    )
    async def ledger(  # noqa: PLR0913, PLR0917 - one parameter per filter
        store_id: str,
        answer: Response,
        item_id: str | None = None,
        since: Annotated[
            str | None, Query(alias="from", description="From this time on. A day before `to`, if not given.")
        ] = None,
        until: Annotated[str | None, Query(alias="to", description="Before this time. Now, if not given.")] = None,
        after: Annotated[str | None, Query(description="The `next` of the page before.")] = None,
        limit: Limit = 100,
    ) -> LedgerPeriod:
        require_id("store_id", store_id)
        require_id("item_id", item_id)
        page = _FIRST_PAGE if after is None else _read_page(after)
        period = period_of(
            store_id,
            item_id,
            since=read_moment("from", since) or page.since,
            until=read_moment("to", until) or page.until,
        )

        async def look(connection: AsyncConnection) -> tuple[list[LedgerRow], list[Account] | None]:
            found = await list_newest(connection, period, before=page.before, limit=limit)
            return found, await account(connection, period) if after is None else None

        rows, moved = await reader.read(store_id, look, answer=answer, item_id=item_id)
        listed = [TimedMovement.model_validate(row) for row in rows]
        accounts = None if moved is None else [ItemAccount.model_validate(one) for one in moved]
        following = None
        if len(rows) == limit:
            last = rows[-1]
            place = last.happened_at, last.item_id, last.level_version
            following = _as_cursor(period, place)
        return LedgerPeriod(movements=listed, accounts=accounts, next=following)

    @router.get(
        "/changes",
        operation_id="read_changes",
        summary="Every committed row of the ledger once, from a cursor on; waits for the next one if asked to.",
        responses=ERRORS_OF_THE_FEED,
    )
    async def changes(
        store_id: str,
        after: Annotated[int, Query(ge=0, le=MAX_CURSOR, description="The `cursor` of the call before. 0 is the beginning.")] = 0,
        wait: Annotated[float, Query(ge=0, le=MAX_WAIT, description="Seconds to wait where there is nothing new.")] = 0,
        limit: Limit = 100,
    ) -> Changes:
        require_id("store_id", store_id)
        try:
            found = await feed.read(store_id, after=after, limit=limit, wait=wait)
        except (OSError, TimeoutError, SQLAlchemyError) as error:
            raise NotReadable from error
        listed = [Change.model_validate({**asdict(row), "cursor": position}) for position, row in found]
        return Changes(changes=listed, cursor=listed[-1].cursor if listed else after)

    return router


def period_of(store_id: str, item_id: str | None, *, since: datetime | None, until: datetime | None) -> Period:
    """The period that is asked for: up to now, and a day long, where nothing is said.

    Raises:
        InvalidField: it ends before it begins.
    """
    until = until or datetime.now(UTC)
    since = until - timedelta(days=1) if since is None else since
    if since >= until:
        raise InvalidField("from", "must be before `to`")
    return Period(store_id, since, until, item_id)


@dataclass(frozen=True, slots=True)
class _Page:
    """Where a page begins. The period is that of the first page: without `from` and `to` it would move with the clock."""

    since: datetime | None = None
    until: datetime | None = None
    before: tuple[datetime, str, int] | None = None
    """(happened_at, item_id, level_version) of the last row of the page before."""


_FIRST_PAGE = _Page()


def _as_cursor(period: Period, last: tuple[datetime, str, int]) -> str:
    """Of characters that a URL takes as they are."""
    at, item_id, version = last
    moments = "|".join(moment.isoformat() for moment in (period.since, period.until, at))
    return base64.urlsafe_b64encode(f"{moments}|{version}:{item_id}".encode()).decode()


def _read_page(after: str) -> _Page:
    problem = InvalidField("after", "must be the `next` of a page")
    try:
        *moments, rest = base64.urlsafe_b64decode(after).decode().split("|", 3)
        since, until, at = (datetime.fromisoformat(moment) for moment in moments)
        cursor = read_cursor(rest)
    except (ValueError, InvalidField):
        raise problem from None
    if cursor is None or None in (since.tzinfo, until.tzinfo, at.tzinfo):
        raise problem
    return _Page(since, until, (at, *cursor))
