"""What the lists of the page have in common: times in the zone of each row's store, counts that end, words in two languages."""

import re
from datetime import datetime, timedelta
from html.parser import HTMLParser
from zoneinfo import ZoneInfo

import pytest

from app.page.rendering import translations_of
from app.page.text import REASONS, SUSPICIONS
from app.storage import captures
from app.storage.captures import Unverified
from tests.support.mipos import SYSTEM
from tests.support.outbox import connect_stores
from tests.support.page import Person, person_at
from tests.support.page_world import enliven
from tests.support.sender import body_of
from tests.support.world import World

ZONES = {"1": "America/Guayaquil", "2": "Europe/Madrid"}
WINTER, SUMMER = "2026-01-15 12:00Z", "2026-07-15 12:00Z"
LISTS = (
    "/ui/",
    "/ui/stock",
    "/ui/deliveries",
    "/ui/deliveries?kind=suspected",
    "/ui/deliveries?kind=captured",
    "/ui/outbox",
    "/ui/syncs",
)
_VOID = {"input", "meta", "link", "br"}


async def fill(world: World) -> None:
    """In each list, rows of both stores, of a winter and a summer."""
    await connect_stores(world)
    for store_id, zone in ZONES.items():
        await world.execute(f"UPDATE pos_sync.store SET timezone = '{zone}' WHERE store_id = '{store_id}'")
        for season in (WINTER, SUMMER):
            key = f"{store_id} {season}"
            row = f"'{store_id}', 'avcc123', '{SYSTEM}'"
            await world.execute(
                f"SELECT pos_sync.record_pos_movement('{store_id}', 'avcc123', 'sale', 1, '{key}')",
                "INSERT INTO pos_sync.refused_delivery (delivery_key, reason, status_code, message, raw_body, store_id, item_id,"
                f" inventory_system_id, last_seen_at) VALUES ('{key}', 'unknown_item', 409, 'M', 'x', {row}, '{season}')",
                "INSERT INTO pos_sync.suspected_duplicate (dedupe_key, occurrence, after_version, sent_at_text, raw_body,"
                f" store_id, item_id, inventory_system_id, last_seen_at) VALUES ('{key}', 2, 1, 'now', 'x', {row}, '{season}')",
                "INSERT INTO pos_sync.sync_run (store_id, inventory_system_id, state, items, units, suppliers, words, actor,"
                f" started_at, ended_at) VALUES ('{store_id}', '{SYSTEM}', 'done', 1, 1, 1, 'W', 'ana', '{season}', '{season}')",
            )
        await world.execute(
            f"UPDATE pos_sync.stock_level SET updated_at = '{SUMMER}' WHERE store_id = '{store_id}'",
            f"UPDATE pos_sync.outbox_message SET created_at = '{WINTER}' WHERE store_id = '{store_id}'",
            "INSERT INTO pos_sync.pair_delivery (store_id, inventory_system_id, last_at)"
            f" SELECT store_id, inventory_system_id, '{SUMMER}' FROM pos_sync.integration WHERE store_id = '{store_id}'",
        )
    async with world.engine.begin() as connection:
        await captures.start(connection, length=timedelta(minutes=10), max_kept=20, actor="ana")
        kept = [Unverified(body_of(store_id=int(store_id)), (), None, None, store_id, SYSTEM) for store_id in ZONES]
        await captures.keep(connection, kept)


def times_of(html: str) -> dict[str, set[tuple[str, str, str]]]:
    """Of the rows of each store: the times as a program, a person, and a person who points at them read them."""
    found: dict[str, set[tuple[str, str, str]]] = {}
    for row in re.findall("(?s)<tr.*?</tr>", html):
        store = re.search(r"<td>(?:<a[^>]*>)?([12])(?:</a>)?</td>", row)
        if store is not None:
            times = re.findall('<time datetime="([^"]*)" title="([^"]*)">([^<]*)</time>', row)
            found.setdefault(store[1], set()).update((one, shown, hover) for one, hover, shown in times)
    return found


async def test_a_list_of_stores_in_two_zones_shows_each_time_in_that_of_its_store_with_the_offset(world: World) -> None:
    await fill(world)
    async with person_at(world) as person:
        for path in LISTS:
            await person.open(path)
            found = times_of(person.html)
            assert (200, set(ZONES)) == (person.status, set(found)), path
            for store_id, times in found.items():
                assert times, (path, store_id)
                for machine, shown, hover in times:
                    local = datetime.fromisoformat(machine).astimezone(ZoneInfo(ZONES[store_id]))
                    offset = f"{local:%z}"
                    assert f"{local:%Y-%m-%d %H:%M:%S} UTC{offset[:3]}:{offset[3:]}" == shown == hover, path


@pytest.mark.parametrize(
    ("store_id", "winter", "summer"),
    [
        ("1", ("2026-01-15 07:00:00", "2026-01-15 07:00:00 UTC-05:00"), ("2026-07-15 07:00:00", "2026-07-15 07:00:00 UTC-05:00")),
        ("2", ("2026-01-15 13:00:00", "2026-01-15 13:00:00 UTC+01:00"), ("2026-07-15 14:00:00", "2026-07-15 14:00:00 UTC+02:00")),
    ],
)
async def test_a_list_of_one_store_shows_the_offset_on_hover_alone(
    world: World, store_id: str, winter: tuple[str, str], summer: tuple[str, str]
) -> None:
    await fill(world)
    async with person_at(world) as person:
        for path in ("/ui/deliveries", "/ui/deliveries?kind=suspected"):
            await person.open(f"{path}{'&' if '?' in path else '?'}store={store_id}")
            assert {winter, summer} == {(shown, hover) for _, shown, hover in times_of(person.html)[store_id]}, path


REFUSALS = """
INSERT INTO pos_sync.refused_delivery (delivery_key, reason, status_code, message, raw_body)
SELECT decode(lpad(to_hex(n), 64, '0'), 'hex'), 'unknown_item', 409, 'M', 'x' FROM generate_series(1, 10001) AS n
"""
# The newest are of rows of the ledger.
STOCK_UPDATES = f"""
INSERT INTO pos_sync.outbox_message (store_id, item_id, level_version, inventory_system_id)
SELECT '1', 'avcc123', n, '{SYSTEM}' FROM generate_series(1001, 10941) AS n
"""
SALES = "SELECT count(pos_sync.record_pos_movement('1', 'avcc123', 'sale', 1, 'k' || n)) FROM generate_series(1, 60) AS n"


async def _counts(person: Person, path: str, words: str, at_overview: str) -> list[str]:
    """What the list says of its length, and what the overview says of it."""
    found = []
    for place, before in ((path, words), ("/ui/", at_overview)):
        await person.open(place)
        found += re.findall(f"{before} ((?:more than )?[0-9]+)", person.text)
    return found


async def test_a_count_ends_at_ten_thousand_and_says_that_there_are_more(world: World) -> None:
    await connect_stores(world)
    await world.execute(REFUSALS, STOCK_UPDATES, SALES)
    refusals = ("/ui/deliveries", "Refused deliveries:", "Open refusals")
    updates = ("/ui/outbox", "Stock updates:", "Stock updates that wait")
    async with person_at(world) as person:
        assert ["more than 10000"] * 2 == await _counts(person, *refusals)
        assert ["more than 10000"] * 2 == await _counts(person, *updates)
        await person.open("/ui/deliveries?kind=suspected")
        assert "Refused, open (more than 10000)" in person.text
        await world.execute(
            "DELETE FROM pos_sync.refused_delivery WHERE refused_delivery_id = 7",
            "UPDATE pos_sync.outbox_message SET state = 'sent' WHERE outbox_message_id = 7",
        )
        assert ["10000"] * 2 == await _counts(person, *refusals)
        assert ["10000"] * 2 == await _counts(person, *updates)


class Spoken(HTMLParser):
    """What stands in a page, by the language that it is marked with."""

    def __init__(self) -> None:
        super().__init__()
        self._languages = [""]
        self.words: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _VOID:
            self._languages.append(dict(attrs).get("lang") or self._languages[-1])

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            self._languages.pop()

    def handle_data(self, data: str) -> None:
        language = self._languages[-1]
        self.words[language] = f"{self.words.get(language, '')} {data}"


def spoken(html: str) -> dict[str, str]:
    parser = Spoken()
    parser.feed(html)
    return parser.words


IN_ENGLISH = {
    "refused_delivery SET message": ["/ui/deliveries", "/ui/deliveries/refused/2"],
    "refused_delivery SET replay_message": ["/ui/deliveries", "/ui/deliveries/refused/2"],
    "outbox_message SET words": ["/ui/outbox?state=dead", "/ui/outbox/1", "/ui/outbox/confirm?act=dismiss&number=1"],
    "sync_run SET words": ["/ui/syncs"],
    "problem SET words": ["/ui/"],
    "page_job SET fault": ["/ui/jobs/00000000000000000000000000000001"],
    "captured_delivery SET delivered_at = now(), actor = 'ana', outcome": ["/ui/deliveries/captured/1"],
}
"""Words that are kept as they were said, and where they are shown"""


async def test_english_words_that_are_kept_are_marked_as_english_at_a_page_in_spanish(world: World) -> None:
    await enliven(world)
    async with person_at(world) as person:
        person.client.headers["Accept-Language"] = "es"
        for column, paths in IN_ENGLISH.items():
            words = f"kept words of {column.split()[0]}"
            await world.execute(f"UPDATE pos_sync.{column} = '{words}'")
            for path in paths:
                await person.open(path)
                found = spoken(person.html)
                assert (200, {"", "es", "en"}) == (person.status, set(found)), path
                assert (True, False) == (words in found["en"], words in found["es"]), (path, column)


async def test_each_reason_is_said_in_spanish_with_its_code(world: World) -> None:
    said = translations_of("es").gettext
    await connect_stores(world)
    for number, reason in enumerate(REASONS):
        await world.execute(
            "INSERT INTO pos_sync.refused_delivery (delivery_key, reason, status_code, message, raw_body)"
            f" VALUES ('{number}', '{reason}', 409, 'M', 'x')"
        )
    for number, suspicion in enumerate(SUSPICIONS):
        await world.execute(
            "INSERT INTO pos_sync.suspected_duplicate (dedupe_key, occurrence, after_version, sent_at_text, raw_body, store_id,"
            f" item_id, inventory_system_id, reason) VALUES ('{number}', 2, 1, 'now', 'x', '1', 'avcc123', 's', '{suspicion}')"
        )
    async with person_at(world) as person:
        person.client.headers["Accept-Language"] = "es"
        for path, reasons in (("/ui/deliveries", REASONS), ("/ui/deliveries?kind=suspected", SUSPICIONS)):
            await person.open(path)
            for code, words in reasons.items():
                assert words != said(words), words
                assert f"<td>{said(words)} <code>{code}</code></td>" in person.html, code
