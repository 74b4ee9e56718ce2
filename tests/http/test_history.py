"""Looking back: the stock of a time, the ledger of a period, and every committed row once."""

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any, Self

import asyncpg
import httpx2
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.pos.changes import ChangeFeed
from app.storage import change_feed
from tests.conftest import running, settings_for
from tests.support.commands import Run
from tests.support.postgres import database_of
from tests.support.world import World

KEY = "till-key-of-2026-for-tests"
NOON = (datetime.now(UTC) - timedelta(days=2)).replace(hour=12, minute=0, second=0, microsecond=0)


@pytest.fixture
async def till(world: World) -> AsyncIterator[httpx2.AsyncClient]:
    async with running(settings_for(world, pos_api_key=KEY)) as (_, client):
        client.headers["Authorization"] = f"Bearer {KEY}"
        yield client


async def records(  # noqa: PLR0913, PLR0917 - what a till says
    till: httpx2.AsyncClient, key: str, kind: str, quantity: str, at: datetime, item: str = "avcc123"
) -> None:
    body = {"item_id": item, "kind": kind, "quantity": quantity, "happened_at": at.isoformat(), "reason": f"why {key}"}
    assert 201 == (await till.post("/pos/stores/1/movements", json=body, headers={"Idempotency-Key": key})).status_code


async def lives(till: httpx2.AsyncClient) -> None:
    """A count at noon, a sale after it, another item, and a sale of before noon that arrives last."""
    await records(till, "a", "count", "10", NOON)
    await records(till, "b", "sale", "3", NOON + timedelta(hours=1))
    await records(till, "c", "receipt", "5", NOON + timedelta(hours=2), item="tom001")
    await records(till, "d", "sale", "4", NOON - timedelta(hours=1))


async def read(till: httpx2.AsyncClient, path: str, **parameters: Any) -> dict[str, Any]:
    answer = await till.get(f"/pos/stores/1/{path}", params=parameters)
    assert 200 == answer.status_code, answer.text
    document: dict[str, Any] = answer.json()
    return document


@pytest.mark.parametrize(("hours", "stock"), [(-2, "13.69"), (-1, "9.69"), (0, "10"), (0.5, "10"), (1, "7"), (24, "7")], ids=str)
async def test_the_stock_of_any_time_is_what_is_known_of_it_today(
    till: httpx2.AsyncClient, run: Run, hours: float, stock: str
) -> None:
    await lives(till)
    at = (NOON + timedelta(hours=hours)).isoformat()

    (level,) = (await read(till, "stock", item_id="avcc123", at=at))["stock"]
    (shown,) = json.loads((await run("stock", "--store", "1", "--item", "avcc123", "--at", at, "--json")).output)

    assert [Decimal(stock)] * 2 == [Decimal(level["stock"]), Decimal(shown["quantity"])]


async def test_a_stock_of_the_past_has_no_version_and_a_stock_of_the_future_is_not_known(till: httpx2.AsyncClient) -> None:
    (level,) = (await read(till, "stock", item_id="avcc123", at=datetime.now(UTC).isoformat()))["stock"]
    future = await till.get("/pos/stores/1/stock", params={"at": "2999-01-01T00:00:00Z"})

    assert (None, None) == (level["level_version"], level["updated_at"])
    assert 422 == future.status_code
    assert "must not lie in the future" in future.json()["message"]


async def test_what_a_page_says_can_be_pasted_into_the_next_url(till: httpx2.AsyncClient) -> None:
    await lives(till)
    first = await till.get("/pos/stores/1/ledger?from=2020-01-01T00:00:00+00:00&limit=2")
    second = await till.get(f"/pos/stores/1/ledger?from=2020-01-01T00:00:00+00:00&limit=2&after={first.json()['next']}")

    assert [200, 200] == [first.status_code, second.status_code]
    assert first.json()["movements"] != second.json()["movements"]


async def test_a_cursor_that_no_row_can_have_is_refused(till: httpx2.AsyncClient) -> None:
    for path in (f"changes?after={10**22}", "ledger?after=abc", "ledger?after=w6k="):
        answer = await till.get(f"/pos/stores/1/{path}")
        assert 422 == answer.status_code, path


async def test_who_waits_for_a_change_does_not_hold_up_a_stop(world: World) -> None:
    engine = database_of(world.service_url).create_engine()
    feed = ChangeFeed(engine)
    waiting = asyncio.create_task(feed.read("1", after=10**6, limit=1, wait=60))
    await asyncio.wait([waiting], timeout=0.5)
    feed.stop()

    assert [] == await asyncio.wait_for(waiting, 10)
    await engine.dispose()


async def test_before_its_first_movement_an_item_has_no_stock(till: httpx2.AsyncClient) -> None:
    assert [] == (await read(till, "stock", at="2019-01-01T00:00:00Z"))["stock"]


async def test_a_period_is_told_newest_first_across_items_and_adds_up(till: httpx2.AsyncClient) -> None:
    await lives(till)

    period = {"from": (NOON - timedelta(hours=3)).isoformat(), "to": (NOON + timedelta(hours=3)).isoformat()}
    found = await read(till, "ledger", **period)

    assert [("tom001", "pos_receipt"), ("avcc123", "pos_sale"), ("avcc123", "correction"), ("avcc123", "pos_count")] == [
        (row["item_id"], row["source"]) for row in found["movements"][:4]
    ]
    assert "why d" == found["movements"][4]["reason"]
    assert all("balance_after" not in row for row in found["movements"])
    for account in found["accounts"]:
        numbers = {name: Decimal(account[name]) for name in ("opening", "added", "removed", "closing")}
        assert numbers["opening"] + numbers["added"] - numbers["removed"] == numbers["closing"]
    assert [("avcc123", "13.69", "7"), ("tom001", "22.5", "27.5")] == [
        (one["item_id"], one["opening"], str(Decimal(one["closing"]).normalize())) for one in found["accounts"]
    ]


async def test_the_period_of_a_first_page_is_that_of_the_pages_behind_it(
    till: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    day, oldest = timedelta(days=1), datetime.now(UTC) - timedelta(days=1) + timedelta(minutes=1)
    await records(till, "oldest", "sale", "1", oldest)
    await records(till, "newest", "sale", "1", datetime.now(UTC) - timedelta(minutes=1))
    first = await read(till, "ledger", item_id="avcc123", limit=1)
    assert first["next"] is not None

    class LaterClock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + day

    monkeypatch.setattr("app.pos.history.datetime", LaterClock)
    second = await read(till, "ledger", item_id="avcc123", after=first["next"])

    assert "why oldest" in {row["reason"] for row in second["movements"]}


async def test_the_pages_of_a_period_hold_each_row_once(till: httpx2.AsyncClient) -> None:
    await lives(till)
    period = {"from": "2020-01-01T00:00:00Z", "limit": 2}
    rows: list[Any] = []
    after = None
    while True:
        page = await read(till, "ledger", **period, **({} if after is None else {"after": after}))
        rows += page["movements"]
        after = page["next"]
        if after is None:
            break

    # Five movements with their correction, and the three openings of the store.
    assert 8 == len(rows) == len({(row["item_id"], row["level_version"]) for row in rows})
    assert sorted((row["happened_at"] for row in rows), reverse=True) == [row["happened_at"] for row in rows]


async def test_rows_that_arrived_much_later_than_they_happened_are_in_their_period(till: httpx2.AsyncClient) -> None:
    await records(till, "late", "sale", "1", NOON - timedelta(days=40))

    day = {"from": (NOON - timedelta(days=41)).isoformat(), "to": (NOON - timedelta(days=39)).isoformat()}
    assert ["why late"] == [row["reason"] for row in (await read(till, "ledger", **day))["movements"]]


async def test_the_command_shows_the_same_in_the_time_zone_of_the_store(till: httpx2.AsyncClient, run: Run) -> None:
    await lives(till)
    await run("store", "set", "1", "--timezone", "America/Guayaquil")
    asked = ["ledger", "--store", "1", "--item", "avcc123", "--from", (NOON - timedelta(hours=3)).isoformat()]
    shown = await run(*asked, "--to", (NOON + timedelta(hours=3)).isoformat())
    written = await run(*asked, "--csv")

    assert f"{NOON - timedelta(hours=5):%Y-%m-%d %H:%M:%S}  avcc123" in shown.output
    assert "correction at count" in shown.output
    assert "avcc123    13.69      4    10.69        7" in shown.output
    rows = list(csv.DictReader(io.StringIO(written.output)))
    assert 4 == len(rows)
    assert {"why a", "why b", "", "why d"} == {row["reason"] for row in rows}


@pytest.mark.parametrize("path", ["stock", "movements", "ledger", "changes"])
async def test_a_parameter_that_is_not_known_is_refused_and_not_ignored(till: httpx2.AsyncClient, path: str) -> None:
    answer = await till.get(f"/pos/stores/1/{path}", params={"updated_since": "2099-01-01"})

    assert 422 == answer.status_code
    assert "updated_since is not a parameter of this address, which takes:" in answer.json()["message"]


async def test_every_committed_row_is_told_once_whatever_was_open_meanwhile(world: World, till: httpx2.AsyncClient) -> None:
    """One transaction stays open while others commit: its rows come later, and nothing before them is told twice."""
    first = await read(till, "changes")
    held = await asyncpg.connect(world.owner_url)
    transaction = held.transaction()
    await transaction.start()
    await held.execute("SELECT pos_sync.record_movement('1', 'saf001', 'sale', 0.001, 'open')")
    await records(till, "b", "sale", "3", NOON + timedelta(hours=1))
    second = await read(till, "changes", after=first["cursor"])
    await transaction.commit()
    await held.close()
    third = await read(till, "changes", after=second["cursor"], wait=5)

    assert ["opening"] * 3 == [row["source"] for row in first["changes"]]
    assert [("avcc123", "why b")] == [(row["item_id"], row["reason"]) for row in second["changes"]]
    assert [("saf001", "pos_sale")] == [(row["item_id"], row["source"]) for row in third["changes"]]
    everything = await read(till, "changes", limit=1000)
    assert len(everything["changes"]) == len({row["cursor"] for row in everything["changes"]}) == 5


async def test_who_waits_is_told_as_soon_as_something_is_committed(till: httpx2.AsyncClient) -> None:
    cursor = (await read(till, "changes"))["cursor"]
    waiting = [asyncio.create_task(read(till, "changes", after=cursor, wait=30)) for _ in range(5)]
    await records(till, "b", "sale", "3", NOON)

    found = await asyncio.gather(*waiting)

    assert [1] * 5 == [len(one["changes"]) for one in found]
    assert {"changes": [], "cursor": found[0]["cursor"]} == await read(till, "changes", after=found[0]["cursor"])


async def test_readers_and_writers_at_once_miss_nothing_and_see_nothing_twice(world: World, till: httpx2.AsyncClient) -> None:
    async def follow() -> list[tuple[str, int]]:
        seen: list[tuple[str, int]] = []
        cursor = 0
        while len(seen) < 33:
            page = await read(till, "changes", after=cursor, wait=20, limit=7)
            seen += [(row["item_id"], row["level_version"]) for row in page["changes"]]
            cursor = page["cursor"]
        return seen

    readers = [asyncio.create_task(follow()) for _ in range(3)]
    for batch in range(6):
        await asyncio.gather(
            *(records(till, f"{batch} {n}", "sale", "0.1", NOON, item=("avcc123", "tom001")[n % 2]) for n in range(5))
        )
    followed = await asyncio.gather(*readers)

    written = [(row.item_id, row.level_version) for row in await world.ledger()]
    for seen in followed:
        assert len(seen) == len(set(seen))
        assert set(written) <= set(seen)
        for item in ("avcc123", "tom001"):
            versions = [version for name, version in seen if name == item]
            assert versions == sorted(versions)


async def rows_told(connection: AsyncConnection) -> int:
    """How many rows got a place."""
    before = await connection.scalar(text("SELECT count(*) FROM pos_sync.change_feed"))
    while await change_feed.number(connection):
        pass
    return (await connection.scalar(text("SELECT count(*) FROM pos_sync.change_feed")) or 0) - (before or 0)


async def test_a_row_whose_transaction_was_open_for_long_is_found_by_the_sweep(world: World) -> None:
    engine = database_of(world.service_url).create_engine()
    async with engine.begin() as connection:
        await change_feed.switch_on(connection)
        assert 5 == await rows_told(connection)
    await world.execute("SELECT pos_sync.record_movement('1', 'avcc123', 'sale', 1, 'k')")
    await world.execute_past_guards(
        "UPDATE pos_sync.stock_movement SET received_at = now() - interval '1 hour'",
    )
    async with engine.begin() as connection:
        assert 0 == await rows_told(connection)
    await world.execute("UPDATE pos_sync.change_feed_state SET swept_at = now() - interval '2 minutes'")
    async with engine.begin() as connection:
        assert 1 == await rows_told(connection)
    await engine.dispose()


async def test_what_can_be_nobody_s_id_or_time_is_refused(till: httpx2.AsyncClient) -> None:
    asked = [("ledger", {"from": "noon"}), ("ledger", {"after": "x"}), ("stock", {"at": "2026"}), ("changes", {"after": "-1"})]
    statuses = [(await till.get(f"/pos/stores/1/{path}", params=parameters)).status_code for path, parameters in asked]
    order = {"from": NOON.isoformat(), "to": (NOON - timedelta(1)).isoformat()}

    assert [422] * 4 == statuses
    assert 422 == (await till.get("/pos/stores/1/ledger", params=order)).status_code
    assert 404 == (await till.get("/pos/stores/99/changes")).status_code
