"""Tells ALERT_WEBHOOK_URL when a problem begins, gets worse or ends, and calls HEARTBEAT_URL while problems are looked for.

What was told is kept beside each problem, so a message is the difference between that and the present. After an outage of the
receiver it is told of the present, and not of what was over before.
"""

import asyncio
import socket
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import httpx2
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.failure import reason_of_call
from app.operations.alert_message import AlertMessage, AlertTarget, Change, changes_of, is_lower, message_of
from app.operations.periodic import repeat
from app.problems.judging import MAX_WATCH_AGE
from app.setting_values import alert_key
from app.settings import Settings
from app.storage import alert_messages, leases, problems
from app.storage.transactions import database_now
from app.storage.waits import MAX_ALERT_PAUSE

TURN_SECONDS = 5.0
LEASE = "alerts"
LEASE_TIME = timedelta(seconds=60)
CALL_SECONDS = 10.0
MIN_PAUSE = timedelta(seconds=15)
"""Between two messages: what changes meanwhile is told together. With all other pauses it stays within the promised minute."""
HEARTBEAT = timedelta(seconds=60)
_SUCCESSES = range(200, 300)

_log = structlog.get_logger("pos_sync.alerts")


def alert_target(settings: Settings) -> AlertTarget | None:
    """Where these settings have messages go; None where nowhere. The service is called by its PUBLIC_URL, else by its host."""
    if settings.alert_webhook_url is None or settings.alert_webhook_secret is None:
        return None
    key = alert_key(settings.alert_webhook_secret)
    assert key is not None
    return AlertTarget(settings.alert_webhook_url, key, settings.public_url or socket.gethostname())


class Alerts:
    """Sends, one replica for all."""

    def __init__(
        self, engine: AsyncEngine, target: AlertTarget | None, *, heartbeat_url: str | None, on_sent: Callable[[str], None]
    ) -> None:
        self._engine = engine
        self._target = target
        self._heartbeat_url = heartbeat_url
        self._on_sent = on_sent
        self._lower_since: dict[tuple[str, str], datetime] = {}
        """Problems that are less bad than was told, and since when this worker knows it: another one may tell of it later."""

    async def run(self) -> None:
        """Until it is cancelled. While the database is away, `app.operations.outage` tells."""
        if self._target is None and self._heartbeat_url is None:
            return
        async with httpx2.AsyncClient(timeout=CALL_SECONDS) as client:
            await repeat("alerts", lambda: self.turn(client), pause=lambda: TURN_SECONDS)

    async def turn(self, client: httpx2.AsyncClient) -> None:
        """Send what is due, unless another replica does."""
        async with leases.holding(self._engine, LEASE, lasts=LEASE_TIME) as is_held:
            if is_held and self._target is not None:
                await self._tell(client, self._target)
            if is_held and self._heartbeat_url is not None:
                await self._beat(client, self._heartbeat_url)

    async def _tell(self, client: httpx2.AsyncClient, target: AlertTarget) -> None:
        async with self._engine.begin() as connection:
            prepared = await self._prepare(connection, target)
        if prepared is None:
            return
        message, changes = prepared
        fault = await post(client, target, message)
        self._on_sent("failed" if fault else "sent")
        async with self._engine.begin() as connection:
            if fault is None:
                await alert_messages.mark_sent(connection, message.message_id)
                await problems.mark_told(connection, [(one.name, one.subject, one.severity) for one in changes])
                return
            attempts = await alert_messages.mark_failed(connection, message.message_id, words=fault, max_pause=MAX_ALERT_PAUSE)
        _log.warning("alert not taken, trying again", reason=fault, attempts=attempts)

    async def _prepare(self, connection: AsyncConnection, target: AlertTarget) -> tuple[AlertMessage, list[Change]] | None:
        """The message that is to be sent now, with the changes that it tells; None where there is none."""
        known = await problems.read_all(connection)
        now = await database_now(connection)
        self._lower_since = {one.key: self._lower_since.get(one.key, now) for one in known if is_lower(one)}
        changes = changes_of(known, now=now, lower_since=self._lower_since)
        if not changes:
            await alert_messages.forget_unsent(connection)
            return None
        message = message_of(changes, known, target, now=now)
        is_due = await alert_messages.keep(connection, message.message_id, message.body, min_pause=MIN_PAUSE)
        return (message, changes) if is_due else None

    async def _beat(self, client: httpx2.AsyncClient, url: str) -> None:
        async with self._engine.begin() as connection:
            looked_at = (await problems.read_look(connection)).looked_at
            now = await database_now(connection)
            is_looked_at = looked_at is not None and abs(now - looked_at) < MAX_WATCH_AGE
            # Not given back: it is what keeps the time between two calls.
            is_due = is_looked_at and await leases.acquire(connection, "heartbeat", lasts=HEARTBEAT) is not None
        if not is_due:
            return
        try:
            status = await _status_of(client, "GET", url)
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as error:
            _log.warning("HEARTBEAT_URL cannot be reached", reason=reason_of_call(error))
        else:
            if status not in _SUCCESSES:
                _log.warning("HEARTBEAT_URL refuses", status=status)


async def post(client: httpx2.AsyncClient, target: AlertTarget, message: AlertMessage) -> str | None:
    """Send it; why it was not taken, or None where it was."""
    try:
        status = await _status_of(client, "POST", target.url, content=message.body.encode(), headers=message.headers(target))
    except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as error:
        return f"cannot be reached ({reason_of_call(error)})"
    return None if status in _SUCCESSES else f"answers {status}"


async def _status_of(client: httpx2.AsyncClient, method: str, url: str, **request: Any) -> int:  # noqa: ANN401 - httpx's
    """The status of the answer, of which nothing else is read. The client's own limit is for each read, and not for the whole."""
    async with asyncio.timeout(CALL_SECONDS), client.stream(method, url, **request) as answer:
        return answer.status_code
