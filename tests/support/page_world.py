"""A database with something of everything that the page shows."""

from datetime import timedelta

import pytest

from app import version
from app.operator.drift import refresh
from app.operator.seal import seal_all
from app.operator.seal_key import SealKey
from app.receiving.signature import HEADER, sign
from app.stock.rules import Rules
from app.storage import captures
from app.storage.captures import Unverified
from app.storage.mipos_account import STOCK_WEBHOOK
from tests.conftest import running, settings_for
from tests.support.mipos import SETTINGS, SYSTEM
from tests.support.outbox import connect_stores, sell
from tests.support.sender import PATH, SECRET, body_of, signed
from tests.support.world import World

PAGES = (
    "/ui/",
    "/ui/stock",
    "/ui/stock?store=1&at=2026-01-01T12:00",
    "/ui/stores/1/items/avcc123",
    "/ui/stores/1/items/avcc123?span=all",
    "/ui/stores/1/items/avcc123?explain=1",
    "/ui/stores/1/items/avcc123/count?to=3",
    f"/ui/stores/1/items/tom001/adopt?system={SYSTEM}",
    "/ui/stores/1/items/avcc123/rows/1/reverse",
    "/ui/deliveries",
    "/ui/deliveries?kind=suspected",
    "/ui/deliveries?kind=captured",
    "/ui/deliveries/refused/1",
    "/ui/deliveries/refused/confirm?number=1&number=2",
    "/ui/deliveries/refused/confirm?act=dismiss&number=1",
    "/ui/deliveries/refused/confirm?number=3",
    "/ui/deliveries/suspected/1",
    "/ui/deliveries/captured/1?explain=1",
    "/ui/deliveries/captured/2?explain=1",
    "/ui/outbox",
    "/ui/outbox/1",
    "/ui/outbox/confirm?number=1&number=2",
    "/ui/outbox/confirm?act=dismiss&number=1",
    "/ui/jobs",
    "/ui/acts",
    "/ui/jobs/00000000000000000000000000000001",
    "/ui/syncs",
    f"/ui/syncs/confirm?store=1&system={SYSTEM}",
    "/ui/catalog?store=1",
    "/ui/catalog/stores/1/items/avcc123",
    "/ui/system",
    "/ui/search?q=o",
)
"""Of a world that was enlivened, at a service with a mipOS account"""
ACCOUNT = {"mipos_base_url": "http://127.0.0.1:9", **SETTINGS}
"""The account whose token is kept, at an address where nobody listens"""
TOKEN = "the-token-of-a-world-of-pages"
_RAN = f"""
INSERT INTO pos_sync.webhook_registration (type, url, state, attempts, words, attempted_at, account)
VALUES ('{STOCK_WEBHOOK}', 'https://pos.example.com{PATH}', 'registered', 1, 'Saved.', '2026-03-01 10:00:01Z', 'x');
INSERT INTO pos_sync.access_token (account, token, expires_at, obtained_at)
VALUES ('{ACCOUNT["mipos_base_url"]} {ACCOUNT["mipos_client_id"]}', '{TOKEN}', '2126-03-02 10:00:02Z', '2026-03-02 10:00:02Z');
INSERT INTO pos_sync.prune_state (ended_at, actor, messages, refusal_bodies, duplicate_bodies, sync_runs)
VALUES ('2026-03-03 10:00:03Z', 'ana', 1, 2, 3, 4);
INSERT INTO pos_sync.replica (replica_id, host, version, head, seen_at)
SELECT 'one', 'till-7', '{version()}', version_num, now() - interval '10 minutes' FROM pos_sync.alembic_version
"""
_LEMON = """
INSERT INTO pos_sync.item (store_id, item_id, name, purchase_unit_id, consumption_unit_id, supplier_id, cost)
SELECT store_id, 'lem001', 'Lemon', purchase_unit_id, consumption_unit_id, supplier_id, cost
FROM pos_sync.item WHERE item_id = 'avcc123' AND store_id = '1'
"""


async def run_for_a_while(world: World, key: SealKey | None = None) -> None:
    """What is left by a service that was registered, logged in, pruned and sealed; of another worker, that it was there."""
    await world.execute(*_RAN.split(";"))
    await seal_all(world.engine, key)


async def enliven(world: World) -> None:
    """Deliveries applied, refused, suspected and captured; sales that wait or are not sent any more; drifts; acts; seals.

    What waits is sent when a person says so.
    """
    await connect_stores(world)
    async with running(settings_for(world)) as (_, client):

        async def deliver(*, secret: str = SECRET, **changes: object) -> int:
            body = body_of(**changes)
            return (await client.post(PATH, content=body, headers=signed(body, secret=secret))).status_code

        assert 204 == await deliver(date="2026-11-23 09:00:01", current_stock="12.4")
        assert 204 == await deliver(date="2026-11-23 09:10:01", quantity="0.4", current_stock="11.5")
        assert 409 == await deliver(external_id="<b>unknown</b>", date="2026-11-23 09:20:01")
        assert 409 == await deliver(external_id="unknown too, with a name that is long " + "x" * 90, date="2026-11-23 09:30:01")
        assert 409 == await deliver(external_id="lem001", date="2024-11-23 09:40:01")
        assert 204 == await deliver(external_id="tom001", date="2026-11-23 09:50:01", quantity="1", current_stock="20")
        # Twice the same change in one second, with another between: a movement of its own, or a copy.
        for date in ("2026-11-23 10:00:00", "2026-11-23 11:00:00"):
            for kind, quantity, stock, now in ((1, "5", "16.5", "one"), (2, "5", "11.5", "two"), (1, "5", "16.5", "three")):
                await deliver(date=date, movement_type=kind, quantity=quantity, current_stock=stock, now=f"{date} {now}")
        assert 2 == await world.scalar("SELECT count(*) FROM pos_sync.suspected_duplicate")
        async with world.engine.begin() as connection:
            await captures.start(connection, length=timedelta(minutes=10), max_kept=20, actor="ana")
        for key in ("one", "two", "three"):
            await sell(world, "0.25", key)
    await world.execute(
        _LEMON,
        "SELECT pos_sync.record_pos_movement('1', 'lem001', 'count', 40, 'a count of lemons')",
        "UPDATE pos_sync.outbox_message SET state = 'dead', attempts = 1, closed_at = now(), words = 'mipOS knows no such item'"
        " WHERE outbox_message_id = (SELECT min(outbox_message_id) FROM pos_sync.outbox_message WHERE state = 'pending')",
        "UPDATE pos_sync.outbox_message SET next_attempt_at = now() + interval '1 day' WHERE state = 'pending'",
        "INSERT INTO pos_sync.sync_run (store_id, inventory_system_id, state, items, units, suppliers, words, actor, ended_at)"
        f" VALUES ('1', '{SYSTEM}', 'done', 3, 2, 1, 'Inventory synchronised.', 'ana', now())",
        "INSERT INTO pos_sync.captured_delivery (capture_id, content_hash, raw_body, signatures, names_known_pair)"
        " SELECT capture_id, 'x', convert_to('{\"store_id\": 1, \"note\": \"<script>\"}', 'UTF8'),"
        " ARRAY['X-Signature', 'deadbeef'], true FROM pos_sync.capture",
        "INSERT INTO pos_sync.page_job (job_id, kind, actor, asked, total, done, results, ended_at)"
        " VALUES ('00000000000000000000000000000001', 'replay', 'page:Ana', '{\"numbers\": [1, 2]}', 2, 2,"
        ' \'[["1", "APPLIED", "", ""], ["2", "REFUSED", "The POS does not know the item.", ""]]\', now())',
        "INSERT INTO pos_sync.page_act (act_id, actor, location, words, done_at) VALUES"
        " ('00000000000000000000000000000001', 'page:Ana', '/ui/stores/1/items/avcc123', 'The count was recorded.',"
        " now() - interval '5 minutes'),"
        " ('00000000000000000000000000000002', 'page:Bea', '/ui/catalog?store=1', 'The item was changed.', now())",
    )
    body = body_of(date="2026-11-23 08:30:01", quantity="0.25")
    signatures = ((HEADER, sign(body, SECRET.encode())),)
    async with world.engine.begin() as connection:
        await captures.keep(connection, [Unverified(body, signatures, "application/json", "192.0.2.1", "1", SYSTEM)])
    await run_for_a_while(world)
    await refresh(world.engine, Rules(), limit=100)
    with pytest.MonkeyPatch.context() as patched:
        # Its own first look comes later than this one, on a busy machine too.
        patched.setattr("app.operations.problem_watch.START_SECONDS", 15.0)
        async with running(settings_for(world)) as (app, _):
            await app.state.service._problem_watch().look()  # noqa: SLF001 - as it does every 15 seconds
