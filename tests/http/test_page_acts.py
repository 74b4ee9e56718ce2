"""Forms that change something: once each, on what was shown, and only for operators."""

import asyncio
import re
from decimal import Decimal

import pytest
from fastapi.routing import APIRoute
from sqlalchemy import text

from app.page.wiring import create_page
from app.receiving.signed_body import Receipt
from app.storage import transactions
from app.storage.engine import Database
from tests.conftest import settings_for
from tests.support.page import ORIGIN, PASSWORD, VIEWER_PASSWORD, Person, forms_of, person_at
from tests.support.public_url import reached
from tests.support.world import World

FOR_EVERYBODY = {"/login", "/link/{link}", "/logout", "/language", "/stock/past"}
"""What a viewer may send too"""
VALUES = {"store_id": "1", "item_id": "avcc123", "version": "1", "number": "1", "kind": "refused", "job_id": "0" * 32}


def orders(world: World) -> list[str]:
    """Every address that takes a form by which something is changed."""
    settings = settings_for(world, operator_password=PASSWORD)
    database = Database(settings.database_address)
    page = create_page(settings, database, Receipt(max_body_bytes=65536), on_recorded=lambda: None)
    routes = [one for one in page.routes if isinstance(one, APIRoute) and "POST" in (one.methods or set())]
    found = [one.path for one in routes if one.path not in FOR_EVERYBODY]
    return ["/ui" + re.sub(r"\{(\w+)(:\w+)?\}", lambda part: VALUES[part[1]], path) for path in found]


def token_in(html: str) -> str:
    return html.partition('name="form_token" value="')[2].partition('"')[0]


@pytest.mark.parametrize("settings", [{"password": VIEWER_PASSWORD}, {"operator_read_only": True}], ids=["viewer", "read-only"])
async def test_who_may_only_look_changes_nothing(world: World, settings: dict[str, object]) -> None:
    paths = orders(world)
    assert len(paths) > 10
    async with person_at(world, **settings) as person:  # type: ignore[arg-type]
        for path in paths:
            answer = await person.client.post(path, data={"form_token": token_in(person.html)}, headers=ORIGIN)
            assert 403 == answer.status_code, path


async def test_a_form_without_the_token_of_the_session_changes_nothing(world: World) -> None:
    async with person_at(world) as person:
        for path in orders(world):
            for token in ("", "x" * 22):
                answer = await person.client.post(path, data={"form_token": token}, headers=ORIGIN)
                assert 400 == answer.status_code, path


async def _form_of_a_count(person: Person, to: str) -> dict[str, str]:
    await person.open(f"/ui/stores/1/items/avcc123/count?to={to}")
    (form,) = [one for one in forms_of(person.html) if one["action"].endswith("/stock")]
    return {**dict(form["fields"]), "note": "counted"}


async def test_a_double_click_does_it_once_and_both_are_led_to_the_same_place(world: World) -> None:
    async with person_at(world) as person:
        fields = await _form_of_a_count(person, "12.5")
        path = "/ui/stores/1/items/avcc123/stock"
        both = await asyncio.gather(*(person.client.post(path, data=fields, headers=ORIGIN) for _ in range(2)))
        late = await person.client.post(path, data=fields, headers=ORIGIN)
        assert [303] * 3 == [one.status_code for one in [*both, late]]
        assert 1 == len({one.headers["location"] for one in [*both, late]})
    assert Decimal("12.5") == await world.level()
    assert 1 == len(await world.ledger())


async def test_what_has_changed_since_it_was_shown_is_not_done(world: World) -> None:
    async with person_at(world) as person:
        fields = await _form_of_a_count(person, "12.5")
        await world.execute("SELECT pos_sync.record_pos_movement('1', 'avcc123', 'sale', 1, 'meanwhile')")
        answer = await person.client.post("/ui/stores/1/items/avcc123/stock", data=fields, headers=ORIGIN)
        assert 409 == answer.status_code
        assert "is 12.69 now" in answer.text
        again = await person.client.post("/ui/stores/1/items/avcc123/stock", data=fields, headers=ORIGIN)
        assert 409 == again.status_code
    assert Decimal("12.69") == await world.level()


@pytest.mark.parametrize("to", ["1,250", "-3", "NaN", "1e40", "", "zwölf", "0x10"])
async def test_a_number_that_could_be_two_is_refused_with_the_reason(world: World, to: str) -> None:
    async with person_at(world) as person:
        await person.open(f"/ui/stores/1/items/avcc123/count?to={to}")
        assert (422, True) == (person.status, "Nothing was done" in person.text)


IN_SPANISH = [
    ("count?to=.", 'La cantidad no sirve (debe ser un número como "1.25").'),
    ("count?to=1000000000000000", "La cantidad no sirve (debe ser menor que 10^15)."),
    ("rows/7/reverse", "No existe: fila 7 de este artículo."),
]


async def test_faults_of_what_was_typed_are_told_in_spanish_alone(world: World) -> None:
    async with person_at(world) as person:
        form = await _form_of_a_count(person, "12.5")
        person.client.headers["Accept-Language"] = "es"
        for path, words in IN_SPANISH:
            await person.open(f"/ui/stores/1/items/avcc123/{path}")
            assert words in person.text
        for note, words in ((" ", "no debe quedar en blanco"), ("x" * 256, "tiene más de 255 caracteres")):
            answer = await person.client.post("/ui/stores/1/items/avcc123/stock", data={**form, "note": note}, headers=ORIGIN)
            assert (422, True) == (answer.status_code, f"La nota no sirve ({words}). Escriba por qué." in answer.text)
        await person.open("/ui/stores/1/items/avcc123/adopt?system=nobody")
        assert (422, 1) == (person.status, person.html.count('No se hizo nada. <span lang="en">'))


async def test_a_number_is_not_changed_without_a_reason(world: World) -> None:
    async with person_at(world) as person:
        fields = {**await _form_of_a_count(person, "12.5"), "note": "  "}
        assert 422 == (await person.client.post("/ui/stores/1/items/avcc123/stock", data=fields, headers=ORIGIN)).status_code
    assert [] == await world.ledger()


async def test_a_form_does_not_wait_for_long_and_says_why(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "BUSY_SECONDS", 0.3)
    async with person_at(world) as person:
        fields = await _form_of_a_count(person, "12.5")
        async with world.engine.begin() as connection:
            await connection.execute(text("SELECT FROM pos_sync.stock_level WHERE item_id = 'avcc123' FOR UPDATE"))
            answer = await person.client.post("/ui/stores/1/items/avcc123/stock", data=fields, headers=ORIGIN)
            assert 503 == answer.status_code
            assert "Somebody else is changing the same thing. Nothing was changed here." in answer.text
        again = await person.client.post("/ui/stores/1/items/avcc123/stock", data=fields, headers=ORIGIN)
        assert 303 == again.status_code
    assert Decimal("12.5") == await world.level()


async def test_the_same_id_with_other_content_is_another_act(world: World) -> None:
    async with person_at(world) as person:
        fields = await _form_of_a_count(person, "12.5")
        path = "/ui/stores/1/items/avcc123/stock"
        await person.client.post(path, data=fields, headers=ORIGIN)
        other = await person.client.post(path, data={**fields, "to": "9"}, headers=ORIGIN)
        assert 409 == other.status_code
    assert Decimal("12.5") == await world.level()


async def test_after_a_mistake_the_way_leads_back_to_the_form(world: World) -> None:
    async with person_at(world) as person:
        fields = {**await _form_of_a_count(person, "12.5"), "note": ""}
        headers = {**ORIGIN, "Referer": "http://pos/ui/stores/1/items/avcc123/count?to=12.5"}
        answer = await person.client.post("/ui/stores/1/items/avcc123/stock", data=fields, headers=headers)
        assert 'href="/ui/stores/1/items/avcc123/count?to=12.5"' in answer.text
        assert "Ana (operator)" in answer.text


async def test_a_ping_whose_form_comes_again_is_sent_once(world: World) -> None:
    async with reached(world) as settings, person_at(world, public_url=settings.public_url) as person:
        await person.open("/ui/system")
        form = person.fields("/ui/system/ping")
        both = await asyncio.gather(*(person.post(*form) for _ in range(2)))
        late = await person.post(*form)
        assert {(303, both[0].headers["location"])} == {(one.status_code, one.headers["location"]) for one in [*both, late]}
        await person.open(both[0].headers["location"])
        assert "A ping was asked for. The page System shows what came of it." in person.text
        assert "leads to this service" in person.text
    assert "returned" == await world.scalar("SELECT string_agg(state, ',') FROM pos_sync.ping")


async def test_who_did_what_is_kept_and_shown(world: World) -> None:
    async with person_at(world) as person:
        await person.open("/ui/acts")
        assert "Nothing was changed at this page yet" in person.text
        await person.open("/ui/catalog/stores/1/items/tom001")
        await person.send("/ui/catalog/stores/1/items/tom001", low_stock="30", name="Tomate")
        await person.open("/ui/catalog?store=1")
        await person.send("/ui/catalog/retire", item=["tom001", "saf001"], what="retire")
        await person.send("/ui/catalog/retired")
        await person.open("/ui/deliveries?kind=captured")
        await person.send("/ui/deliveries/captured/start")
        await person.log_in("Bea")
        await person.open("/ui/stores/1/items/avcc123/count?to=3")
        await person.send("/ui/stores/1/items/avcc123/stock", note="counted on Monday")
        await person.open("/ui/acts")
        html = person.html
        await person.send("/ui/language", language="es")
        spanish = await person.open("/ui/acts")
        rows = re.findall(r'"when"><a href="([^"]*)">[^<]*(?:<[^>]*>[^<]*)*?</a></td><td>(page:\w+)</td><td>(.*?)</td>', html)

    started = "The capture is on. Let mipOS send a movement now, and load this page again."
    changed = "tom001: Name: Tomato → Tomate, Low below: - → 30"
    assert [
        ("/ui/stores/1/items/avcc123", "page:Bea", "The count was recorded. Item: avcc123 Note: counted on Monday"),
        ("/ui/deliveries?kind=captured", "page:Ana", started),
        ("/ui/catalog?store=1", "page:Ana", "The chosen items were retired. saf001, tom001"),
        ("/ui/catalog?store=1&amp;q=tom001", "page:Ana", f"The item was changed. {changed}"),
    ] == rows
    # Kept as they are, so that each visitor reads them in their own language; a note is in that of who wrote it.
    assert "El conteo se registró. Artículo: avcc123 Nota: counted on Monday" in spanish
    assert "tom001: Nombre: Tomato → Tomate" in spanish


async def test_a_place_that_is_no_act_is_not_an_empty_list(world: World) -> None:
    async with person_at(world) as person:
        await person.open(f"/ui/acts?after={'a' * 32}")
        assert (404, True) == (person.status, "365 days" in person.text)


async def test_acts_are_listed_by_pages_and_kept_for_a_year(world: World) -> None:
    await world.execute(
        "INSERT INTO pos_sync.page_act (act_id, actor, location, words, done_at)"
        " SELECT lpad(to_hex(n), 32, '0'), 'page:Ana', '/ui/', 'act ' || n, now() - n * interval '6 days'"
        " FROM generate_series(1, 70) n"
    )
    async with person_at(world) as person:
        await person.send("/ui/language", language="en")
        found = []
        path = "/ui/acts"
        while path:
            await person.open(path)
            found.append([int(one) for one in re.findall(r">act (\d+)<", person.html)])
            path = "".join(re.findall(r'href="([^"]*)" rel="next"', person.html)).replace("&amp;", "&")
        assert [[*range(1, 51)], [*range(51, 71)]] == found
        fields = await _form_of_a_count(person, "12.5")
        await person.client.post("/ui/stores/1/items/avcc123/stock", data=fields, headers=ORIGIN)
    # 60 of them are younger than a year, and the count.
    assert 61 == await world.scalar("SELECT count(*) FROM pos_sync.page_act")
