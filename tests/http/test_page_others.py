"""Synchronisations, catalog, system and search, as people see them at the page."""

from tests.support.mipos import SYSTEM, mipos
from tests.support.outbox import connect_stores
from tests.support.page import VIEWER_PASSWORD, person_at
from tests.support.world import World


async def test_every_page_opens(world: World) -> None:
    async with person_at(world) as person:
        for path in ("", "stock", "syncs", "catalog", "system", "search?q=chicken"):
            await person.open(f"/ui/{path}")
            assert 200 == person.status, (path, person.text)


async def test_the_settings_are_shown_without_secrets(world: World) -> None:
    async with person_at(
        world, alert_webhook_url="https://hooks.example/key-in-it", alert_webhook_secret="whsec_" + "QUFB" * 10
    ) as person:
        await person.open("/ui/system")
        assert "OPERATOR_PASSWORD set" in person.text
        for secret in ("key-in-it", "QUFB", VIEWER_PASSWORD, "postgresql"):
            assert secret not in person.html


async def test_items_are_retired_and_brought_back(world: World) -> None:
    async with person_at(world) as person:
        await person.open("/ui/catalog?store=1")
        await person.send("/ui/catalog/retire", item=["avcc123"], what="retire")
        assert "Retire 1 item" in person.text
        await person.send("/ui/catalog/retired")
        assert "The chosen items were retired." in person.text
        assert 1 == await world.scalar("SELECT count(*) FROM pos_sync.item WHERE retired_at IS NOT NULL")


async def test_an_item_is_changed(world: World) -> None:
    async with person_at(world) as person:
        await person.open("/ui/catalog/stores/1/items/avcc123")
        await person.send("/ui/catalog/stores/1/items/avcc123", name="Pechuga", low_stock="20")
        assert "The item was changed." in person.text
        assert "Pechuga" in person.text
        await person.open("/ui/stock?low=1")
        assert "low: below 20" in person.text


async def test_one_find_is_opened_and_a_movement_is_found_by_its_key(world: World) -> None:
    async with person_at(world, pos_api_key="a-key-of-the-tests-0123456789") as person:
        answer = await person.client.post(
            "/pos/stores/1/movements",
            json={"item_id": "avcc123", "kind": "sale", "quantity": "1"},
            headers={"Authorization": "Bearer a-key-of-the-tests-0123456789", "Idempotency-Key": "ticket 7"},
        )
        assert 201 == answer.status_code, answer.text
        await person.open("/ui/search?q=ticket 7")
        assert "#row-2" in person.url
        await person.open("/ui/search?q=nothing+like+it")
        assert "Nothing was found." in person.text


async def test_a_viewer_sees_all_and_changes_nothing(world: World) -> None:
    async with person_at(world, password=VIEWER_PASSWORD) as person:
        await person.open("/ui/stores/1/items/avcc123")
        assert "Record a count" not in person.text
        for path in (
            "/ui/stores/1/items/avcc123/count?to=1",
            "/ui/catalog/stores/1/items/avcc123",
            "/ui/syncs/confirm?store=1&system=x",
        ):
            await person.open(path)
            assert 403 == person.status


async def test_a_store_is_synchronised_with_progress(world: World) -> None:
    await connect_stores(world)
    async with mipos() as remote, person_at(world, **remote.settings()) as person:
        await person.open("/ui/syncs")
        await person.send("/ui/syncs/confirm")
        assert "It sends 3 items" in person.text
        await person.send("/ui/syncs")
        while "It has ended." not in person.text:
            await person.open(person.url)
        assert "done: items 3" in person.text
        await person.open("/ui/syncs")
        assert "page:Ana" in person.text


async def test_without_an_account_nothing_can_be_synchronised_and_it_says_why(world: World) -> None:
    async with person_at(world) as person:
        await person.open("/ui/syncs")
        assert "Nothing can be sent: no mipOS account is set" in person.text
        await person.open(f"/ui/syncs/confirm?store=1&system={SYSTEM}")
        assert 422 == person.status
