"""What comparing with the inventory systems needs: the newest ledger rows of each level, what was told, and what waits.

Cost: for each level that is looked at, one walk of the ledger's primary key over at most `window` rows, and one of its messages.
So the size of the ledger does not matter, the number of levels does. Nothing is locked.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import ARRAY, Text, any_, literal, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.stock.anchors import Anchor, AnchorKind, SyncAnchor
from app.stock.baseline import LevelHistory
from app.stock.messages import Message, MessageState
from app.stock.reports import LedgerRow
from app.storage.delivery_tables import refused_delivery, suspected_duplicate
from app.storage.duplicates import Suspicion
from app.storage.engine import driver_of
from app.storage.filters import matching
from app.storage.mipos_tables import echo_identity, outbox_message
from app.storage.tables import integration, stock_level

CHUNK = 200
"""Levels that are read together."""
MARGIN = 100
"""Ledger rows before the window whose messages are looked at too: they may have been closed within it."""

LevelKey = tuple[str, str]
"""(store_id, item_id)"""

# LATERAL with LIMIT, so that no plan can join the whole ledger.
_ROWS = """
SELECT level.store_id, level.item_id, level.quantity AS level_quantity, newest.*
FROM unnest($2::text[], $3::text[]) AS asked (store_id, item_id)
JOIN pos_sync.stock_level AS level USING (store_id, item_id)
LEFT JOIN LATERAL (
  SELECT level_version, source, inventory_system_id, movement_type, quantity, balance_after, reported_stock, date_text,
    sent_at_text, received_at, note, happened_at, refers_to
  FROM pos_sync.stock_movement AS m WHERE m.store_id = level.store_id AND m.item_id = level.item_id
  ORDER BY level_version DESC LIMIT $1
) AS newest ON true
ORDER BY level.store_id, level.item_id, newest.level_version
"""
_MESSAGES = """
SELECT told.store_id, told.item_id, told.inventory_system_id, told.level_version, told.state, m.delta, told.closed_at,
  told.sent_at, told.unknown_sends, told.unknown_until
FROM unnest($1::text[], $2::text[], $3::bigint[]) AS asked (store_id, item_id, oldest)
CROSS JOIN LATERAL (
  SELECT * FROM pos_sync.outbox_message AS recent
  WHERE recent.store_id = asked.store_id AND recent.item_id = asked.item_id AND recent.level_version >= asked.oldest
  UNION ALL
  SELECT * FROM pos_sync.outbox_message AS waiting
  WHERE waiting.state = 'pending' AND waiting.store_id = asked.store_id AND waiting.item_id = asked.item_id
    AND waiting.level_version < asked.oldest
) AS told
JOIN pos_sync.stock_movement AS m
  ON m.store_id = told.store_id AND m.item_id = told.item_id AND m.level_version = told.level_version
"""
_SYSTEMS = """
SELECT known.* FROM unnest($1::text[], $2::text[]) AS asked (store_id, item_id)
JOIN pos_sync.system_level AS known USING (store_id, item_id)
"""


@dataclass(frozen=True, slots=True)
class WaitingDelivery:
    """A kept body of a delivery that was not applied; `after_version` where its place in the ledger is known."""

    number: int
    store_id: str
    item_id: str
    raw_body: bytes
    seen_at: datetime
    after_version: int | None = None
    echo_of: int | None = None
    """Of an echo: the ledger row that was told."""


@dataclass(frozen=True, slots=True)
class KnownLevel:
    """A level with what is known of it, and the systems whose units differ until a full synchronisation."""

    history: LevelHistory
    held: frozenset[str]


async def level_keys(connection: AsyncConnection, *, store_id: str | None, item_id: str | None) -> list[LevelKey]:
    """The levels, of one store or item where named, in order of store and item."""
    query = select(stock_level.c.store_id, stock_level.c.item_id).order_by(stock_level.c.store_id, stock_level.c.item_id)
    rows = await connection.execute(query.where(*matching(stock_level, store_id=store_id, item_id=item_id)))
    return [(row[0], row[1]) for row in rows]


async def read_levels(connection: AsyncConnection, keys: Sequence[LevelKey], *, window: int) -> AsyncIterator[KnownLevel]:
    """The levels with these keys, each with its newest `window` rows and what was told of them. In the caller's transaction."""
    await connection.execute(text("SELECT 1"))
    driver = await driver_of(connection)
    for start in range(0, len(keys), CHUNK):
        part = keys[start : start + CHUNK]
        stores, items = [store for store, _ in part], [item for _, item in part]
        found: dict[LevelKey, list[LedgerRow]] = {}
        quantities: dict[LevelKey, Any] = {}
        for row in await driver.fetch(_ROWS, window, stores, items):
            quantities[row[0], row[1]] = row[2]
            rows = found.setdefault((row[0], row[1]), [])
            if row[3] is not None:
                rows.append(LedgerRow(*list(row)[3:]))
        oldest = [(found.get(key) or [None])[0] for key in part]
        first = [0 if row is None else row.level_version - MARGIN for row in oldest]
        messages: dict[LevelKey, dict[tuple[str, int], Message]] = {}
        for store, item, system, version, state, *rest in await driver.fetch(_MESSAGES, stores, items, first):
            messages.setdefault((store, item), {})[system, version] = Message(MessageState(state), *rest)
        # After the messages: what was deleted in between is known as deleted.
        known = await driver.fetch(_SYSTEMS, stores, items)
        syncs, anchors, held = _systems(known)
        pruned: dict[LevelKey, dict[str, int]] = {}
        for one in known:
            if one["pruned_version"] is not None:
                pruned.setdefault((one["store_id"], one["item_id"]), {})[one["inventory_system_id"]] = one["pruned_version"]
        for key in part:
            if key in quantities:
                history = LevelHistory(
                    *key,
                    quantities[key],
                    rows=found[key],
                    messages=messages.get(key, {}),
                    syncs=syncs.get(key, {}),
                    anchors=anchors.get(key, {}),
                    pruned=pruned.get(key, {}),
                )
                yield KnownLevel(history, frozenset(held.get(key, ())))


def _systems(
    rows: Sequence[Mapping[str, Any]],
) -> tuple[dict[LevelKey, dict[str, SyncAnchor]], dict[LevelKey, dict[str, Anchor]], dict[LevelKey, set[str]]]:
    syncs: dict[LevelKey, dict[str, SyncAnchor]] = {}
    anchors: dict[LevelKey, dict[str, Anchor]] = {}
    held: dict[LevelKey, set[str]] = {}
    for row in rows:
        key, system = (row["store_id"], row["item_id"]), row["inventory_system_id"]
        if row["synced_at"] is not None:
            syncs.setdefault(key, {})[system] = SyncAnchor(row["synced_version"], row["synced_stock"], row["synced_at"])
        if row["anchor_kind"] is not None:
            anchors.setdefault(key, {})[system] = Anchor(
                AnchorKind(row["anchor_kind"]),
                row["anchor_stock"],
                row["anchor_version"],
                row["anchored_at"],
                row["anchor_date"],
                row["told_since"],
                row["told_until"],
                row["anchor_uncertain"],
            )
        if row["is_held"]:
            held.setdefault(key, set()).add(system)
    return syncs, anchors, held


async def waiting_refused(connection: AsyncConnection, item_ids: Sequence[str]) -> list[WaitingDelivery]:
    """Open refused deliveries about a level that exists, the first of each movement; not what was meant for another POS."""
    kept = refused_delivery.c
    level = (stock_level.c.store_id == kept.store_id) & (stock_level.c.item_id == kept.item_id)
    query = (
        select(kept.refused_delivery_id, kept.store_id, kept.item_id, kept.raw_body, kept.first_seen_at, kept.delivery_key)
        .join(stock_level, level)
        .where(kept.state == "open", kept.reason != "other_pos", kept.item_id == any_(literal(item_ids, ARRAY(Text))))
        .order_by(kept.delivery_key, kept.first_seen_at)
    )
    rows = await connection.execute(query)
    return [WaitingDelivery(*next(same)[:5]) for _, same in groupby(rows, key=lambda row: row.delivery_key)]


async def waiting_suspected(connection: AsyncConnection, reason: Suspicion, item_ids: Sequence[str]) -> list[WaitingDelivery]:
    """Suspected duplicates of one kind that are open; echoes also where a person has dismissed them."""
    kept = suspected_duplicate.c
    echo = (echo_identity.c.store_id == kept.store_id) & (echo_identity.c.dedupe_key == kept.dedupe_key)
    message = outbox_message.c.outbox_message_id == echo_identity.c.outbox_message_id
    states = ["open", "dismissed"] if reason is Suspicion.ECHO else ["open"]
    query = (
        select(
            kept.suspected_duplicate_id,
            kept.store_id,
            kept.item_id,
            kept.raw_body,
            kept.first_seen_at,
            kept.after_version,
            outbox_message.c.level_version,
        )
        .outerjoin(echo_identity, echo)
        .outerjoin(outbox_message, message)
        .where(kept.state.in_(states), kept.reason == reason.value)
        .where(kept.item_id == any_(literal(item_ids, ARRAY(Text))))
        .order_by(kept.suspected_duplicate_id)
    )
    return [WaitingDelivery(*row) for row in await connection.execute(query)]


async def integrated_systems(connection: AsyncConnection) -> dict[str, list[str]]:
    """store_id -> the inventory systems that it is connected to, switched off ones too."""
    found: dict[str, list[str]] = {}
    for row in await connection.execute(select(integration.c.store_id, integration.c.inventory_system_id)):
        found.setdefault(row.store_id, []).append(row.inventory_system_id)
    return found
