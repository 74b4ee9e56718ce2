"""Our webhook's registration at mipOS: a supervised task that never delays receiving, and one call for all replicas.

What to do next is decided by two pure functions, `next_step` and `outcome_of`; `Registrar` acts, with a lease of the database,
and leaves what happened in a row that the other workers and replicas read.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog
from pydantic import SecretStr
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.mipos.answers import Answer, Done, NeedsHuman, Transient, backoff
from app.mipos.client import CALL_SECONDS, MiposClient
from app.mipos.token import AccessTokens
from app.storage import leases
from app.storage.leases import Lease
from app.storage.mipos_account import STOCK_WEBHOOK, Registration, RegistrationState, put_registration, read_registration
from app.storage.transactions import database_now

FRESH = timedelta(minutes=10)
"""A registration of our URL that is younger than this was made by a worker that started together with us."""
PAUSE_FOR_A_HUMAN = timedelta(minutes=15)
MAX_WAIT = PAUSE_FOR_A_HUMAN * 1.1
"""No pause is longer, jitter included."""
POLL = timedelta(seconds=0.2)
MAX_SLEEP = timedelta(seconds=20)
LEASE = timedelta(seconds=9 * CALL_SECONDS)
"""Longer than all the calls of an attempt can take: two tokens, each by two calls, and two tries; and waiting for a token."""
LEASE_NAME = f"registration {STOCK_WEBHOOK}"
RELEASE_SECONDS = 1.0
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


@dataclass(frozen=True, slots=True)
class Superseded:
    """Another deployment registers another URL by now: stop, or the two would take turns without end."""


@dataclass(frozen=True, slots=True)
class Target:
    """What to register, with which account (a hash), for a worker that started at `started_at`."""

    url: str
    account: bytes
    started_at: datetime | None = None
    """By the database's clock; None until it was asked."""


def next_step(
    known: Registration | None, target: Target, *, now: datetime, was_ours: bool
) -> Wait | Call | Finished | Superseded:
    """What a worker does about its target, knowing what all workers did so far.

    `was_ours` says that this worker has seen the state tell of its own target before.
    """
    if known is None or not known.is_about(target.url, target.account):
        return Superseded() if known is not None and was_ours else Call()
    started_at = target.started_at or now
    if known.state is RegistrationState.REGISTERED:
        is_fresh = known.registered_at is not None and started_at - FRESH < known.registered_at <= now
        return Finished() if is_fresh else Call()
    pause = timedelta() if known.next_attempt_at is None else known.next_attempt_at - now
    # A longer one than there is was written by another clock.
    is_due = not timedelta() < pause <= MAX_WAIT
    return Call() if is_due or known.attempted_at <= started_at - FRESH else Wait(pause)


def outcome_of(answer: Answer, known: Registration | None, target: Target, *, now: datetime, jitter: float) -> Registration:
    """The state after mipOS answered; `jitter` is from 0 to 1.

    "Already exists" is a success if the URL is the one that mipOS took last, else mipOS holds another URL and a person has
    to act (docs/reference/mipos-api.md).
    """
    url, account = target.url, target.account
    is_retry = known is not None and known.is_about(url, account) and known.state is not RegistrationState.REGISTERED
    attempts = known.attempts + 1 if known is not None and is_retry else 1
    is_same_account = known is not None and known.account == account
    registered_url = known.registered_url if known is not None and is_same_account else None
    registered_at = known.registered_at if known is not None and is_same_account else None
    is_ours = isinstance(answer, NeedsHuman) and _ALREADY_EXISTS in answer.words.lower() and registered_url == url
    if isinstance(answer, Done) or is_ours:
        return Registration(url, RegistrationState.REGISTERED, 0, answer.words, now, None, url, now, account)
    if isinstance(answer, Transient):
        state, pause = RegistrationState.PENDING, backoff(attempts, jitter=jitter, asked=answer.retry_after)
    else:
        state, pause = RegistrationState.FAILED, PAUSE_FOR_A_HUMAN * (1 + jitter / 10)
    return Registration(url, state, attempts, answer.words, now, now + pause, registered_url, registered_at, account)


class Registrar:
    """Registers one URL."""

    def __init__(  # noqa: PLR0913 - what `wiring` puts together, each by name
        self,
        engine: AsyncEngine,
        client: MiposClient,
        tokens: AccessTokens,
        *,
        url: str,
        account: bytes,
        on_state: Callable[[RegistrationState, int], None] = lambda _state, _attempts: None,
    ) -> None:
        self._engine = engine
        self._client = client
        self._tokens = tokens
        self._target = Target(url, account)
        self._was_ours = False
        self._on_state = on_state

    async def run(self) -> None:
        """Work until the URL is registered, through whatever fails; cancel it to stop."""
        failures = 0
        while True:
            try:
                step = await self._step()
                failures = 0
            except Exception as error:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    # A connection that fails while it is given back must not swallow the order to stop.
                    raise asyncio.CancelledError from error
                failures += 1
                if isinstance(error, (OSError, TimeoutError, SQLAlchemyError)):
                    _log.warning("registration waits for the database", error=type(error).__name__)
                else:
                    _log.exception("registration failed unexpectedly")
                step = Wait(backoff(failures, jitter=random.random()))  # noqa: S311 - spreads load, hides nothing
            if isinstance(step, Finished):
                self._on_state(RegistrationState.REGISTERED, 0)
                return
            if isinstance(step, Superseded):
                _log.error("another deployment registers another URL: leaving it to that one", url=self._target.url)
                return
            # Not longer than this, since others may have done it in the meantime.
            await asyncio.sleep(min(step.pause, MAX_SLEEP).total_seconds())

    async def register_now(self) -> Registration:
        """Call mipOS whatever the state is, and return what came of it."""
        while True:
            async with self._engine.begin() as connection:
                held = await leases.acquire(connection, LEASE_NAME, lasts=LEASE)
                known = await read_registration(connection, STOCK_WEBHOOK)
            if held is not None:
                return await self._attempt(held, known)
            await asyncio.sleep(POLL.total_seconds())

    async def _step(self) -> Wait | Finished | Superseded:
        async with self._engine.begin() as connection:
            now = await database_now(connection)
            if self._target.started_at is None:
                self._target = replace(self._target, started_at=now)
            step = self._next(await read_registration(connection, STOCK_WEBHOOK), now)
            if not isinstance(step, Call):
                return step
            held = await leases.acquire(connection, LEASE_NAME, lasts=LEASE)
            if held is None:
                return Wait(POLL)
            # Once more, by a later clock: the last holder may have called in the meantime.
            known = await read_registration(connection, STOCK_WEBHOOK)
            step = self._next(known, await database_now(connection))
            if not isinstance(step, Call):
                await leases.give_back(connection, held)
                return step
        registration = await self._attempt(held, known)
        self._was_ours = True
        self._say(registration)
        if registration.next_attempt_at is None:
            return Finished()
        return Wait(registration.next_attempt_at - registration.attempted_at)

    def _next(self, known: Registration | None, now: datetime) -> Wait | Call | Finished | Superseded:
        step = next_step(known, self._target, now=now, was_ours=self._was_ours)
        self._was_ours |= known is not None and known.is_about(self._target.url, self._target.account)
        return step

    async def _attempt(self, held: Lease, known: Registration | None) -> Registration:
        """Call mipOS as the holder of the lease, write what came of it, and give the lease back."""
        try:
            answer = await self._tokens.call(self._manage)
        except asyncio.CancelledError:
            # The call may have reached mipOS; calling again does no harm, and the next start need not wait for our lease.
            with suppress(Exception):
                async with asyncio.timeout(RELEASE_SECONDS), self._engine.begin() as connection:
                    await leases.give_back(connection, held)
            raise
        jitter = random.random()  # noqa: S311 - spreads load, hides nothing
        async with self._engine.begin() as connection:
            now = await database_now(connection)
            registration = outcome_of(answer, known, self._target, now=now, jitter=jitter)
            await put_registration(connection, STOCK_WEBHOOK, registration)
            await leases.give_back(connection, held)
        return registration

    async def _manage(self, token: SecretStr) -> Answer:
        return await self._client.manage_webhook(self._target.url, token=token)

    def _say(self, registration: Registration) -> None:
        self._on_state(registration.state, 1)
        facts = {"url": registration.url, "mipos_says": registration.words, "attempts": registration.attempts}
        match registration.state:
            case RegistrationState.REGISTERED:
                _log.info("webhook registered", **facts)
            case RegistrationState.PENDING:
                _log.warning("webhook not registered yet, trying again", **facts)
            case RegistrationState.FAILED:
                _log.error("webhook refused by mipOS: a person has to act", **facts)
