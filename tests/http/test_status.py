"""`pos-sync status --json`: each number of a small world in which all of it happened, against what the database has of it."""

import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import httpx2
import pytest

from app.operations import traffic
from app.operator.drift import refresh
from app.sandbox.platform import InventorySystem
from app.stock.rules import Rules
from app.storage import problem_facts
from tests.conftest import running, settings_for
from tests.support.commands import Run
from tests.support.mipos import SYSTEM, Remote, mipos
from tests.support.outbox import until
from tests.support.sender import PATH, SECRET, body_of, signed
from tests.support.world import World

SECOND = "3d40a24e-d570-4598-ae68-e20687edd1f9"
"""That of store 2"""


@pytest.fixture
async def remote() -> AsyncIterator[Remote]:
    async with mipos() as it:
        yield it


async def deliver(client: httpx2.AsyncClient, **changes: Any) -> int:
    body = body_of(**changes)
    return (await client.post(PATH, content=body, headers=signed(body))).status_code


async def deliver_all(client: httpx2.AsyncClient) -> None:
    """Three that are applied, the first of them again as it was, one that may be another movement, a refused and a forged one."""
    first = {"movement_type": 1, "quantity": "5", "current_stock": "18.69", "now": "one"}
    assert 204 == await deliver(client, **first)
    assert 204 == await deliver(client, **{**first, "movement_type": 2, "current_stock": "13.69", "now": "two"})
    assert 204 == await deliver(client, **first)
    assert 204 == await deliver(client, **{**first, "now": "three"})
    # The stock of the system is 1.5 more than ours: 22.5 - 1 is not 23.
    assert 204 == await deliver(client, external_id="tom001", movement_type=2, quantity="1", current_stock="23")
    assert [409, 409] == [await deliver(client, external_id=item) for item in ("tofu01", "tofu02")]
    forged = await client.post(PATH, content=body_of(), headers=signed(body_of(), secret="not the secret of this POS"))
    assert 401 == forged.status_code


async def test_each_number_of_the_status_is_what_happened(
    world: World, run: Run, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic, "FLUSH_SECONDS", 0.05)
    # A difference that is younger may be a report and a stock update that crossed.
    monkeypatch.setattr(problem_facts, "MIN_ANCHOR_AGE", timedelta())
    values = remote.settings(mipos_client_secret=SECRET)
    for name, value in values.items():
        monkeypatch.setenv(name.upper(), str(value))
    remote.platform.systems[SECOND] = InventorySystem("40", {"2"})
    await run("store", "set", "2", "--mipos-id", "2")
    synchronised = await run("sync", "--store", "2", "--actor", "Ana")
    assert 0 == synchronised.exit_code, synchronised.output
    async with running(settings_for(world, **values)) as (_, client):
        await until(lambda: has(world, "SELECT state = 'registered' FROM pos_sync.webhook_registration"))
        await deliver_all(client)
        remote.fail("stock_update", status=409, body=json.dumps({"message": ["Not available."], "data": None}))
        await run("movement", "--store", "2", "--item", "item_abc123", "--sale", "0.25")
        await until(lambda: has(world, "SELECT state = 'dead' FROM pos_sync.outbox_message"))
        # Nothing is sent of a store whose id at mipOS is not known.
        for _ in range(2):
            await run("movement", "--store", "1", "--item", "saf001", "--sale", "0.001")
        await until(lambda: has(world, "SELECT sum(deliveries) >= 8 FROM pos_sync.delivery_count"))
    await run("refused", "dismiss", "1", "--actor", "Ana", "--note", "a test")
    await world.execute("UPDATE pos_sync.refused_delivery SET closed_at = closed_at - interval '31 days'")
    pruned = await run("prune", "--actor", "Ben")
    assert 0 == pruned.exit_code, pruned.output
    await world.execute(*APART)
    await refresh(world.engine, Rules(), limit=100)
    smallest = await world.scalar("SELECT pg_database_size(current_database())")
    shown = json.loads((await run("status", "--json")).stdout)
    assert "refused: unknown item 2, wrong signature 1\n" in (await run("status")).stdout

    assert smallest <= shown.pop("database_bytes") <= await world.scalar("SELECT pg_database_size(current_database())")
    expected = {
        "registered_at": await moment(world, "registered_at FROM pos_sync.webhook_registration"),
        "deliveries_of_24_hours": {"applied": 3, "already_applied": 2, "refused: unknown_item": 2, "wrong": 1},
        "open_refusals": 1,
        "suspected_duplicates": 1,
        "stock_updates": {
            "pending": 2,
            "dead": 1,
            "oldest": await moment(world, "min(created_at) FROM pos_sync.outbox_message WHERE state = 'pending'"),
        },
        "drift": [
            {"store": "1", "cause": "opening_difference", "items": 1, "amount": "1.5"},
            {"store": "1", "cause": "suspected_duplicate", "items": 1, "amount": "5"},
            {"store": "2", "cause": "dead", "items": 1, "amount": "0.25"},
        ],
        "last_prune": {
            "ended_at": await moment(world, "ended_at FROM pos_sync.prune_state"),
            "messages": 0,
            "refusal_bodies": 1,
            "duplicate_bodies": 0,
            "sync_runs": 0,
        },
        "last_deliveries": [
            {
                "store": "1",
                "system": SYSTEM,
                "last_delivery": await moment(world, "last_at FROM pos_sync.pair_delivery"),
                "closed_until": None,
            },
            {"store": "2", "system": SECOND, "last_delivery": None, "closed_until": None},
        ],
        "last_syncs": [
            {
                "store": "2",
                "system": SECOND,
                "state": "done",
                "started_at": await moment(world, "started_at FROM pos_sync.sync_run"),
                "ended_at": await moment(world, "ended_at FROM pos_sync.sync_run"),
                "items": 2,
                "covered": 0,
                "actor": "Ana",
                "mipos_says": "Synchronization data was sent to the inventory system.",
            }
        ],
    }
    assert expected == {name: shown[name] for name in expected}


APART = (
    "UPDATE pos_sync.webhook_registration SET registered_at = registered_at - interval '3 days'",
    "UPDATE pos_sync.pair_delivery SET first_at = first_at - interval '2 days', settled_at = settled_at - interval '1 day'",
    "UPDATE pos_sync.outbox_message SET created_at = created_at - interval '1 hour' * level_version",
    "UPDATE pos_sync.sync_run SET started_at = started_at - interval '1 minute'",
    "UPDATE pos_sync.prune_state SET ended_at = ended_at - interval '1 minute'",
)
"""Times that stand beside each other, so that one that is taken for the other is seen."""


async def moment(world: World, of: str) -> str:
    """A time that the database has, in ISO 8601."""
    found = await world.scalar(f"SELECT {of}")
    assert isinstance(found, datetime)
    return found.isoformat(timespec="seconds")


async def has(world: World, query: str) -> bool:
    return bool(await world.scalar(query))
