"""The stock, and one item, as people see them at the page."""

import csv
import io
import re
from datetime import timedelta
from decimal import Decimal
from html import unescape
from urllib.parse import quote

import pytest

from app.storage.page_item import MAX_BUCKETS, read_course
from tests.support.outbox import sell
from tests.support.page import Person, person_at
from tests.support.world import World


async def test_the_stock_of_a_store_with_units_and_signs(world: World) -> None:
    async with person_at(world) as person:
        await person.open("/ui/stock?store=1")
        assert "13.69" in person.text
        assert person.status == 200, person.text
        await person.open("/ui/stock?store=1&below=1")
        assert "No such stock." in person.text


def items_in(person: Person) -> list[str]:
    """The items of the rows that are shown, in their order."""
    return [one.rpartition("/")[2] for one in re.findall(r'<td><a href="(/ui/stores/[^"]+)"', person.html)]


async def test_a_unit_shows_the_rows_of_that_unit_alone(world: World) -> None:
    await world.execute("UPDATE pos_sync.item SET consumption_unit_id = 'pos_box' WHERE item_id = 'tom001'")
    async with person_at(world) as person:
        await person.open("/ui/stock")
        assert ["avcc123", "saf001", "tom001", "item_abc123", "item_abc456"] == items_in(person)
        await person.send("/ui/stock", unit="box")
        assert (["tom001"], 1) == (items_in(person), person.html.count('<option value="box" selected>'))
        assert "22.5 box" in person.text
        await person.open("/ui/stock?unit=kg&q=a")
        assert ["avcc123", "saf001"] == items_in(person)
        await person.open("/ui/stock?unit=u2&store=2")
        assert ["item_abc123", "item_abc456"] == items_in(person)
        await person.open("/ui/stock?unit=u2&store=1")
        assert "No such stock." in person.text
        saved = list(csv.DictReader(io.StringIO((await person.client.get("/ui/stock.csv?unit=box")).text)))
        assert [("tom001", "22.5", "box")] == [(row["item"], row["stock"], row["unit"]) for row in saved]


async def test_what_is_below_zero_is_marked_and_its_filter_shows_it_alone(world: World) -> None:
    await sell(world, "20", "more than there was")
    await sell(world, "0.042", "all that there was", item="saf001")
    async with person_at(world) as person:
        await person.open("/ui/")
        assert "Below zero 1 " in person.text
        await person.open("/ui/stock")
        assert (1, 1) == (person.html.count('<tr class="below">'), person.text.count(" kg below zero "))
        await person.send("/ui/stock", below="1")
        assert ["avcc123"] == items_in(person)
        assert "Chicken breast -6.31 kg below zero " in person.text
        assert 'name="below" value="1" checked' in person.html
        await person.open("/ui/stock?below=1&store=2")
        assert "No such stock." in person.text
        await person.open("/ui/stores/1/items/avcc123")
        assert "-6.31 kg – below zero" in person.text


async def test_a_name_is_found_without_its_accents(world: World) -> None:
    await world.execute("UPDATE pos_sync.item SET name = 'Piña Ácida' WHERE item_id = 'avcc123'")
    async with person_at(world) as person:
        for typed in ("pina", "PIÑA", "ácida", "avcc123"):
            await person.open(f"/ui/stock?q={typed}")
            assert "Piña Ácida" in person.text, typed


async def test_a_name_is_found_by_its_own_spelling_in_a_database_without_a_locale(world: World) -> None:
    assert "C" == await world.scalar("SELECT datcollate FROM pg_database WHERE datname = current_database()")
    async with person_at(world) as person:
        for name in ("Пельмени ДОМ", "Łosoś ØL", "100% %_\\", "ﬁn 寿司"):
            await world.execute(f"UPDATE pos_sync.item SET name = '{name}' WHERE item_id = 'avcc123'")
            for path in ("/ui/stock", "/ui/catalog"):
                await person.open(f"{path}?q={quote(name)}")
                assert "/items/avcc123" in person.html, (name, path)
        await person.open("/ui/stock?q=%25b")
        assert "No such stock." in person.text


async def test_pages_of_stock_follow_where_an_id_holds_a_slash(world: World) -> None:
    for statement in (
        "store (store_id, name) VALUES ('a/b', 'A')",
        (
            "unit (store_id, unit_id, name, short_name)"
            " SELECT 'a/b', unit_id, name, short_name FROM pos_sync.unit WHERE store_id = '1'"
        ),
        "supplier (store_id, supplier_id, name) SELECT 'a/b', supplier_id, name FROM pos_sync.supplier WHERE store_id = '1'",
        (
            "item (store_id, item_id, name, purchase_unit_id, consumption_unit_id, supplier_id, cost)"
            " SELECT 'a/b', 'x/' || lpad(n::text, 3, '0'), 'Item ' || lpad(n::text, 3, '0'), purchase_unit_id,"
            " consumption_unit_id, supplier_id, cost FROM pos_sync.item, generate_series(1, 60) AS n"
            " WHERE store_id = '1' AND item_id = 'avcc123'"
        ),
        (
            "stock_level (store_id, item_id, quantity, version) SELECT store_id, item_id, 0, 0 FROM pos_sync.item"
            " WHERE store_id = 'a/b'"
        ),
    ):
        await world.execute(f"INSERT INTO pos_sync.{statement}")
    async with person_at(world) as person:
        await person.open("/ui/stock?store=a/b")
        assert "Item 050" in person.text
        (place,) = re.findall(r'href="([^"]+)" rel="next"', person.html)
        await person.open(unescape(place))
        assert (True, False, True) == ("Item 051" in person.text, "Item 050" in person.text, "Item 060" in person.text)
        await person.open("/ui/stock?after=x")
        assert 422 == person.status


async def test_times_that_cannot_be_asked_for_and_today(world: World) -> None:
    today = str(await world.scalar("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD')"))
    async with person_at(world) as person:
        for query, status in (
            ("at=9999-12-31", 422),
            ("at=9999-12-31T23:59", 422),
            ("at=0001-01-01", 200),
            (f"at={today}", 200),
            (f"at={today}&below=1", 422),
            (f"at={today}&below=1&store=1", 200),
        ):
            await person.open(f"/ui/stock?{query}")
            assert status == person.status, (query, person.text)
        await person.open("/ui/stock")
        assert "As of (UTC)" in person.text


async def test_csv_and_csv_for_excel(world: World) -> None:
    await world.execute("UPDATE pos_sync.item SET name = '=1+1;x' WHERE item_id = 'avcc123'")
    async with person_at(world) as person:
        plain = list(csv.reader(io.StringIO((await person.client.get("/ui/stock.csv?store=1")).text)))
        excel = (await person.client.get("/ui/stock.csv?store=1&form=excel")).content.decode("utf-8-sig")
        row = next(one for one in plain if one[1] == "avcc123")
        assert ("'=1+1;x", "13.69") == (row[2], row[3])
        assert "13,69" in next(one for one in csv.reader(io.StringIO(excel), delimiter=";") if one[1] == "avcc123")


async def test_a_filter_that_there_is_not_and_a_store_that_there_is_not(world: World) -> None:
    async with person_at(world) as person:
        await person.open("/ui/stock?stor=1")
        assert (422, True) == (person.status, "is no filter" in person.text)
        await person.open("/ui/stock?store=nowhere")
        assert 404 == person.status


async def test_an_item_with_its_ledger_and_its_course(world: World) -> None:
    async with person_at(world) as person:
        await person.open("/ui/stores/1/items/avcc123")
        assert person.status == 200, person.text
        assert "13.69" in person.text
        assert "<svg" in person.html
        await person.open("/ui/stores/1/items/nothing")
        assert 404 == person.status


async def test_a_count_is_shown_before_it_is_recorded(world: World) -> None:
    async with person_at(world) as person:
        await person.open("/ui/stores/1/items/avcc123")
        await person.send("/ui/stores/1/items/avcc123/count", to="12.5")
        assert "Stock afterwards 12.5" in person.text
        assert "-1.19" in person.text
        await person.send("/ui/stores/1/items/avcc123/stock", note="counted on Monday")
        assert "The count was recorded." in person.text
        assert "page:Ana" in person.text
        assert "counted on Monday" in person.text
        assert Decimal("12.5") == await world.level()


async def test_what_was_taken_back_is_not_offered_again(world: World) -> None:
    await world.execute("SELECT pos_sync.record_pos_movement('1', 'avcc123', 'sale', 1, 'once')")
    async with person_at(world) as person:
        item = "/ui/stores/1/items/avcc123"
        await person.open(f"{item}/rows/2/reverse")
        await person.send(f"{item}/rows/2/reverse", note="typed twice")
        assert "The row was taken back." in person.text
        assert f"{item}/rows/2/reverse" not in person.html
        await person.open(f"{item}/rows/2/reverse")
        assert "It was taken back before." in person.text
        assert f'action="{item}/rows/2/reverse"' not in person.html


async def test_the_course_of_a_young_item_ends_now(world: World) -> None:
    now = await world.scalar("SELECT now()")
    async with world.engine.connect() as connection:
        for seconds in (0, 1, 61.5, 86400):
            since = now - timedelta(seconds=seconds)
            course = await read_course(connection, "1", "avcc123", level=Decimal(1), version=1, since=since, until=now)
            assert max(seconds, 1) == pytest.approx(course.step * len(course.levels))
            assert len(course.levels) <= min(MAX_BUCKETS, max(seconds, 1))


async def test_the_stock_of_the_past_as_csv_is_made_in_the_background_once(world: World) -> None:
    await world.execute("SELECT pos_sync.record_pos_movement('1', 'avcc123', 'sale', 1, 'later')")
    async with person_at(world) as person:
        await person.open("/ui/stock?store=1&at=2026-01-01T12:00")
        assert "13.69" in person.text
        await person.send("/ui/stock/past")
        while "It has ended." not in person.text:
            await person.open(person.url)
        made = await person.client.get(f"{person.url.partition('?')[0]}/stock.csv")
        row = next(one for one in csv.reader(io.StringIO(made.text)) if one[1] == "avcc123")
        assert "13.69" == row[3]
    assert 1 == await world.scalar("SELECT count(*) FROM pos_sync.page_job")
