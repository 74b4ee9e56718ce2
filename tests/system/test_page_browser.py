"""The operator page in a real browser: every page and act, at three widths, light and dark, and once without JavaScript."""

import csv
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.browser import Window, chromium, log_in, needs_browser, window
from tests.support.mipos import mipos
from tests.support.outbox import until
from tests.support.page import PASSWORD, VIEWER_PASSWORD
from tests.support.page_world import PAGES, enliven
from tests.support.postgres import rename_database
from tests.support.sender import PATH, SECRET, body_of, signed
from tests.support.service import Service, free_port, run_command, serving
from tests.support.world import World

pytestmark = [needs_browser, pytest.mark.slow, pytest.mark.timeout(600)]
SCREENSHOTS = os.environ.get("POS_SYNC_SCREENSHOTS")
PICTURES = {
    "login": "/ui/login",
    "needs": "/ui/",
    "stock": "/ui/stock?store=1",
    "item": "/ui/stores/1/items/avcc123",
    "count": "/ui/stores/1/items/avcc123/count?to=3",
    "deliveries": "/ui/deliveries",
    "delivery": "/ui/deliveries/refused/1",
    "confirm": "/ui/deliveries/refused/confirm?number=1&number=2",
    "suspected": "/ui/deliveries/suspected/1",
    "captured": "/ui/deliveries/captured/2",
    "outbox": "/ui/outbox",
    "stock-update": "/ui/outbox/1",
    "jobs": "/ui/jobs",
    "job": "/ui/jobs/00000000000000000000000000000001",
    "acts": "/ui/acts",
    "syncs": "/ui/syncs",
    "catalog": "/ui/catalog?store=1",
    "catalog-item": "/ui/catalog/stores/1/items/avcc123",
    "system": "/ui/system",
    "search": "/ui/search?q=o",
}
"""The pictures of the documents"""
EACH_SIZE = [(width, scheme) for scheme in ("light", "dark") for width in (320, 768, 1280)]

SIZES_OF_AXE = {(320, "light"), (1280, "dark")}
"""Where the pages that acts lead to are looked at by axe"""
TURN = os.environ.get("POS_SYNC_TURN")
"""Of CI, whose time is short: the other windows do the acts by turns. Without it, all of them do."""


def _windows_of_acts() -> list[tuple[int, str, bool]]:
    by_turns = [one for one in EACH_SIZE if one not in SIZES_OF_AXE]
    chosen = by_turns if TURN is None else [by_turns[int(TURN) % len(by_turns)]]
    return [*((width, scheme, True) for width, scheme in [*sorted(SIZES_OF_AXE), *chosen]), (1280, "light", False)]


@asynccontextmanager
async def at_work(world: World) -> AsyncIterator[Service]:
    """A service in a world with something of everything, with an account at a mipOS, that is reached at its PUBLIC_URL."""
    await enliven(world)
    port = free_port()
    async with mipos() as remote:
        settings = remote.settings(port=port, public_url=f"http://127.0.0.1:{port}", mipos_register_on_startup=False)
        passwords = {"operator_password": PASSWORD, "viewer_password": VIEWER_PASSWORD}
        with serving(world.service_url, **settings, **passwords, seal_every=0) as service:
            yield service


@pytest.mark.parametrize(("width", "scheme"), EACH_SIZE)
async def test_every_page_is_right(world: World, width: int, scheme: str) -> None:
    async with (
        at_work(world) as service,
        chromium() as browser,
        window(browser, service.url, width=width, scheme=scheme) as opened,
    ):
        await _look_at_every_page(opened, world)


@pytest.mark.parametrize(("language", "runs_scripts"), [("es", True), ("en", False)], ids=["spanish", "without-scripts"])
async def test_every_page_is_right_in_spanish_and_without_scripts(world: World, language: str, *, runs_scripts: bool) -> None:
    async with (
        at_work(world) as service,
        chromium() as browser,
        window(browser, service.url, width=320, language=language, runs_scripts=runs_scripts) as opened,
    ):
        await _look_at_every_page(opened, world)
        assert language == await opened.page.get_attribute("html", "lang")


async def _look_at_every_page(opened: Window, world: World) -> None:
    """The login, each page for operators, and what a viewer is told who asks for something else."""
    for path in ("/ui/login", "/ui/link/of-nobody"):
        await opened.open(path)
        await opened.look()
    await log_in(opened, password=PASSWORD)
    for path in PAGES:
        await opened.open(path)
        await opened.look()
    await log_in(opened, password=VIEWER_PASSWORD)
    for path, status in (
        ("/ui/nothing", 404),
        ("/ui/deliveries/refused/999", 404),
        ("/ui/stores/1/items/avcc123/count?to=3", 403),
        ("/ui/stock?misspelt=1", 422),
    ):
        await opened.open(path, status=status)
        await opened.look()
    await rename_database(world.database, f"{world.database}_away")
    try:
        await opened.open("/ui/stock", status=503)
        await opened.look()
    finally:
        await rename_database(f"{world.database}_away", world.database)


@pytest.mark.parametrize(("width", "scheme", "runs_scripts"), _windows_of_acts())
async def test_every_act_as_a_person_does_it(world: World, width: int, scheme: str, *, runs_scripts: bool) -> None:
    async with (
        at_work(world) as service,
        chromium() as browser,
        window(browser, service.url, width=width, scheme=scheme, runs_scripts=runs_scripts) as opened,
    ):
        # Each page is looked at in every window by another test; axe takes as long as all the acts.
        opened.has_axe = (width, scheme) in SIZES_OF_AXE
        await _log_in_by_a_link(opened, world)
        await log_in(opened, password=PASSWORD)
        await _replay_and_dismiss_and_open_again(opened)
        await _decide_what_a_count_held(opened)
        await _decide_suspected_duplicates(opened)
        await _decide_what_came_from_before_a_count(opened, world, service)
        await _replay_several(opened)
        await _act_on_refusals_of_a_whole_list(opened, world)
        await _send_and_dismiss_stock_updates(opened)
        await _send_all_again(opened, world)
        await _send_and_dismiss_one_at_its_page(opened, world)
        await _send_and_dismiss_a_whole_list(opened, world)
        await _capture_and_deliver(opened)
        await _take_the_number_of_a_system(opened)
        await _compare_and_look_back(opened)
        await _count(opened)
        await _take_back(opened)
        await _find_stock_and_save_it(opened)
        await _make_a_csv_of_the_past(opened)
        await _retire_and_bring_back(opened)
        await _change_an_item(opened)
        await _change_name_unit_and_supplier(opened, world)
        await _ping(opened)
        await _synchronise(opened)
        await _search(opened)
        await _choose_spanish_and_leave(opened)
    assert 0 == await world.scalar(
        "SELECT count(*) FROM pos_sync.stock_movement"
        " WHERE source IN ('reconcile', 'reversal') AND (note IS NULL OR actor <> 'page:Ana')"
    )


async def test_by_keyboard_alone(world: World) -> None:
    async with at_work(world) as service, chromium() as browser, window(browser, service.url, width=1280) as opened:
        await opened.open("/ui/login")
        await _skip_to_the_content(opened)
        await _type_after_tabs(opened, "Your name", "Ana")
        await _type_after_tabs(opened, "Password", PASSWORD)
        await _enter(opened, "Needs a person")
        await opened.open("/ui/stores/1/items/tom001")
        await _skip_to_the_content(opened)
        await _type_after_tabs(opened, "Counted", "20.25")
        await _enter(opened, "Stock afterwards 20.25 kg")
        await _type_after_tabs(opened, "Why", "counted on Monday")
        await _tab_to(opened, "Record the count")
        await _enter(opened, "The count was recorded.")
    assert 1 == await world.scalar(
        "SELECT count(*) FROM pos_sync.stock_movement WHERE note = 'counted on Monday' AND actor = 'page:Ana'"
    )


FOCUSED = """() => {
    const one = document.activeElement;
    return (one.labels?.[0] ?? one).innerText.trim();
}"""
"""The words of what has the focus: of a field, its label"""
MAX_TABS = 40


async def _skip_to_the_content(opened: Window) -> None:
    """By the first link of the page, which is seen once it has the focus."""
    link = opened.page.locator(".skip")
    assert not await _is_within_the_window(link)
    await opened.page.keyboard.press("Tab")
    assert "Skip to the content" == await opened.page.evaluate(FOCUSED)
    assert await _is_within_the_window(link)
    await opened.page.keyboard.press("Enter")
    assert "content" == await opened.page.evaluate("document.activeElement.id")


async def _is_within_the_window(link: Any) -> bool:
    box = await link.bounding_box()
    return box is not None and box["x"] >= 0 and box["y"] >= 0


async def _tab_to(opened: Window, words: str) -> None:
    """Press Tab until the field or button with these words has the focus, and a mark that shows it."""
    for _ in range(MAX_TABS):
        await opened.page.keyboard.press("Tab")
        if (await opened.page.evaluate(FOCUSED)).startswith(words):
            assert "solid" == await opened.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            return
    raise AssertionError(words)


async def _type_after_tabs(opened: Window, words: str, typed: str) -> None:
    await _tab_to(opened, words)
    await opened.page.keyboard.type(typed)


async def _enter(opened: Window, then: str) -> None:
    """Send what has the focus; the page that comes says `then`."""
    async with opened.page.expect_navigation():
        await opened.page.keyboard.press("Enter")
    await opened.shows(then)


@pytest.mark.parametrize(
    ("path", "caption"),
    [
        ("/ui/stores/1/items/avcc123", "Movements, the last written first"),
        ("/ui/stock?store=1", "Levels, in order of store and name"),
        ("/ui/deliveries", "Refused deliveries, the newest first. Each was answered with an error, so the sender knows."),
        ("/ui/outbox", "Stock updates, the newest first"),
        ("/ui/catalog?store=1", "Items, in order of their names"),
    ],
    ids=["item", "stock", "deliveries", "outbox", "catalog"],
)
async def test_on_paper_is_the_table_and_nothing_to_press(world: World, path: str, caption: str) -> None:
    async with at_work(world) as service, chromium() as browser, window(browser, service.url, width=768) as opened:
        await log_in(opened, password=PASSWORD)
        await opened.open(path)
        to_press = opened.page.locator("nav, form:not(:has(table)), button, input, select, .skip, .who")
        assert [one for one in await to_press.all() if await one.is_visible()]
        await opened.page.emulate_media(media="print")
        assert [] == [await one.inner_text() for one in await to_press.all() if await one.is_visible()]
        table = opened.page.locator("table", has=opened.page.get_by_text(caption, exact=True))
        assert await table.is_visible()
        assert await table.locator("tbody tr").first.is_visible()
        # No part of it is to be scrolled to.
        assert "visible" == await table.locator("xpath=..").evaluate("one => getComputedStyle(one).overflow")


async def _log_in_by_a_link(opened: Window, world: World) -> None:
    made = run_command(
        "page", "link", "--name", "Bea", DATABASE_URL=world.service_url, OPERATOR_PASSWORD=PASSWORD, MIPOS_CLIENT_SECRET=SECRET
    )
    await opened.open("/ui/" + made.stdout.strip().partition("/ui/")[2])
    await opened.shows("Log in by this link")
    await opened.press("Log in")
    await opened.shows("Bea (operator)")
    await opened.press("Log out")
    await opened.shows("Your name")


async def _replay_and_dismiss_and_open_again(opened: Window) -> None:
    await opened.open("/ui/deliveries")
    await opened.open("/ui/deliveries/refused/1")
    await opened.press("Replay: first see what would happen")
    await opened.shows("refused again")
    await opened.fill("Note", "to see why")
    await opened.press("Replay 1 delivery")
    await opened.shows("Refused delivery 1: refused again.")
    await opened.fill("Note", "typed by hand")
    await opened.press("Dismiss")
    await opened.shows("1 refused delivery was dismissed.")
    await opened.fill("Note", "the item is imported now")
    await opened.press("Open again")
    await opened.shows("was opened again")


async def _decide_what_a_count_held(opened: Window) -> None:
    await opened.open("/ui/deliveries/refused/3")
    await opened.press("Replay: first see what would happen")
    await opened.shows("needs a decision")
    await opened.page.get_by_label("The count held them: close them, the stock stays").check()
    await opened.fill("Note: why", "it is in the list of the count")
    await opened.press("Replay 1 delivery")
    await opened.shows("Refused delivery 3: closed, since the count held it.")


async def _decide_suspected_duplicates(opened: Window) -> None:
    for number, note, button, state in (
        (1, "it was a second box", "It counts", "applied"),
        (2, "one box, reported twice", "It does not count", "dismissed"),
    ):
        await opened.open("/ui/deliveries?kind=suspected")
        await opened.press(str(number))
        form = opened.page.locator("form", has=opened.page.get_by_role("button", name=button, exact=True))
        await form.get_by_label("Note").fill(note)
        await opened.press(button)
        await opened.shows(f"Suspected duplicate {number}:", state, note)


async def _decide_what_came_from_before_a_count(opened: Window, world: World, service: Service) -> None:
    """It was applied when it came. Where it counts, the stock stays; else it is taken back."""
    assert Decimal(40) == await world.level("lem001")
    for day, note, button, state in (
        (24, "the count had not seen it", "It counts", "applied"),
        (25, "the count had seen it", "It does not count", "dismissed"),
    ):
        body = body_of(external_id="lem001", date=f"2024-11-{day} 09:40:01", current_stock=f"{day}")
        async with httpx2.AsyncClient() as client:
            assert 204 == (await client.post(f"{service.url}{PATH}", content=body, headers=signed(body))).status_code
        number = await world.scalar("SELECT max(suspected_duplicate_id) FROM pos_sync.suspected_duplicate")
        await opened.open("/ui/deliveries?kind=suspected&reason=before_count")
        await opened.press(str(number))
        form = opened.page.locator("form", has=opened.page.get_by_role("button", name=button, exact=True))
        await form.get_by_label("Note").fill(note)
        await opened.press(button)
        await opened.shows(f"Suspected duplicate {number}:", state, note)
        assert Decimal("38.75") == await world.level("lem001")


async def _replay_several(opened: Window) -> None:
    await opened.open("/ui/deliveries")
    for number in (1, 2):
        await opened.page.get_by_label(f"Choose number {number}", exact=True).check()
    await opened.press("Replay the chosen: first see what would happen")
    await opened.fill("Note", "both at once")
    await opened.press("Replay 2 deliveries")
    assert "/ui/jobs/" in opened.page.url
    if opened.runs_scripts:
        await opened.page.get_by_text("It has ended.").wait_for()
    await opened.reload_until("It has ended.")
    await opened.shows("2 / 2", "refused again")


async def _act_on_refusals_of_a_whole_list(opened: Window, world: World) -> None:
    """From its last page. Where lists are long, and how they are cut into pages, is shown without a browser."""
    await world.execute(
        "INSERT INTO pos_sync.refused_delivery (delivery_key, reason, status_code, message, raw_body)"
        " SELECT decode(lpad(to_hex(n), 64, '0'), 'hex'), 'unknown_store', 409, 'M', 'x' FROM generate_series(1, 8) AS n"
    )
    newest = await world.scalar("SELECT max(refused_delivery_id) FROM pos_sync.refused_delivery")
    last_page = f"/ui/deliveries?reason=unknown_store&after={newest - 4}"
    await opened.open("/ui/deliveries")
    await opened.page.get_by_label("Reason").select_option(label="unknown store")
    await opened.press("Show")
    await opened.shows("Refused deliveries: 8")
    await opened.open(last_page)
    await opened.shows("unknown_store", "First page")
    await opened.press("Replay all of this list, on every page: first see what would happen")
    await opened.shows("8 refused deliveries will be replayed.")
    await opened.fill("Note", "the whole list")
    await opened.press("Replay 8 deliveries")
    await opened.reload_until("It has ended.")
    await opened.shows("8 / 8")
    await opened.open(last_page)
    await opened.press("Choose all on this page")
    await opened.press("Dismiss the chosen: first see what they are")
    await opened.shows("3 refused deliveries will be dismissed.")
    await opened.fill("Note", "typed by hand")
    await opened.press("Dismiss 3 deliveries")
    await opened.shows("3 refused deliveries were dismissed.")
    await opened.open(f"/ui/deliveries?reason=unknown_store&after={newest}")
    await opened.press("Dismiss all of this list, on every page: first see what they are")
    await opened.shows("5 refused deliveries will be dismissed.")
    await opened.fill("Note", "of a till that was sold")
    await opened.press("Dismiss 5 deliveries")
    await opened.shows("5 refused deliveries were dismissed.")
    await opened.open("/ui/jobs")
    await opened.shows("replay", "ended")
    for note, first, last in (("typed by hand", newest - 7, newest - 5), ("of a till that was sold", newest - 4, newest)):
        assert last - first + 1 == await world.scalar(
            "SELECT count(*) FROM pos_sync.refused_delivery WHERE state = 'dismissed' AND actor = 'page:Ana'"
            f" AND note LIKE '{note}%' AND refused_delivery_id BETWEEN {first} AND {last}"
        )


async def _send_and_dismiss_stock_updates(opened: Window) -> None:
    for number, button, will, then, said in (
        (1, "Send the chosen now: first see which", "will be sent", "Send 1 stock update", "is sent now"),
        (2, "Dismiss the chosen: first see which", "will be dismissed", "Dismiss 1 stock update", "was dismissed"),
    ):
        await opened.open("/ui/outbox")
        await opened.page.get_by_label(f"Choose number {number}", exact=True).check()
        await opened.press(button)
        await opened.shows(f"1 stock update {will}.")
        if number != 1:
            await opened.fill("Note", "told by telephone")
        await opened.press(then)
        await opened.shows(said)


async def _not_sent_any_more(world: World, what: str, count: int) -> list[int]:
    """The numbers of so many stock updates that wait for a person, of sales that nobody else has made."""
    newest = await world.scalar("SELECT max(outbox_message_id) FROM pos_sync.outbox_message")
    await world.execute(
        *(f"SELECT pos_sync.record_pos_movement('1', 'avcc123', 'sale', 0.01, '{what} {number}')" for number in range(count)),
        "UPDATE pos_sync.outbox_message SET state = 'dead', words = 'mipOS was closed', attempts = 1, closed_at = now()"
        f" WHERE outbox_message_id > {newest}",
    )
    query = f"SELECT array_agg(outbox_message_id ORDER BY 1) FROM pos_sync.outbox_message WHERE outbox_message_id > {newest}"
    numbers: list[int] = await world.scalar(query)
    assert count == len(numbers)
    return numbers


async def _becomes(world: World, numbers: list[int], state: str) -> None:
    """All of these stock updates get into this state, by what Ana did; a message is sent by the service in its own time."""
    query = (
        f"SELECT bool_and(state = '{state}' AND actor = 'page:Ana') FROM pos_sync.outbox_message"
        f" WHERE outbox_message_id = ANY(ARRAY{numbers})"
    )

    async def is_so() -> bool:
        return bool(await world.scalar(query))

    await until(is_so)


async def _send_and_dismiss_one_at_its_page(opened: Window, world: World) -> None:
    sent, dismissed = await _not_sent_any_more(world, "of one", 2)
    await opened.open(f"/ui/outbox/{sent}")
    await opened.press("Send it now")
    await opened.shows("1 stock update will be sent.")
    await opened.press("Send 1 stock update")
    await opened.shows("1 stock update is sent now.")
    await opened.open(f"/ui/outbox/{dismissed}")
    await opened.press("Dismiss")
    await opened.shows("1 stock update will be dismissed.")
    await opened.fill("Note", "told by letter")
    await opened.press("Dismiss 1 stock update")
    await opened.shows("1 stock update was dismissed.", "told by letter")
    await _becomes(world, [sent], "sent")
    await _becomes(world, [dismissed], "dismissed")


async def _send_all_again(opened: Window, world: World) -> None:
    await world.execute(
        "UPDATE pos_sync.outbox_message SET state = 'dead', words = 'mipOS does not know the item', closed_at = now()"
        " WHERE outbox_message_id IN (3, 4)"
    )
    await opened.open("/ui/outbox")
    await opened.press("Send all again")
    await opened.shows("2 stock updates will be sent.")
    await opened.press("Send 2 stock updates")
    await opened.shows("2 stock updates are sent now.")


async def _send_and_dismiss_a_whole_list(opened: Window, world: World) -> None:
    """From its last page, as with refusals."""
    for button, then, said, state in (
        ("Send all of this list now, on every page: first see how many", "Send 4 stock updates", "are sent now", "sent"),
        ("Dismiss all of this list, on every page: first see how many", "Dismiss 4 stock updates", "were dismissed", "dismissed"),
    ):
        numbers = await _not_sent_any_more(world, f"of a list that is {state}", 4)
        await opened.open(f"/ui/outbox?state=dead&item=avcc123&after={numbers[2]}")
        await opened.press(button)
        await opened.shows(f"4 stock updates will be {state}.")
        if state == "dismissed":
            await opened.fill("Note", "told by letter")
        await opened.press(then)
        await opened.shows(f"4 stock updates {said}.")
        await _becomes(world, numbers, state)


async def _capture_and_deliver(opened: Window) -> None:
    await opened.open("/ui/deliveries?kind=captured")
    await opened.press("Stop the capture")
    await opened.shows("The capture has ended.")
    await opened.press("Start a capture")
    await opened.shows("The capture is on.")
    await opened.press("2")
    await opened.press("Try the usual mistakes")
    await opened.shows("It verifies, with MIPOS_CLIENT_SECRET")
    await opened.fill("Note", "the secret was the old one")
    await opened.press("Deliver it now")
    await opened.shows("Captured delivery 2 was delivered.", "page:Ana: applied")


async def _take_the_number_of_a_system(opened: Window) -> None:
    await opened.open("/ui/stores/1/items/tom001")
    await opened.press("Take its number")
    await opened.shows("Stock afterwards 20 kg (-1.5 kg)")
    await opened.fill("Why", "they counted on Monday")
    await opened.press("Take the number")
    await opened.shows("The number was adopted.", "they counted on Monday")


async def _compare_and_look_back(opened: Window) -> None:
    await opened.open("/ui/stores/1/items/avcc123")
    await opened.press("Compare now, and say why in words")
    await opened.shows("On its way")
    await opened.press("all")
    await opened.page.get_by_text("The same as a table").click()
    await opened.shows("The level over time, the newest last")


async def _count(opened: Window) -> None:
    await opened.open("/ui/stores/1/items/tom001")
    await opened.fill("Counted", "20.25")
    await opened.press("Record a count")
    await opened.shows("Stock afterwards 20.25 kg")
    await opened.fill("Why", "counted on Monday")
    await opened.press("Record the count")
    await opened.shows("The count was recorded.")


async def _take_back(opened: Window) -> None:
    await opened.open("/ui/stores/1/items/tom001")
    await opened.press("Take back")
    await opened.fill("Why", "it was another shelf")
    await opened.press("Take it back")
    await opened.shows("was taken back")


async def _find_stock_and_save_it(opened: Window) -> None:
    await opened.open("/ui/stock")
    await opened.fill("Name or item", "toma")
    await opened.press("Show")
    await opened.shows("tom001")
    for words, delimiter in (("CSV", ","), ("CSV for Excel (semicolons, decimal commas)", ";")):
        assert {("1", "tom001")} == {(row["store"], row["item"]) for row in await _saved(opened, words, delimiter=delimiter)}


async def _make_a_csv_of_the_past(opened: Window) -> None:
    await opened.open("/ui/stock?store=1&at=2026-01-01T12:00")
    await opened.press("Make a CSV of all of it")
    await opened.reload_until("It has ended.")
    await opened.shows("The list, as CSV")
    (row,) = [row for row in await _saved(opened, "The list, as CSV") if row["item"] == "avcc123"]
    assert ("1", "13.69", "kg") == (row["store"], row["stock"], row["unit"])


async def _saved(opened: Window, words: str, *, delimiter: str = ",") -> list[dict[str, str]]:
    """The rows of a file that the link with these words gives."""
    async with opened.page.expect_download() as download:
        await opened.page.get_by_role("link", name=words, exact=True).click()
    path = await (await download.value).path()
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


async def _retire_and_bring_back(opened: Window) -> None:
    for button, then, said in (
        ("Retire the chosen", "Retire 1 item", "were retired"),
        ("Bring the chosen back", "Bring back 1 item", "were brought back"),
    ):
        await opened.open("/ui/catalog?store=1")
        await opened.page.get_by_label("Choose Tomato").check()
        await opened.press(button)
        await opened.shows("tom001 – Tomato")
        await opened.press(then)
        await opened.shows(said)


async def _change_an_item(opened: Window) -> None:
    await opened.open("/ui/catalog?store=1&q=tomato")
    await opened.press("Change Tomato")
    await opened.fill("Low below", "30")
    await opened.press("Save")
    await opened.shows("The item was changed.")


async def _change_name_unit_and_supplier(opened: Window, world: World) -> None:
    """Where there is none in stock, the unit can be another."""
    await world.execute("SELECT pos_sync.record_pos_movement('1', 'lem001', 'count', 0, 'no lemons')")
    await opened.open("/ui/catalog?store=1&q=lemon")
    await opened.press("Change Lemon")
    await opened.fill("Name", "Lime")
    for label, words in (("Unit", "Box"), ("Bought in", "Kilogram"), ("Supplier", "Market")):
        await opened.page.get_by_label(re.compile(f"^{label}")).select_option(label=words)
    await opened.press("Save")
    await opened.shows("The item was changed.", "Lemon → Lime", "pos_kg → pos_box", "pos_sup_poultry → pos_sup_market")
    assert "Lime pos_box pos_kg pos_sup_market" == await world.scalar(
        "SELECT concat_ws(' ', name, consumption_unit_id, purchase_unit_id, supplier_id)"
        " FROM pos_sync.item WHERE item_id = 'lem001' AND store_id = '1'"
    )
    assert 1 == await world.scalar(
        "SELECT count(*) FROM pos_sync.stock_movement WHERE item_id = 'lem001' AND source = 'unit_change' AND actor = 'page:Ana'"
    )


async def _ping(opened: Window) -> None:
    await opened.open("/ui/system")
    await opened.press("Send a ping through PUBLIC_URL")
    await opened.shows("Last ping returned: ")


async def _synchronise(opened: Window) -> None:
    await opened.open("/ui/syncs")
    await opened.press("Synchronise")
    await opened.shows("It sends 4 items")
    await opened.press("Synchronise")
    await opened.reload_until("It has ended.")
    await opened.shows("done: items 4")


async def _search(opened: Window) -> None:
    await opened.page.get_by_role("searchbox").first.fill("saff")
    await opened.press("Find")
    assert opened.page.url.endswith("/ui/stores/1/items/saf001")


async def _choose_spanish_and_leave(opened: Window) -> None:
    await opened.press("Español")
    assert "es" == await opened.page.get_attribute("html", "lang")
    await opened.page.get_by_role("button", name="Salir").click()
    await opened.page.wait_for_load_state()
    assert "/ui/login" in opened.page.url


@pytest.mark.skipif(SCREENSHOTS is None, reason="`make screenshots` writes the pictures of the documents, and nothing else does")
async def test_screenshots(world: World) -> None:
    assert SCREENSHOTS is not None
    folder = Path(SCREENSHOTS)
    async with at_work(world) as service, chromium() as browser:
        for width, scheme, suffix in ((1280, "light", ""), (320, "dark", "-phone")):
            async with window(browser, service.url, width=width, scheme=scheme) as opened:
                for name, path in PICTURES.items():
                    if name == "needs":
                        await log_in(opened, password=PASSWORD)
                    await opened.open(path)
                    await opened.page.screenshot(path=folder / f"{name}{suffix}.png", full_page=not suffix)
