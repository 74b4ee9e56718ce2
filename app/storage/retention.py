"""What is settled and old is deleted, a part at a time: messages and synchronisations by functions that judge it, bodies here.

Each call walks on from where the last one ended, by a key that rises with time, and ends at the first that is younger: where
there is nothing to delete, nothing is scanned. Effective once the caller has committed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Table, and_, exists, false, func, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.delivery_tables import refused_delivery, suspected_duplicate
from app.storage.duplicates import State as DuplicateState
from app.storage.duplicates import Suspicion
from app.storage.mipos_tables import system_level
from app.storage.refusals import State as RefusalState
from app.storage.retention_tables import prune_state
from app.storage.transactions import database_now

_OUTBOX = text(
    "SELECT last_id, is_done, messages, stores, items, systems, versions"
    " FROM pos_sync.prune_outbox(:days, :after, :limit, :is_dry)"
)
_COUNT_OUTBOX = text("""
SELECT count(*) FROM unnest(
  CAST(:stores AS text[]), CAST(:items AS text[]), CAST(:systems AS text[]), CAST(:versions AS bigint[])
) AS one (store_id, item_id, inventory_system_id, level_version)
JOIN pos_sync.outbox_message AS message
  ON message.store_id = one.store_id AND message.item_id = one.item_id
  AND message.inventory_system_id = one.inventory_system_id AND message.level_version <= one.level_version
WHERE message.state IN ('sent', 'covered', 'dismissed')
""")
_SYNC_RUNS = text("SELECT last_id, is_done, runs FROM pos_sync.prune_sync_runs(:days, :after, :limit, :is_dry)")

Pair = tuple[str, str, str]
"""(store, item, inventory system)"""
Key = tuple[datetime, int]
"""(closed_at, number) of a kept delivery"""


@dataclass(frozen=True, slots=True)
class OutboxPart:
    """What came of one call: how far it has walked, what it deleted, and up to which row each pair was cut."""

    last_id: int
    is_done: bool
    messages: int
    cuts: Sequence[tuple[Pair, int]]


@dataclass(frozen=True, slots=True)
class SyncRunPart:
    """What came of one call."""

    last_id: int
    is_done: bool
    runs: int


@dataclass(frozen=True, slots=True)
class BodyPart:
    """What came of one call; `last` is None where there are no more."""

    last: Key | None
    bodies: int


@dataclass(frozen=True, slots=True)
class Pruned:
    """What one prune deleted, or would delete."""

    messages: int = 0
    refusal_bodies: int = 0
    duplicate_bodies: int = 0
    sync_runs: int = 0


@dataclass(frozen=True, slots=True)
class LastPrune:
    """The last one that ended, and who began it."""

    ended_at: datetime
    actor: str
    pruned: Pruned


async def prune_outbox(connection: AsyncConnection, *, days: int, after: int, limit: int, is_dry: bool) -> OutboxPart:
    """Delete settled messages older than `days`, looking at up to `limit` behind the number `after`.

    Only up to a row at which the drift watch has taken all of them into account, and not where something open stands before.
    """
    asked = {"days": days, "after": after, "limit": limit, "is_dry": is_dry}
    last_id, is_done, messages, stores, items, systems, versions = (await connection.execute(_OUTBOX, asked)).one()
    pairs = zip(stores or (), items or (), systems or (), strict=True)
    return OutboxPart(last_id, is_done, messages, list(zip(pairs, versions or (), strict=True)))


async def count_outbox(connection: AsyncConnection, cuts: Sequence[tuple[Pair, int]]) -> int:
    """How many messages these cuts would delete."""
    asked = {
        "stores": [store for (store, _, _), _ in cuts],
        "items": [item for (_, item, _), _ in cuts],
        "systems": [system for (_, _, system), _ in cuts],
        "versions": [version for _, version in cuts],
    }
    return await connection.scalar(_COUNT_OUTBOX, asked) or 0


async def prune_sync_runs(connection: AsyncConnection, *, days: int, after: int, limit: int, is_dry: bool) -> SyncRunPart:
    """Delete runs that ended more than `days` ago. The newest of each pair stays, and the newest that is done."""
    asked = {"days": days, "after": after, "limit": limit, "is_dry": is_dry}
    return SyncRunPart(*(await connection.execute(_SYNC_RUNS, asked)).one())


async def prune_refusal_bodies(
    connection: AsyncConnection, *, before: datetime, after: Key | None, limit: int, is_dry: bool
) -> BodyPart:
    """Empty the bodies of up to `limit` refusals that were closed before a time."""
    states = [state.value for state in (RefusalState.RESOLVED, RefusalState.REPLAYED, RefusalState.DISMISSED)]
    return await _prune_bodies(connection, refused_delivery, states, before=before, after=after, limit=limit, is_dry=is_dry)


async def prune_duplicate_bodies(
    connection: AsyncConnection, *, before: datetime, after: Key | None, limit: int, is_dry: bool
) -> BodyPart:
    """Empty the bodies of up to `limit` suspected duplicates that were closed before a time.

    An echo tells the system's stock also after a person has dismissed it, as long as the ledger rows around it are compared.
    """
    states = [state.value for state in (DuplicateState.APPLIED, DuplicateState.DISMISSED)]
    return await _prune_bodies(connection, suspected_duplicate, states, before=before, after=after, limit=limit, is_dry=is_dry)


async def _prune_bodies(  # noqa: PLR0913 - the parts of a walk
    connection: AsyncConnection,
    table: Table,
    states: Sequence[str],
    *,
    before: datetime,
    after: Key | None,
    limit: int,
    is_dry: bool,
) -> BodyPart:
    kept = table.c
    (number,) = table.primary_key.columns
    # As literals, so that the partial index is used.
    is_closed = text(f"state IN ({', '.join(repr(state) for state in states)})")
    query = select(kept.closed_at, number, _is_read_by_drift(table)).where(is_closed, kept.pruned_at.is_(None))
    query = query.where(kept.closed_at < before)
    if after is not None:
        query = query.where(tuple_(kept.closed_at, number) > after)
    rows = (await connection.execute(query.order_by(kept.closed_at, number).limit(limit))).all()
    numbers = [row[1] for row in rows if not row[2]]
    if numbers and not is_dry:
        still = and_(number.in_(numbers), kept.state.in_(states))
        await connection.execute(update(table).where(still).values(raw_body=b"", pruned_at=func.now()))
    return BodyPart((rows[-1][0], rows[-1][1]) if len(rows) == limit else None, len(numbers))


def _is_read_by_drift(table: Table) -> ColumnElement[bool]:
    if table is not suspected_duplicate:
        return false()
    kept, known = suspected_duplicate.c, system_level.c
    is_cut = exists().where(
        known.store_id == kept.store_id,
        known.item_id == kept.item_id,
        known.inventory_system_id == kept.inventory_system_id,
        known.pruned_version >= kept.after_version,
    )
    is_echo = and_(kept.reason == Suspicion.ECHO.value, kept.state == DuplicateState.DISMISSED.value)
    return and_(is_echo, ~is_cut)


async def put_last(connection: AsyncConnection, pruned: Pruned, *, actor: str) -> None:
    """Keep what a prune that has ended deleted."""
    values = {
        # As a parameter: Citus takes no function of the clock in an upsert.
        "ended_at": await database_now(connection),
        "actor": actor,
        "messages": pruned.messages,
        "refusal_bodies": pruned.refusal_bodies,
        "duplicate_bodies": pruned.duplicate_bodies,
        "sync_runs": pruned.sync_runs,
    }
    statement = insert(prune_state).values(is_only=True, **values)
    await connection.execute(statement.on_conflict_do_update(index_elements=["is_only"], set_=values))


async def read_last(connection: AsyncConnection) -> LastPrune | None:
    """What the last prune deleted; None before the first."""
    row = (await connection.execute(select(prune_state))).one_or_none()
    if row is None:
        return None
    pruned = Pruned(row.messages, row.refusal_bodies, row.duplicate_bodies, row.sync_runs)
    return LastPrune(row.ended_at, row.actor, pruned)
