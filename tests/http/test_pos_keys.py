"""Keys of the POS: for all stores, for one store, and a former one while it is replaced."""

from typing import Any

import httpx2
import pytest
from pydantic import SecretStr

from app.settings import Settings
from tests.conftest import running, settings_for
from tests.support.sender import SECRET
from tests.support.world import World

ALL, FORMER = "key-of-every-store-2026", "former-key-of-every-store"
ONE, ONE_FORMER, TWO = "key-of-store-one-7fa03c", "former-key-of-store-one", "key-of-store-two=b21e9d"
KEYS = {"pos_api_key": ALL, "pos_api_key_previous": FORMER, "pos_store_keys": f"1={ONE}, 1={ONE_FORMER},2={TWO}"}


def sale(key: str, *, name: str, **changes: Any) -> dict[str, Any]:
    movement = {"item_id": "avcc123", "kind": "sale", "quantity": "1", **changes}
    return {
        "json": {"movements": [movement]},
        "headers": {"Authorization": f"Bearer {key}", "Idempotency-Key": name},
    }


async def test_a_key_of_a_store_is_good_for_that_store_alone(world: World) -> None:
    statuses: dict[tuple[str, str], tuple[int, int]] = {}
    async with running(settings_for(world, **KEYS)) as (_, till):
        for number, key in enumerate((ALL, FORMER, ONE, ONE_FORMER, TWO, "x" * 20)):
            for store in ("1", "2"):
                read = await till.get(f"/pos/stores/{store}/stock", headers={"Authorization": f"Bearer {key}"})
                wrote = await till.post(f"/pos/stores/{store}/movements", **sale(key, name=f"{number}"))
                statuses[key, store] = read.status_code, wrote.status_code
        metrics = (await till.get("/metrics")).text
        status = await till.get("/pos/status", headers={"Authorization": f"Bearer {ONE}"})

    allowed, another, unknown = (200, 201), (403, 403), (401, 401)
    assert statuses == {
        **dict.fromkeys([(ALL, "1"), (ALL, "2"), (FORMER, "1"), (FORMER, "2")], allowed),
        **dict.fromkeys([(ONE, "1"), (ONE_FORMER, "1"), (TWO, "2")], allowed),
        **dict.fromkeys([(ONE, "2"), (ONE_FORMER, "2"), (TWO, "1")], another),
        **dict.fromkeys([("x" * 20, "1"), ("x" * 20, "2")], unknown),
    }
    assert "pos_sync_pos_keys_refused_total 4.0" in metrics
    assert 200 == status.status_code


async def test_what_writes_another_store_wants_a_key_of_all_stores(world: World) -> None:
    transfer = {"kind": "transfer", "to_store_id": "2"}
    async with running(settings_for(world, **KEYS)) as (_, till):
        refused = await till.post("/pos/stores/1/movements", **sale(ONE, name="t", **transfer))
        made = await till.post("/pos/stores/1/movements", **sale(ALL, name="t", **transfer))
        version = made.json()["movements"][0]["level_version"]
        order = {"item_id": "avcc123", "level_version": version, "actor": "ana", "note": "wrong store"}
        answers: list[httpx2.Response] = [
            await till.post("/pos/stores/1/reversals", json=order, headers={"Authorization": f"Bearer {key}"})
            for key in (ONE, ALL)
        ]

    assert [403, 201, 403, 201] == [answer.status_code for answer in (refused, made, *answers)]
    assert "POS_API_KEY" in refused.json()["message"]
    assert {} == await world.broken_invariants()


async def test_keys_of_stores_are_enough(world: World) -> None:
    async with running(settings_for(world, pos_store_keys=f"1={ONE}")) as (_, till):
        assert 201 == (await till.post("/pos/stores/1/movements", **sale(ONE, name="a"))).status_code


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pos_api_key": "aaaaaaaaaaaaaaaaaaaaaaaa"}, "too simple"),
        ({"pos_api_key": "abababababababababababab"}, "too simple"),
        ({"pos_api_key_previous": "short"}, "16 or more"),
        ({"pos_store_keys": "1"}, "STORE=KEY pairs"),
        ({"pos_store_keys": f"={ONE}"}, "STORE=KEY pairs"),
        ({"pos_store_keys": "1=1111111111111111111111"}, "too simple to be secret. Make one with: openssl rand -hex 20 (the"),
        ({"pos_store_keys": f"1={ONE},2={ONE}"}, "one key to two stores"),
    ],
)
def test_keys_that_are_none_are_refused_and_not_repeated(changes: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match="value_error") as refused:
        Settings(
            _env_file=None,  # type: ignore[call-arg]
            database_url=SecretStr("postgresql://nobody@127.0.0.1:1/nothing"),
            mipos_client_secret=SecretStr(SECRET),
            **changes,  # type: ignore[arg-type]
        )

    assert words in str(refused.value)
    assert ONE not in str(refused.value)
