"""What a prune costs deliveries, and how many bytes a movement takes.

`python -m bench.retention URL` prunes a database again and again, as the service does in the background, until it is stopped.
"""

import asyncio
import sys
from collections.abc import Mapping
from contextlib import suppress

import asyncpg

from app.database_address import read_address
from app.operator.prune import Ages, prune
from app.operator.seal import seal_all
from app.storage import change_feed
from app.storage.engine import Database

OLD = "old"
"""An inventory system whose messages are all old"""
PART = 1000

# As many as the ledger has rows, in the order in which the relay would have made them, and all compared.
_FILL = f"""
INSERT INTO pos_sync.outbox_message (
  store_id, item_id, level_version, inventory_system_id, state, attempts, created_at, closed_at
)
SELECT store_id, item_id, level_version, '{OLD}', 'sent', 1, now() - interval '150 days', now() - interval '150 days'
FROM pos_sync.stock_movement ORDER BY level_version, store_id, item_id
"""  # noqa: S608
_COMPARED = f"""
INSERT INTO pos_sync.system_level (store_id, item_id, inventory_system_id, compared_version, compared_at)
SELECT store_id, item_id, '{OLD}', version, now() FROM pos_sync.stock_level
"""  # noqa: S608
_CONNECT = f"""
INSERT INTO pos_sync.integration (store_id, inventory_system_id, user_id_tps) SELECT store_id, '{OLD}', '9' FROM pos_sync.store
"""  # noqa: S608
# As the relay changes a message that mipOS takes at once.
_CLAIM = """
UPDATE pos_sync.outbox_message SET claimed_until = now() + interval '60 seconds', attempts = attempts + 1, sent_at = now()
WHERE outbox_message_id > $1 AND outbox_message_id <= $1 + $2
"""
_SETTLE = """
UPDATE pos_sync.outbox_message SET state = 'sent', claimed_until = NULL, closed_at = now(), next_attempt_at = now()
WHERE outbox_message_id > $1 AND outbox_message_id <= $1 + $2
"""
_ECHOES = """
INSERT INTO pos_sync.echo_identity (store_id, dedupe_key, outbox_message_id)
SELECT store_id, convert_to(to_char(created_at, 'YYYY-MM-DD'), 'UTF8')
  || substr(sha256(convert_to(outbox_message_id::text, 'UTF8')), 11), outbox_message_id
FROM pos_sync.outbox_message WHERE outbox_message_id > $1 AND outbox_message_id <= $1 + $2
"""
_SIZES = """
SELECT relname::text, pg_total_relation_size(c.oid)
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = 'pos_sync' AND c.relkind = 'r'
"""
PARTS = {
    "ledger": ("stock_movement",),
    "outbox": ("outbox_message",),
    "echoes": ("echo_identity",),
    "change feed": ("change_feed", "change_feed_level"),
    "seals": ("seal_checkpoint", "seal_level"),
}


async def fill(url: str) -> int:
    """Give each ledger row an old message that can be pruned; how many."""
    connection = await asyncpg.connect(url)
    await connection.execute(_FILL)
    await connection.execute(_COMPARED)
    await connection.execute("VACUUM ANALYZE")
    await connection.execute("CHECKPOINT")
    number = await connection.fetchval("SELECT count(*) FROM pos_sync.outbox_message")
    await connection.close()
    return int(number)


async def count(url: str) -> int:
    """How many messages there are."""
    connection = await asyncpg.connect(url)
    number = await connection.fetchval("SELECT count(*) FROM pos_sync.outbox_message")
    await connection.close()
    return int(number)


async def connect_second_system(url: str) -> None:
    """Tell a second system of each delivery."""
    connection = await asyncpg.connect(url)
    await connection.execute(_CONNECT)
    await connection.close()


async def bytes_of_a_movement(url: str) -> Mapping[str, float]:
    """By part, with indexes, once all is sent, numbered and sealed."""
    connection = await asyncpg.connect(url)
    newest = await connection.fetchval("SELECT max(outbox_message_id) FROM pos_sync.outbox_message")
    for first in range(0, newest, PART):
        await connection.execute(_CLAIM, first, PART)
        await connection.execute(_ECHOES, first, PART)
        await connection.execute(_SETTLE, first, PART)
        if not first % (10 * PART):
            await connection.execute("VACUUM pos_sync.outbox_message")
    engine = Database(read_address(url), is_pooled=False).create_engine()
    await seal_all(engine, None, max_share=1)
    has_more = True
    async with engine.begin() as changes:
        await change_feed.switch_on(changes)
    while has_more:
        async with engine.begin() as changes:
            has_more = await change_feed.number(changes)
    await engine.dispose()
    movements = await connection.fetchval("SELECT count(*) FROM pos_sync.stock_movement")
    sizes = {str(name): int(size) for name, size in await connection.fetch(_SIZES)}
    await connection.close()
    return {part: sum(sizes[table] for table in tables) / movements for part, tables in PARTS.items()}


async def _prune_on(url: str) -> None:
    engine = Database(read_address(url), is_pooled=False).create_engine()
    while True:
        await prune(engine, Ages(outbox_days=100, days=30), actor="bench")


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(_prune_on(sys.argv[1]))
