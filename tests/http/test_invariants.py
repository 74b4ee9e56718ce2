"""Random deliveries against the real service: whatever comes, the three invariants hold and the levels are a simple model's."""

import asyncio
from decimal import Decimal
from functools import reduce
from typing import Any

import anyio
import httpx2
from hypothesis import given, settings
from hypothesis import strategies as st

from app.stock.quantity import EXACT
from tests.conftest import new_world, running, settings_for
from tests.support.sender import PATH, body_of, signed

OPENING = {"avcc123": Decimal("13.69"), "tom001": Decimal("22.5"), "saf001": Decimal("0.042")}

delivery = st.fixed_dictionaries(
    {
        "external_id": st.sampled_from([*OPENING, "unknown"]),
        "movement_type": st.sampled_from([1, 2, "1", "2", 3]),
        "quantity": st.sampled_from(
            ["0", "0.001", "1.250", "1.25", "7", "0.33333333333333", "123456789012345.12345678901235", "-1", "x"]
        ),
        "current_stock": st.sampled_from(["1", "2.0"]),
        "date": st.sampled_from(["2026-01-01", "2026-01-02"]),
        "now": st.sampled_from(["a", "b", "c"]),
    }
)
rounds = st.lists(st.lists(delivery, min_size=1, max_size=12), min_size=1, max_size=5)


@settings(max_examples=settings().max_examples // 4, deadline=None)
@given(rounds=rounds, refuses=st.booleans())
def test_whatever_comes_in_whatever_order_the_invariants_hold(rounds: list[list[dict[str, Any]]], *, refuses: bool) -> None:
    anyio.run(run, rounds, refuses)


async def run(rounds: list[list[dict[str, Any]]], refuses: bool) -> None:  # noqa: FBT001 - anyio passes positions
    async with new_world() as world:
        policy = "refuse" if refuses else "allow"
        async with (
            running(settings_for(world, negative_stock=policy)) as (_, one),
            running(settings_for(world, negative_stock=policy)) as (_, other),
        ):
            for together in rounds:
                answers = await asyncio.gather(
                    *(send([one, other][number % 2], changes) for number, changes in enumerate(together + together))
                )
                assert {204, 409, 422} >= set(answers)
        assert {} == await world.broken_invariants()
        ledger = await world.ledger()
        assert len({row.dedupe_key for row in ledger}) == len(ledger)
        for item_id, opening in OPENING.items():
            deltas = [row.delta for row in ledger if row.item_id == item_id]
            level = await world.level(item_id)
            assert reduce(EXACT.add, deltas, opening) == level
            if refuses:
                assert level is not None
                assert level >= 0
        if not refuses:
            assert {identity(changes) for together in rounds for changes in together if is_good(changes)} == {
                (row.item_id, row.movement_type, row.quantity, row.reported_stock, row.date_text) for row in ledger
            }


async def send(client: httpx2.AsyncClient, changes: dict[str, Any]) -> int:
    body = body_of(**changes)
    return (await client.post(PATH, content=body, headers=signed(body))).status_code


def is_good(changes: dict[str, Any]) -> bool:
    return (
        changes["external_id"] in OPENING
        and changes["movement_type"] in (1, 2, "1", "2")
        and changes["quantity"] not in ("-1", "x")
    )


def identity(changes: dict[str, Any]) -> tuple[str, int, Decimal, Decimal, str]:
    return (
        changes["external_id"],
        int(changes["movement_type"]),
        Decimal(changes["quantity"]),
        Decimal(changes["current_stock"]),
        changes["date"],
    )
