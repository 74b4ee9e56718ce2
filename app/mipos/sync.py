"""The full synchronisation: a store's whole inventory as it is at one moment, sent to one inventory system.

It sets the system's stock. So no movement may be on its way meanwhile, and those that it holds must not be sent afterwards:
the lease keeps the relay of messages away, and the messages that the snapshot covers are closed together with the run.
Sending it twice does no harm, so an unknown outcome is tried again, from a new snapshot.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine

from app.catalog_body import check_for_sync
from app.errors.requests import CannotSync, NoStoreToSync, SyncUnderWay, UnsendableCatalog
from app.mipos.answers import Answer, Done, NeedsHuman, Transient, Unauthorized, backoff
from app.mipos.client import UNREACHED, MiposClient
from app.mipos.token import AccessTokens
from app.stock.catalog import CatalogRefused
from app.storage import leases, syncs
from app.storage.catalog import Integration, choose_integration, find_store
from app.storage.leases import RELEASE_SECONDS, LeaseKeeper, keeping
from app.storage.syncs import Ending, Snapshot, State, SyncPair
from app.visible_text import typed

MAX_TRIES = 3
MAX_PAUSE = timedelta(seconds=30)
"""Between two tries, which hold the lease: messages wait meanwhile."""
QUIET_SECONDS = 120.0
"""How long to wait for the messages that are on their way; each has a deadline of its own."""
POLL_SECONDS = 0.05
_STOPPED = "It was stopped before it ended. Whether mipOS took it is not known."


class Phase(StrEnum):
    """What a synchronisation is doing; its progress is counted in items, and when sending in bytes."""

    READING = "reading"
    CHECKING = "checking"
    SENDING = "sending"


OnProgress = Callable[[Phase, int, int], None]
"""Told the phase, and how much of how much is done. May be called in another thread."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to synchronise."""

    store_id: str
    actor: str
    """Who wants it; kept with the run."""
    inventory_system_id: str | None = None
    """Not needed where the store has one enabled integration."""
    not_within: timedelta | None = None
    """Not if a run began less than so long ago."""


@dataclass(frozen=True, slots=True)
class Synchronised:
    """What came of it, for which store and system."""

    store_id: str
    inventory_system_id: str
    state: State
    words: str
    items: int
    units: int
    suppliers: int
    covered: int


@dataclass(frozen=True, slots=True)
class Target:
    """A pair, and what calls for it name."""

    pair: SyncPair
    mipos_store_id: str
    connected: Integration


async def find_target(engine: AsyncEngine, store_id: str, inventory_system_id: str | None) -> Target:
    """Which integration is meant: the named one, or the only one that is enabled.

    Raises:
        CannotSync: there is none, or it is switched off, or mipOS's id of the store is not set; NoStoreToSync: no such store.
    """
    async with engine.connect() as connection:
        store = await find_store(connection, store_id)
    if store is None:
        raise NoStoreToSync(store_id)
    connected = choose_integration(store, inventory_system_id)
    if store.mipos_store_id is None:
        raise CannotSync(
            f"mipOS's id of store {store.store_id} is not set, and calls to mipOS name it. Set it with: "
            f"pos-sync store set {typed(store.store_id)} --mipos-id ID"
        )
    return Target(SyncPair(store.store_id, connected.inventory_system_id), store.mipos_store_id, connected)


async def check(
    engine: AsyncEngine, order: Order, *, on_progress: OnProgress = lambda _phase, _done, _total: None
) -> dict[str, Any]:
    """The body that would be sent now, held against every documented rule; sends nothing and keeps nothing.

    Raises:
        CannotSync: as `synchronise` does.
    """
    target = await find_target(engine, order.store_id, order.inventory_system_id)
    _, body = await _prepare(engine, target, on_progress)
    return body


async def synchronise(
    engine: AsyncEngine,
    client: MiposClient,
    tokens: AccessTokens,
    order: Order,
    *,
    on_progress: OnProgress = lambda _phase, _done, _total: None,
) -> Synchronised:
    """Send the whole inventory, and keep what came of it in `sync_run`. Can take minutes.

    Movements go on meanwhile: what the snapshot holds is not sent again, and what it does not hold is sent afterwards. What
    the system itself reports while it is being synchronised may be overwritten in the system, so then it is done once more.

    Raises:
        CannotSync: something has to be set up first: the store (`NoStoreToSync`), its mipOS id, an enabled integration; the
            catalogue breaks a rule (`UnsendableCatalog`); or another one is at it (`SyncUnderWay`). Nothing was sent.
        OSError, TimeoutError, SQLAlchemyError: the database went away; the outcome is unknown, and the next run says so.
    """
    target = await find_target(engine, order.store_id, order.inventory_system_id)
    async with engine.begin() as connection:
        held = await leases.acquire_for_sync(connection, target.pair.store_id, target.pair.inventory_system_id)
        if held is None:
            raise _under_way(target.pair)
        if order.not_within is not None and await syncs.has_run_within(connection, target.pair, order.not_within):
            await leases.give_back(connection, held)
            number = None
        else:
            number = await syncs.start(connection, target.pair, actor=order.actor)
    if number is None:
        raise _under_way(target.pair)
    async with keeping(engine, held) as keeper:
        run = _Run(engine, client, tokens, target, number, keeper, on_progress)
        try:
            ending = await run.carry_out()
        except CannotSync as error:
            await run.close(Ending(State.REFUSED, error.message))
            raise
        except BaseException:
            # Whatever it was, the run must not look as if it were going on.
            with suppress(Exception):
                async with asyncio.timeout(RELEASE_SECONDS):
                    await run.close(Ending(State.UNKNOWN, _STOPPED))
            raise
    return Synchronised(**asdict(target.pair), **asdict(ending))


class _Run:
    """One run, with its lease held."""

    def __init__(  # noqa: PLR0913, PLR0917 - what `synchronise` puts together
        self,
        engine: AsyncEngine,
        client: MiposClient,
        tokens: AccessTokens,
        target: Target,
        number: int,
        keeper: LeaseKeeper,
        on_progress: OnProgress,
    ) -> None:
        self._engine = engine
        self._client = client
        self._tokens = tokens
        self._target = target
        self._number = number
        self._keeper = keeper
        self._on_progress = on_progress
        self._covered = 0

    async def carry_out(self) -> Ending:
        """Try until mipOS has said yes or no, `MAX_TRIES` times at most, and close the run."""
        ending = Ending(State.UNKNOWN, "")
        may_have_arrived = False
        for tries in range(1, MAX_TRIES + 1):
            await self._wait_until_quiet()
            snapshot, body = await _prepare(self._engine, self._target, self._on_progress)
            answer = await self._send(body)
            is_last = tries == MAX_TRIES
            match answer:
                case Done(words):
                    settled = await self._settle(snapshot, words, is_last=is_last)
                    if settled is not None:
                        return settled
                    ending = _ending(State.UNKNOWN, body, _REPLACED)
                    may_have_arrived = True
                    if self._keeper.is_lost:
                        break
                case NeedsHuman(words) | Unauthorized(words):
                    ending = _ending(State.REFUSED, body, words)
                    break
                case Transient(words, retry_after, arrived):
                    may_have_arrived |= arrived or not words.startswith(UNREACHED)
                    state, means = (State.UNKNOWN, _UNKNOWN_MEANS) if may_have_arrived else (State.FAILED, _NOT_SENT_MEANS)
                    ending = _ending(state, body, f"{words.rstrip('.')}. {means}")
                    if not is_last:
                        pause = backoff(tries, jitter=0, asked=retry_after)
                        await asyncio.sleep(min(pause, MAX_PAUSE).total_seconds())
        await self.close(ending)
        return ending

    async def close(self, ending: Ending) -> None:
        """Record what came of it."""
        async with self._engine.begin() as connection:
            await syncs.end(connection, self._number, ending)

    async def _wait_until_quiet(self) -> None:
        deadline = asyncio.get_running_loop().time() + QUIET_SECONDS
        while not await syncs.is_quiet(self._engine, self._target.pair):
            if asyncio.get_running_loop().time() > deadline:
                raise CannotSync("Messages to this system are still on their way. Try again in a few minutes.")
            await asyncio.sleep(POLL_SECONDS)

    async def _send(self, body: dict[str, Any]) -> Answer:
        async def send(token: SecretStr) -> Answer:
            return await self._client.sync(
                self._target.mipos_store_id,
                body,
                token=token,
                on_sent=lambda sent, total: self._on_progress(Phase.SENDING, sent, total),
            )

        return await self._tokens.call(send)

    async def _settle(self, snapshot: Snapshot, words: str, *, is_last: bool) -> Ending | None:
        """After mipOS took it: close what it covers, and with it the run; None: do it again, or the lease is lost."""
        pair = self._target.pair
        async with self._keeper.renewed() as connection:
            if connection is None:
                return None
            self._covered += await syncs.cover(connection, pair, snapshot.versions)
            overtaken = await syncs.count_overtaken(connection, pair, snapshot.versions)
            if overtaken and not is_last:
                return None
            await syncs.anchor(connection, pair, snapshot)
            ending = _ending_of(snapshot, self._covered, words, overtaken)
            await syncs.end(connection, self._number, ending)
            return ending


_REPLACED = (
    "mipOS took it, but the database was out of reach for so long that messages may have been sent meanwhile, "
    "which are counted twice in the inventory system. Synchronise again."
)
_UNKNOWN_MEANS = "Whether mipOS took the inventory is not known: later messages may be counted twice in it. Synchronise again."


_NOT_SENT_MEANS = "mipOS took nothing. Synchronise again."


def _ending(state: State, body: dict[str, Any], words: str) -> Ending:
    return Ending(state, words, len(body["items"]), len(body["units"]), len(body["suppliers"]))


def _ending_of(snapshot: Snapshot, covered: int, words: str, overtaken: int) -> Ending:
    catalog = snapshot.catalog
    if overtaken:
        words = (
            f"{words} But the system itself kept moving while it was synchronised (items: {overtaken}), which it may have lost: "
            "look at pos-sync drift, and synchronise again at a quiet time."
        )
    return Ending(State.DONE, words, len(catalog.items), len(catalog.units), len(catalog.suppliers), covered)


async def _prepare(engine: AsyncEngine, target: Target, on_progress: OnProgress) -> tuple[Snapshot, dict[str, Any]]:
    """A snapshot and its body, checked."""
    on_progress(Phase.READING, 0, 1)
    snapshot = await syncs.read_snapshot(engine, target.pair.store_id, target.connected)
    on_progress(Phase.READING, 1, 1)
    total = len(snapshot.catalog.items)

    def checked() -> dict[str, Any]:
        return check_for_sync(snapshot.catalog, on_item=lambda number: on_progress(Phase.CHECKING, number, total))

    try:
        # Beside the event loop, which receives deliveries meanwhile.
        return snapshot, await asyncio.to_thread(checked)
    except CatalogRefused as refused:
        raise UnsendableCatalog(target.pair.store_id, refused.problems) from None


def _under_way(pair: SyncPair) -> SyncUnderWay:
    return SyncUnderWay(store_id=pair.store_id, inventory_system_id=pair.inventory_system_id)
