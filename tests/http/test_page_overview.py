"""What needs a person, at the page."""

from tests.support.page import person_at
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
        assert 'href="/ui/deliveries"' in person.html
        await person.open("/ui/parts/needs")
        assert "<html" not in person.html
        assert "Refused deliveries wait" in person.text


async def test_where_nothing_is_wrong_it_says_so_and_when_it_looked(world: World) -> None:
    await world.execute(LOOK)
    async with person_at(world) as person:
        assert "Nothing needs a person." in person.text
        assert "Last looked" in person.text


async def test_where_nobody_looks_that_is_the_problem(world: World) -> None:
    await world.execute(LOOK.replace("now()", "now() - interval '1 hour'"))
    async with person_at(world) as person:
        assert "critical Nobody looks for problems" in person.text
