"""What the operator page costs: the time of each page on a filled database, and what ten people who click take from deliveries.

`python -m bench.pages URL` lets ten people click at the service at URL, until it is stopped.
"""

import asyncio
import itertools
import random
import statistics
import sys
from collections.abc import Mapping
from contextlib import suppress
from time import perf_counter

import asyncpg
import httpx2

from bench.machine import FILL_LEDGER

PASSWORD = "a-password-of-the-bench"  # noqa: S105 - of a service that lives for the measurement
SETTINGS = {"OPERATOR_PASSWORD": PASSWORD}
PEOPLE, MAX_THINKING_SECONDS = 10, 10.0
PAGES = (
    "/ui/",
    "/ui/stock",
    "/ui/stock?store=1",
    "/ui/stock?store=1&q=item+77",
    "/ui/stock?below=1",
    "/ui/stock?differs=1",
    "/ui/stock?store=1&at=2020-01-05T12:00",
    "/ui/stores/1/items/item7",
    "/ui/stores/1/items/item7?span=all",
    "/ui/deliveries",
    "/ui/deliveries?state=all",
    "/ui/deliveries?store=1&reason=unknown_item",
    "/ui/deliveries?kind=suspected",
    "/ui/deliveries?kind=captured",
    "/ui/deliveries/refused/10",
    "/ui/deliveries/refused/confirm?number=10&number=20",
    "/ui/outbox",
    "/ui/outbox?state=sent",
    "/ui/outbox?state=dead",
    "/ui/outbox?store=1&item=item7",
    "/ui/outbox/100",
    "/ui/syncs",
    "/ui/catalog?store=1",
    "/ui/catalog/stores/1/items/item7",
    "/ui/system",
    "/ui/search?q=item77",
    "/ui/search?q=a-request-id",
    "/ui/jobs",
    "/ui/acts",
)

ITEMS_OF_A_STORE, VERSIONS, PART = 5000, 200, 10
"""With the ten stores of every measurement: 50,000 levels, and 10 million ledger rows"""
_ITEMS = """
INSERT INTO pos_sync.item (store_id, item_id, name, purchase_unit_id, consumption_unit_id, supplier_id, cost)
SELECT store_id, 'item' || i, 'Item ' || i, 'kg', 'kg', 'farm', 1 FROM pos_sync.store, generate_series(100, $1 - 1) AS i
"""
_LEVELS = """
INSERT INTO pos_sync.stock_level (store_id, item_id, quantity, version)
SELECT store_id, item_id, 0, 0 FROM pos_sync.item ON CONFLICT DO NOTHING
"""
# Received when they happened, or a past time would lie before all of them.
_LEDGER = FILL_LEDGER.replace("dedupe_key)", "dedupe_key, received_at)", 1).replace(
    "\nFROM pos_sync.stock_level", ",\n  timestamptz '2020-01-01Z' + place * interval '1 hour'\nFROM pos_sync.stock_level", 1
)
_FILL = (
    # Of the newest rows: each has a message, of which most were sent.
    """
    INSERT INTO pos_sync.outbox_message (store_id, item_id, level_version, inventory_system_id, state, words, closed_at)
    SELECT store_id, item_id, version, 'other',
      CASE WHEN number % 100 = 0 THEN 'dead' WHEN number % 20 = 0 THEN 'pending' ELSE 'sent' END, 'said by mipOS',
      CASE WHEN number % 20 = 0 AND number % 100 <> 0 THEN NULL ELSE now() END
    FROM (
      SELECT store_id, item_id, version - step AS version, row_number() OVER () AS number
      FROM pos_sync.stock_level, generate_series(0, 1) AS step
    ) AS newest
    """,
    """
    INSERT INTO pos_sync.refused_delivery (
      delivery_key, reason, status_code, message, raw_body, store_id, item_id, state, closed_at, request_id
    )
    SELECT sha256(convert_to(number::text, 'UTF8')), CASE WHEN number % 3 = 0 THEN 'unknown_item' ELSE 'unknown_store' END, 409,
      'The POS has no such item.', convert_to('{"external_id": "x"}', 'UTF8'), '1', 'item' || number % 100,
      CASE WHEN number % 10 = 0 THEN 'open' ELSE 'resolved' END, CASE WHEN number % 10 = 0 THEN NULL ELSE now() END,
      'request-' || number
    FROM generate_series(1, 100000) AS number
    """,
    """
    INSERT INTO pos_sync.integration (store_id, inventory_system_id, user_id_tps)
    SELECT store_id, 'other', '9' FROM pos_sync.store
    """,
    """
    INSERT INTO pos_sync.system_level (
      store_id, item_id, inventory_system_id, drift, uncertain, compared_version, compared_at, causes
    )
    SELECT store_id, item_id, 'other', CASE WHEN random() < 0.01 THEN 1 ELSE 0 END, 0, version, now(), '{}'
    FROM pos_sync.stock_level
    """,
    """
    INSERT INTO pos_sync.page_act (act_id, actor, location, words, done_at)
    SELECT lpad(to_hex(number), 32, '0'), 'page:Ana', '/ui/', 'The count was recorded.', now() - number * interval '1 minute'
    FROM generate_series(1, 10000) AS number
    """,
    "VACUUM ANALYZE",
    "CHECKPOINT",
)


async def fill(url: str) -> str:
    """A ledger, messages, refusals and drift; what there is now."""
    connection = await asyncpg.connect(url)
    await connection.execute(_ITEMS, ITEMS_OF_A_STORE)
    await connection.execute(_LEVELS)
    for first in range(1, VERSIONS + 1, PART):
        await connection.execute(_LEDGER, first, first + PART - 1)
    await connection.execute("UPDATE pos_sync.stock_level SET quantity = 1.25 * $1::bigint, version = $1", VERSIONS)
    for statement in _FILL:
        await connection.execute(statement)
    counts = await connection.fetchrow(
        "SELECT (SELECT count(*) FROM pos_sync.stock_movement), (SELECT count(*) FROM pos_sync.stock_level),"
        " (SELECT count(*) FROM pos_sync.outbox_message), (SELECT count(*) FROM pos_sync.refused_delivery)"
    )
    await connection.close()
    assert counts is not None
    return "ledger rows {:,}, levels {:,}, stock updates {:,}, refusals {:,}".format(*counts)


async def _logged_in(url: str) -> httpx2.AsyncClient:
    client = httpx2.AsyncClient(base_url=url, timeout=60, trust_env=False)
    answer = await client.post("/ui/login", data={"name": "bench", "password": PASSWORD}, headers={"Origin": url})
    if answer.status_code != httpx2.codes.SEE_OTHER:
        raise RuntimeError(f"the login was answered {answer.status_code}")
    return client


async def times(url: str, *, rounds: int) -> Mapping[str, float]:
    """The median time of each page in milliseconds, the whole way and back; after one load that is not counted."""
    client = await _logged_in(url)
    found: dict[str, float] = {}
    for path in PAGES:
        took = []
        for number in range(rounds + 1):
            started = perf_counter()
            answer = await client.get(path)
            if answer.status_code not in {httpx2.codes.OK, httpx2.codes.SEE_OTHER}:
                raise RuntimeError(f"{path}: {answer.status_code}")
            if number:
                took.append((perf_counter() - started) * 1000)
        found[path] = statistics.median(took)
    await client.aclose()
    return found


async def _click(url: str, seed: int) -> None:
    chosen = random.Random(seed)  # noqa: S311 - which page somebody opens
    client = await _logged_in(url)
    for _ in itertools.count():
        await asyncio.sleep(chosen.uniform(0, MAX_THINKING_SECONDS))
        (await client.get(chosen.choice(PAGES))).raise_for_status()


async def _people(url: str) -> None:
    await asyncio.gather(*(_click(url, seed) for seed in range(PEOPLE)))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(_people(sys.argv[1]))
