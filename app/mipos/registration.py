"""Our webhook's registration at mipOS: a supervised task that never delays receiving, and one call for all replicas.

What to do next is decided by the pure functions of `registration_steps`; `Registrar` acts, with a lease of the database, and
leaves what happened in a row that the other workers and replicas read.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from datetime import datetime, timedelta

import structlog
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine

from app.mipos.answers import Answer, backoff
from app.mipos.client import CALL_SECONDS, MiposClient
from app.mipos.registration_steps import (
    Call,
    Finished,
    Signs,
    Superseded,
    Target,
    Wait,
    next_step,
    outcome_of,
    renewals_of,
)
from app.mipos.token import AccessTokens
from app.problems.kinds import ALL_PAIRS, SILENCE
from app.storage import delivery_counts, leases, problems
from app.storage.mipos_account import STOCK_WEBHOOK, Registration, RegistrationState, put_registration, read_registration
from app.storage.transactions import DATABASE_FAILURES, database_now, why_failed

KEEP = timedelta(seconds=60)
"""Between two looks at a registration that is done"""
POLL = timedelta(seconds=0.2)
MAX_SLEEP = timedelta(seconds=20)
LEASE = timedelta(seconds=9 * CALL_SECONDS)
"""Longer than all the calls of an attempt can take: two tokens, each by two calls, and two tries; and waiting for a token."""
LEASE_NAME = f"registration {STOCK_WEBHOOK}"

_log = structlog.get_logger("pos_sync.registration")


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
        keep: timedelta = KEEP,
    ) -> None:
        self._engine = engine
        self._client = client
        self._tokens = tokens
        self._target = Target(url, account)
        self._was_ours = False
        self._on_state = on_state
        self._keep = keep

    async def run(self) -> None:
        """Register the URL, and keep it registered, through whatever fails; cancel it to stop."""
        while await self.register():
            step: Wait | Finished | Superseded = Finished()
            while isinstance(step, Finished):
                await asyncio.sleep(self._keep.total_seconds())
                with suppress(*DATABASE_FAILURES):
                    step = await self._renew()
            if isinstance(step, Superseded):
                _log.error("another deployment registers another URL: leaving it to that one", url=self._target.url)
                return

    async def register(self) -> bool:
        """Work until the URL is registered, through whatever fails; False where another deployment took over."""
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
                if isinstance(error, DATABASE_FAILURES):
                    _log.warning("registration waits for the database", reason=why_failed(error))
                else:
                    _log.exception("registration failed unexpectedly")
                step = Wait(backoff(failures, jitter=random.random()))  # noqa: S311 - spreads load, hides nothing
            if isinstance(step, Finished):
                self._on_state(RegistrationState.REGISTERED, 0)
                return True
            if isinstance(step, Superseded):
                _log.error("another deployment registers another URL: leaving it to that one", url=self._target.url)
                return False
            # Not longer than this, since others may have done it in the meantime.
            await asyncio.sleep(min(step.pause, MAX_SLEEP).total_seconds())

    async def register_now(self) -> Registration:
        """Call mipOS whatever the state is, and return what came of it."""
        while True:
            async with self._hold() as is_held:
                if is_held:
                    async with self._engine.connect() as connection:
                        known = await read_registration(connection, STOCK_WEBHOOK)
                    return await self._attempt(known)
            await asyncio.sleep(POLL.total_seconds())

    async def _renew(self) -> Wait | Finished | Superseded:
        """Call again where silence asks for it; `Wait` where mipOS did not take it."""
        async with self._hold() as is_held:
            if not is_held:
                return Finished()
            async with self._engine.connect() as connection:
                known = await read_registration(connection, STOCK_WEBHOOK)
                signs = Signs(
                    is_silent=await problems.is_present(connection, SILENCE.name, ALL_PAIRS),
                    last_delivery_at=await delivery_counts.last_delivery(connection),
                )
                renewals = renewals_of(known, self._target, signs, now=await database_now(connection))
            if renewals is None:
                is_ours = known is not None and known.is_about(self._target.url, self._target.account)
                return Finished() if is_ours else Superseded()
            registration = await self._attempt(known, renewals=renewals)
            self._say(registration)
        return Finished() if registration.next_attempt_at is None else Wait(POLL)

    async def _step(self) -> Wait | Finished | Superseded:
        async with self._engine.begin() as connection:
            now = await database_now(connection)
            if self._target.started_at is None:
                self._target = replace(self._target, started_at=now)
            step = self._next(await read_registration(connection, STOCK_WEBHOOK), now)
        if not isinstance(step, Call):
            return step
        async with self._hold() as is_held:
            if not is_held:
                return Wait(POLL)
            # Once more, by a later clock: the last holder may have called in the meantime.
            async with self._engine.connect() as connection:
                known = await read_registration(connection, STOCK_WEBHOOK)
                step = self._next(known, await database_now(connection))
            if not isinstance(step, Call):
                return step
            registration = await self._attempt(known)
            self._was_ours = True
            self._say(registration)
        if registration.next_attempt_at is None:
            return Finished()
        return Wait(registration.next_attempt_at - registration.attempted_at)

    def _next(self, known: Registration | None, now: datetime) -> Wait | Call | Finished | Superseded:
        step = next_step(known, self._target, now=now, was_ours=self._was_ours)
        self._was_ours |= known is not None and known.is_about(self._target.url, self._target.account)
        return step

    def _hold(self) -> AbstractAsyncContextManager[bool]:
        """Given back also where a call to mipOS is cut off: calling again does no harm, and the next start need not wait."""
        return leases.holding(self._engine, LEASE_NAME, lasts=LEASE)

    async def _attempt(self, known: Registration | None, *, renewals: int = 0) -> Registration:
        """Call mipOS as the holder of the lease, and write what came of it."""
        answer = await self._tokens.call(self._manage)
        jitter = random.random()  # noqa: S311 - spreads load, hides nothing
        async with self._engine.begin() as connection:
            now = await database_now(connection)
            registration = outcome_of(answer, known, self._target, now=now, jitter=jitter, renewals=renewals)
            await put_registration(connection, STOCK_WEBHOOK, registration)
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
