"""A copy that may be a movement of its own is kept, and applied exactly once where an operator says so."""

import asyncio
import json
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from app.operator.duplicates import apply_suspected
from app.operator.refusals import Verdict
from tests.conftest import running, settings_for
from tests.support.commands import Run
from tests.support.postgres import database_of
from tests.support.sender import PATH, body_of, signed
from tests.support.world import World


async def report(client: httpx2.AsyncClient, change: str, stock: str, now: str, **changes: Any) -> int:
    body = body_of(
        movement_type=2 if change.startswith("-") else 1,
        quantity=change.lstrip("+-"),
        current_stock=stock,
        date="2026-05-30 12:45:03",
        now=now,
        **changes,
    )
    return (await client.post(PATH, content=body, headers=signed(body))).status_code


async def correct_in_one_second(client: httpx2.AsyncClient) -> None:
    """+5, -5, +5 at one time: the third has the identity of the first."""
    assert [204] * 3 == [
        await report(client, "+5", "18.69", "one"),
        await report(client, "-5", "13.69", "two"),
        await report(client, "+5", "18.69", "three"),
    ]


async def suspected(run: Run, *arguments: str) -> list[dict[str, Any]]:
    return list(json.loads((await run("duplicates", "list", "--json", *arguments)).output))


async def test_a_suspected_duplicate_is_listed_and_applied_once(world: World, client: httpx2.AsyncClient, run: Run) -> None:
    await correct_in_one_second(client)
    assert Decimal("13.69") == await world.level()
    (one,) = await suspected(run)
    assert ("open", 2, "5", "three") == (one["state"], one["occurrence"], one["fields"]["quantity"], one["fields"]["now"])
    assert "18.69" in (await run("duplicates", "list")).output

    results = [await run("duplicates", "apply", str(one["number"]), "--actor", "ana") for _ in range(2)]

    assert ["applied: 1\n", "already applied: 1\n"] == [result.output for result in results]
    assert Decimal("18.69") == await world.level()
    assert [1, 1, 2] == [row.occurrence for row in await world.ledger()]
    (closed,) = await suspected(run, "--state", "all")
    assert ("applied", "ana") == (closed["state"], closed["actor"])
    assert 204 == await report(client, "+5", "18.69", "four")
    assert 3 == len(await world.ledger())
    assert [] == await suspected(run)
    assert {} == await world.broken_invariants()


async def test_a_suspected_duplicate_is_shown_whole(client: httpx2.AsyncClient, run: Run) -> None:
    await correct_in_one_second(client)
    (one,) = await suspected(run)

    shown = await run("duplicates", "show", str(one["number"]))

    assert "repeated" in shown.output
    assert "body:\n{" in shown.output
    assert one == json.loads((await run("duplicates", "show", str(one["number"]), "--json")).output)
    assert "no suspected duplicate 999" in (await run("duplicates", "show", "999")).output


async def test_a_plain_retry_is_not_suspected(client: httpx2.AsyncClient, run: Run) -> None:
    await report(client, "+5", "18.69", "one")
    await report(client, "+5", "18.69", "two")
    await report(client, "-1", "17.69", "three")
    await report(client, "+5", "18.69", "four")

    assert [] == await suspected(run)


async def test_further_copies_raise_attempts_and_a_dismissed_one_stays_so_until_something_was_reported_in_between(
    client: httpx2.AsyncClient, run: Run
) -> None:
    await correct_in_one_second(client)
    await report(client, "+5", "18.69", "four")
    (one,) = await suspected(run)
    assert 2 == one["attempts"]

    dismissed = await run("duplicates", "dismiss", str(one["number"]), "--note", "one note only", "--actor", "ana")
    await report(client, "+5", "18.69", "five")
    assert (0, []) == (dismissed.exit_code, await suspected(run))
    refused = await run("duplicates", "apply", str(one["number"]))
    assert 1 == refused.exit_code
    assert "dismissed by ana: one note only" in refused.output

    body = body_of(movement_type=1, quantity="0", current_stock="13.69", date="2026-05-31", now="six")
    assert 204 == (await client.post(PATH, content=body, headers=signed(body))).status_code
    await report(client, "+5", "18.69", "seven")
    (another,) = await suspected(run)
    assert (3, 1) == (another["occurrence"], another["attempts"])
    assert one["number"] != another["number"]


async def test_copies_in_one_batch_are_one_suspicion(world: World, client: httpx2.AsyncClient, run: Run) -> None:
    await report(client, "+5", "18.69", "one")
    await report(client, "-5", "13.69", "two")

    assert [204] * 20 == await asyncio.gather(*(report(client, "+5", "18.69", f"copy {n}") for n in range(20)))

    (one,) = await suspected(run)
    assert 20 == one["attempts"]
    assert Decimal("13.69") == await world.level()


async def test_several_operators_apply_one_once(world: World, client: httpx2.AsyncClient, run: Run) -> None:
    await correct_in_one_second(client)
    (one,) = await suspected(run)
    engines = [database_of(world.service_url).create_engine() for _ in range(4)]

    results = await asyncio.gather(*(apply_suspected(engine, one["number"], actor="ana") for engine in engines))

    for engine in engines:
        await engine.dispose()
    assert [Verdict.ALREADY_APPLIED] * 3 + [Verdict.APPLIED] == sorted(result.verdict for result in results)
    assert Decimal("18.69") == await world.level()
    assert {} == await world.broken_invariants()


async def test_the_store_s_rules_hold_for_it_too(world: World, run: Run) -> None:
    await run("store", "set", "1", "--negative-stock", "refuse")
    async with running(settings_for(world)) as (_, client):
        for change, stock, now in (("-10", "3.69", "1"), ("+10", "13.69", "2"), ("-10", "3.69", "3")):
            assert 204 == await report(client, change, stock, now)
        assert 204 == await report(client, "-6", "7.69", "4")
    (one,) = await suspected(run)

    result = await run("duplicates", "apply", str(one["number"]))

    assert 1 == result.exit_code
    assert "below zero" in result.output
    assert "open" == (await suspected(run))[0]["state"]


@pytest.mark.parametrize("reading", ["after", "before"])
async def test_reported_stock_can_be_read_as_the_stock_before_the_movement(world: World, run: Run, reading: str) -> None:
    async with running(settings_for(world, reported_stock=reading)) as (_, client):
        await report(client, "+5", "13.69", "one")
        await report(client, "-5", "18.69", "two")
        await report(client, "+5", "13.69", "three")

    assert (1 if reading == "before" else 0) == len(await suspected(run))


async def test_an_unknown_number_is_a_failure_in_words(run: Run) -> None:
    result = await run("duplicates", "apply", "17")

    assert 1 == result.exit_code
    assert "There is no suspected duplicate" in result.output
    assert "No suspected duplicates are open" in (await run("duplicates", "list")).output
    assert 1 == (await run("duplicates", "dismiss", "17", "--note", "x")).exit_code
