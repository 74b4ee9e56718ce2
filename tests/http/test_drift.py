"""`pos-sync drift` and `reconcile` over what really was delivered."""

import asyncio
import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from app.operator.drift import Adoption, reconcile, refresh
from app.operator.standing import look
from app.problems import kinds
from app.stock.rules import Rules
from app.storage import problem_facts, system_levels
from app.storage.drift import _ROWS
from tests.conftest import settings_for
from tests.support.commands import Run
from tests.support.postgres import database_of
from tests.support.sender import PATH, body_of, signed
from tests.support.world import World

SYSTEM = "4344be8c-c6b9-4c51-88a6-d620144ab406"
ADOPT = ("reconcile", "--store", "1", "--item", "avcc123", "--note", "counted", "--actor", "ana")


async def report(client: httpx2.AsyncClient, change: str, stock: str, minute: int, **changes: Any) -> int:
    values = {
        "movement_type": 2 if change.startswith("-") else 1,
        "quantity": change.lstrip("+-"),
        "current_stock": stock,
        "date": f"2026-05-30 12:{minute:02}:00",
        "now": f"2026-05-30 12:{minute:02}:01",
    }
    body = body_of(**{**values, **changes})
    return (await client.post(PATH, content=body, headers=signed(body))).status_code


async def drift(run: Run, *arguments: str) -> list[dict[str, Any]]:
    return list(json.loads((await run("drift", "--json", *arguments)).output))


async def drift_of(run: Run, item: str = "avcc123") -> dict[str, Any]:
    (one,) = await drift(run, "--store", "1", "--item", item, "--system", SYSTEM)
    return one


async def test_only_what_differs_is_shown_and_drift_is_no_failure(client: httpx2.AsyncClient, run: Run) -> None:
    await report(client, "-1.25", "12.44", 1)
    await report(client, "-1", "20", 2, external_id="tom001")

    result = await run("drift")

    assert 0 == result.exit_code
    assert "avcc123" not in result.output
    line = next(line for line in result.output.splitlines() if "tom001" in line)
    assert "+1.5 opening difference" in line
    assert "Compared: 2; in sync: 1, different: 1, not known: 0. Nothing known of theirs: 3." in result.output
    assert "avcc123" in (await run("drift", "--all")).output
    assert 5 == len(await drift(run))


async def test_refused_and_suspected_movements_are_named_as_causes(world: World, client: httpx2.AsyncClient, run: Run) -> None:
    await report(client, "-1", "12.69", 1)
    await run("store", "set", "1", "--disable", SYSTEM)
    assert 409 == await report(client, "-2", "10.69", 2)
    await run("store", "set", "1", "--enable", SYSTEM)

    found = await drift_of(run)
    assert ("12.69", "10.69", "2", ["refused"]) == (
        found["ours"],
        found["theirs"],
        found["drift"],
        [cause["cause"] for cause in found["causes"]],
    )

    assert 0 == (await run("refused", "replay", "--all", "--yes")).exit_code
    assert "0" == (await drift_of(run))["drift"]
    assert {} == await world.broken_invariants()


async def test_the_window_limits_what_is_looked_at(client: httpx2.AsyncClient, run: Run) -> None:
    await report(client, "-1", "50", 1)
    await run("store", "set", "1", "--connect", "other", "31")
    for minute in range(2, 6):
        assert 204 == await report(client, "-1", "1", minute, inventory_system_id="other")

    (near,) = await drift(run, "--item", "avcc123", "--system", SYSTEM, "--window", "3", "--store", "1")
    (far,) = await drift(run, "--item", "avcc123", "--system", SYSTEM, "--store", "1")

    assert (None, "50", "-4") == (near["theirs"], far["theirs"], far["pending"])


async def test_the_windows_are_read_through_the_primary_key(world: World) -> None:
    await world.execute(
        "INSERT INTO pos_sync.item SELECT store_id, 'i' || n, 'x', purchase_unit_id, consumption_unit_id, supplier_id, cost"
        " FROM pos_sync.item, generate_series(1, 50) AS n WHERE item_id = 'avcc123'",
        "INSERT INTO pos_sync.stock_level SELECT '1', 'i' || n, 1000, 1000 FROM generate_series(1, 50) AS n",
        "INSERT INTO pos_sync.stock_movement (store_id, item_id, level_version, source, movement_type, quantity, balance_after)"
        " SELECT '1', 'i' || n, v, 'pos_receipt', 1, 1, v FROM generate_series(1, 50) AS n, generate_series(1, 1000) AS v",
        "ANALYZE",
    )
    query = _ROWS.replace("$1", "200").replace("$2", "ARRAY['1', '1']").replace("$3", "ARRAY['i1', 'i2']")
    async with world.engine.connect() as connection:
        plan = "\n".join(await connection.scalars(text(f"EXPLAIN {query}")))

    assert "stock_movement_pkey" in plan
    assert "Seq Scan on stock_movement" not in plan


async def test_adopting_a_system_s_number_is_one_row_with_actor_and_note_and_ends_the_drift(
    world: World, client: httpx2.AsyncClient, run: Run
) -> None:
    await report(client, "-1", "10", 1)

    dry = await run(*ADOPT, "--adopt", SYSTEM, "--dry-run")
    assert Decimal("12.69") == await world.level()
    done = await run(*ADOPT, "--adopt", SYSTEM)
    again = await run(*ADOPT, "--adopt", SYSTEM)

    assert "Nothing was changed. It would be: Item avcc123 in store 1: 12.69 before, 10.00 after (-2.69)" in dry.output
    assert "Ours: 12.69. Theirs: 10, by report 10 (2026-05-30 12:01:00).\n" in done.output
    assert "Item avcc123 in store 1: 12.69 before, 10.00 after (-2.69), ledger row 3.\n" in done.output
    assert "is at 10.00 already; nothing was written" in again.output
    _, row = await world.ledger("avcc123")
    assert ("reconcile", "ana", "counted", SYSTEM, 2) == (
        row.source,
        row.actor,
        row.note,
        row.inventory_system_id,
        row.movement_type,
    )
    assert ("0", []) == ((await drift_of(run))["drift"], (await drift_of(run))["causes"])
    assert {} == await world.broken_invariants()


async def test_adopting_a_counted_number(world: World, client: httpx2.AsyncClient, run: Run) -> None:
    await report(client, "-1", "12.69", 1)

    result = await run(*ADOPT, "--to", "13.5")

    assert "12.69 before, 13.5 after (+0.81)" in result.output
    assert Decimal("13.5") == await world.level()
    # The system is told, as of any count.
    assert ("0", "0.81") == ((await drift_of(run))["drift"], (await drift_of(run))["pending"])


async def test_adopting_warns_of_what_waits_and_would_come_on_top(client: httpx2.AsyncClient, run: Run) -> None:
    await run("store", "set", "1", "--disable", SYSTEM)
    assert 409 == await report(client, "-2", "11.69", 1)

    result = await run(*ADOPT, "--adopt", SYSTEM)

    assert 0 == result.exit_code
    assert "deliveries about this item that still wait: 1" in result.output
    assert "13.69 before, 11.69 after (-2)" in result.output


async def test_several_operators_and_deliveries_at_once_adopt_once(world: World, client: httpx2.AsyncClient) -> None:
    engines = [database_of(world.service_url).create_engine() for _ in range(3)]
    adoption = Adoption(store_id="1", item_id="saf001", to=Decimal(7), window=200)

    await asyncio.gather(
        *(
            reconcile(
                engine,
                adoption,
                rules=Rules(),
                actor="ana",
                note="counted",
            )
            for engine in engines
        ),
        *(report(client, "-1", "1", minute, external_id="tom001") for minute in range(10)),
    )

    for engine in engines:
        await engine.dispose()
    assert 1 == len(await world.ledger("saf001"))
    assert Decimal(7) == await world.level("saf001")
    assert {} == await world.broken_invariants()


async def test_a_first_number_makes_the_level(world: World, run: Run) -> None:
    result = await run("reconcile", "--store", "2", "--item", "saf001", "--to", "-0.5", "--note", "counted", "--actor", "ana")

    assert 0 == result.exit_code
    assert Decimal("-0.5") == await world.level("saf001", "2")
    assert {} == await world.broken_invariants()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--to", "1", "--adopt", SYSTEM), "Name --adopt SYSTEM or --to QUANTITY"),
        ((), "Name --adopt SYSTEM or --to QUANTITY"),
        (("--to", "1e99"), "must be below"),
        (("--to", "1", "--note", " "), "must not be blank"),
        (("--adopt", SYSTEM), "has reported no stock"),
        (("--to", "1", "--item", "nothing"), 'No store has an item "nothing"'),
        (("--to", "1", "--store", "99"), 'no store "99"'),
        (("--to", "-1", "--store", "2", "--item", "item_abc123"), "below zero"),
    ],
)
async def test_reconcile_says_what_is_wrong(world: World, run: Run, arguments: tuple[str, ...], said: str) -> None:
    await world.execute("UPDATE pos_sync.store SET negative_stock = 'refuse' WHERE store_id = '2'")

    result = await run(*ADOPT, *arguments)

    assert 0 != result.exit_code
    assert said in result.output
    assert [] == await world.ledger()


Pairs = dict[tuple[str, str], Decimal]


async def differing(world: World, run: Run) -> Pairs:
    """(system, item) -> by how much it differs in store 1, now and as it was last computed: the two must agree."""
    await refresh(world.engine, Rules(), limit=100)
    now = {
        (one["inventory_system_id"], one["item_id"]): Decimal(one["drift"])
        for one in await drift(run, "--store", "1")
        if Decimal(one["drift"] or 0)
    }
    query = "SELECT inventory_system_id, item_id, drift FROM pos_sync.system_level WHERE store_id = '1' AND drift <> 0"
    async with world.engine.connect() as connection:
        kept = {(row[0], row[1]): row[2] for row in await connection.execute(text(query))}
        problems = (await look(connection, settings_for(world))).found
    assert now == kept
    assert bool(now) == any(one.problem.kind is kinds.DRIFT for one in problems)
    assert 0 == await refresh(world.engine, Rules(), limit=100) or now
    return now


@pytest.mark.parametrize("is_moved", [True, False], ids=["never compared", "compared"])
async def test_the_drift_of_a_system_that_is_not_connected_ends_with_what_it_had_delivered(
    world: World, client: httpx2.AsyncClient, run: Run, monkeypatch: pytest.MonkeyPatch, *, is_moved: bool
) -> None:
    monkeypatch.setattr(problem_facts, "MIN_ANCHOR_AGE", timedelta())
    monkeypatch.setattr(system_levels, "CROSSED", timedelta())
    if not is_moved:
        await refresh(world.engine, Rules(), limit=100)
    assert 409 == await report(client, "-1", "10.69", 1, inventory_system_id="typo-system")
    assert {("typo-system", "avcc123"): Decimal(3)} == await differing(world, run)

    assert 0 == (await run("refused", "dismiss", "1", "--note", "a typo", "--actor", "ana")).exit_code
    assert {} == await differing(world, run)

    assert 204 == await report(client, "-1", "10.69", 2)
    assert {(SYSTEM, "avcc123"): Decimal(2)} == await differing(world, run)


async def test_the_drift_of_a_store_without_any_connection_ends_too(
    world: World, client: httpx2.AsyncClient, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(problem_facts, "MIN_ANCHOR_AGE", timedelta())
    monkeypatch.setattr(system_levels, "CROSSED", timedelta())
    await world.execute("DELETE FROM pos_sync.integration WHERE store_id = '1'")
    assert 422 == await report(client, "-1", "10.69", 1, external_id="tom001", movement_type=7)
    assert {} == await differing(world, run)
    assert 409 == await report(client, "-1", "10.69", 1)
    assert {(SYSTEM, "avcc123"): Decimal(3)} == await differing(world, run)

    assert 0 == (await run("refused", "dismiss", "2", "--note", "a test", "--actor", "ana")).exit_code
    assert {} == await differing(world, run)


async def test_a_system_that_is_switched_off_and_an_item_that_is_retired_differ_as_before(
    world: World, client: httpx2.AsyncClient, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(problem_facts, "MIN_ANCHOR_AGE", timedelta())
    assert 204 == await report(client, "-1", "10.69", 1)
    found = await differing(world, run)
    assert {(SYSTEM, "avcc123"): Decimal(2)} == found

    await run("store", "set", "1", "--disable", SYSTEM)
    assert found == await differing(world, run)
    await world.execute("UPDATE pos_sync.item SET retired_at = now() WHERE item_id = 'avcc123'")
    assert found == await differing(world, run)
    # Its rows still tell of it.
    await world.execute("DELETE FROM pos_sync.integration WHERE store_id = '1'")
    assert found == await differing(world, run)
    assert 0 == (await run(*ADOPT, "--adopt", SYSTEM)).exit_code
    assert {} == await differing(world, run)
