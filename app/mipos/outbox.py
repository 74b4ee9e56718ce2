"""The relay: sends what the outbox holds, each pair (system, store, item) strictly in order, many pairs at once.

At least once: mipOS has no key by which it could know a message again, so one whose answer was lost is sent again. What an
answer means is decided by `stock_update.verdict_of`, a pure function; `Relay` acts. Every replica may run one: a message is
claimed first.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Protocol

import asyncpg
import structlog
from pydantic import SecretStr
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.mipos.answers import Answer, NeedsHuman, Transient, backoff
from app.mipos.client import MiposClient
from app.mipos.stock_update import MAX_ACCOUNT_PAUSE, echo_identity, stock_update_body, verdict_of
from app.mipos.token import AccessTokens
from app.storage import outbox, outbox_traces
from app.storage.engine import Database
from app.storage.outbox import Backlog, OutboxMessage, OutboxState, Settled
from app.storage.transactions import DATABASE_FAILURES, why_failed
from app.storage.waits import CLAIM
from app.tracing import Tracing
from app.visible_text import typed

SEND_SECONDS = 40.0
"""For a message with all its calls, tokens included: well within a claim."""
POLL_SECONDS = 1.0
"""How long a message waits at most where the hint that it is there was missed."""
GATHER_SECONDS = 0.01
"""How long messages that have their answer wait to be settled together, while there are others to send."""
IN_HAND = 3
"""Messages claimed for each call that is allowed."""
BACKLOG_SECONDS = 5.0
MAX_DATABASE_PAUSE_SECONDS = 2.0
"""Between two tries while the database is away, however long that lasts"""
REST = 10
"""After a turn that found nothing, rest this many times as long as it took: polling stays under a tenth of a connection."""
MIN_REST_SECONDS = 0.05
FINISH_SECONDS = 3.0
"""How long calls that are under way may still take when the service stops: cut off, they are made again."""
STOP_SECONDS = 1.0

_log = structlog.get_logger("pos_sync.outbox")


class RelayObserver(Protocol):
    """Told of what the relay does."""

    def on_message(self, state: str) -> None:
        """A message was tried: sent, dead, or (pending) to be tried again."""

    def on_call(self, seconds: float) -> None:
        """A call took so long, from its beginning to the answer's end."""

    def on_backlog(self, backlog: Backlog) -> None:
        """How much waits."""


class Relay:
    """Sends until it is cancelled, with up to `parallel` calls at a time."""

    def __init__(  # noqa: PLR0913 - what `wiring` puts together, each by name
        self,
        database: Database,
        engine: AsyncEngine,
        client: MiposClient,
        tokens: AccessTokens,
        *,
        parallel: int,
        observer: RelayObserver,
        tracing: Tracing | None = None,
    ) -> None:
        self._tracing = tracing
        self._database = database
        self._engine = engine
        self._client = client
        self._tokens = tokens
        self._parallel = parallel
        self._observer = observer
        self._ready: asyncio.Queue[tuple[OutboxMessage, dict[str, Any], float]] = asyncio.Queue()
        self._receipts: dict[int, str] = {}
        """While tracing is on: of the messages in hand, the traceparent of what they tell"""
        self._in_hand: set[int] = set()
        self._sending = 0
        self._after = outbox.FIRST_PAIR
        self._finished: list[Settled] = []
        self._wake = asyncio.Event()
        self._listener: asyncpg.Connection | None = None
        self._next_backlog = 0.0

    def wake(self) -> None:
        """Tell the relay that there may be a new message."""
        self._wake.set()

    async def run(self) -> None:
        """Send what is there and what comes, through whatever fails; cancel it to stop."""
        senders = [asyncio.create_task(self._keep_sending(), name=f"outbox {number}") for number in range(self._parallel)]
        failures = 0
        try:
            while True:
                try:
                    if not self._ready.empty():
                        # No sender waits: what finishes in the meantime is settled in the same transaction.
                        await asyncio.sleep(GATHER_SECONDS)
                    self._wake.clear()
                    rest = await self._turn()
                    failures = 0
                except DATABASE_FAILURES as error:
                    if not failures:
                        _log.warning("outbox waits for the database", reason=why_failed(error))
                    failures += 1
                    pause = backoff(failures, jitter=random.random()).total_seconds()  # noqa: S311 - spreads load
                    await asyncio.sleep(min(pause, MAX_DATABASE_PAUSE_SECONDS))
                    continue
                await asyncio.sleep(rest)
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await self._wake.wait()
        finally:
            await self._leave(senders)

    async def _turn(self) -> float:
        """Settle what is finished and claim what is due, in one transaction; how many seconds to rest after it."""
        await self._listen()
        finished, self._finished = self._finished, []
        # More in line than on their way: a sender never waits for a claim.
        room = IN_HAND * self._parallel - len(self._in_hand) + len(finished)
        loop = asyncio.get_running_loop()
        started = loop.time()
        if not finished and room <= 0 and started < self._next_backlog:
            return 0
        try:
            async with self._engine.begin() as connection:
                if finished:
                    await outbox.settle(connection, finished)
                else:
                    # A claim that is lost by a crash of the database was not sent yet, or is sent once more.
                    await connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
                claimed = await outbox.claim(connection, limit=room, lasts=CLAIM, after=self._after) if room > 0 else []
                bodies = [stock_update_body(message) for message in claimed]
                if self._tracing is not None:
                    self._receipts.update(await outbox_traces.read(connection, claimed))
                await outbox.put_echoes(connection, [*zip(claimed, map(echo_identity, claimed, bodies), strict=True)])
                if started >= self._next_backlog:
                    self._next_backlog = started + BACKLOG_SECONDS
                    self._observer.on_backlog(await outbox.backlog(connection))
        except BaseException:
            self._finished = finished + self._finished
            raise
        for one in finished:
            self._in_hand.discard(one.message.outbox_message_id)
            self._observer.on_message(one.state.value)
        for message, body in zip(claimed, bodies, strict=True):
            self._in_hand.add(message.outbox_message_id)
            self._ready.put_nowait((message, body, started))
        was_at_start = self._after == outbox.FIRST_PAIR
        self._after = claimed[-1].pair if room > 0 and len(claimed) == room else outbox.FIRST_PAIR
        if not was_at_start and self._after == outbox.FIRST_PAIR:
            # The rest of the pairs, from the first on.
            self._wake.set()
            return 0
        return 0 if claimed or finished else max(MIN_REST_SECONDS, REST * (loop.time() - started))

    async def _listen(self) -> None:
        """Be woken by new messages. Behind a transaction pooler nobody can listen, and looking now and then has to do."""
        if self._database.is_pooled or (self._listener is not None and not self._listener.is_closed()):
            return
        self._listener = await self._database.connect()
        channel = await self._listener.fetchval(f"SELECT {outbox.CHANNEL}")
        await self._listener.add_listener(channel, lambda *_: self._wake.set())

    async def _keep_sending(self) -> None:
        while True:
            message, body, claimed_at = await self._ready.get()
            if asyncio.get_running_loop().time() - claimed_at > CLAIM.total_seconds() - SEND_SECONDS:
                # It has waited in line for so long that its claim could end on the way: it is claimed again.
                self._receipts.pop(message.outbox_message_id, None)
                self._finished.append(Settled(message, OutboxState.PENDING))
                self._wake.set()
                continue
            self._sending += 1
            try:
                async with asyncio.timeout(SEND_SECONDS):
                    if self._tracing is None:
                        settled = await self._send(message, body)
                    else:
                        settled = await self._send_traced(self._tracing, message, body)
            except Exception as error:  # noqa: BLE001 - a bug, or the database while a token is looked up: one message waits
                words = f"it could not be sent ({why_failed(error)})"
                # A timeout may have come after the call was made.
                answer: Answer = Transient(words, may_have_arrived=isinstance(error, TimeoutError))
                if not isinstance(error, (OSError, TimeoutError, SQLAlchemyError)):
                    _log.exception("message not sent", outbox_message_id=message.outbox_message_id)
                    answer = NeedsHuman(words, HTTPStatus.INTERNAL_SERVER_ERROR)
                settled = verdict_of(answer, message, jitter=random.random())  # noqa: S311
            finally:
                self._sending -= 1
            self._finished.append(settled)
            self._wake.set()
            self._tell(settled)

    async def _send_traced(self, tracing: Tracing, message: OutboxMessage, body: dict[str, Any]) -> Settled:
        receipt = self._receipts.pop(message.outbox_message_id, None)
        with tracing.send(receipt) as span:
            settled = await self._send(message, body, traceparent=span.traceparent)
            span.tell(
                outcome=settled.state.value,
                store_id=message.store_id,
                inventory_system_id=message.inventory_system_id,
                item_id=message.item_id,
                level_version=message.level_version,
                attempts=message.attempts,
            )
            return settled

    async def _send(self, message: OutboxMessage, body: dict[str, Any], *, traceparent: str | None = None) -> Settled:
        mipos_store_id = message.mipos_store_id
        if mipos_store_id is None:
            words = f"The store has no id at mipOS. Set it: pos-sync store set {typed(message.store_id)} --mipos-id ID"
            return Settled(message, OutboxState.PENDING, words, MAX_ACCOUNT_PAUSE)

        async def send(token: SecretStr) -> Answer:
            started = time.perf_counter()
            answer = await self._client.update_stock(mipos_store_id, body, token=token, traceparent=traceparent)
            self._observer.on_call(time.perf_counter() - started)
            return answer

        return verdict_of(await self._tokens.call(send), message, jitter=random.random())  # noqa: S311

    def _tell(self, settled: Settled) -> None:
        message = settled.message
        log = _log.info if settled.state is OutboxState.SENT else _log.warning
        log(
            "stock update",
            outcome=settled.state.value,
            outbox_message_id=message.outbox_message_id,
            store_id=message.store_id,
            inventory_system_id=message.inventory_system_id,
            item_id=message.item_id,
            level_version=message.level_version,
            attempts=message.attempts,
            words=settled.words,
        )

    async def _leave(self, senders: Sequence[asyncio.Task[None]]) -> None:
        """Let calls that are under way end, settle them, and give back what was not tried: nobody need wait for these claims."""
        untried = []
        while not self._ready.empty():
            untried.append(self._ready.get_nowait()[0].outbox_message_id)
        deadline = asyncio.get_running_loop().time() + FINISH_SECONDS
        while self._sending and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - at most a few seconds, once
            await asyncio.sleep(GATHER_SECONDS)
        for sender in senders:
            sender.cancel()
        await asyncio.wait(senders, timeout=STOP_SECONDS)
        with suppress(Exception):
            async with asyncio.timeout(STOP_SECONDS), self._engine.begin() as connection:
                if self._finished:
                    await outbox.settle(connection, self._finished)
                if untried:
                    await outbox.give_back(connection, untried)
        if self._listener is not None:
            self._listener.terminate()
