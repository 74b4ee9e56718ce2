"""Bad days: answers lost, items unknown, stock sold before it arrived, mipOS or the database away."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from tests.conftest import running, settings_for
from tests.support.commands import Run
from tests.support.mipos import AUTHORIZED, KEY, mipos
from tests.support.postgres import rename_database
from tests.support.restaurant import SYSTEM, Restaurant
from tests.support.sender import body_of, raw_request, signed
from tests.support.service import free_port, send_copies, serving
from tests.support.world import World


async def test_a_new_dish_that_the_pos_does_not_know_is_kept_and_applied_once_it_does(restaurant: Restaurant) -> None:
    dish = {"date": "2026-05-30 20:00:00"}
    first = await restaurant.reports("-2", "avcc999", now_at="-2", **dish)
    for _ in range(3):
        await restaurant.reports("-2", "avcc999", now_at="-2", **dish)

    assert 409 == first.status_code
    assert 'no item with external_id "avcc999"' in first.json()["message"]
    (letter,) = await restaurant.refused()
    assert (4, "unknown_item") == (letter["attempts"], letter["reason"])
    assert [] == await restaurant.world.ledger()

    await restaurant.creates_item("avcc999", "New dish")
    assert 204 == (await restaurant.reports("-2", "avcc999", now_at="-2", **dish)).status_code

    assert "-2" == await restaurant.stock("avcc999")
    assert [] == await restaurant.refused()
    (letter,) = await restaurant.refused("--state", "all")
    assert "resolved" == letter["state"]


async def test_an_answer_that_was_lost_and_a_second_sending_change_nothing_more(restaurant: Restaurant) -> None:
    movement = {"date": "2026-05-30 12:45:03"}
    lost = asyncio.create_task(restaurant.reports("-1.25", "avcc123", now_at="12.44", **movement))
    while not await restaurant.world.ledger():  # noqa: ASYNC110 - seen from outside only
        await asyncio.sleep(0.01)
    lost.cancel()
    await asyncio.gather(lost, return_exceptions=True)

    again = await restaurant.reports("-1.25", "avcc123", now_at="12.44", now="2026-05-30 12:59:59", **movement)

    assert 204 == again.status_code
    assert "12.44" == await restaurant.stock("avcc123")
    assert 1 == await restaurant.outcomes("already_applied")
    assert "No suspected duplicates are open" in (await restaurant.run("duplicates", "list")).output


@pytest.mark.slow
async def test_a_storm_of_200_copies_against_four_workers_is_one_movement(world: World) -> None:
    request = raw_request(body_of(), signed(body_of()))
    with serving(world.service_url, "--workers", "4") as service:
        answers = await asyncio.gather(*(send_copies(service.port, request, 10) for _ in range(20)))

    assert [204] * 200 == [status for statuses in answers for status in statuses]
    assert 1 == len(await world.ledger())


async def test_what_was_sold_before_it_arrived_is_shown_below_zero_until_it_arrives(restaurant: Restaurant) -> None:
    await restaurant.delivers("-10.69", "avcc123", now_at="3")
    assert 204 == (await restaurant.reports("-4", "avcc123", now_at="-1")).status_code

    assert "below zero" in (await restaurant.run("stock", "--store", "1")).output
    assert "-1" == await restaurant.stock("avcc123")
    await restaurant.delivers("+6", "avcc123", now_at="5")
    assert "5" == await restaurant.stock("avcc123")


async def test_a_store_that_refuses_to_go_below_zero_ends_at_the_same_stock_by_a_replay(restaurant: Restaurant) -> None:
    await restaurant.run("store", "set", "1", "--negative-stock", "refuse")
    await restaurant.delivers("-10.69", "avcc123", now_at="3")
    refused = await restaurant.reports("-4", "avcc123", now_at="-1")
    assert (409, "3") == (refused.status_code, await restaurant.stock("avcc123"))
    assert "below zero" in refused.json()["message"]
    await restaurant.delivers("+6", "avcc123", now_at="5")
    waiting = await restaurant.drift("avcc123")
    assert ("9", "5", "4", ["refused"]) == (
        waiting["ours"],
        waiting["theirs"],
        waiting["drift"],
        [cause["cause"] for cause in waiting["causes"]],
    )

    assert 0 == (await restaurant.run("refused", "replay", "--all", "--yes")).exit_code

    assert "5" == await restaurant.stock("avcc123")
    assert "0" == (await restaurant.drift("avcc123"))["drift"]


async def test_a_correction_within_one_second_is_suspected_and_applied_by_the_operator(restaurant: Restaurant) -> None:
    await restaurant.delivers("-3.69", "avcc123", now_at="10")
    second = "2026-05-30 15:00:00"
    for number, (change, now_at) in enumerate((("+5", "15"), ("-5", "10"), ("+5", "15"))):
        answer = await restaurant.reports(change, "avcc123", now_at=now_at, date=second, now=f"2026-05-30 15:00:0{number}")
        assert 204 == answer.status_code

    found = await restaurant.drift("avcc123")
    assert ("10", "-5", ["suspected_duplicate"]) == (
        await restaurant.stock("avcc123"),
        found["drift"],
        [cause["cause"] for cause in found["causes"]],
    )

    assert 0 == (await restaurant.run("duplicates", "apply", "1")).exit_code

    assert "15" == await restaurant.stock("avcc123")
    assert "0" == (await restaurant.drift("avcc123"))["drift"]


async def test_two_inventory_systems_that_report_the_same_are_two_movements(restaurant: Restaurant) -> None:
    await restaurant.run("store", "set", "1", "--connect", "other-system", "31")
    for system in (SYSTEM, "other-system"):
        answer = await restaurant.reports("-1", "avcc123", now_at="12.69", inventory_system_id=system, date="2026-05-30 16:00:00")
        assert 204 == answer.status_code
    assert "11.69" == await restaurant.stock("avcc123")
    found = await restaurant.drift("avcc123")
    assert ("0", "-1") == (found["drift"], found["pending"])

    await restaurant.run("store", "set", "1", "--disable", "other-system")
    switched_off = await restaurant.reports("-1", "avcc123", now_at="11.69", inventory_system_id="other-system")
    assert 409 == switched_off.status_code
    assert "switched off" in switched_off.json()["message"]


async def test_a_number_that_the_operator_adopts_ends_a_drift(restaurant: Restaurant) -> None:
    await restaurant.delivers("-1", "avcc123", now_at="12.69")
    await restaurant.delivers("-1", "avcc123", now_at="9.69")
    found = await restaurant.drift("avcc123")
    assert ("2", ["gap"]) == (found["drift"], [cause["cause"] for cause in found["causes"]])

    done = await restaurant.run(
        "reconcile", "--store", "1", "--item", "avcc123", "--adopt", SYSTEM, "--note", "a bin was thrown away"
    )

    assert 0 == done.exit_code
    assert "9.69" == await restaurant.stock("avcc123")
    assert "0" == (await restaurant.drift("avcc123"))["drift"]


async def test_on_a_bad_morning_three_replicas_receive_while_mipos_is_down_and_then_register_once(
    world: World, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.mipos.answers.MIN_PAUSE", timedelta(seconds=0.02))
    monkeypatch.setattr("app.operations.readiness.FRESH_SECONDS", 0.0)
    port = free_port()
    account = {"mipos_client_id": "sandbox-client", "mipos_email": "pos@example.com", "mipos_password": "open sesame"}
    urls = {"mipos_base_url": f"http://127.0.0.1:{port}", "public_url": "https://pos.example.com"}
    settings = settings_for(world, pos_api_key=KEY, **urls, **account)
    async with AsyncExitStack() as stack:
        replicas = [(await stack.enter_async_context(running(settings)))[1] for _ in range(3)]
        restaurant = Restaurant(world, replicas[0], run, tmp_path)
        assert 204 == (await restaurant.reports("-1", "avcc123", now_at="12.69")).status_code
        remote = await stack.enter_async_context(mipos(port=port))
        for replica in replicas:
            while (await replica.get("/pos/status", headers=AUTHORIZED)).json()["registration"]["state"] != "registered":  # noqa: ASYNC110
                await asyncio.sleep(0.05)

        assert 1 == remote.calls["manage"]


async def test_a_delivery_while_the_database_is_away_is_told_to_come_again_and_lands_once(
    world: World, run: Run, tmp_path: Path
) -> None:
    away = f"{world.database}_away"
    movement = {"date": "2026-05-30 12:45:03"}
    async with running(settings_for(world, response_deadline=0.5)) as (_, client):
        restaurant = Restaurant(world, client, run, tmp_path)
        await world.engine.dispose()
        await rename_database(world.database, away)
        try:
            answer = await restaurant.reports("-1", "avcc123", now_at="12.69", **movement)
        finally:
            await rename_database(away, world.database)
        assert (503, "5") == (answer.status_code, answer.headers["Retry-After"])
        assert 204 == (await restaurant.reports("-1", "avcc123", now_at="12.69", **movement)).status_code

        assert "12.69" == await restaurant.stock("avcc123")
        assert 1 == len(await world.ledger())
