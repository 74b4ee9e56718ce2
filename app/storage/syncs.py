"""Full synchronisations: their runs, the snapshot that one sends, and the messages that it makes superfluous."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import exists, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.stock.catalog import Catalog
from app.storage import items, outbox
from app.storage.catalog import Integration, get_catalog
from app.storage.leases import SYNC_LEASE_IN_SQL
from app.storage.mipos_tables import outbox_message, sync_run
from app.storage.outbox import OutboxState
from app.storage.tables import integration, stock_level, store
from app.storage.transactions import sqlstate

_GATE_PATIENCE = "2s"
_LOCK_NOT_AVAILABLE = "55P03"
_DIED = "It ended without a word: its process died, or lost the database. Whether mipOS took it is not known."


class State(StrEnum):
    """How a run stands."""

    RUNNING = "running"
    DONE = "done"
    REFUSED = "refused"
    """By mipOS, in its words; or by us, before anything was sent."""
    UNKNOWN = "unknown"
    """mipOS may have taken it or not."""
    FAILED = "failed"
    """mipOS was never reached, so it took nothing: synchronise again. Kept as `refused`, with words that say so."""

    @property
    def kept(self) -> str:
        """As it stands in the table, where older releases read it too."""
        return (State.REFUSED if self is State.FAILED else self).value


@dataclass(frozen=True, slots=True)
class SyncPair:
    """A store, and the inventory system that it is synchronised with."""

    store_id: str
    inventory_system_id: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A store's catalogue and stock at one moment, and of each item the version of its level then."""

    catalog: Catalog
    versions: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Ending:
    """What came of a run."""

    state: State
    words: str
    """mipOS's own, and what a person should know besides."""
    items: int = 0
    units: int = 0
    suppliers: int = 0
    covered: int = 0
    """Messages that need not be sent any more, since the snapshot held their movements."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run as it is kept."""

    store_id: str
    inventory_system_id: str
    state: State
    items: int
    covered: int
    words: str
    actor: str
    started_at: datetime
    ended_at: datetime | None
    is_held: bool
    """Whether somebody works on the pair now; a run that is `running` without it was cut off."""


async def is_quiet(engine: AsyncEngine, pair: SyncPair) -> bool:
    """True if no message of `pair` is in flight. While the caller holds the pair's lease, True stays true."""
    try:
        async with engine.begin() as connection:
            await connection.execute(select(func.set_config("lock_timeout", _GATE_PATIENCE, True)))
            # A claim that may not have seen our lease is committed after this, and its rows say so.
            await outbox.await_claims(connection)
            on_its_way = exists().where(
                outbox_message.c.store_id == pair.store_id,
                outbox_message.c.inventory_system_id == pair.inventory_system_id,
                outbox_message.c.state == OutboxState.PENDING.value,
                outbox_message.c.claimed_until > func.clock_timestamp(),
            )
            return not await connection.scalar(select(on_its_way))
    except DBAPIError as error:
        if sqlstate(error) != _LOCK_NOT_AVAILABLE:
            raise
        return False


async def read_snapshot(engine: AsyncEngine, store_id: str, connected: Integration) -> Snapshot:
    """Catalogue, levels and their versions, all of one moment; without locks."""
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        catalog = await get_catalog(connection, store_id, connected)
        query = select(stock_level.c.item_id, stock_level.c.version).where(stock_level.c.store_id == store_id)
        versions = {row.item_id: row.version for row in await connection.execute(query)}
        # What is not sent, such as a retired item, is not covered either.
        return Snapshot(catalog, {item.item_id: versions[item.item_id] for item in catalog.items})


async def cover(connection: AsyncConnection, pair: SyncPair, versions: Mapping[str, int]) -> int:
    """Close the messages whose movements are in a snapshot that mipOS took, with these versions; return how many they were."""
    statement = text(
        "UPDATE pos_sync.outbox_message AS message SET state = 'covered', closed_at = now(), claimed_until = NULL"
        " FROM unnest(CAST(:items AS text[]), CAST(:versions AS bigint[])) AS sent (item_id, version)"
        " WHERE message.store_id = :store AND message.inventory_system_id = :system"
        " AND message.state IN ('pending', 'dead')"
        " AND message.item_id = sent.item_id AND message.level_version <= sent.version"
    )
    return (await connection.execute(statement, _parameters(pair, versions))).rowcount


async def anchor(connection: AsyncConnection, pair: SyncPair, snapshot: Snapshot) -> None:
    """Keep what the system's stock was set to. Items whose unit was changed are told again from here on."""
    statement = text(
        "INSERT INTO pos_sync.system_level AS known"
        " (inventory_system_id, store_id, item_id, synced_stock, synced_version, synced_at)"
        " SELECT :system, :store, sent.item_id, sent.stock, sent.version, now()"
        " FROM unnest(CAST(:items AS text[]), CAST(:versions AS bigint[]), CAST(:stocks AS numeric[]))"
        " AS sent (item_id, version, stock) ORDER BY sent.item_id"
        " ON CONFLICT (inventory_system_id, store_id, item_id) DO UPDATE SET synced_stock = excluded.synced_stock,"
        " synced_version = excluded.synced_version, synced_at = excluded.synced_at"
    )
    stocks = [item.stock for item in snapshot.catalog.items]
    await connection.execute(statement, {**_parameters(pair, snapshot.versions), "stocks": stocks})
    await items.release(connection, pair.store_id, pair.inventory_system_id, snapshot.catalog, snapshot.versions)


async def count_overtaken(connection: AsyncConnection, pair: SyncPair, versions: Mapping[str, int]) -> int:
    """Of how many items we learnt of a movement by the system itself after the snapshot with these versions."""
    statement = text(
        "SELECT count(*) FROM unnest(CAST(:items AS text[]), CAST(:versions AS bigint[])) AS sent (item_id, version)"
        " JOIN pos_sync.stock_level AS level ON level.store_id = :store AND level.item_id = sent.item_id"
        " AND level.version > sent.version"
        " WHERE EXISTS (SELECT FROM pos_sync.stock_movement AS moved"
        " WHERE moved.store_id = :store AND moved.item_id = sent.item_id"
        " AND moved.level_version > sent.version AND moved.inventory_system_id = :system)"
    )
    return (await connection.scalar(statement, _parameters(pair, versions))) or 0


async def start(connection: AsyncConnection, pair: SyncPair, *, actor: str) -> int:
    """Record that a run begins; its number. The caller holds the lease, so a run that is still `running` was cut off."""
    await connection.execute(
        update(sync_run)
        .where(
            sync_run.c.store_id == pair.store_id,
            sync_run.c.inventory_system_id == pair.inventory_system_id,
            sync_run.c.state == State.RUNNING.value,
        )
        .values(state=State.UNKNOWN.value, words=_DIED, ended_at=func.now())
    )
    statement = insert(sync_run).values(
        store_id=pair.store_id,
        inventory_system_id=pair.inventory_system_id,
        state=State.RUNNING.value,
        items=0,
        units=0,
        suppliers=0,
        words="",
        actor=actor,
    )
    number = await connection.scalar(statement.returning(sync_run.c.sync_run_id))
    assert number is not None
    return number


async def end(connection: AsyncConnection, number: int, ending: Ending) -> None:
    """Record what came of a run; without effect where another has closed it as cut off."""
    await connection.execute(
        update(sync_run)
        .where(sync_run.c.sync_run_id == number, sync_run.c.state == State.RUNNING.value)
        .values(
            state=ending.state.kept,
            words=ending.words,
            items=ending.items,
            units=ending.units,
            suppliers=ending.suppliers,
            covered=ending.covered,
            ended_at=func.now(),
        )
    )


async def has_run_within(connection: AsyncConnection, pair: SyncPair, past: timedelta) -> bool:
    """Whether a run of the pair began less than `past` ago, whatever came of it."""
    began = exists().where(
        sync_run.c.store_id == pair.store_id,
        sync_run.c.inventory_system_id == pair.inventory_system_id,
        sync_run.c.started_at > func.now() - past,
    )
    return bool(await connection.scalar(select(began)))


async def list_due(connection: AsyncConnection, every: timedelta) -> list[SyncPair]:
    """The enabled integrations of stores with a mipOS id for which no run began within `every`."""
    began = exists().where(
        sync_run.c.store_id == integration.c.store_id,
        sync_run.c.inventory_system_id == integration.c.inventory_system_id,
        sync_run.c.started_at > func.now() - every,
    )
    query = (
        select(integration.c.store_id, integration.c.inventory_system_id)
        .join(store, store.c.store_id == integration.c.store_id)
        .where(integration.c.enabled, store.c.mipos_store_id.is_not(None), ~began)
        .order_by(integration.c.store_id, integration.c.inventory_system_id)
    )
    return [SyncPair(*row) for row in await connection.execute(query)]


async def list_last_runs(connection: AsyncConnection, *, enabled_only: bool = False) -> list[Run]:
    """The newest run of each store and system, in their order."""
    names = Run.__slots__[:-1]
    query = text(
        f"SELECT {', '.join(f'run.{name}' for name in names)},"  # noqa: S608 - our own words
        " EXISTS (SELECT FROM pos_sync.lease WHERE held_until > now() AND lease.name = "
        + SYNC_LEASE_IN_SQL.format(store_id="pair.store_id", inventory_system_id="pair.inventory_system_id")
        + ") FROM pos_sync.integration AS pair CROSS JOIN LATERAL (SELECT * FROM pos_sync.sync_run AS newest"
        " WHERE newest.store_id = pair.store_id AND newest.inventory_system_id = pair.inventory_system_id"
        " ORDER BY newest.sync_run_id DESC LIMIT 1) AS run WHERE pair.enabled OR NOT :enabled_only ORDER BY 1, 2"
    )
    rows = (await connection.execute(query, {"enabled_only": enabled_only})).all()
    return [Run(store_id, system, State(state), *rest) for store_id, system, state, *rest in rows]


def _parameters(pair: SyncPair, versions: Mapping[str, int]) -> dict[str, object]:
    return {
        "store": pair.store_id,
        "system": pair.inventory_system_id,
        "items": list(versions),
        "versions": list(versions.values()),
    }
