"""What a person has decided about a delivery holds when it comes again; and what only a person can decide waits for one."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from tests.conftest import running, settings_for
from tests.support.commands import Run
from tests.support.mipos import SYSTEM
from tests.support.sender import PATH, body_of, signed
from tests.support.world import World

NEW_ITEM = (
    "INSERT INTO pos_sync.item SELECT store_id, 'new', 'New dish', purchase_unit_id, consumption_unit_id, supplier_id, cost"
    " FROM pos_sync.item WHERE item_id = 'avcc123'"
)
YESTERDAY = datetime.now(UTC) - timedelta(days=1)


async def deliver(client: httpx2.AsyncClient, **changes: Any) -> httpx2.Response:
    body = body_of(**changes)
    return await client.post(PATH, content=body, headers=signed(body))


async def test_a_movement_that_was_dismissed_is_not_applied_when_it_comes_again_until_it_is_reopened(
    world: World, client: httpx2.AsyncClient, run: Run
) -> None:
    assert 409 == (await deliver(client, external_id="new")).status_code
    await run("refused", "dismiss", "1", "--note", "typed by hand", "--actor", "ana")
    await world.execute(NEW_ITEM)

    again = await deliver(client, external_id="new", now="later")
    other = await deliver(client, external_id="new", quantity="2")
    listed = await run("refused", "list")
    reopened = await run("refused", "reopen", "1", "--note", "it counts")
    applied = await deliver(client, external_id="new", now="later still")

    assert 409 == again.status_code
    assert 'The POS has put this movement aside: "ana" dismissed it.' in again.json()["message"]
    assert 204 == other.status_code
    assert "No refused deliveries are open." in listed.output
    assert "reopened: 1" in reopened.output
    assert 204 == applied.status_code
    assert [2, 1.25] == [float(row.quantity) for row in await world.ledger()]


async def test_a_dismissal_holds_over_all_reasons_of_the_movement(world: World, run: Run) -> None:
    async with running(settings_for(world)) as (_, client):
        await deliver(client, external_id="new")
        await world.execute(NEW_ITEM, f"UPDATE pos_sync.integration SET enabled = false WHERE inventory_system_id = '{SYSTEM}'")
        await deliver(client, external_id="new")
        await run("refused", "dismiss", "1", "--note", "twice refused")

    assert ["dismissed", "dismissed"] == [row.state for row in await world.refused()]


@pytest.mark.parametrize(("answer", "stock"), [("--counted", "12.5"), ("--not-counted", "11.25")])
async def test_a_replay_of_a_movement_from_before_the_opening_asks_whether_the_count_held_it(
    world: World, client: httpx2.AsyncClient, run: Run, answer: str, stock: str
) -> None:
    assert 409 == (await deliver(client, external_id="new", date=f"{YESTERDAY:%Y-%m-%d %H:%M:%S}")).status_code
    await world.execute(NEW_ITEM, "SELECT pos_sync.record_movement('1', 'new', 'count', 12.5, 'opening')")

    asked = await run("refused", "replay", "1")
    dry = await run("refused", "replay", "1", answer, "--dry-run")
    assert Decimal("12.5") == await world.level("new")
    decided = await run("refused", "replay", "1", answer)

    assert 1 == asked.exit_code
    assert "close it with --counted; if not, apply it with --not-counted" in asked.output
    assert (0, 0) == (dry.exit_code, decided.exit_code)
    assert Decimal(stock) == await world.level("new")
    assert 0 == (await run("refused", "list")).output.count("unknown_item")


async def test_replaying_everything_asks_first_with_the_number(world: World, client: httpx2.AsyncClient, run: Run) -> None:
    for quantity in ("1", "2"):
        await deliver(client, external_id="new", quantity=quantity)
    await world.execute(NEW_ITEM)

    refused = await run("refused", "replay", "--all", input=b"n\n")
    left = await world.ledger()
    done = await run("refused", "replay", "--all", input=b"y\n")

    assert "Replay 2 refused deliveries?" in refused.output
    assert (1, []) == (refused.exit_code, left)
    assert (0, 2) == (done.exit_code, len(await world.ledger()))


async def test_a_refusal_says_what_it_is_about_whatever_else_is_wrong_with_it(
    world: World, client: httpx2.AsyncClient, run: Run
) -> None:
    broken: list[dict[str, Any]] = [{"quantity": "much"}, {"movement_type": 7}, {"date": None}, {"current_stock": []}]
    for changes in broken:
        assert 422 == (await deliver(client, **changes)).status_code

    assert [("1", "avcc123")] * 4 == [(row.store_id, row.item_id) for row in await world.refused()]
    assert 4 == (await run("refused", "list", "--store", "1")).output.count("invalid_field")


SAME_DAY = [(2, "9"), (1, "10"), (2, "9"), (1, "10"), (2, "9"), (1, "10"), (2, "9")]
"""Sold, returned, sold, ... one after the other, all under one date that names no time."""


async def deliver_same_day(client: httpx2.AsyncClient) -> None:
    for number, (movement_type, stock) in enumerate(SAME_DAY):
        changes = {
            "movement_type": movement_type,
            "current_stock": stock,
            "date": "2026-06-01",
            "now": f"2026-06-01 1{number}:00:00",
        }
        assert 204 == (await deliver(client, quantity="1", **changes)).status_code


async def test_each_movement_under_a_date_that_was_used_before_is_a_row_for_a_person(
    world: World, client: httpx2.AsyncClient, run: Run
) -> None:
    await deliver_same_day(client)

    listed = (await run("duplicates", "list")).output
    assert 5 == listed.count("repeated")
    assert 2 == len(await world.ledger())
    assert "12.69" not in str(await world.level())
    applied = await run("duplicates", "apply", "1", "2", "3", "4", "5")
    assert (0, 7) == (applied.exit_code, len(await world.ledger()))
    assert Decimal("12.69") == await world.level()
    assert {} == await world.broken_invariants()


async def test_an_operator_can_let_repeated_dates_be_applied(world: World, client: httpx2.AsyncClient, run: Run) -> None:
    await run("store", "set", "1", "--repeated-dates", SYSTEM, "apply")
    await deliver_same_day(client)
    # What is sent once more is known all the same.
    changes = {"movement_type": 2, "current_stock": "9", "date": "2026-06-01", "now": "2026-06-01 16:00:00"}
    assert 204 == (await deliver(client, quantity="1", **changes)).status_code

    assert 7 == len(await world.ledger())
    assert Decimal("12.69") == await world.level()
    assert "No suspected duplicates are open." in (await run("duplicates", "list")).output


async def test_a_delivery_dated_before_a_count_is_taken_back_when_it_is_dismissed(
    world: World, client: httpx2.AsyncClient, run: Run
) -> None:
    await world.execute("SELECT pos_sync.record_movement('1', 'avcc123', 'count', 10, 'count')")
    await deliver(client, date=f"{YESTERDAY:%Y-%m-%d %H:%M:%S}")
    assert Decimal("8.75") == await world.level()

    dismissed = await run("duplicates", "dismiss", "1", "--note", "it was in the count", "--actor", "ana")

    assert 0 == dismissed.exit_code
    assert Decimal(10) == await world.level()
    assert [("pos_count", None), ("inventory_system", None), ("reversal", "ana")] == [
        (row.source, row.actor) for row in await world.ledger()
    ]
