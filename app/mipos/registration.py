"""Our webhook's registration at mipOS: a supervised task that never delays receiving, and one call for all replicas.

What to do next is decided by two pure functions, `next_step` and `outcome_of`; `Registrar` acts, under a lock in the database,
and leaves what happened in a row that the other workers and replicas read.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.mipos.answers import Answer, Done, NeedsHuman, Transient, Unauthorized
from app.mipos.client import MiposClient
from app.mipos.token import AccessTokens
from app.storage import registrations
from app.storage.registrations import STOCK_WEBHOOK, Registration, State

FRESH = timedelta(minutes=10)
"""A registration of our URL that is younger than this was made by a worker that started together with us."""
FIRST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(minutes=5)
PAUSE_FOR_A_HUMAN = timedelta(minutes=15)
POLL = timedelta(seconds=0.2)
_ALREADY_EXISTS = "already exists"

_log = structlog.get_logger("pos_sync.registration")


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again after `pause`."""

    pause: timedelta


@dataclass(frozen=True, slots=True)
class Call:
    """Call mipOS now."""


@dataclass(frozen=True, slots=True)
class Finished:
    """Our URL is registered."""


def next_step(known: Registration | None, *, url: str, started_at: datetime, now: datetime) -> Wait | Call | Finished:
    """What a worker that started at `started_at` does about `url`, knowing what all workers did so far."""
    if known is None or known.url != url:
        return Call()
    if known.state is State.REGISTERED:
        is_fresh = known.registered_at is not None and known.registered_at > started_at - FRESH
        return Finished() if is_fresh else Call()
    if known.next_attempt_at is not None and known.next_attempt_at > now and known.attempted_at > started_at - FRESH:
        return Wait(known.next_attempt_at - now)
    return Call()


def outcome_of(answer: Answer, known: Registration | None, *, url: str, now: datetime, jitter: float) -> Registration:
    """The state after mipOS answered; `jitter` is from 0 to 1.

    "Already exists" is a success if `url` is the one that mipOS took last, else mipOS holds another URL and a person has to
    act (reference/mipos-api.md).
    """
    attempts = 1 if known is None or known.url != url or known.state is State.REGISTERED else known.attempts + 1
    registered_url = None if known is None else known.registered_url
    registered_at = None if known is None else known.registered_at
    is_ours = isinstance(answer, NeedsHuman) and _ALREADY_EXISTS in answer.words.lower() and registered_url == url
    if isinstance(answer, Done) or is_ours:
        return Registration(url, State.REGISTERED, 0, answer.words, now, None, url, now)
    if isinstance(answer, Transient):
        pause = backoff(attempts, jitter=jitter, asked=answer.retry_after)
        return Registration(url, State.PENDING, attempts, answer.words, now, now + pause, registered_url, registered_at)
    pause = PAUSE_FOR_A_HUMAN * (1 + jitter / 10)
    return Registration(url, State.FAILED, attempts, answer.words, now, now + pause, registered_url, registered_at)


def backoff(attempts: int, *, jitter: float, asked: float | None = None) -> timedelta:
    """How long to wait after the `attempts`-th failure: doubling from a second to minutes, less up to half by jitter."""
    pause = min(FIRST_PAUSE * 2 ** min(attempts - 1, 20), LONGEST_PAUSE)
    pause -= pause * jitter / 2
    return pause if asked is None else min(max(pause, timedelta(seconds=asked)), LONGEST_PAUSE)


class Registrar:
    """Registers one URL."""

    def __init__(
        self,
        engine: AsyncEngine,
        client: MiposClient,
        tokens: AccessTokens,
        *,
        url: str,
        on_state: Callable[[State], None] = lambda _: None,
    ) -> None:
        self._engine = engine
        self._client = client
        self._tokens = tokens
        self._url = url
        self._on_state = on_state

    async def run(self) -> None:
        """Work until the URL is registered, through whatever fails; cancel it to stop."""
        started_at = datetime.now(UTC)
        failures = 0
        while True:
            try:
                step = await self._step(started_at)
                failures = 0
            except (OSError, TimeoutError, SQLAlchemyError) as error:
                # The database is away. Not our business to say: readiness does.
                failures += 1
                _log.warning("registration waits for the database", error=type(error).__name__)
                step = Wait(backoff(failures, jitter=random.random()))  # noqa: S311 - spreads load, hides nothing
            except Exception:  # noqa: BLE001 - a bug in here must not end the registration for good
                failures += 1
                _log.exception("registration failed unexpectedly")
                step = Wait(backoff(failures, jitter=random.random()))  # noqa: S311
            if isinstance(step, Finished):
                self._on_state(State.REGISTERED)
                return
            await asyncio.sleep(step.pause.total_seconds())

    async def register_now(self) -> Registration:
        """Call mipOS whatever the state is, and return what came of it."""
        while True:
            async with self._engine.begin() as connection:
                if await registrations.try_lock(connection, STOCK_WEBHOOK):
                    known = await registrations.read(connection, STOCK_WEBHOOK)
                    registration = await self._attempt(known)
                    await registrations.put(connection, STOCK_WEBHOOK, registration)
                    return registration
            await asyncio.sleep(POLL.total_seconds())

    async def _step(self, started_at: datetime) -> Wait | Finished:
        async with self._engine.begin() as connection:
            known = await registrations.read(connection, STOCK_WEBHOOK)
            step = next_step(known, url=self._url, started_at=started_at, now=datetime.now(UTC))
            if not isinstance(step, Call):
                return step
            if not await registrations.try_lock(connection, STOCK_WEBHOOK):
                return Wait(POLL)
            # Under the lock once more: the last holder may have called in the meantime.
            known = await registrations.read(connection, STOCK_WEBHOOK)
            step = next_step(known, url=self._url, started_at=started_at, now=datetime.now(UTC))
            if not isinstance(step, Call):
                return step
            registration = await self._attempt(known)
            await registrations.put(connection, STOCK_WEBHOOK, registration)
        self._say(registration)
        if registration.next_attempt_at is None:
            return Finished()
        return Wait(max(registration.next_attempt_at - datetime.now(UTC), timedelta()))

    async def _attempt(self, known: Registration | None) -> Registration:
        answer = await self._call()
        jitter = random.random()  # noqa: S311 - spreads load, hides nothing
        return outcome_of(answer, known, url=self._url, now=datetime.now(UTC), jitter=jitter)

    async def _call(self) -> Answer:
        """One call; with one new token, should the first one not be accepted."""
        rejected = None
        answer: Answer = Unauthorized("")
        for _ in range(2):
            token = await self._tokens.get(rejected=rejected)
            if isinstance(token, (Transient, NeedsHuman)):
                return token
            answer = await self._client.manage_webhook(self._url, token=token)
            if not isinstance(answer, Unauthorized):
                return answer
            rejected = token
        return NeedsHuman(answer.words, 401)

    def _say(self, registration: Registration) -> None:
        self._on_state(registration.state)
        facts = {"url": registration.url, "mipos_says": registration.words, "attempts": registration.attempts}
        match registration.state:
            case State.REGISTERED:
                _log.info("webhook registered", **facts)
            case State.PENDING:
                _log.warning("webhook not registered yet, trying again", **facts)
            case State.FAILED:
                _log.error("webhook refused by mipOS: a person has to act", **facts)
