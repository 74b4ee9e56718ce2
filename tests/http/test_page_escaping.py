"""What others wrote stands at the page as text: it makes no tag, no attribute, and nothing that cannot be seen."""

from html.parser import HTMLParser

from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from app.visible_text import as_seen
from tests.support.page import Person, person_at
from tests.support.world import World

PAGES = (
    "/ui/stock?store=1",
    "/ui/stores/1/items/avcc123",
    "/ui/stores/1/items/avcc123/count?to=3",
    "/ui/stores/1/items/avcc123/rows/2/reverse",
    "/ui/catalog?store=1",
    "/ui/catalog/stores/1/items/avcc123",
    "/ui/syncs",
    "/ui/acts",
)
_WRITE = (
    "UPDATE pos_sync.item SET name = :text WHERE item_id = 'avcc123'",
    "UPDATE pos_sync.store SET name = :text WHERE store_id = '1'",
    "UPDATE pos_sync.unit SET name = :text, short_name = :text WHERE store_id = '1'",
    "UPDATE pos_sync.sync_run SET words = :text, actor = :text",
    # As an act is kept: its words with a value in them, and the note of the person.
    """
    UPDATE pos_sync.page_act SET actor = :text, words = CAST(jsonb_build_array('%(which)s was retired.',
      jsonb_build_object('which', CAST(:text AS text)), CAST('{}' AS jsonb), NULL, CAST(:text AS text)) AS text)
    """,
)
HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "{{ 7 * 7 }} {% raw %} %(name)s %s %",
    "</textarea></select></title><base href=//evil>",
    "&lt;b&gt; &amp;#x3c;",
    "piña 鶏 \u202e rtl",
)


class Skeleton(HTMLParser):
    """The tags of a page with the names of their attributes; and what stands between them."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.shown: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))
        self.shown += [value or "" for _, value in attrs]

    def handle_data(self, data: str) -> None:
        self.shown.append(data)


def skeleton_of(html: str) -> Skeleton:
    parser = Skeleton()
    parser.feed(html)
    return parser


async def _pages(world: World, person: Person, written: str) -> list[Skeleton]:
    async with world.engine.begin() as connection:
        for statement in _WRITE:
            await connection.execute(text(statement), {"text": written})
    found = []
    for path in PAGES:
        await person.open(path)
        assert 200 == person.status, (path, written)
        found.append(skeleton_of(person.html))
    return found


async def test_text_of_others_changes_no_page(world: World) -> None:
    await world.execute(
        "SELECT pos_sync.record_pos_movement('1', 'avcc123', 'sale', 1, 'one')",
        "INSERT INTO pos_sync.sync_run (store_id, inventory_system_id, state, items, units, suppliers, words, actor)"
        " VALUES ('1', 'system', 'done', 0, 0, 0, '', '')",
        "INSERT INTO pos_sync.page_act (act_id, actor, location, words) VALUES ('one', '', '/ui/stock', '')",
    )
    async with person_at(world) as person:
        plain = await _pages(world, person, "plain")
        for written in HOSTILE:
            for path, one, other in zip(PAGES, plain, await _pages(world, person, written), strict=True):
                assert one.tags == other.tags, (path, written)
                seen = as_seen(written)
                wanted = f"{seen} was retired. Note: {seen}" if path == "/ui/acts" else seen
                assert any(wanted in shown for shown in other.shown), (path, written)


@given(st.text(max_size=80))
@example("\x1b[31m")
@settings(max_examples=200)
def test_any_text_is_escaped_and_seen(written: str) -> None:
    from app.page.rendering import environment  # noqa: PLC0415 - made once

    html = environment("en").from_string('<p title="{{ words }}">{{ words }}</p>').render(words=written)
    parsed = skeleton_of(html)
    assert [("p", ("title",))] == parsed.tags
    assert "".join(parsed.shown) == 2 * as_seen(written)
    assert all(one.isprintable() for one in html)
