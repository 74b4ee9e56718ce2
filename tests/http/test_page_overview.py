"""What needs a person, at the page."""

import pytest

from tests.conftest import running, settings_for
from tests.support.page import person_at
from tests.support.sender import PATH, body_of, signed
from tests.support.world import World

PROBLEM = (
    "INSERT INTO pos_sync.problem (name, subject, severity, words, since, looked_at)"
    " VALUES ('refusals', 'unknown_item', 'warning', 'Open: 3 <b>', now(), now())"
)
LOOK = "INSERT INTO pos_sync.alert_state (looked_at) VALUES (now()) ON CONFLICT (is_only) DO UPDATE SET looked_at = now()"


async def test_a_problem_stands_first_with_what_to_do(world: World) -> None:
    await world.execute(LOOK, PROBLEM)
    async with person_at(world) as person:
        assert "warning Refused deliveries wait for a person (unknown_item)" in person.text
        assert "Open: 3 <b>" in person.text
        assert "<b>Open" not in person.html
        assert 'href="/ui/deliveries?reason=unknown_item"' in person.html
        await person.open("/ui/parts/needs")
        assert "<html" not in person.html
        assert "Refused deliveries wait" in person.text


async def test_a_problem_says_since_when_it_is_there_for_as_long_as_it_is(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nobody else looks.
    monkeypatch.setattr("app.operations.problem_watch.START_SECONDS", 3600.0)
    monkeypatch.setattr("app.operations.problem_watch.LOOK_SECONDS", 3600.0)
    async with running(settings_for(world)) as (app, client):
        body = body_of(external_id="unknown")
        assert 409 == (await client.post(PATH, content=body, headers=signed(body))).status_code
        watch = app.state.service._problem_watch()  # noqa: SLF001 - as it looks every 15 seconds
        await watch.look()
        await world.execute(
            "UPDATE pos_sync.problem SET since = '2026-03-04 05:06:07Z', words = 'as they were' WHERE subject = 'unknown_item'",
            "UPDATE pos_sync.alert_state SET looked_at = now() - interval '1 day'",
        )
        await watch.look()
    async with person_at(world) as person:
        for path in ("/ui/", "/ui/parts/needs"):
            await person.open(path)
            assert "Refused deliveries wait for a person (unknown_item)" in person.text
            assert "as they were" not in person.text
            assert 1 == person.text.count("Since 2026-03-04 05:06:07 UTC+00:00 . Look at it")
            assert '<time datetime="2026-03-04T05:06:07+00:00"' in person.html


async def test_where_nothing_is_wrong_it_says_so_and_when_it_looked(world: World) -> None:
    await world.execute(LOOK)
    async with person_at(world) as person:
        assert "Nothing needs a person." in person.text
        assert "Last looked" in person.text


async def test_where_nobody_looks_that_is_the_problem(world: World) -> None:
    await world.execute(LOOK.replace("now()", "now() - interval '1 hour'"))
    async with person_at(world) as person:
        assert "critical Nobody looks for problems" in person.text


PLACES = [
    ("signatures", "store 1, system 7", "/ui/deliveries?kind=captured"),
    ("refusals", "unknown_store", "/ui/deliveries?reason=unknown_store"),
    ("duplicates", "", "/ui/deliveries?kind=suspected"),
    ("outbox_dead", "store 1, system a b", "/ui/outbox?state=dead&amp;store=1&amp;system=a+b"),
    ("outbox_late", "store 1, system 7", "/ui/outbox?state=pending&amp;store=1&amp;system=7"),
    ("outbox_late", "store 1, system 7, system 8", "/ui/outbox?state=pending"),
    ("drift", "store 1, not_told", "/ui/stock?store=1&amp;differs=1"),
    ("sync", "store 1, system 7", "/ui/syncs?store=1"),
    ("low_stock", "", "/ui/stock?low=1"),
    ("disk", "", "/ui/system"),
]


async def test_each_problem_leads_to_its_rows(world: World) -> None:
    for name, subject, _ in PLACES:
        await world.execute(LOOK, PROBLEM.replace("refusals", name).replace("unknown_item", subject))
    async with person_at(world) as person:
        html = await person.open("/ui/")
        for name, subject, place in PLACES:
            assert f'href="{place}"' in html, (name, subject)
            await person.open(place.replace("&amp;", "&"))
            assert 200 == person.status, place
