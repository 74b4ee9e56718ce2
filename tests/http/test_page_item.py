"""One item at the page: the number of an inventory system is taken once, and the chart draws what the ledger holds."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import unescape
from itertools import groupby, pairwise

import pytest
from sqlalchemy import text

from app.operator.drift import refresh
from app.stock.rules import Rules
from app.stock.text import DATE_FORMAT
from app.storage.page_item import MAX_BUCKETS
from tests.support.mipos import SYSTEM
from tests.support.outbox import OTHER, connect_stores, messages, sell
from tests.support.page import VIEWER_PASSWORD, Person, person_at
from tests.support.sender import PATH, body_of, signed
from tests.support.world import World

ITEM = "/ui/stores/1/items/avcc123"


async def report(person: Person, **changes: object) -> None:
    body = body_of(**changes)
    assert 204 == (await person.client.post(PATH, content=body, headers=signed(body))).status_code


async def differ(world: World, person: Person) -> None:
    """We have 12.44 and the system 12, as was just compared."""
    await report(person, quantity="1.25", current_stock="12")
    await refresh(world.engine, Rules(), limit=100)


async def test_a_system_that_is_not_connected_is_shown_as_long_as_it_differs(world: World) -> None:
    async with person_at(world) as person:
        body = body_of(inventory_system_id="typo-system")
        assert 409 == (await person.client.post(PATH, content=body, headers=signed(body))).status_code
        await refresh(world.engine, Rules(), limit=100)
        await person.open(ITEM)
        assert "typo-system" in person.text
        await world.execute("UPDATE pos_sync.refused_delivery SET state = 'dismissed', closed_at = now()")
        await refresh(world.engine, Rules(), limit=100)
        await person.open(ITEM)
        assert "typo-system" not in person.text


async def test_the_number_of_a_system_is_seen_before_it_is_taken_and_taken_once(world: World) -> None:
    async with person_at(world) as person:
        await differ(world, person)
        await person.open(ITEM)
        assert f"{SYSTEM} 12.44 kg 12 kg" in person.text
        assert "+0.44 kg" in person.text
        await person.send(f"{ITEM}/adopt")
        assert "Stock now 12.44 kg Stock afterwards 12 kg (-0.44 kg)" in person.text
        assert "The system is not told: it has that number." in person.text
        assert Decimal("12.44") == await world.level()

        action, fields = person.fields(f"{ITEM}/stock")
        without_note = await person.post(action, {**fields, "note": " "})
        sent = {**fields, "note": "they counted on Monday"}
        answers = [*await asyncio.gather(person.post(action, sent), person.post(action, sent)), await person.post(action, sent)]
        assert 422 == without_note.status_code
        assert [(303, answers[0].headers["location"])] * 3 == [(one.status_code, one.headers["location"]) for one in answers]
        await person.open(answers[0].headers["location"])
        assert "The number was adopted." in person.text
        assert f"number set {SYSTEM}" in person.text
        assert "page:Ana ; they counted on Monday" in person.text
        await person.open(f"{ITEM}?explain=1")
        assert "Take its number" not in person.text

    _, row = await world.ledger()
    assert ("reconcile", SYSTEM, Decimal("-0.44")) == (row.source, row.inventory_system_id, row.delta)
    assert ("page:Ana", "they counted on Monday") == (row.actor, row.note)
    assert Decimal(12) == await world.level()
    assert [] == await messages(world)
    assert {} == await world.broken_invariants()


async def test_a_number_is_not_taken_where_the_stock_has_moved_since_it_was_shown(world: World) -> None:
    async with person_at(world) as person:
        await differ(world, person)
        await person.open(f"{ITEM}/adopt?system={SYSTEM}")
        action, fields = person.fields(f"{ITEM}/stock")
        await sell(world, "1", "meanwhile")
        answer = await person.post(action, {**fields, "note": "late"})
        assert (409, True) == (answer.status_code, "is 11.44 now" in answer.text)
    assert ["inventory_system", "pos_sale"] == [row.source for row in await world.ledger()]


async def test_a_number_that_is_not_known_or_not_settled_is_not_taken_and_the_reason_is_told(world: World) -> None:
    async with person_at(world) as person:
        await differ(world, person)
        await person.open(f"{ITEM}/adopt?system={OTHER}")
        assert (422, True) == (person.status, "has reported no stock of item avcc123" in person.text)
        await connect_stores(world)
        await sell(world, "1", "on its way")
        await person.open(f"{ITEM}/adopt?system={SYSTEM}")
        assert (422, True) == (person.status, "are still on their way to it" in person.text)


@pytest.mark.parametrize("settings", [{"password": VIEWER_PASSWORD}, {"operator_read_only": True}], ids=["viewer", "read-only"])
async def test_who_may_only_look_sees_the_difference_and_takes_no_number(world: World, settings: dict[str, object]) -> None:
    async with person_at(world, **settings) as person:  # type: ignore[arg-type]
        await differ(world, person)
        await person.open(ITEM)
        assert ("+0.44 kg" in person.text, "Take its number" in person.text) == (True, False)
        await person.open(f"{ITEM}/adopt?system={SYSTEM}")
        assert 403 == person.status


@dataclass(frozen=True)
class Step:
    """A stretch of the chart, as its title or a row of the table says it."""

    begins: datetime
    ends: datetime
    level: Decimal
    is_counted: bool
    reports: tuple[tuple[str, Decimal], ...]

    def holds(self, moment: datetime) -> bool:
        return self.begins <= moment < self.ends


def _moment(shown: str) -> datetime:
    return datetime.strptime(shown, DATE_FORMAT).replace(tzinfo=UTC)


def _reports(shown: str) -> tuple[tuple[str, Decimal], ...]:
    return tuple((system, Decimal(stock)) for system, stock in re.findall(r"(\S+): (-?[0-9.]+)", shown))


def steps_on_hover(html: str) -> list[Step]:
    found = []
    for title in re.findall(r'<rect class="hover"[^>]*><title>(.*?)</title></rect>', html):
        times, more = re.fullmatch(r"(.{19} – .{19}): (.*)", unescape(title)).groups()  # type: ignore[union-attr]
        level, *marks = re.split("[,;] ", more)
        begins, ends = times.split(" – ")
        number, unit = level.split(" ")
        assert "kg" == unit
        found.append(Step(_moment(begins), _moment(ends), Decimal(number), "counted" in marks, _reports(" ".join(marks))))
    return found


def steps_of_table(html: str) -> list[Step]:
    table = html.partition("<caption>The level over time, the newest last</caption>")[2].partition("</table>")[0]
    found = []
    for row in re.findall("<tr>(<td>.*?)</tr>", table):
        begins, ends, level, remarks = [re.sub("<[^>]+>", "", cell) for cell in re.findall("<td.*?>(.*?)</td>", row)]
        found.append(Step(_moment(begins), _moment(ends), Decimal(level), "counted" in remarks, _reports(remarks)))
    return found


async def history(world: World) -> list[tuple[datetime, Decimal, str]]:
    """Each row of the ledger in the order in which they happened: when, the level after it, and its source."""
    async with world.engine.connect() as connection:
        query = text(
            "SELECT coalesce(happened_at, received_at), sum(delta) OVER (ORDER BY coalesce(happened_at, received_at)), source"
            " FROM pos_sync.stock_movement WHERE store_id = '1' AND item_id = 'avcc123' ORDER BY 1"
        )
        return [(row[0], row[1], row[2]) for row in await connection.execute(query)]


def quantities_drawn(html: str, shape: str) -> list[Decimal]:
    """Which quantities the heights of a shape stand for, by the two horizontal lines that say theirs."""
    lines = re.findall(r'<line class="axis"[^>]*y1="([0-9.]+)"[^>]*/><text[^>]*>(-?[0-9.]+)</text>', html)
    (bottom, low), (top, high) = [(Decimal(y), Decimal(value)) for y, value in lines]
    shares = [(Decimal(y) - bottom) / (top - bottom) for y in re.findall(shape, html)]
    return [round(low + share * (high - low), 1) for share in shares]


def levels_in_turn(levels: Sequence[Decimal]) -> list[Decimal]:
    return [level for level, _ in groupby(levels)]


async def test_the_chart_has_the_levels_of_the_ledger_on_hover_and_in_a_table(world: World) -> None:
    await world.execute(
        "UPDATE pos_sync.store SET timezone = 'UTC' WHERE store_id = '1'",
        f"INSERT INTO pos_sync.integration (store_id, inventory_system_id, user_id_tps) VALUES ('1', '{OTHER}', '31')",
    )
    for kind, quantity, days in (("sale", "1.5", 20), ("sale", "20", 10), ("count", "10.2", 5), ("receipt", "4", 2)):
        moved = f"'1', 'avcc123', '{kind}', {quantity}, '{days}', now() - interval '{days} days'"
        await world.execute(f"SELECT pos_sync.record_pos_movement({moved})")
    date = (await world.scalar("SELECT now() - interval '10 minutes'")).strftime(DATE_FORMAT)
    async with person_at(world) as person:
        await report(person, quantity="1", current_stock="13.4", date=date)
        await report(person, quantity="2", current_stock="7.5", date=date, inventory_system_id=OTHER)
        await person.open(f"{ITEM}?span=month")
        html = person.html
    rows = await history(world)
    steps = steps_on_hover(html)

    assert steps == steps_of_table(html)
    assert levels_in_turn([level for _, level, _ in rows]) == levels_in_turn([step.level for step in steps])
    # The opening lies before the month.
    for moment, level, source in rows[1:]:
        (step,) = [one for one in steps if one.holds(moment)]
        assert (source == "pos_count") == step.is_counted, source
        assert source == "inventory_system" or (level, ()) == (step.level, step.reports)
    assert {(SYSTEM, Decimal("13.4")), (OTHER, Decimal("7.5"))} == {one for step in steps for one in step.reports}
    assert all(one.ends == other.begins for one, other in pairwise(steps))
    # Heights are drawn to a tenth.
    turns = [round(level, 1) for level in levels_in_turn([step.level for step in steps])]
    assert turns == quantities_drawn(html, "[MV](?:[0-9.]+ )?([0-9.]+)(?=[^<]*/>)")
    assert [Decimal("10.2")] == quantities_drawn(html, '<circle class="count" cx="[0-9.]+" cy="([0-9.]+)"')
    assert {Decimal("13.4"), Decimal("7.5")} == set(quantities_drawn(html, '<circle class="system[^>]* cy="([0-9.]+)"'))
    assert {"system", "system second"} == set(re.findall('<circle class="(system[^"]*)"', html))
    legend = ["Line: our level", "Ring: a count", *(f"Dot: what {one} reported" for one in sorted((SYSTEM, OTHER)))]
    assert legend == re.findall("<li>([^<]*)</li>", html.partition('<ul class="legend">')[2].partition("</ul>")[0])
    # Our level was below zero for some days.
    assert 1 == html.count('<line class="zero"')


async def test_the_chart_of_many_movements_has_at_most_500_steps_and_each_is_a_level_that_there_was(world: World) -> None:
    await world.execute(
        "UPDATE pos_sync.store SET timezone = 'UTC' WHERE store_id = '1'",
        "SELECT count(pos_sync.record_pos_movement('1', 'avcc123', 'sale', 1, 'k' || n, now() - n * interval '40 minutes'))"
        " FROM generate_series(1500, 1, -1) AS n",
    )
    async with person_at(world) as person:
        await person.open(f"{ITEM}?span=month")
        steps = steps_on_hover(person.html)
    rows = await history(world)

    def level_at(moment: datetime) -> Decimal:
        return [level for at, level, _ in rows if at < moment][-1]

    assert 500 == MAX_BUCKETS
    assert MAX_BUCKETS == len(steps)
    for step in steps:
        # Shown to the second.
        assert step.level in {level_at(step.ends), level_at(step.ends + timedelta(seconds=1))}
    assert await world.level() == steps[-1].level
