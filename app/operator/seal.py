"""Sealing the ledger in the background, and verifying what was sealed."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from time import monotonic

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.operations.periodic import repeat
from app.operator.seal_key import SealKey, is_signed_by
from app.stock.seal import START, Checkpoint, Contents, Span, fault_in_chain, leaf_of, seal
from app.storage import leases, seals
from app.storage.transactions import database_now

LEASE = "seal"
LEASE_TIME = timedelta(minutes=2)
LOOKS = 10
"""At the lease within the time between two seals"""
MAX_ROWS = 2000
"""In a checkpoint, and so in one turn of the event loop's thread pool"""
MAX_SHARE = 0.05
"""Of the time, for sealing: deliveries come first."""


OnRows = Callable[[int], None]
"""Told how many ledger rows are done."""


def _say_nothing(_rows: int) -> None:
    pass


class Sealer:
    """Seals new rows every so often, one replica for all."""

    def __init__(self, engine: AsyncEngine, *, every: timedelta, key: SealKey | None) -> None:
        self._engine = engine
        self._every = every
        self._key = key

    async def run(self) -> None:
        """Until it is cancelled."""
        seconds = self._every.total_seconds() / LOOKS
        await asyncio.sleep(seconds)
        await repeat("seal", self._turn, pause=lambda: seconds)

    async def _turn(self) -> None:
        if await leases.take_turn(self._engine, LEASE, every=self._every):
            await seal_all(self._engine, self._key)


async def seal_all(
    engine: AsyncEngine, key: SealKey | None, *, max_share: float = MAX_SHARE, on_rows: OnRows = _say_nothing
) -> int:
    """Seal every row that is not sealed yet; how many there were."""
    sealed = 0
    async with engine.connect() as connection:
        stores = await seals.list_unsealed_stores(connection)
    for store_id in stores:
        while True:
            started = monotonic()
            rows = await _seal_some(engine, store_id, key)
            sealed += rows
            on_rows(sealed)
            if rows < MAX_ROWS:
                break
            await asyncio.sleep((monotonic() - started) * (1 / max_share - 1))
    return sealed


async def _seal_some(engine: AsyncEngine, store_id: str, key: SealKey | None) -> int:
    async with engine.begin() as connection:
        spans = await seals.list_unsealed(connection, store_id, max_rows=MAX_ROWS)
        if not spans:
            return 0
        rows = await seals.read_rows(connection, store_id, spans)
        last = await seals.read_last(connection, store_id)
        leaves = await asyncio.to_thread(_leaves_of, rows)
        number, previous = (1, START) if last is None else (last.contents.number + 1, last.digest)
        contents = Contents(store_id, number, await database_now(connection), tuple(spans))
        checkpoint = seal(contents, leaves, previous)
        if key is not None:
            checkpoint = replace(checkpoint, signature=key.sign(checkpoint.digest))
        # Two who seal at once make the same number: one of them fails, and that is all.
        await seals.put(connection, checkpoint)
    return len(rows)


def _leaves_of(rows: Sequence[Mapping[str, object]]) -> list[bytes]:
    return [leaf_of(row) for row in rows]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong. `item_id` and `level_version` name the ledger row, where it is one."""

    store_id: str
    words: str
    number: int | None = None
    item_id: str | None = None
    level_version: int | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """A checkpoint as somebody has kept it elsewhere."""

    store_id: str
    number: int
    digest: bytes
    rows: int
    sealed_at: datetime


@dataclass(frozen=True, slots=True)
class Verified:
    """What was looked at, and the first finding of each store."""

    checkpoints: int
    rows: int
    findings: Sequence[Finding]


async def verify(
    engine: AsyncEngine,
    *,
    store_id: str | None = None,
    kept: Sequence[Kept] = (),
    public_key: bytes | None = None,
    on_rows: OnRows = _say_nothing,
) -> Verified:
    """Compare every sealed row with its leaf, the chain of checkpoints with itself, and both with what was kept elsewhere.

    With `public_key` each checkpoint has to be signed by it.
    """
    checkpoints = rows = 0
    findings: list[Finding] = []
    async with engine.connect() as connection:
        stores = [store_id] if store_id is not None else await seals.list_stores(connection)
        stores += sorted({one.store_id for one in kept} - set(stores)) if store_id is None else []
        for store in stores:
            known: dict[int, bytes] = {}
            found: Finding | None = None
            async with engine.connect() as other:
                async for checkpoint, fault in _walk(connection, other, store, public_key):
                    known[checkpoint.contents.number] = checkpoint.digest
                    checkpoints += 1
                    rows += checkpoint.contents.rows
                    on_rows(rows)
                    found = found or fault
            found = _compare([one for one in kept if one.store_id == store], known, store) or found
            if found is not None:
                findings.append(found)
    return Verified(checkpoints, rows, findings)


async def _walk(
    connection: AsyncConnection, other: AsyncConnection, store_id: str, public_key: bytes | None
) -> AsyncIterator[tuple[Checkpoint, Finding | None]]:
    previous, expected = START, 1
    async for checkpoint in seals.read_all(connection, store_id):
        number = checkpoint.contents.number
        fault = f"checkpoint {expected} is missing" if number != expected else fault_in_chain(checkpoint, previous)
        if fault is None and public_key is not None and not is_signed_by(public_key, checkpoint.digest, checkpoint.signature):
            fault = "it is not signed by this key"
        finding = None if fault is None else Finding(store_id, f"checkpoint {number}: {fault}", number)
        yield checkpoint, finding or await _first_altered(other, checkpoint)
        previous, expected = checkpoint.digest, number + 1


async def _first_altered(connection: AsyncConnection, checkpoint: Checkpoint) -> Finding | None:
    contents = checkpoint.contents
    rows = await seals.read_rows(connection, contents.store_id, contents.spans)
    leaves = await asyncio.to_thread(_leaves_of, rows)
    made = {(row["item_id"], row["level_version"]): leaf for row, leaf in zip(rows, leaves, strict=True)}
    for (item_id, version), leaf in zip(_places(contents.spans), checkpoint.leaves, strict=False):
        if made.get((item_id, version)) != leaf:
            words = "was altered since it was sealed" if (item_id, version) in made else "is missing"
            return Finding(contents.store_id, words, contents.number, item_id, version)
    return None


def _places(spans: Sequence[Span]) -> list[tuple[str, int]]:
    return [(span.item_id, version) for span in spans for version in range(span.first_version, span.first_version + span.count)]


def _compare(kept: Sequence[Kept], known: Mapping[int, bytes], store_id: str) -> Finding | None:
    """What the kept checkpoints say of those in the database; the first finding."""
    for one in sorted(kept, key=lambda one: one.number):
        if one.number not in known:
            words = (
                f"the database ends with checkpoint {max(known, default=0)}, and you have checkpoint {one.number} of "
                f"{one.sealed_at:%Y-%m-%d %H:%M} UTC: was it restored from an older backup?"
            )
            return Finding(store_id, words, one.number)
        if known[one.number] != one.digest:
            return Finding(
                store_id, f"checkpoint {one.number} is another one than you have: it was sealed again, after a change", one.number
            )
    return None


async def newest(engine: AsyncEngine) -> list[Checkpoint]:
    """The newest checkpoint of each store."""
    async with engine.connect() as connection:
        found = [await seals.read_last(connection, store_id) for store_id in await seals.list_stores(connection)]
    return [checkpoint for checkpoint in found if checkpoint is not None]
