"""What was refused is kept, counted, and closed when it is applied."""

from decimal import Decimal
from typing import Any

import httpx2

from tests.conftest import running, settings_for
from tests.support.sender import PATH, body_of, signed
from tests.support.world import World

NEW_ITEM = (
    "INSERT INTO pos_sync.item SELECT store_id, 'new', 'New dish', purchase_unit_id, consumption_unit_id, supplier_id, cost"
    " FROM pos_sync.item WHERE item_id = 'avcc123'"
)


async def deliver(client: httpx2.AsyncClient, **changes: Any) -> int:
    body = body_of(**changes)
    return (await client.post(PATH, content=body, headers=signed(body))).status_code


async def test_a_repeated_refusal_raises_attempts_and_keeps_the_latest_bytes(world: World, client: httpx2.AsyncClient) -> None:
    for second in range(4):
        assert 409 == await deliver(client, external_id="new", now=f"2020-06-01 02:55:0{second}")

    (kept,) = await world.refused()
    assert (4, "open", "unknown_item", 409) == (kept.attempts, kept.state, kept.reason, kept.status_code)
    assert ("1", "new", "4344be8c-c6b9-4c51-88a6-d620144ab406") == (kept.store_id, kept.item_id, kept.inventory_system_id)
    assert body_of(external_id="new", now="2020-06-01 02:55:03") == kept.raw_body
    assert kept.first_seen_at < kept.last_seen_at


async def test_a_retry_after_the_item_was_created_applies_once_and_closes_the_record(
    world: World, client: httpx2.AsyncClient
) -> None:
    assert 409 == await deliver(client, external_id="new")
    assert 409 == await deliver(client, external_id="other")
    await world.execute(NEW_ITEM)

    assert [204, 204] == [await deliver(client, external_id="new", now=str(n)) for n in range(2)]

    assert Decimal("-1.25") == await world.level("new")
    new, other = await world.refused()
    assert ("resolved", "open") == (new.state, other.state)
    assert new.closed_at is not None


async def test_each_reason_has_its_own_record(world: World, client: httpx2.AsyncClient) -> None:
    assert 409 == await deliver(client, external_id="new", store_id=9)
    await world.execute("INSERT INTO pos_sync.store (store_id, name, timezone) VALUES ('9', 'Nine', 'UTC')")
    assert 409 == await deliver(client, external_id="new", store_id=9)

    assert ["unknown_store", "no_integration"] == [kept.reason for kept in await world.refused()]


async def test_an_unreadable_body_is_kept_by_its_bytes(world: World, client: httpx2.AsyncClient) -> None:
    for body in (b"{", b"{", b"{{"):
        assert 400 == (await client.post(PATH, content=body, headers=signed(body))).status_code

    assert [(b"{", 2), (b"{{", 1)] == [(kept.raw_body, kept.attempts) for kept in await world.refused()]


async def test_what_an_operator_dismissed_stays_dismissed(world: World, client: httpx2.AsyncClient) -> None:
    await deliver(client, external_id="new")
    await world.execute("UPDATE pos_sync.refused_delivery SET state = 'dismissed', closed_at = now()")

    await deliver(client, external_id="new")

    (kept,) = await world.refused()
    assert ("dismissed", 2) == (kept.state, kept.attempts)
    assert kept.closed_at is not None


async def test_what_was_dismissed_is_not_applied_when_the_same_bytes_come_once_it_could_be(
    world: World, client: httpx2.AsyncClient
) -> None:
    await world.execute("UPDATE pos_sync.integration SET enabled = false")
    await deliver(client)
    await world.execute("UPDATE pos_sync.refused_delivery SET state = 'dismissed', closed_at = now(), actor = 'ana'")
    await world.execute("UPDATE pos_sync.integration SET enabled = true")

    assert 409 == await deliver(client)
    assert [] == await world.ledger()


async def test_another_pos_is_kept_with_what_it_was_about(world: World) -> None:
    async with running(settings_for(world, pos_id="7")) as (_, client):
        await deliver(client)

    (kept,) = await world.refused()
    assert ("other_pos", "avcc123") == (kept.reason, kept.item_id)
