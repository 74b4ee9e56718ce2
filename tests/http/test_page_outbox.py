"""Stock updates at the page: by pair and one by one; sent now or dismissed, once, and not while they are on their way."""

import asyncio
import re
from html import unescape
from typing import Any

import pytest

from tests.support.outbox import OTHER, connect_stores, messages, sell
from tests.support.page import VIEWER_PASSWORD, forms_of, person_at
from tests.support.world import World

HOSTILE = "<script>alert(1)</script>\x1b"
SYSTEM = "4344be8c-c6b9-4c51-88a6-d620144ab406"


async def queue(world: World, count: int = 3) -> list[int]:
    """So many messages of one item; the first was refused by mipOS."""
    await connect_stores(world)
    for number in range(count):
        await sell(world, "1", f"sale {number}")
    ids = [one.outbox_message_id for one in await messages(world)]
    await world.execute(
        "UPDATE pos_sync.outbox_message SET state = 'dead', attempts = 2, words = 'mipOS: <b>no</b>', closed_at = now()"
        f" WHERE outbox_message_id = {ids[0]}"
    )
    return ids


async def states(world: World) -> list[str]:
    return [one.state for one in await messages(world)]


async def test_an_empty_outbox_teaches_and_what_is_not_there_is_said_so(world: World) -> None:
    async with person_at(world) as person:
        await person.open("/ui/outbox")
        assert "pos-sync outbox list" in person.text
        assert "No such stock updates" in person.text
        for path, status in (
            ("outbox/17", 404),
            (f"outbox/{2**70}", 404),
            ("outbox?state=other", 422),
            ("outbox?misspelt=1", 422),
            ("outbox/confirm", 422),
            ("outbox/confirm?number=x", 400),
            ("outbox/confirm?act=other&number=1", 422),
        ):
            await person.open(f"/ui/{path}")
            assert (status, True) == (person.status, 'role="alert"' in person.html), path


async def test_pairs_stand_on_top_and_rows_are_filtered_by_the_address(world: World) -> None:
    first, second, third = await queue(world)
    async with person_at(world) as person:
        await person.open("/ui/outbox")
        assert f"1 {SYSTEM} 2 " in person.text
        assert all(f'href="/ui/outbox/{number}"' in person.html for number in (first, second, third))
        assert "mipOS: &lt;b&gt;no&lt;/b&gt;" in person.html
        await person.send("/ui/outbox", state="dead", store="1", item="avcc123", system=SYSTEM)
        assert "state=dead" in person.url
        assert f'href="/ui/outbox/{first}"' in person.html
        assert f'href="/ui/outbox/{second}"' not in person.html
        await person.open(f"/ui/outbox?item=avcc123&after={third}&choose=all")
        assert f'href="/ui/outbox/{third}"' not in person.html
        assert 2 == person.html.count(" checked>")
        await person.open(f"/ui/outbox?system={OTHER}&state=all")
        assert "No such stock updates" in person.text
        await person.open(f"/ui/outbox/{first}")
        assert all(words in person.text for words in ("not sent any more", "Tries 2", "Change of stock -1 ", "Row of the ledger"))


async def test_the_chosen_are_sent_now_once(world: World) -> None:
    first, second, _ = await queue(world)
    async with person_at(world) as person:
        await person.open("/ui/outbox")
        await person.send("/ui/outbox/confirm", number=[first, second], act="retry")
        assert "2 stock updates will be sent." in person.text
        action, fields = person.fields("/ui/outbox/retry")
        answers = await asyncio.gather(*(person.post(action, fields) for _ in range(3)))
        assert {(303, answers[0].headers["location"])} == {(one.status_code, one.headers["location"]) for one in answers}
        await person.open(answers[0].headers["location"])
        assert "2 stock updates are sent now." in person.text
        assert ["page:Ana", "page:Ana", None] == [one.actor for one in await messages(world)]
        assert ["pending"] * 3 == await states(world)
        assert 303 == (await person.post(action, fields)).status_code


async def test_one_is_dismissed_with_a_note_and_shows_who_and_why(world: World) -> None:
    first, *_ = await queue(world)
    async with person_at(world) as person:
        await person.open(f"/ui/outbox/{first}")
        await person.send("/ui/outbox/confirm", act="dismiss")
        assert "1 stock update will be dismissed." in person.text
        await person.send("/ui/outbox/dismiss", note=" ")
        assert 422 == person.status
        await person.open(f"/ui/outbox/confirm?act=dismiss&number={first}&number=999")
        assert "999 (not found)" in person.text
        await person.send("/ui/outbox/dismiss", note=f"by hand {HOSTILE[:-1]}")
        assert "1 stock update was dismissed." in person.text
        assert all(words in person.text for words in ("dismissed, page:Ana", "by hand"))
        assert "<script>alert" not in person.html
        assert ["dismissed", "pending", "pending"] == await states(world)
        await world.execute("UPDATE pos_sync.outbox_message SET state = 'sent', closed_at = now()")
        await person.open("/ui/outbox?state=all")
        assert (False, False) == ("Choose" in person.text, "first see which" in person.text)


async def refuse_all(world: World) -> None:
    await world.execute("UPDATE pos_sync.outbox_message SET state = 'dead', attempts = 2, closed_at = now()")


@pytest.mark.parametrize(("act", "done", "became"), [("retry", "sent", "pending"), ("dismiss", "dismissed", "dismissed")])
async def test_a_whole_list_is_done_at_once_unless_it_changed(world: World, act: str, done: str, became: str) -> None:
    ids = await queue(world, 60)
    await refuse_all(world)
    async with person_at(world) as person:
        for after in (f"&after={ids[9]}", ""):
            await person.open(f"/ui/outbox?state=dead&store=1&system={SYSTEM}{after}")
            (whole,) = [one for one in forms_of(person.html) if ("all", "1") in one["fields"]]
            assert ("/ui/outbox/confirm", [("act", "retry"), ("act", "dismiss")]) == (whole["action"], whole["buttons"])
        await person.open(f"/ui/outbox/confirm?act={act}&" + "&".join(f"{name}={value}" for name, value in whole["fields"]))
        assert f"60 stock updates will be {done}." in person.text
        assert "The last 50 of them." in person.text
        action, fields = person.fields(f"/ui/outbox/{act}")
        await world.execute(f"UPDATE pos_sync.outbox_message SET state = 'sent' WHERE outbox_message_id = {ids[7]}")
        answer = await person.post(action, {**fields, "note": "x"})
        assert (409, True) == (answer.status_code, "The list is another one by now: 59 stock updates" in answer.text)
        assert {"dead", "sent"} == set(await states(world))

        await refuse_all(world)
        await sell(world, "1", "later")
        answers = await asyncio.gather(*(person.post(action, {**fields, "note": "x"}) for _ in range(3)))
        assert {303} == {one.status_code for one in answers}
        await person.open(answers[0].headers["location"])
        assert "60 stock updates " in person.text
        assert [became] * 60 + ["pending"] == await states(world)
        assert [None] == [one.actor for one in await messages(world) if one.actor != "page:Ana"]


async def test_a_whole_list_of_as_many_but_other_rows_is_not_the_one_that_was_seen(world: World) -> None:
    one, _, _ = await queue(world)
    await refuse_all(world)
    others = [number for number in await dead(world) if number != one]
    async with person_at(world) as person:
        await world.execute(f"UPDATE pos_sync.outbox_message SET state = 'sent' WHERE outbox_message_id = {one}")
        await person.open("/ui/outbox/confirm?act=dismiss&all=1&state=dead")
        action, fields = person.fields("/ui/outbox/dismiss")
        # As many, with the same last number.
        await refuse_all(world)
        await world.execute(f"UPDATE pos_sync.outbox_message SET state = 'sent' WHERE outbox_message_id = {others[0]}")
        assert 409 == (await person.post(action, {**fields, "note": "x"})).status_code
        assert ["dead", "dead", "sent"] == sorted(await states(world))


async def dead(world: World) -> list[int]:
    return [one.outbox_message_id for one in await messages(world) if one.state == "dead"]


async def test_all_that_a_pair_was_refused_is_sent_again_from_the_list_of_pairs(world: World) -> None:
    await queue(world)
    async with person_at(world) as person:
        await person.open("/ui/outbox")
        (link,) = {unescape(one) for one in re.findall(r'href="(/ui/outbox/confirm[^"]*)"', person.html)}
        await person.open(link)
        assert "1 stock update will be sent." in person.text
        await person.send("/ui/outbox/retry")
        assert ["pending"] * 3 == await states(world)
        for path in ("all=1&state=sent", "all=1&state=all", "all=1&state=dismissed"):
            await person.open(f"/ui/outbox/confirm?act=retry&{path}")
            assert 422 == person.status
        await person.open(f"/ui/outbox/confirm?act=retry&all=1&state=dead&store=1&system={SYSTEM}")
        assert (422, True) == (person.status, "None of them is left" in person.text)


@pytest.mark.parametrize("act", ["retry", "dismiss"])
async def test_one_that_is_on_its_way_is_not_offered_and_is_left(world: World, act: str) -> None:
    first, second, _ = await queue(world)
    async with person_at(world) as person:
        await person.open(f"/ui/outbox/confirm?act={act}&number={first}&number={second}")
        action, fields = person.fields(f"/ui/outbox/{act}")
        await world.execute(
            "UPDATE pos_sync.outbox_message SET claimed_until = now() + interval '1 minute', attempts = attempts + 1"
            f" WHERE outbox_message_id = {second}"
        )
        answer = await person.post(action, {**fields, "note": "x"})
        assert (409, True) == (answer.status_code, f"stock update {second} is on its way just now" in answer.text)
        assert ["dead", "pending", "pending"] == await states(world)
        await person.open("/ui/outbox")
        assert "on its way" in person.text
        assert f'name="number" value="{second}"' not in person.html
        await person.open(f"/ui/outbox/confirm?act={act}&number={second}")
        assert f"{second} (on its way)" in person.text
        await person.open(f"/ui/outbox/{second}")
        assert "It is on its way" in person.text
        await world.execute(f"UPDATE pos_sync.outbox_message SET claimed_until = NULL WHERE outbox_message_id = {second}")
        changed = await person.post(action, {**fields, "note": "x"})
        assert (409, True) == (
            changed.status_code,
            f"stock update {second} is by now: waits. It was tried 1 times" in changed.text,
        )
        unknown = await person.post(action, {**fields, "note": "x", "number": ["999:dead.2"]})
        assert (409, True) == (unknown.status_code, "there is no stock update 999" in unknown.text)
        person.client.headers["Accept-Language"] = "es"
        changed = await person.post(action, {**fields, "note": "x"})
        assert f"el estado de la actualización {second} ahora es: espera. Intentos: 1." in changed.text
        await person.open("/ui/outbox/0")
        assert "No existe: la actualización 0." in person.text


@pytest.mark.parametrize("settings", [{"password": VIEWER_PASSWORD}, {"operator_read_only": True}])
async def test_who_may_only_look_changes_nothing(world: World, settings: dict[str, Any]) -> None:
    first, *_ = await queue(world)
    async with person_at(world, **settings) as person:
        for path in ("outbox", f"outbox/{first}"):
            await person.open(f"/ui/{path}")
            assert ["/ui/language", "/ui/logout"] == [
                form["action"] for form in forms_of(person.html) if form["method"] == "post"
            ]
            assert "confirm" not in person.html
        _, fields = person.fields("/ui/logout")
        for act in ("retry", "dismiss"):
            sent = {**fields, "act_id": "f" * 32, "note": "x", "number": f"{first}:dead.2"}
            assert 403 == (await person.post(f"/ui/outbox/{act}", sent)).status_code
        await person.open(f"/ui/outbox/confirm?number={first}")
        assert 403 == person.status
        assert "dead" == (await states(world))[0]


async def test_hostile_text_is_seen_and_never_obeyed(world: World) -> None:
    first, *_ = await queue(world)
    await world.execute(
        f"UPDATE pos_sync.outbox_message SET words = '{HOSTILE}', actor = '<a>', note = '\"><i>'"
        f" WHERE outbox_message_id = {first}"
    )
    async with person_at(world) as person:
        for path in ("outbox", f"outbox/{first}", f"outbox/confirm?number={first}"):
            html = await person.open(f"/ui/{path}")
            assert 200 == person.status
            assert all(raw not in html for raw in ("<script>alert", "\x1b", "<i>"))
            assert "&lt;script&gt;alert(1)&lt;/script&gt;&lt;U+001B&gt;" in html
