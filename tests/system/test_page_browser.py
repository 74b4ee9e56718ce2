"""The operator page in a real browser: every page and act, at three widths, light and dark, and once without JavaScript."""

import os
from pathlib import Path

import pytest

from tests.support.browser import Window, chromium, log_in, needs_browser, window
from tests.support.page import PASSWORD
from tests.support.page_world import PAGES, enliven
from tests.support.service import serving
from tests.support.world import World

pytestmark = [needs_browser, pytest.mark.slow, pytest.mark.timeout(600)]
SCREENSHOTS = os.environ.get("POS_SYNC_SCREENSHOTS")
PICTURES = {
    "needs": "/ui/",
    "stock": "/ui/stock?store=1",
    "item": "/ui/stores/1/items/avcc123",
    "deliveries": "/ui/deliveries",
    "delivery": "/ui/deliveries/refused/1",
    "outbox": "/ui/outbox",
    "syncs": "/ui/syncs",
    "catalog": "/ui/catalog?store=1",
    "system": "/ui/system",
    "search": "/ui/search?q=o",
}
"""The pictures of the documents"""
SETTINGS = {"operator_password": PASSWORD, "ping_every": 0, "seal_every": 0}


async def test_every_page_is_right_at_each_width_light_and_dark(world: World) -> None:
    await enliven(world)
    found: list[str] = []
    with serving(world.service_url, **SETTINGS) as service:
        async with chromium() as browser:
            for scheme in ("light", "dark"):
                for width in (320, 768, 1280):
                    async with window(browser, service.url, width=width, scheme=scheme) as opened:
                        found += [f"{width} {scheme} /ui/login: {one}" for one in await _at_login(opened)]
                        await log_in(opened, password=PASSWORD)
                        for path in PAGES:
                            await opened.open(path)
                            found += [f"{width} {scheme} {path}: {one}" for one in await opened.violations()]
    assert [] == found


async def test_every_page_is_right_in_spanish(world: World) -> None:
    await enliven(world)
    found: list[str] = []
    with serving(world.service_url, **SETTINGS) as service:
        async with chromium() as browser, window(browser, service.url, width=320, language="es") as opened:
            await log_in(opened, password=PASSWORD)
            for path in PAGES:
                await opened.open(path)
                assert "es" == await opened.page.get_attribute("html", "lang")
                found += [f"{path}: {one}" for one in await opened.violations()]
    assert [] == found


async def _at_login(opened: Window) -> list[str]:
    await opened.open("/ui/login")
    return await opened.violations()


@pytest.mark.parametrize(("width", "scheme", "runs_scripts"), [(320, "light", True), (768, "dark", True), (1280, "light", False)])
async def test_every_act_as_a_person_does_it(world: World, width: int, scheme: str, *, runs_scripts: bool) -> None:
    await enliven(world)
    with serving(world.service_url, **SETTINGS) as service:
        async with (
            chromium() as browser,
            window(browser, service.url, width=width, scheme=scheme, runs_scripts=runs_scripts) as opened,
        ):
            await log_in(opened, password=PASSWORD)
            await _replay_and_dismiss_and_open_again(opened)
            await _decide_a_suspected_duplicate(opened)
            await _replay_several(opened)
            await _send_and_dismiss_stock_updates(opened)
            await _capture(opened)
            await _count(opened)
            await _take_back(opened)
            await _retire_and_bring_back(opened)
            await _change_an_item(opened)
            await _search(opened)
            await _choose_spanish_and_leave(opened)
    assert 0 == await world.scalar(
        "SELECT count(*) FROM pos_sync.stock_movement"
        " WHERE source IN ('reconcile', 'reversal') AND (note IS NULL OR actor <> 'page:Ana')"
    )


async def _replay_and_dismiss_and_open_again(opened: Window) -> None:
    await opened.open("/ui/deliveries")
    await opened.open("/ui/deliveries/refused/1")
    await opened.press("Replay: first see what would happen")
    assert "refused again" in await opened.text()
    await opened.press("Replay 1 delivery")
    assert "Refused delivery 1: refused again." in await opened.text()
    await opened.fill("Note", "typed by hand")
    await opened.press("Dismiss")
    assert "1 refused delivery was dismissed." in await opened.text()
    await opened.press("Open again")
    assert "was opened again" in await opened.text()


async def _decide_a_suspected_duplicate(opened: Window) -> None:
    await opened.open("/ui/deliveries/suspected/1")
    await opened.fill("Note", "it was a second box")
    await opened.press("It counts")
    assert "Suspected duplicate 1" in await opened.text()
    assert "applied" in await opened.text()


async def _replay_several(opened: Window) -> None:
    await opened.open("/ui/deliveries")
    for number in (1, 2):
        await opened.page.get_by_label(f"Choose number {number}", exact=True).check()
    await opened.press("Replay the chosen: first see what would happen")
    await opened.press("Replay 2 deliveries")
    assert "/ui/jobs/" in opened.page.url
    await opened.page.get_by_text("It has ended.").wait_for() if opened.runs_scripts else await opened.reload_until(
        "It has ended."
    )
    assert "refused again" in await opened.text()


async def _send_and_dismiss_stock_updates(opened: Window) -> None:
    for number, button, then, said in (
        (1, "Send the chosen now: first see which", "Send 1 stock update", "is sent now"),
        (2, "Dismiss the chosen: first see which", "Dismiss 1 stock update", "was dismissed"),
    ):
        await opened.open("/ui/outbox")
        await opened.page.get_by_label(f"Choose number {number}", exact=True).check()
        await opened.press(button)
        if number != 1:
            await opened.fill("Note", "told by telephone")
        await opened.press(then)
        assert said in await opened.text()


async def _capture(opened: Window) -> None:
    await opened.open("/ui/deliveries?kind=captured")
    await opened.press("Stop the capture")
    assert "The capture has ended." in await opened.text()
    await opened.press("Start a capture")
    assert "The capture is on." in await opened.text()


async def _count(opened: Window) -> None:
    await opened.open("/ui/stores/1/items/tom001")
    await opened.fill("Counted", "20.25")
    await opened.press("Record a count")
    assert "Stock then 20.25 kg" in await opened.text()
    await opened.fill("Why", "counted on Monday")
    await opened.press("Do it")
    assert "The count was recorded." in await opened.text()


async def _take_back(opened: Window) -> None:
    await opened.open("/ui/stores/1/items/tom001")
    await opened.press("Take back")
    await opened.fill("Why", "it was another shelf")
    await opened.press("Take it back")
    assert "was taken back" in await opened.text()


async def _retire_and_bring_back(opened: Window) -> None:
    for button, said in (("Retire the chosen", "were retired"), ("Bring the chosen back", "were brought back")):
        await opened.open("/ui/catalog?store=1")
        await opened.page.get_by_label("Choose Tomato").check()
        await opened.press(button)
        await opened.press("Do it")
        assert said in await opened.text()


async def _change_an_item(opened: Window) -> None:
    await opened.open("/ui/catalog?store=1&q=tomato")
    await opened.press("Change Tomato")
    await opened.fill("Low below", "30")
    await opened.press("Save")
    assert "The item was changed." in await opened.text()


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
    await enliven(world)
    folder = Path(SCREENSHOTS)
    with serving(world.service_url, **SETTINGS) as service:
        async with chromium() as browser:
            for width, scheme, suffix in ((1280, "light", ""), (320, "dark", "-phone")):
                async with window(browser, service.url, width=width, scheme=scheme) as opened:
                    await log_in(opened, password=PASSWORD)
                    for name, path in PICTURES.items():
                        await opened.open(path)
                        await opened.page.screenshot(path=folder / f"{name}{suffix}.png", full_page=not suffix)
