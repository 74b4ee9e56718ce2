"""Refused, suspected and captured deliveries at the page: seen whole, and decided once, on what was seen."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import BusinessRefusal, Refusal
from app.page.body import MAX_SHOWN_BYTES, show_body
from app.page.text import REASONS
from app.receiving.signature import sign
from app.storage import captures
from app.storage.captures import Unverified
from tests.support.outbox import until
from tests.support.page import VIEWER_PASSWORD, Person, forms_of, person_at
from tests.support.sender import PATH, SECRET, body_of, signed
from tests.support.world import World

NEW_ITEM = (
    "INSERT INTO pos_sync.item (store_id, item_id, name, purchase_unit_id, consumption_unit_id, supplier_id, cost)"
    " SELECT store_id, 'new', 'New dish', purchase_unit_id, consumption_unit_id, supplier_id, cost"
    " FROM pos_sync.item WHERE item_id = 'avcc123' AND store_id = '1'"
)
HOSTILE = "<script>alert(1)</script>\"'\u202e\x07"


async def deliver(person: Person, *, raw: bytes | None = None, request_id: str = "r-1", **changes: Any) -> int:
    body = body_of(**changes) if raw is None else raw
    headers = {**signed(body), "X-Request-ID": request_id}
    return (await person.client.post(PATH, content=body, headers=headers)).status_code


async def numbers(world: World) -> list[int]:
    return [one.refused_delivery_id for one in await world.refused()]


async def states(world: World) -> list[str]:
    return [one.state for one in await world.refused()]


async def put_aside(world: World, number: int) -> None:
    """As another person does."""
    await world.execute(
        f"UPDATE pos_sync.refused_delivery SET state = 'dismissed', actor = 'bob' WHERE refused_delivery_id = {number}"
    )


async def ended(person: Person, place: str) -> list[str]:
    """What the page of a job shows, again and again until the job has ended."""
    seen: list[str] = []

    async def is_over() -> bool:
        seen.append(await person.open(place))
        return "It has ended" in seen[-1]

    await until(is_over)
    return seen


@asynccontextmanager
async def refused(world: World, count: int = 1, **settings_: Any) -> AsyncIterator[Person]:
    """A person, and so many open refusals of an item that is not known."""
    async with person_at(world, **settings_) as person:
        for number in range(count):
            assert 409 == await deliver(person, external_id="new", date=str(number))
        yield person


async def test_empty_lists_teach(world: World) -> None:
    async with person_at(world) as person:
        for path, words in (
            ("deliveries", "pos-sync refused list"),
            ("deliveries?kind=suspected", "pos-sync duplicates list"),
            ("deliveries?kind=captured", "pos-sync capture --for 10m"),
            ("deliveries?state=replayed&store=9", "No such refused deliveries"),
            ("deliveries?kind=suspected&reason=echo", "No such suspected duplicates"),
            ("jobs", "No job was started"),
        ):
            await person.open(f"/ui/{path}")
            assert (200, True) == (person.status, words in person.text), person.text


NOT_THERE = [
    ("deliveries?kind=other", 422),
    ("deliveries?state=other", 422),
    ("deliveries?reason=other", 422),
    ("deliveries?after=x", 422),
    ("deliveries?store=%00", 422),
    ("deliveries?misspelt=1", 422),
    ("deliveries/refused/17", 404),
    ("deliveries/suspected/17", 404),
    ("deliveries/captured/17", 404),
    (f"deliveries/refused/{2**70}", 404),
    ("deliveries/refused/x", 404),
    ("deliveries/refused/confirm", 422),
    ("deliveries/refused/confirm?number=x", 400),
    ("deliveries/refused/confirm?act=other&number=1", 422),
    ("jobs/" + "0" * 32, 404),
    ("jobs/x", 404),
]


async def test_what_is_not_there_is_said_so(world: World) -> None:
    async with person_at(world) as person:
        for path, status in NOT_THERE:
            await person.open(f"/ui/{path}")
            assert (status, True) == (person.status, 'role="alert"' in person.html), path


async def test_a_list_is_filtered_by_its_address_and_leads_to_each_row(world: World) -> None:
    async with refused(world) as person:
        await deliver(person, external_id="new", date="0", now="again")
        await deliver(person, store_id=9, request_id="r-2")
        await deliver(person, raw=b"\xff\x00no json", request_id="r-3")
        page = await person.open("/ui/deliveries")
        assert "Refused, open (3)" in person.text
        assert all(words in person.text for words in ("unknown item", "unknown store", "cannot be read"))
        assert "<code>unknown_item</code>" in page
        await person.send("/ui/deliveries", reason="unknown_item")
        assert "reason=unknown_item" in person.url
        assert "/ui/stores/1/items/new" not in person.html
        assert "unknown store" not in re.sub(r"(?s)<select.*?</select>", "", person.html)
        number, *_, last = await numbers(world)
        await person.open(f"/ui/deliveries/refused/{number}")
        for words in ("Times seen 2", "grep -F 'r-1' LOG", 'external_id "new"', "quantity 1.25", "External", "unknown item"):
            assert words.lower() in person.text.lower(), words
        assert "&#34;external_id&#34;:&#34;new&#34;" in person.html
        assert "pos-sync catalog import --store 1 FILE" in person.text
        await person.open(f"/ui/deliveries/refused/{last}")
        assert "00000000  ff 00 6e 6f" in person.html


async def test_pages_of_fifty_follow_by_number(world: World) -> None:
    async with person_at(world) as person:
        await world.execute(
            "INSERT INTO pos_sync.refused_delivery (delivery_key, reason, status_code, message, raw_body)"
            " SELECT decode(lpad(to_hex(n), 64, '0'), 'hex'), 'unknown_item', 409, 'M', 'x' FROM generate_series(1, 70) AS n"
        )
        await person.open("/ui/deliveries")
        first = set(re.findall(r"/refused/(\d+)", person.html))
        (following,) = re.findall(r'href="([^"]+)" rel="next"', person.html)
        assert "Replay all of this list" in person.text
        await person.open(following.replace("&amp;", "&"))
        second = set(re.findall(r"/refused/(\d+)", person.html))
        assert (50, 20, set()) == (len(first), len(second), first & second)
        await person.open("/ui/deliveries?choose=all")
        assert 50 == person.html.count(" checked>")


async def test_the_whole_list_is_offered_on_each_page_of_several_and_where_it_is_one_page_not(world: World) -> None:
    async with person_at(world) as person:
        await world.execute(
            "INSERT INTO pos_sync.refused_delivery (delivery_key, reason, status_code, message, raw_body)"
            " SELECT decode(lpad(to_hex(n), 64, '0'), 'hex'), 'unknown_item', 409, 'M', 'x' FROM generate_series(1, 70) AS n"
        )
        for path in ("/ui/deliveries?reason=unknown_item", "/ui/deliveries?reason=unknown_item&after=21"):
            await person.open(path)
            (whole,) = [one for one in forms_of(person.html) if ("all", "1") in one["fields"]]
            fields = "&".join(f"{name}={value}" for name, value in whole["fields"])
            assert [("act", "replay"), ("act", "dismiss")] == whole["buttons"]
            for act, done in (("replay", "replayed"), ("dismiss", "dismissed")):
                await person.open(f"{whole['action']}?act={act}&{fields}")
                assert f"70 refused deliveries will be {done}." in person.text
                assert "The first 50 of them." in person.text
        await world.execute("DELETE FROM pos_sync.refused_delivery WHERE refused_delivery_id > 50")
        await person.open("/ui/deliveries?reason=unknown_item")
        assert [] == [one for one in forms_of(person.html) if ("all", "1") in one["fields"]]


async def test_a_replay_is_seen_before_it_is_done_and_done_once(world: World) -> None:
    async with refused(world) as person:
        (number,) = await numbers(world)
        await person.open(f"/ui/deliveries/refused/{number}")
        await person.send("/ui/deliveries/refused/confirm")
        assert "1 refused delivery will be replayed." in person.text
        assert "refused again" in person.text
        await world.execute(NEW_ITEM)
        await person.open(person.url.removeprefix("http://pos"))
        assert f"{number} 1 new applied" in person.text
        assert ["open"] == await states(world)

        action, fields = person.fields("/ui/deliveries/refused/replay")
        fields["note"] = "it is known now"
        answers = await asyncio.gather(*(person.post(action, fields) for _ in range(3)))

        assert {303} == {one.status_code for one in answers}
        assert 1 == len({one.headers["location"] for one in answers})
        await person.open(answers[0].headers["location"])
        assert f"Refused delivery {number}: applied." in person.text
        (kept,) = await world.refused()
        assert ("replayed", "page:Ana") == (kept.state, kept.actor)
        assert Decimal("-1.25") == await world.level("new")
        assert 1 == len(await world.ledger("new"))
        assert "it is known now" == kept.note


async def test_what_is_refused_again_stays_open_and_says_why(world: World) -> None:
    async with refused(world) as person:
        (number,) = await numbers(world)
        await person.open(f"/ui/deliveries/refused/confirm?number={number}")
        await person.send("/ui/deliveries/refused/replay", note="it is known now")
        assert f"Refused delivery {number}: refused again. Note: it is known now" in person.text
        assert "Refused again 20" in person.text
        assert "(last act by page:Ana) Note it is known now" in person.text


async def test_several_are_replayed_as_a_job_that_shows_each(world: World) -> None:
    async with refused(world, 3) as person:
        await world.execute(NEW_ITEM)
        await deliver(person, store_id=9)
        await person.open("/ui/deliveries")
        await person.send("/ui/deliveries/refused/confirm", number=await numbers(world), act="replay")
        assert "4 refused deliveries will be replayed." in person.text
        action, fields = person.fields("/ui/deliveries/refused/replay")
        fields["note"] = "it is known now"
        one, other = await asyncio.gather(person.post(action, fields), person.post(action, fields))
        place = one.headers["location"]
        assert (303, 303, place) == (one.status_code, other.status_code, other.headers["location"])
        part = place.replace("/ui/jobs", "/ui/parts/jobs")
        seen = await ended(person, part)
        assert all(("hx-trigger" in one) == ("It has ended" not in one) for one in seen)
        await person.open(place)
        assert "4 / 4" in person.text
        assert "Not applied: 1" in person.text
        assert (3 + 1, 1) == (person.text.count(" applied"), person.text.count("refused again"))
        assert "page:Ana" in person.text
        assert (303, place) == ((again := await person.post(action, fields)).status_code, again.headers["location"])
        assert Decimal("-3.75") == await world.level("new")
        await person.open("/ui/jobs")
        assert place in person.html
        assert "ended" in person.text
        await person.open("/ui/acts")
        assert place in person.html
        assert "page:Ana Replay of 4 refused deliveries. Note: it is known now" in person.text


async def test_all_that_match_are_replayed_unless_their_number_changed(world: World) -> None:
    async with refused(world, 3) as person:
        await deliver(person, store_id=9)
        await world.execute(NEW_ITEM)
        await person.open("/ui/deliveries/refused/confirm?all=1&reason=unknown_item")
        assert "3 refused deliveries will be replayed." in person.text
        action, fields = person.fields("/ui/deliveries/refused/replay")
        fields["note"] = "it is known now"
        first, *_ = await numbers(world)
        await put_aside(world, first)
        assert 409 == (await person.post(action, fields)).status_code
        await person.open("/ui/deliveries/refused/confirm?all=1&reason=unknown_item")
        await person.send("/ui/deliveries/refused/replay", note="it is known now")
        await ended(person, person.url.removeprefix("http://pos"))
        assert ["dismissed", "replayed", "replayed", "open"] == await states(world)


async def test_all_that_match_are_dismissed_unless_their_number_changed(world: World) -> None:
    async with refused(world, 3) as person:
        await deliver(person, store_id=9)
        await person.open("/ui/deliveries/refused/confirm?all=1&act=dismiss&reason=unknown_item")
        assert "3 refused deliveries will be dismissed." in person.text
        action, fields = person.fields("/ui/deliveries/refused/dismiss")
        first, *_ = await numbers(world)
        await put_aside(world, first)
        assert 409 == (await person.post(action, {**fields, "note": "by hand"})).status_code
        await person.open("/ui/deliveries/refused/confirm?all=1&act=dismiss&reason=unknown_item")
        await person.send("/ui/deliveries/refused/dismiss", note="by hand")
        assert "2 refused deliveries were dismissed." in person.text
        assert ["dismissed", "dismissed", "dismissed", "open"] == await states(world)
        assert ["bob", "page:Ana", "page:Ana", None] == [one.actor for one in await world.refused()]


async def test_a_job_that_was_cut_off_offers_the_rest(world: World) -> None:
    async with refused(world, 2) as person:
        first, second = await numbers(world)
        await world.execute(
            "INSERT INTO pos_sync.page_job (job_id, kind, actor, asked, total, done, beat_at) VALUES"
            f" ('{'a' * 32}', 'replay', 'page:Bob', '{{\"numbers\": [{first}, {second}]}}', 2, 1, now() - interval '1 hour')"
        )
        await person.open("/ui/jobs")
        assert "cut off" in person.text
        await person.open(f"/ui/jobs/{'a' * 32}")
        assert "It was cut off" in person.text
        assert f"number={second}" in person.html
        assert f"number={first}" not in person.html


DECISIONS = [
    ("other", "x", 400, "open"),
    ("counted", "", 422, "open"),
    ("", "", 422, "open"),
    ("", "nobody knows", 200, "open"),
    ("counted", "in the list of the count", 200, "dismissed"),
    ("not_counted", "came later", 200, "replayed"),
]


async def test_what_a_count_may_have_held_is_decided_with_a_note(world: World) -> None:
    async with refused(world, len(DECISIONS)) as person:
        await world.execute(NEW_ITEM, "SELECT pos_sync.record_pos_movement('1', 'new', 'count', 10, 'count-1')")
        for number, (decision, note, status, state) in zip(await numbers(world), DECISIONS, strict=True):
            await person.open(f"/ui/deliveries/refused/confirm?number={number}")
            assert "needs a decision" in person.text
            await person.send("/ui/deliveries/refused/replay", decision=decision, note=note)
            assert status == person.status
            kept = next(one for one in await world.refused() if one.refused_delivery_id == number)
            assert state == kept.state
            assert note in (kept.note or "") or state == "open"
        assert Decimal("8.75") == await world.level("new")
        assert {} == await world.broken_invariants()


async def test_some_are_dismissed_with_a_note_and_one_is_opened_again(world: World) -> None:
    async with refused(world, 3) as person:
        one, other, _ = await numbers(world)
        await person.open("/ui/deliveries")
        await person.send("/ui/deliveries/refused/confirm", number=[one, other], act="dismiss")
        assert "2 refused deliveries will be dismissed." in person.text
        await person.send("/ui/deliveries/refused/dismiss", note="")
        assert 422 == person.status
        await person.open(f"/ui/deliveries/refused/confirm?act=dismiss&number={one}&number={other}")
        await person.send("/ui/deliveries/refused/dismiss", note="typed by hand")
        assert "2 refused deliveries were dismissed." in person.text
        assert ["dismissed", "dismissed", "open"] == await states(world)
        await person.open(f"/ui/deliveries/refused/{one}")
        assert "page:Ana" in person.text
        assert "typed by hand" in person.text
        await person.send("/ui/deliveries/refused/reopen", note="")
        assert 422 == person.status
        await person.open(f"/ui/deliveries/refused/{one}")
        await person.send("/ui/deliveries/refused/reopen", note="it was of another day")
        assert "1 refused delivery was opened again." in person.text
        assert "(last act by page:Ana) Note it was of another day / dismissed by page:Ana: typed by hand" in person.text
        assert ["open", "dismissed", "open"] == await states(world)


async def test_what_changed_meanwhile_is_told_and_nothing_is_done(world: World) -> None:
    async with refused(world, 2) as person:
        one, other = await numbers(world)
        await person.open(f"/ui/deliveries/refused/confirm?act=dismiss&number={one}&number={other}")
        action, fields = person.fields("/ui/deliveries/refused/dismiss")
        await put_aside(world, other)
        answer = await person.post(action, {**fields, "note": "x"})
        assert 409 == answer.status_code
        assert f"refused delivery {other} is dismissed by now (by bob), and was open" in answer.text
        assert ["open", "dismissed"] == await states(world)
        unknown = await person.post(action, {**fields, "note": "x", "number": ["999:open"]})
        assert (409, True) == (unknown.status_code, "there is no refused delivery 999" in unknown.text)
        await person.open(f"/ui/deliveries/refused/confirm?number={one}&number={other}&number=999")
        assert f"{other} (dismissed), 999 (not found)" in person.text


async def test_what_comes_too_late_is_told_in_spanish_alone(world: World) -> None:
    async with refused(world, 2) as person:
        person.client.headers["Accept-Language"] = "es"
        one, other = await numbers(world)
        await person.open(f"/ui/deliveries/refused/confirm?act=dismiss&number={one}&number={other}")
        action, fields = person.fields("/ui/deliveries/refused/dismiss")
        await put_aside(world, other)
        late = await person.post(action, {**fields, "note": "x"})
        assert 409 == late.status_code
        assert f"la entrega rechazada {other} ahora está descartada (por bob), y estaba abierta." in late.text
        await person.open("/ui/deliveries/refused/confirm?all=1&act=dismiss&store=99")
        assert (422, True) == (person.status, "Ya no queda ninguna. Vuelva a la lista." in person.text)
        for path, words in (
            ("refused/0", "No existe: la entrega rechazada 0."),
            ("suspected/0", "No existe: el posible duplicado 0."),
            ("captured/0", "No existe: la entrega capturada 0."),
        ):
            await person.open(f"/ui/deliveries/{path}")
            assert (404, True) == (person.status, words in person.text), person.text


async def test_a_suspected_duplicate_is_masculine_in_spanish(world: World) -> None:
    async with person_at(world) as person:
        number = await suspected(world, person)
        person.client.headers["Accept-Language"] = "es"
        await person.open("/ui/deliveries?kind=suspected")
        assert (True, False) == (">abierto</td>" in person.html, ">abierta<" in person.html)
        await person.open(f"/ui/deliveries/suspected/{number}")
        action, fields = person.fields("/ui/deliveries/suspected/dismiss")
        await person.send("/ui/deliveries/suspected/dismiss", note="x")
        assert f"Posible duplicado {number}: descartado." in person.text
        assert "Estado descartado, page:Ana" in person.text
        late = await person.post(action, {**fields, "note": "again", "act_id": ["b" * 32]})
        assert 409 == late.status_code
        assert f"el posible duplicado {number} ahora está descartado (por page:Ana), y estaba abierto." in late.text


async def report(person: Person, change: str, stock: str, now: str) -> None:
    kind, quantity = (2, change[1:]) if change.startswith("-") else (1, change)
    assert 204 == await deliver(
        person, movement_type=kind, quantity=quantity, current_stock=stock, date="2026-05-30 12:45:03", now=now
    )


async def suspected(world: World, person: Person) -> int:
    for change, stock, now in (("5", "18.69", "one"), ("-5", "13.69", "two"), ("5", "18.69", "three")):
        await report(person, change, stock, now)
    return int(await world.scalar("SELECT max(suspected_duplicate_id) FROM pos_sync.suspected_duplicate"))


@pytest.mark.parametrize(("act", "state", "level"), [("apply", "applied", "18.69"), ("dismiss", "dismissed", "13.69")])
async def test_a_suspected_duplicate_is_decided_once_with_a_note(world: World, act: str, state: str, level: str) -> None:
    async with person_at(world) as person:
        number = await suspected(world, person)
        await person.open("/ui/deliveries?kind=suspected")
        assert "may be another one" in person.text
        await person.open(f"/ui/deliveries/suspected/{number}")
        action, fields = person.fields(f"/ui/deliveries/suspected/{act}")
        assert 422 == (await person.post(action, fields)).status_code
        answers = await asyncio.gather(*(person.post(action, {**fields, "note": "two notes"}) for _ in range(2)))
        assert [303, 303] == [one.status_code for one in answers]
        await person.open(answers[0].headers["location"])
        assert f"Suspected duplicate {number}:" in person.text
        assert "two notes" in person.text
        assert Decimal(level) == await world.level()
        assert state == await world.scalar("SELECT state FROM pos_sync.suspected_duplicate")
        act_id = {**fields, "note": "again", "act_id": ["b" * 32]}
        late = await person.post(action, act_id)
        assert (409, True) == (late.status_code, f"is {state} by now (by page:Ana)" in late.text)
        assert {} == await world.broken_invariants()


async def test_one_that_was_applied_is_taken_back_with_its_dismissal(world: World) -> None:
    async with person_at(world) as person:
        await world.execute("SELECT pos_sync.record_pos_movement('1', 'avcc123', 'count', 10, 'count-1')")
        assert 204 == await deliver(person, date="2020-05-30 12:45:03")
        (number,) = [await world.scalar("SELECT suspected_duplicate_id FROM pos_sync.suspected_duplicate")]
        before = await world.level()
        await person.open(f"/ui/deliveries/suspected/{number}")
        assert "It was applied, and is taken back by a reversal" in person.text
        await person.send("/ui/deliveries/suspected/dismiss", note="the count held it")
        assert "closed, since the count held it" in person.text
        assert before != await world.level()
        row = next(one for one in await world.ledger() if one.source == "reversal")
        assert ("page:Ana", "the count held it") == (row.actor, row.note)
        assert {} == await world.broken_invariants()


async def capture(world: World, body: bytes, *, secret: str) -> int:
    async with world.engine.begin() as connection:
        await captures.start(connection, length=timedelta(minutes=10), max_kept=20, actor="ana")
        signature = (("X-Signature-Request", sign(body, secret.encode())),)
        system = "4344be8c-c6b9-4c51-88a6-d620144ab406"
        await captures.keep(connection, [Unverified(body, signature, HOSTILE, "192.0.2.1", "1", system)])
    return int(await world.scalar("SELECT max(captured_delivery_id) FROM pos_sync.captured_delivery"))


async def test_a_captured_delivery_is_explained_without_a_digest_and_delivered_once_it_verifies(world: World) -> None:
    body = body_of()
    wrong = await capture(world, body, secret=SECRET + "\n")
    right = await capture(world, body, secret=SECRET)
    async with person_at(world) as person:
        await person.open("/ui/deliveries?kind=captured")
        assert "Not verified when they came" in person.text
        await person.open(f"/ui/deliveries/captured/{wrong}")
        assert "Deliver it now" not in person.text
        await person.open(f"/ui/deliveries/captured/{wrong}?explain=1")
        assert "the secret with a line feed after it" in person.text
        assert "&lt;script&gt;" in person.html
        assert sign(body, SECRET.encode()) not in person.html
        assert SECRET not in person.html
        await person.open(f"/ui/deliveries/captured/{right}?explain=1")
        assert "It verifies, with MIPOS_CLIENT_SECRET" in person.text
        action, fields = person.fields("/ui/deliveries/captured/deliver")
        assert 422 == (await person.post(action, fields)).status_code
        fields["note"] = ["the secret was another one"]
        answers = await asyncio.gather(*(person.post(action, fields) for _ in range(2)))
        assert [303, 303] == [one.status_code for one in answers]
        await person.open(answers[0].headers["location"])
        assert "page:Ana: applied" in person.text or "page:Ana: already applied" in person.text
        assert 1 == len(await world.ledger())
        refused = await person.post(action, {**fields, "number": [f"{wrong}:"], "act_id": ["c" * 32]})
        assert (409, True) == (refused.status_code, "does not match" in refused.text)
        unknown = await person.post(action, {**fields, "number": ["999:"], "act_id": ["d" * 32]})
        assert 404 == unknown.status_code


async def test_a_capture_is_started_and_stopped(world: World) -> None:
    async with person_at(world) as person:
        await person.open("/ui/deliveries?kind=captured")
        action, fields = person.fields("/ui/deliveries/captured/start")
        assert 422 == (await person.post(action, {**fields, "most": "201"})).status_code
        await person.send("/ui/deliveries/captured/start", minutes="60", most="5")
        assert "A capture is on until" in person.text
        assert "page:Ana" in person.text
        late = await person.post(action, {**fields, "act_id": ["e" * 32]})
        assert (409, True) == (late.status_code, "a capture was started by page:Ana" in late.text)
        await person.send("/ui/deliveries/captured/stop")
        assert "The capture has ended." in person.text
        assert "No capture is on" in person.text


@pytest.mark.parametrize("settings_", [{"password": VIEWER_PASSWORD}, {"operator_read_only": True}])
async def test_who_may_only_look_finds_no_button_and_changes_nothing(world: World, settings_: dict[str, Any]) -> None:
    kept = await capture(world, body_of(), secret=SECRET)
    async with refused(world, **settings_) as person:
        duplicate = await suspected(world, person)
        (number,) = await numbers(world)
        places = (f"refused/{number}", f"suspected/{duplicate}", f"captured/{kept}")
        for path in ("deliveries", "deliveries?kind=captured", *(f"deliveries/{place}" for place in places)):
            await person.open(f"/ui/{path}")
            assert 200 == person.status
            assert ["/ui/language", "/ui/logout"] == [f["action"] for f in forms_of(person.html) if f["method"] == "post"], path
        _, fields = person.fields("/ui/logout")
        for act in (
            "refused/replay", "refused/dismiss", "refused/reopen", "suspected/apply", "suspected/dismiss", "captured/start",
            "captured/stop", "captured/deliver",
        ):  # fmt: skip
            sent = {**fields, "act_id": "f" * 32, "note": "x", "number": f"{number}:open"}
            assert 403 == (await person.post(f"/ui/deliveries/{act}", sent)).status_code
        await person.open(f"/ui/deliveries/refused/confirm?number={number}")
        assert 403 == person.status
        assert ["open"] == await states(world)


async def test_hostile_text_is_seen_and_never_obeyed(world: World) -> None:
    async with person_at(world) as person:
        await deliver(person, external_id=HOSTILE, store_id=HOSTILE)
        await deliver(person, raw=HOSTILE.encode())
        await world.execute(
            "UPDATE pos_sync.refused_delivery SET message = '<img src=x onerror=alert(2)>', replay_message = '<b>\x1b[2J</b>',"
            " store_id = '<i>1</i>', item_id = '\"><u>', inventory_system_id = '<s>',"
            " request_id = '<em>', actor = '<a>', note = '<q>'"
        )
        paths = [f"/ui/deliveries/refused/{number}" for number in await numbers(world)]
        for path in ("/ui/deliveries", "/ui/deliveries?store=%3Ci%3E1%3C/i%3E&item=%22%3E%3Cu%3E", *paths):
            html = await person.open(path)
            assert 200 == person.status
            for raw in (
                "<script>alert",
                "<img",
                "<i>",
                "<u>",
                "<s>",
                "<em>",
                "<q>",
                "\x1b",
                "\x07",
                "\u202e",
                "onerror=alert(2)>'",
            ):
                assert raw not in html, (path, raw)
            assert "&lt;U+001B&gt;" in html
        assert '<b class="unseen">&lt;U+202E&gt;</b>' in html


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")))
@settings(max_examples=150)
def test_each_byte_of_a_body_is_seen(raw: bytes) -> None:
    shown = show_body(raw)
    assert (len(raw), 0) == (shown.size, shown.left)
    bare = re.sub(r'<b class="unseen">(.*?)</b>', r"\1", str(shown.content))
    assert "<" not in bare
    assert '"' not in bare
    assert all(one.isprintable() or one == "\n" for one in bare)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        assert raw == bytes.fromhex("".join(line[10:57] for line in shown.content.unescape().split("\n")))
    else:
        pieces = re.split(r'<b class="unseen">&lt;U\+([0-9A-F]+)&gt;</b>', str(shown.content).replace("\n", ""))
        back = "".join(chr(int(one, 16)) if at % 2 else type(shown.content)(one).unescape() for at, one in enumerate(pieces))
        assert text == back


def test_of_a_large_body_the_beginning_is_shown() -> None:
    shown = show_body("é".encode() * MAX_SHOWN_BYTES)
    assert (MAX_SHOWN_BYTES, True) == (shown.left, shown.is_text)


def test_each_reason_has_words() -> None:
    def kinds(kind: type[Refusal]) -> set[str]:
        return {kind.reason}.union(*(kinds(one) for one in kind.__subclasses__()))

    assert kinds(Refusal) - {Refusal.reason, BusinessRefusal.reason} <= set(REASONS)
