"""Synchronisations, catalog, system and search, as people see them at the page."""

import re
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from app import version
from app.operator.seal import seal_all
from app.operator.seal_key import SealKey
from app.page.text import CAUSES
from app.stock.causes import CauseKind
from tests.support.mipos import SYSTEM, mipos
from tests.support.outbox import connect_stores
from tests.support.page import PASSWORD, VIEWER_PASSWORD, person_at
from tests.support.page_world import ACCOUNT, PAGES, TOKEN, enliven, run_for_a_while
from tests.support.sender import SECRET
from tests.support.world import World


async def test_every_page_opens(world: World) -> None:
    async with person_at(world) as person:
        for path in ("", "stock", "syncs", "catalog", "system", "search?q=chicken"):
            await person.open(f"/ui/{path}")
            assert 200 == person.status, (path, person.text)


async def test_every_page_of_a_full_world_opens_and_has_each_id_once(world: World) -> None:
    await enliven(world)
    async with mipos() as remote, person_at(world, **remote.settings()) as person:
        for path in PAGES:
            await person.open(path)
            # A label of the second field with an id would name the first one.
            ids = re.findall(r'\sid="([^"]*)"', person.html)
            assert (200, sorted(set(ids))) == (person.status, sorted(ids)), path


async def test_the_settings_are_shown_without_secrets(world: World) -> None:
    async with person_at(
        world, alert_webhook_url="https://hooks.example/key-in-it", alert_webhook_secret="whsec_" + "QUFB" * 10
    ) as person:
        await person.open("/ui/system")
        assert "OPERATOR_PASSWORD set" in person.text
        for secret in ("key-in-it", "QUFB", VIEWER_PASSWORD, "postgresql"):
            assert secret not in person.html


def said(moment: datetime) -> str:
    """As the page of the system writes it."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC+00:00"


async def test_the_system_shows_what_a_service_left_with_its_times(world: World) -> None:
    await run_for_a_while(world)
    head, seen_at = [
        await world.scalar(f"SELECT {one} FROM pos_sync.replica WHERE host = 'till-7'") for one in ("head", "seen_at")
    ]
    async with person_at(world, **ACCOUNT) as person:
        await person.open("/ui/system")
        for words in (
            "Registration registered: https://pos.example.com/webhooks/stock , last tried 2026-03-01 10:00:01 UTC+00:00 . Saved.",
            "Token valid until 2126-03-02 10:00:02 UTC+00:00",
            "Last prune 2026-03-03 10:00:03 UTC+00:00",
            f"till-7 {version()} {head} {said(seen_at)}",
        ):
            assert words in person.text, words
        for secret in (TOKEN, SECRET, ACCOUNT["mipos_password"], PASSWORD, VIEWER_PASSWORD):
            assert secret not in person.html
        await world.execute("UPDATE pos_sync.access_token SET expires_at = '2026-03-02 11:00:02Z'")
        await person.open("/ui/system")
        assert "Token expired 2026-03-02 11:00:02 UTC+00:00" in person.text


async def test_the_system_shows_the_newest_seal_of_each_store_and_whether_it_is_signed(world: World) -> None:
    pytest.importorskip("cryptography", reason="the extra 'signing' is not installed")
    await run_for_a_while(world, SealKey(bytes(32)))
    await world.execute("SELECT pos_sync.record_pos_movement('2', 'item_abc123', 'sale', 1, 'one')")
    await seal_all(world.engine, None)
    async with world.engine.connect() as connection:
        sealed = await connection.execute(text("SELECT * FROM pos_sync.seal_checkpoint ORDER BY store_id, number"))
        signed, before, newest = list(sealed)
    async with person_at(world) as person:
        await person.open("/ui/system")
        assert f"1 1 {said(signed.sealed_at)} {signed.digest.hex()} yes" in person.text
        assert f"2 2 {said(newest.sealed_at)} {newest.digest.hex()} no" in person.text
        assert before.digest.hex() not in person.text
        assert signed.signature.hex() not in person.html


async def test_the_system_says_what_there_is_not_yet(world: World) -> None:
    async with person_at(world, **ACCOUNT) as person:
        await person.open("/ui/system")
        for words in (
            "Registration off . PUBLIC_URL is not set Token not yet Last ping not yet",
            "Last prune not yet",
            "Nothing is sealed yet.",
        ):
            assert words in person.text, words


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


def options_of(html: str, name: str) -> dict[str, str]:
    """What a list of a form offers: words by value."""
    (found,) = re.findall(f'(?s)<select name="{name}">(.*?)</select>', html)
    return dict(re.findall('<option value="([^"]*)"(?: selected)?>([^<]*)</option>', found))


async def test_units_and_suppliers_are_chosen_by_name_and_with_the_id_where_names_repeat(world: World) -> None:
    place = "/ui/catalog/stores/1/items/avcc123"
    await world.execute("UPDATE pos_sync.supplier SET name = 'a market' WHERE supplier_id = 'pos_sup_poultry'")
    async with person_at(world) as person:
        await person.open(place)
        assert [("pos_box", "Box"), ("pos_kg", "Kilogram")] == list(options_of(person.html, "unit").items())
        assert options_of(person.html, "unit") == options_of(person.html, "purchase_unit")
        suppliers = [("pos_sup_poultry", "a market"), ("pos_sup_market", "Market")]
        assert suppliers == list(options_of(person.html, "supplier").items())
        await world.execute("UPDATE pos_sync.supplier SET name = 'Farm' WHERE store_id = '1'")
        await person.open(place)
        twice = {"pos_sup_market": "Farm (pos_sup_market)", "pos_sup_poultry": "Farm (pos_sup_poultry)"}
        assert twice == options_of(person.html, "supplier")
        await person.send(place, supplier="pos_sup_market", purchase_unit="pos_kg")
        assert "The item was changed." in person.text
    assert "pos_kg pos_sup_market" == await world.scalar(
        "SELECT purchase_unit_id || ' ' || supplier_id FROM pos_sync.item WHERE store_id = '1' AND item_id = 'avcc123'"
    )


async def test_what_somebody_else_changed_meanwhile_is_not_overwritten(world: World) -> None:
    async with person_at(world) as person:
        await person.open("/ui/catalog/stores/1/items/avcc123")
        await world.execute("UPDATE pos_sync.item SET cost = 99 WHERE item_id = 'avcc123'")
        await person.send("/ui/catalog/stores/1/items/avcc123", name="Pechuga")
        assert (409, True) == (
            person.status,
            "the field Cost of item avcc123 was changed by somebody" in person.text,
        )
        assert 0 == await world.scalar("SELECT count(*) FROM pos_sync.item WHERE name = 'Pechuga'")
        await person.open("/ui/catalog?store=1")
        await person.send("/ui/catalog/retire", item=["avcc123"], what="retire")
        await world.execute("UPDATE pos_sync.item SET retired_at = now() WHERE item_id = 'avcc123'")
        await person.send("/ui/catalog/retired")
        assert 409 == person.status


async def test_what_was_changed_meanwhile_is_told_in_spanish_alone(world: World) -> None:
    async with person_at(world) as person:
        person.client.headers["Accept-Language"] = "es"
        await person.open("/ui/catalog/stores/1/items/avcc123")
        await world.execute("UPDATE pos_sync.item SET name = 'Pollo' WHERE item_id = 'avcc123'")
        await person.send("/ui/catalog/stores/1/items/avcc123", name="Pechuga")
        assert "el campo Nombre del artículo avcc123, que ahora es Pollo." in person.text
        await person.open("/ui/catalog?store=1")
        await person.send("/ui/catalog/retire", item=["avcc123"], what="retire")
        await world.execute("UPDATE pos_sync.item SET retired_at = now() WHERE item_id = 'avcc123'")
        await person.send("/ui/catalog/retired")
        assert (409, True) == (person.status, "otra persona retiró mientras tanto el artículo avcc123." in person.text)


HOSTILE_PATHS = [
    ("catalog/stores/1/items/%00", 404),
    ("catalog/stores/%00/items/x", 404),
    ("stores/1/items/%00", 404),
    ("stores/1/items/%00/count?to=1", 404),
    ("stores/1/items/%00/adopt?system=x", 404),
    ("stores/1/items/avcc123/adopt?system=%00", 404),
    ("stores/1/items/avcc123/rows/9223372036854775808/reverse", 404),
    ("stores/1/items/avcc123/rows/0/reverse", 404),
    ("stores/1/items/avcc123/rows/7/reverse", 404),
    ("stores/1/items/avcc123/count?to=1e3", 422),
    ("stores/1/items/avcc123/count?to=-1", 422),
    ("stores/1/items/avcc123/count?to=.", 422),
]


async def test_addresses_that_name_what_cannot_be(world: World) -> None:
    async with person_at(world) as person:
        for path, status in HOSTILE_PATHS:
            await person.open(f"/ui/{path}")
            assert (status, True) == (person.status, 'role="alert"' in person.html), (path, person.text)
        await person.open("/ui/catalog?store=1")
        await person.send("/ui/catalog/retire", store="\0", item=["avcc123"], what="retire")
        assert 404 == person.status


async def test_an_item_whose_id_is_a_dot_can_be_named(world: World) -> None:
    columns = "name, purchase_unit_id, consumption_unit_id, supplier_id, cost"
    for dots in (".", ".."):
        await world.execute(
            f"INSERT INTO pos_sync.item (store_id, item_id, {columns}) SELECT store_id, '{dots}', {columns}"
            " FROM pos_sync.item WHERE store_id = '1' AND item_id = 'avcc123'"
        )
    async with person_at(world) as person:
        for dots in (".", ".."):
            await person.open(f"/ui/catalog/stores/1/items/%20{dots}")
            assert (200, True) == (person.status, "Save" in person.text), person.text


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
        confirmed = person.html
        await person.send("/ui/syncs", items="9" * 5000)
        assert 400 == person.status
        person.html = confirmed
        await person.send("/ui/syncs", items="2")
        assert (409, True) == (person.status, "the store has 3 items to send by now, and 2 were shown" in person.text)
        person.html = confirmed
        await person.send("/ui/syncs")
        while "It has ended." not in person.text:
            await person.open(person.url)
        assert "done: items 3" in person.text
        await person.open("/ui/syncs")
        assert "page:Ana" in person.text
        person.html = confirmed
        await person.send("/ui/syncs", act_id="f" * 32)
        assert (409, True) == (person.status, "was started meanwhile" in person.text)


async def test_without_an_account_nothing_can_be_synchronised_and_it_says_why(world: World) -> None:
    async with person_at(world) as person:
        await person.open("/ui/syncs")
        assert "Nothing can be sent: no mipOS account is set" in person.text
        await person.open(f"/ui/syncs/confirm?store=1&system={SYSTEM}")
        assert 422 == person.status


async def test_a_visitor_reads_why_stock_differs_and_what_to_do_in_the_language_of_the_browser(world: World) -> None:
    await enliven(world)
    async with person_at(world) as person:
        person.client.headers["Accept-Language"] = "es"
        for explained in ("", "?explain=1"):
            await person.open(f"/ui/stores/1/items/avcc123{explained}")
            assert "un posible duplicado que no se aplicó" in person.text
        await world.execute(
            "INSERT INTO pos_sync.problem (name, subject, severity, words, since, looked_at)"
            " VALUES ('unsettled', '', 'warning', '1 delivery', now(), now())"
        )
        await person.open("/ui/")
        assert "Mire la carga y los bloqueos" in person.text
    assert set(CauseKind) == set(CAUSES)
