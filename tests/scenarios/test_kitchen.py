"""Ordinary days: movements come in, and the POS shows the right stock."""

import asyncio

import pytest

from tests.support.bodies import NOT_PARSEABLE
from tests.support.restaurant import SYSTEM, Restaurant


async def test_lunch_prep_takes_chicken_and_the_two_stocks_agree(restaurant: Restaurant) -> None:
    answer = await restaurant.reports("-1.25", "avcc123", now_at="12.44")

    assert (204, b"") == (answer.status_code, answer.content)
    assert "12.44" == await restaurant.stock("avcc123")
    assert 1 == len(await restaurant.world.ledger())
    assert "0" == (await restaurant.drift("avcc123"))["drift"]


async def test_three_stores_get_tomatoes_in_one_second_and_each_keeps_its_own(restaurant: Restaurant) -> None:
    await restaurant.opens_store("3")
    await restaurant.run("store", "set", "2", "--connect", SYSTEM, "30")

    answers = await asyncio.gather(
        *(
            restaurant.reports("+10", "tom001", now_at="32.5", store_id=store_id, date="2026-05-30 09:00:00")
            for store_id in (1, "2", 3)
        )
    )

    assert [204] * 3 == [answer.status_code for answer in answers]
    assert ["32.5", "10", "32.5"] == [await restaurant.stock("tom001", store) for store in ("1", "2", "3")]


async def test_two_burgers_on_one_order_are_two_portions(restaurant: Restaurant) -> None:
    second = "2026-05-30 13:00:00"
    for now_at in ("13.54", "13.39"):
        assert 204 == (await restaurant.reports("-0.150", "avcc123", now_at=now_at, date=second)).status_code

    assert "13.39" == await restaurant.stock("avcc123")
    assert "0" == (await restaurant.drift("avcc123"))["drift"]


async def test_saffron_weighed_by_the_milligram_adds_up_exactly(restaurant: Restaurant) -> None:
    await restaurant.run("store", "set", "2", "--connect", SYSTEM, "30")
    await asyncio.gather(
        *(restaurant.delivers("+0.001", "saf001", now_at=f"0.{n:04}", store_id=2, date=f"pinch {n}") for n in range(1000))
    )
    await restaurant.delivers("-1", "saf001", now_at="0", store_id=2)
    assert "0" == await restaurant.stock("saf001", "2")

    for n in range(3):
        await restaurant.delivers("+0.33333333333333", "saf001", now_at="1", store_id=2, date=f"third {n}")
    assert "0.99999999999999" == await restaurant.stock("saf001", "2")

    await restaurant.delivers("+1.0E-5", "tom001", now_at="1", store_id=2)
    assert "0.00001" == await restaurant.stock("tom001", "2")


async def test_a_truck_note_of_monday_that_arrives_after_tuesday_s_does_not_take_tuesday_s_stock_back(
    restaurant: Restaurant,
) -> None:
    # In the inventory system: 13.69, on Monday + 6 = 19.69, on Tuesday - 1 = 18.69.
    await restaurant.delivers("-1", "avcc123", now_at="18.69", date="2026-06-02 10:00:00", now="2026-06-02 10:00:01")
    await restaurant.delivers("+6", "avcc123", now_at="19.69", date="2026-06-01 08:00:00", now="2026-06-02 17:00:00")

    found = await restaurant.drift("avcc123")
    assert "18.69" == await restaurant.stock("avcc123")
    assert ("18.69", "2026-06-02 10:00:00", "0") == (found["theirs"], found["as_of"], found["drift"])


async def test_the_first_movement_of_an_item_that_the_store_never_stocked_starts_at_zero(restaurant: Restaurant) -> None:
    await restaurant.opens_store("3", without_stock=True)

    answer = await restaurant.reports("+4", "tom001", now_at="4", store_id=3)

    assert 204 == answer.status_code
    assert "4" == await restaurant.stock("tom001", "3")
    assert "0" == (await restaurant.drift("tom001", "3"))["drift"]


async def test_a_count_without_a_difference_moves_nothing_and_refreshes_their_report(restaurant: Restaurant) -> None:
    answer = await restaurant.reports("+0", "avcc123", now_at="13.69", date="2026-05-30 23:00:00")

    found = await restaurant.drift("avcc123")
    assert 204 == answer.status_code
    assert "13.69" == await restaurant.stock("avcc123")
    assert ("13.69", "2026-05-30 23:00:00", "0") == (found["theirs"], found["as_of"], found["drift"])


@pytest.mark.parametrize("quantity", ["-1", "NaN", "1e999", "1,25", True, "", None, "Infinity", "0x1", " 1"])
async def test_a_quantity_that_is_none_is_refused_by_name(restaurant: Restaurant, quantity: object) -> None:
    answer = await restaurant.reports("+1", "avcc123", now_at="1", quantity=quantity)

    assert 422 == answer.status_code
    assert "quantity" in answer.json()["message"]
    assert "13.69" == await restaurant.stock("avcc123")


async def test_forged_and_bent_deliveries_move_nothing(restaurant: Restaurant) -> None:
    body = next(iter(NOT_PARSEABLE.values()))
    unsigned = [
        await restaurant.sends(b"{}", secret="somebody else's secret"),
        await restaurant.sends(b"{}", X_Signature_Request=None),
        await restaurant.sends(b"{}", X_Signature_Request="0" * 64),
    ]
    assert [401] * 3 == [answer.status_code for answer in unsigned]
    assert [] == await restaurant.refused("--state", "all")

    signed_nonsense = [await restaurant.sends(body), await restaurant.sends(b'{"a":1,"a":2}')]
    too_large = await restaurant.sends(b"x" * 2_000_000)

    assert [400, 400, 413] == [answer.status_code for answer in (*signed_nonsense, too_large)]
    assert all(answer.json()["message"] for answer in (*unsigned, *signed_nonsense, too_large))
    assert 2 == len(await restaurant.refused())
    assert [] == await restaurant.world.ledger()


async def test_accents_and_slashes_in_ids_are_what_php_escaped(restaurant: Restaurant) -> None:
    await restaurant.creates_item("jalapeño/rojo", "Jalapeño")

    answer = await restaurant.reports("+2", "jalapeño/rojo", now_at="2")

    assert 204 == answer.status_code
    assert "2" == await restaurant.stock("jalapeño/rojo")
