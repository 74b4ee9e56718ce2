"""Writes the worlds of `drift_world` into a database, each as an item of store 1, as if all of it had happened there."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text

from app.operator.drift import DriftFilter, find_drifts
from app.stock.drift import Drift
from app.stock.quantity import to_plain
from app.stock.reports import Unapplied
from app.stock.rules import Rules
from tests.support.drift_world import World as DriftWorld
from tests.support.drift_world import X
from tests.support.sender import body_of
from tests.support.world import World

_ITEM = (
    "INSERT INTO pos_sync.item (store_id, item_id, name, purchase_unit_id, consumption_unit_id, supplier_id, cost)"
    " SELECT store_id, :item, :item, purchase_unit_id, consumption_unit_id, supplier_id, cost FROM pos_sync.item"
    " WHERE store_id = '1' AND item_id = 'avcc123'"
)
_LEVEL = (
    "INSERT INTO pos_sync.stock_level (store_id, item_id, quantity, version) VALUES ('1', :item, :quantity, :version)"
    " ON CONFLICT (store_id, item_id) DO UPDATE SET quantity = excluded.quantity, version = excluded.version"
)
_ROW = (
    "INSERT INTO pos_sync.stock_movement (store_id, item_id, level_version, source, inventory_system_id, movement_type, quantity,"
    " balance_after, reported_stock, date_text, sent_at_text, dedupe_key, received_at, actor, note)"
    " VALUES ('1', :item, :version, :source, :system, :type, :quantity, :balance, :reported, :date, :sent_at, :key, :at, 'ana',"
    " :note)"
)
_MESSAGE = (
    "INSERT INTO pos_sync.outbox_message (store_id, item_id, level_version, inventory_system_id, state, created_at, closed_at,"
    " sent_at, unknown_sends, unknown_until)"
    f" VALUES ('1', :item, :version, '{X}', :state, :at, :closed_at, :sent_at, :unknown_sends, :unknown_until)"
)
_CHANGED = (
    "UPDATE pos_sync.outbox_message SET state = :state, closed_at = :closed_at, sent_at = :sent_at,"
    f" unknown_sends = :unknown_sends,"
    f" unknown_until = :unknown_until WHERE item_id = :item AND level_version = :version AND inventory_system_id = '{X}'"
)
_SUSPECTED = (
    "INSERT INTO pos_sync.suspected_duplicate (store_id, dedupe_key, occurrence, item_id, inventory_system_id, reason,"
    " after_version, sent_at_text, raw_body, first_seen_at)"
    f" VALUES ('1', :key, 2, :item, '{X}', :reason, :after, :sent_at, :body, :at)"
)
_ECHO = (
    "INSERT INTO pos_sync.echo_identity (store_id, dedupe_key, outbox_message_id) SELECT store_id, :key, outbox_message_id"
    " FROM pos_sync.outbox_message WHERE item_id = :item AND level_version = :version"
)
_REFUSED = (
    "INSERT INTO pos_sync.refused_delivery (delivery_key, reason, status_code, message, raw_body, store_id, item_id,"
    f" inventory_system_id, first_seen_at) VALUES (:key, 'x', 409, 'No.', :body, '1', :item, '{X}', :at)"
)
_SYNC = (
    "INSERT INTO pos_sync.system_level (inventory_system_id, store_id, item_id, synced_stock, synced_version, synced_at)"
    f" VALUES ('{X}', '1', :item, :stock, :version, :at) ON CONFLICT (store_id, item_id, inventory_system_id) DO UPDATE SET"
    " synced_stock = excluded.synced_stock, synced_version = excluded.synced_version, synced_at = excluded.synced_at"
)


@dataclass
class Written:
    """A world, by how much its time is moved, and what of it is in the database already."""

    item_id: str
    it: DriftWorld
    shift: timedelta
    rows: int = 0
    unapplied: int = 0

    def at(self, moment: datetime | None) -> datetime | None:
        return None if moment is None else moment + self.shift


async def connect_x(world: World) -> None:
    """Store 1 is connected to X."""
    await world.execute(f"INSERT INTO pos_sync.integration (store_id, inventory_system_id, user_id_tps) VALUES ('1', '{X}', '9')")


async def write(world: World, written: Sequence[Written]) -> None:
    """What happened since the last time."""
    async with world.engine.begin() as connection:

        async def put(statement: str, rows: list[dict[str, Any]]) -> None:
            if rows:
                await connection.execute(text(statement), rows)

        new: list[dict[str, Any]] = []
        changed: list[dict[str, Any]] = []
        for one in written:
            it, item = one.it, one.item_id
            if not one.rows:
                await put(_ITEM, [{"item": item}])
            await put(_LEVEL, [{"item": item, "quantity": it.ours, "version": len(it.rows)}])
            rows: list[dict[str, Any]] = [
                {
                    "item": item,
                    "version": row.level_version,
                    "source": row.source,
                    "system": row.inventory_system_id,
                    "type": row.movement_type,
                    "quantity": row.quantity,
                    "balance": row.balance_after,
                    "reported": row.reported_stock,
                    "date": row.date_text,
                    "sent_at": row.sent_at_text,
                    "key": None if row.date_text is None else key_of(row.date_text, f"{item} {row.level_version}"),
                    "at": one.at(row.received_at),
                    "note": row.note,
                }
                for row in it.rows[one.rows :]
            ]
            await put(_ROW, rows)
            messages: list[dict[str, Any]] = [
                {
                    "item": item,
                    "version": version,
                    "state": told.state.value,
                    "at": one.at(it.rows[version - 1].received_at),
                    "closed_at": one.at(told.closed_at),
                    "sent_at": one.at(told.sent_at),
                    "unknown_sends": told.unknown_sends,
                    "unknown_until": one.at(told.unknown_until),
                }
                for version, told in sorted(it.messages.items())
            ]
            new += [row for row in messages if row["version"] > one.rows]
            changed += [row for row in messages if row["version"] <= one.rows]
        # Their numbers rise with time.
        await put(_MESSAGE, sorted(new, key=lambda row: row["at"]))
        await put(_CHANGED, changed)
        for one in written:
            it, item = one.it, one.item_id
            for kept in it.unapplied[one.unapplied :]:
                body = body_of(
                    inventory_system_id=X,
                    external_id=item,
                    movement_type=2 if kept.delta < 0 else 1,
                    quantity=to_plain(abs(kept.delta)),
                    current_stock=to_plain(kept.reported_stock),
                    date=kept.date_text,
                    now=kept.sent_at_text,
                )
                row = {
                    "key": key_of(kept.date_text, f"{item} kept {kept.number}"),
                    "item": item,
                    "reason": "echo" if kept.kind is Unapplied.ECHO else "repeated",
                    "after": kept.after_version,
                    "sent_at": kept.sent_at_text,
                    "body": body,
                    "at": one.at(kept.seen_at),
                    "version": kept.echo_of,
                }
                await put(_REFUSED if kept.kind is Unapplied.REFUSED else _SUSPECTED, [row])
                if kept.kind is Unapplied.ECHO:
                    await put(_ECHO, [row])
            if it.sync is not None:
                sync = {"item": item, "stock": it.sync.stock, "version": it.sync.level_version, "at": one.at(it.sync.at)}
                await put(_SYNC, [sync])
            one.rows, one.unapplied = len(it.rows), len(it.unapplied)


async def drifts(world: World) -> dict[str, Drift]:
    """item_id -> the drift against X."""
    found = await find_drifts(world.engine, DriftFilter(store_id="1", system_id=X), Rules())
    return {one.item_id: one for one in found}


def key_of(date_text: str, seed: str) -> bytes:
    """An identity as the ledger wants it."""
    return date_text[:10].encode() + hashlib.sha256(seed.encode()).digest()[:22]
