"""The stock, and one item, as people see them at the page."""

import csv
import io
from decimal import Decimal

from tests.support.page import person_at
from tests.support.world import World


async def test_the_stock_of_a_store_with_units_and_signs(world: World) -> None:
    async with person_at(world) as person:
        await person.open("/ui/stock?store=1")
        assert "13.69" in person.text
        assert person.status == 200, person.text
        await person.open("/ui/stock?store=1&below=1")
        assert "No such stock." in person.text


async def test_a_name_is_found_without_its_accents(world: World) -> None:
    await world.execute("UPDATE pos_sync.item SET name = 'Piña Ácida' WHERE item_id = 'avcc123'")
    async with person_at(world) as person:
        for typed in ("pina", "PIÑA", "ácida", "avcc123"):
            await person.open(f"/ui/stock?q={typed}")
            assert "Piña Ácida" in person.text, typed


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
        assert "Stock then 12.5" in person.text
        assert "-1.19" in person.text
        await person.send("/ui/stores/1/items/avcc123/stock", note="counted on Monday")
        assert "The count was recorded." in person.text
        assert "page:Ana" in person.text
        assert "counted on Monday" in person.text
        assert Decimal("12.5") == await world.level()


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
