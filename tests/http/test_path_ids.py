"""Ids in `/pos/...` are decoded once: any id of a store can be named, and no other one is meant."""

from collections.abc import AsyncIterator
from urllib.parse import quote

import httpx2
import pytest

from app.catalog_body import read_catalog
from app.operator.catalog import import_catalog
from tests.conftest import running, settings_for
from tests.support.catalogs import catalog, item
from tests.support.mipos import AUTHORIZED, KEY
from tests.support.world import World

STORES = ["A/1", "two words", "café", "100%", "%31", "a%2Fb", "..", ".", "a?b#c", "a+b", "%", "ñandú/½"]
"""Where decoding twice or not at all, or taking a part for a way, leads to another store or to none: `%31` is not `1`."""


@pytest.fixture
async def till(world: World) -> AsyncIterator[httpx2.AsyncClient]:
    async with running(settings_for(world, pos_api_key=KEY)) as (_, client):
        client.headers.update(AUTHORIZED)
        yield client


def path_of(store_id: str) -> str:
    # "." and ".." are a way for every client: a blank goes before them.
    return f"/pos/stores/{'%20' if store_id in {'.', '..'} else ''}{quote(store_id, safe='')}"


async def test_every_id_is_reached_by_its_encoded_path_and_no_other_store_is(world: World, till: httpx2.AsyncClient) -> None:
    for number, store_id in enumerate(STORES):
        await import_catalog(world.engine, store_id, read_catalog(catalog(item("x", stock=str(100 + number))).decode()))
    for number, store_id in enumerate(STORES):
        listed = await till.get(f"{path_of(store_id)}/stock")
        assert 200 == listed.status_code, (store_id, listed.text)
        assert [str(100 + number)] == [level["stock"] for level in listed.json()["stock"]], store_id
        sale = {"item_id": "x", "kind": "sale", "quantity": "1"}
        sold = await till.post(f"{path_of(store_id)}/movements", json=sale, headers={"Idempotency-Key": f"ticket {number}"})
        assert 201 == sold.status_code, (store_id, sold.text)

    sold_in = {row.store_id: row.quantity for row in await world.ledger()}
    assert dict.fromkeys(STORES, 1) == {store_id: int(quantity) for store_id, quantity in sold_in.items()}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/pos/stores/A/1/stock", 404),
        ("/pos/stores/A%252F1/stock", 404),
        ("/pos/stores/%2531/stock", 404),
        ("/pos/stores/1/sto%63k", 404),
        ("/pos/stor%65s/1/stock", 404),
        ("/pos/stores/%31/stock", 200),
    ],
)
async def test_fixed_parts_match_as_they_are_written_and_an_id_is_not_decoded_twice(
    world: World, till: httpx2.AsyncClient, path: str, status: int
) -> None:
    await import_catalog(world.engine, "A/1", read_catalog(catalog(item("x")).decode()))

    assert status == (await till.get(path)).status_code
