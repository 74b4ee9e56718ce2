"""Refused deliveries are listed, applied exactly once, or dismissed."""

import asyncio
import json
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from app.operator.refusals import Verdict, replay
from tests.conftest import running, settings_for
from tests.support.commands import Run
from tests.support.postgres import database_of
from tests.support.sender import PATH, body_of, signed
from tests.support.world import POISON, World

NEW_ITEM = (
    "INSERT INTO pos_sync.item SELECT store_id, 'new', 'New dish', purchase_unit_id, consumption_unit_id, supplier_id, cost"
    " FROM pos_sync.item WHERE item_id = 'avcc123'"
)


async def deliver(client: httpx2.AsyncClient, **changes: Any) -> int:
    body = body_of(**changes)
    return (await client.post(PATH, content=body, headers=signed(body))).status_code


async def states(world: World) -> list[str]:
    return [kept.state for kept in await world.refused()]


async def test_a_replay_applies_what_can_be_applied_now_and_says_why_the_rest_cannot(
    world: World, client: httpx2.AsyncClient, run: Run
) -> None:
    assert [409, 409] == [await deliver(client, external_id=item) for item in ("new", "other")]
    await world.execute(NEW_ITEM)

    counted = await run("refused", "replay", "--all", "--dry-run")
    assert await world.level("new") is None
    assert ["open", "open"] == await states(world)
    done = await run("refused", "replay", "--all", "--yes", "--actor", "ana")

    assert (1, 1) == (counted.exit_code, done.exit_code)
    assert "It would be: applied: 1, refused again: 1" in counted.output
    assert "applied: 1, refused again: 1" in done.output
    assert 'The POS has no item with external_id "other"' in done.output
    assert Decimal("-1.25") == await world.level("new")
    new, other = await world.refused()
    assert ("replayed", "ana", "open") == (new.state, new.actor, other.state)
    assert 'external_id "other"' in other.replay_message
    assert other.replayed_at is not None
    assert {} == await world.broken_invariants()


async def test_a_replay_again_changes_nothing_and_is_no_failure(world: World, client: httpx2.AsyncClient, run: Run) -> None:
    await deliver(client, external_id="new")
    (kept,) = await world.refused()
    await world.execute(NEW_ITEM)

    results = [await run("refused", "replay", str(kept.refused_delivery_id)) for _ in range(3)]

    assert [0, 0, 0] == [result.exit_code for result in results]
    assert ["applied: 1\n", *["already applied: 1\n"] * 2] == [result.output for result in results]
    assert 1 == len(await world.ledger("new"))


async def test_a_retry_after_a_replay_is_already_applied(world: World, client: httpx2.AsyncClient, run: Run) -> None:
    await deliver(client, external_id="new")
    await world.execute(NEW_ITEM)
    await run("refused", "replay", "--all", "--yes")

    assert 204 == await deliver(client, external_id="new", now="later")
    assert 1 == len(await world.ledger("new"))
    assert ["replayed"] == await states(world)


@pytest.mark.parametrize("is_stocked", [True, False], ids=["a level to lock", "no level yet"])
async def test_replays_and_retries_at_once_apply_once(world: World, client: httpx2.AsyncClient, *, is_stocked: bool) -> None:
    count = 10
    for number in range(count):
        await deliver(client, external_id="new", date=str(number))
    ids = [kept.refused_delivery_id for kept in await world.refused()]
    await world.execute(NEW_ITEM)
    if is_stocked:
        await world.execute("INSERT INTO pos_sync.stock_level (store_id, item_id, quantity, version) VALUES ('1', 'new', 0, 0)")
    engines = [database_of(world.service_url).create_engine() for _ in range(3)]

    results = await asyncio.gather(
        *(replay(engine, ids, actor=str(number)) for number, engine in enumerate(engines)),
        *(deliver(client, external_id="new", date=str(number), now="retry") for number in range(count)),
    )

    for engine in engines:
        await engine.dispose()
    replays, retries = results[:3], results[3:]
    assert [204] * count == retries
    assert all(one.verdict.is_good for several in replays for one in several)  # type: ignore[union-attr]
    assert count == len(await world.ledger("new"))
    assert Decimal("-12.50") == await world.level("new")
    assert {"replayed", "resolved"} >= set(await states(world))
    assert {} == await world.broken_invariants()


async def test_replays_go_oldest_first_so_that_a_receipt_covers_what_was_sold_from_it(world: World, run: Run) -> None:
    await run("store", "set", "1", "--negative-stock", "refuse")
    async with running(settings_for(world)) as (_, client):
        assert 409 == await deliver(client, external_id="new", movement_type=1, quantity="6")
        assert 409 == await deliver(client, external_id="new", movement_type=2, quantity="4")
    await world.execute(NEW_ITEM)

    counted = await run("refused", "replay", "--all", "--dry-run")
    done = await run("refused", "replay", "--all", "--yes")

    assert (0, 0) == (counted.exit_code, done.exit_code)
    assert Decimal(2) == await world.level("new")


async def test_one_movement_refused_for_two_reasons_is_applied_once_and_both_are_closed(
    world: World, client: httpx2.AsyncClient, run: Run
) -> None:
    await deliver(client, external_id="new", store_id=9)
    await world.execute("INSERT INTO pos_sync.store (store_id, name, timezone) VALUES ('9', 'Nine', 'UTC')")
    await deliver(client, external_id="new", store_id=9)
    await world.execute(NEW_ITEM)
    await run("store", "set", "9", "--connect", "4344be8c-c6b9-4c51-88a6-d620144ab406", "30")

    result = await run("refused", "replay", "--all", "--yes")

    assert "applied: 1, already applied: 1\n" == result.output
    assert ["replayed", "replayed"] == await states(world)
    assert 1 == len(await world.ledger("new"))


async def test_a_replay_needs_no_client_secret_and_honours_the_pos_id(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(settings_for(world, pos_id="7")) as (_, client):
        assert 409 == await deliver(client)
    still = await run("refused", "replay", "--all", "--yes")
    monkeypatch.setenv("POS_ID", "1")
    other = await run("refused", "replay", "--all", "--yes")
    recorded = await run("rules", "--record")
    done = await run("refused", "replay", "--all", "--yes")

    assert (1, 1, 0, 0) == (still.exit_code, other.exit_code, recorded.exit_code, done.exit_code)
    assert "POS_ID is 1 here, and 7 is recorded, which counts" in other.output
    assert Decimal("12.44") == await world.level()


async def test_what_cannot_be_read_stays_refused(world: World, client: httpx2.AsyncClient, run: Run) -> None:
    await client.post(PATH, content=b"{\x1b", headers=signed(b"{\x1b"))

    result = await run("refused", "replay", "--all", "--yes")
    (kept,) = await world.refused()
    shown = await run("refused", "show", str(kept.refused_delivery_id))

    assert 1 == result.exit_code
    assert "cannot be read" in result.output
    assert "{\ufffd" in shown.output
    assert "\x1b" not in shown.output


async def test_what_the_database_does_not_take_stays_refused_and_spares_the_others(
    world: World, client: httpx2.AsyncClient, run: Run
) -> None:
    for date in ("poison", "good"):
        await deliver(client, external_id="new", date=date)
    await world.execute(
        NEW_ITEM,
        POISON,
        "CREATE TRIGGER refuse_poison BEFORE INSERT ON stock_movement FOR EACH ROW EXECUTE FUNCTION refuse_poison()",
    )

    result = await run("refused", "replay", "--all", "--yes")

    assert 1 == result.exit_code
    assert "applied: 1, refused again: 1" in result.output
    assert "a value that the POS database does not take" in result.output
    assert ["open", "replayed"] == await states(world)
    assert {} == await world.broken_invariants()


async def test_dismissed_ones_are_not_replayed_and_say_who_and_why(world: World, client: httpx2.AsyncClient, run: Run) -> None:
    await deliver(client, external_id="new")
    (kept,) = await world.refused()
    number = str(kept.refused_delivery_id)
    await world.execute(NEW_ITEM)

    first = await run("refused", "dismiss", number, "--note", "typed by hand", "--actor", "ana")
    again = await run("refused", "dismiss", number, "--note", "no")
    replayed = await run("refused", "replay", number)

    assert (0, 1, 1) == (first.exit_code, again.exit_code, replayed.exit_code)
    assert f"{number}: left as it is: dismissed" in again.output
    assert "dismissed by ana: typed by hand" in replayed.output
    assert await world.level("new") is None
    (kept,) = await world.refused()
    assert ("dismissed", "ana", "typed by hand") == (kept.state, kept.actor, kept.note)


async def test_the_list_filters_and_show_tells_all(world: World, client: httpx2.AsyncClient, run: Run) -> None:
    for changes in ({"external_id": "new"}, {"external_id": "new", "now": "x"}, {"store_id": 9}, {"quantity": "x"}):
        await deliver(client, **changes)

    listed = json.loads((await run("refused", "list", "--json")).output)
    by_reason = (await run("refused", "list", "--reason", "unknown_store")).output
    by_store = (await run("refused", "list", "--store", "1", "--limit", "1")).output
    shown = await run("refused", "show", str(listed[-1]["number"]))

    assert ["invalid_field", "unknown_store", "unknown_item"] == [row["reason"] for row in listed]
    assert 2 == listed[2]["attempts"]
    assert "1.25" == listed[2]["fields"]["quantity"]
    assert ("unknown_store" in by_reason, "unknown_item" in by_reason) == (True, False)
    assert "invalid_field" in by_store
    assert all(part in shown.output for part in ("remove", '"external_id":"new"', "2020-05-30 12:45:03", "attempts"))
    assert "No such" in (await run("refused", "list", "--state", "replayed")).output
    assert len(await world.refused()) == 3


async def test_an_unknown_number_is_a_failure_in_words(run: Run) -> None:
    replayed, shown, both = (
        await run("refused", "replay", "17"),
        await run("refused", "show", "17"),
        await run("refused", "replay", "17", "--all"),
    )

    assert (1, 1, 2) == (replayed.exit_code, shown.exit_code, both.exit_code)
    assert "There is no refused delivery" in replayed.output
    assert "There is no refused delivery 17" in shown.output


def test_every_verdict_is_good_or_bad_on_purpose() -> None:
    good = {Verdict.APPLIED, Verdict.ALREADY_APPLIED, Verdict.COUNTED, Verdict.SET_ASIDE}
    assert good == {verdict for verdict in Verdict if verdict.is_good}
