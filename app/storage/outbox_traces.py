"""The traces of messages: while tracing is on, the traceparent of the receipt stands beside what is told of it."""

from collections.abc import Sequence

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.outbox import OutboxMessage

# Only beside a message, with which it is pruned.
_PUT = """
INSERT INTO pos_sync.outbox_trace (store_id, item_id, level_version, traceparent)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[]) AS kept (store_id, item_id, level_version, traceparent)
WHERE EXISTS (
  SELECT FROM pos_sync.outbox_message AS message
  WHERE message.store_id = kept.store_id AND message.item_id = kept.item_id AND message.level_version = kept.level_version
)
ON CONFLICT DO NOTHING
"""
_READ = text("""
SELECT trace.store_id, trace.item_id, trace.level_version, trace.traceparent
FROM unnest(CAST(:stores AS text[]), CAST(:items AS text[]), CAST(:versions AS bigint[]))
  AS asked (store_id, item_id, level_version)
JOIN pos_sync.outbox_trace AS trace USING (store_id, item_id, level_version)
""")


async def put(connection: asyncpg.Connection, traced: Sequence[tuple[str, str, int, str]]) -> None:
    """Keep (store, item, version, traceparent) of ledger rows that were just written, where somebody is told of them."""
    await connection.execute(_PUT, *[list(column) for column in zip(*traced, strict=True)])


async def read(connection: AsyncConnection, claimed: Sequence[OutboxMessage]) -> dict[int, str]:
    """outbox_message_id -> the traceparent of the receipt of what it tells, where it is kept."""
    if not claimed:
        return {}
    asked = {
        "stores": [message.store_id for message in claimed],
        "items": [message.item_id for message in claimed],
        "versions": [message.level_version for message in claimed],
    }
    kept = {(row[0], row[1], row[2]): row[3] for row in await connection.execute(_READ, asked)}
    rows = {one.outbox_message_id: (one.store_id, one.item_id, one.level_version) for one in claimed}
    return {number: kept[row] for number, row in rows.items() if row in kept}
