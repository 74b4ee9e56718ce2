"""One prepared insert-and-update transaction after the other, made directly with asyncpg: what a latency is held against.

It waits for four messages to the database (BEGIN, UPDATE, INSERT, COMMIT).

`python -m bench.direct URL SECONDS` prints the median in milliseconds.
"""

import asyncio
import hashlib
import statistics
import sys
import time
from decimal import Decimal

import asyncpg

_UPDATE = """
UPDATE pos_sync.stock_level SET quantity = quantity + $3, version = version + 1, updated_at = now()
WHERE store_id = $1 AND item_id = $2 RETURNING quantity, version
"""
_INSERT = """
INSERT INTO pos_sync.stock_movement (store_id, item_id, level_version, source, inventory_system_id, movement_type, quantity,
  balance_after, reported_stock, date_text, sent_at_text, dedupe_key)
VALUES ($1, $2, $3, 'inventory_system', '4344be8c-c6b9-4c51-88a6-d620144ab406', 1, $4, $5, 12.44, '2020-05-30 12:45:03',
  '2020-05-30 12:45:03', $6)
"""


async def measure(url: str, seconds: float) -> float:
    """The median of all transactions that fit into `seconds`, in seconds."""
    connection = await asyncpg.connect(url)
    levels = await connection.fetch("SELECT store_id, item_id FROM pos_sync.stock_level")
    update, insert = await connection.prepare(_UPDATE), await connection.prepare(_INSERT)
    run = str(time.time_ns())
    took: list[float] = []
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        store_id, item_id = levels[len(took) % len(levels)]
        key = b"2020-05-30" + hashlib.sha256(f"{run} {len(took)}".encode()).digest()[10:]
        started = time.perf_counter()
        async with connection.transaction():
            quantity, version = await update.fetchrow(store_id, item_id, Decimal("1.25"))
            await insert.fetch(store_id, item_id, version, Decimal("1.25"), quantity, key)
        took.append(time.perf_counter() - started)
    await connection.close()
    return statistics.median(took)


if __name__ == "__main__":
    print(1000 * asyncio.run(measure(sys.argv[1], float(sys.argv[2]))))  # noqa: T201 - the result
