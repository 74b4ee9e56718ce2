"""What the POS itself records and reads, over HTTP and by SQL."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.pos.movements import MAX_BODY_BYTES
from tests.conftest import running, settings_for
from tests.support.commands import Run
from tests.support.mipos import mipos
from tests.support.world import World

KEY = "a key of the till, 2026".replace(" ", "-")
MOVEMENTS = "/pos/stores/1/movements"
SALE = {"item_id": "avcc123", "kind": "sale", "quantity": "1.25"}


@pytest.fixture
async def till(world: World) -> AsyncIterator[httpx2.AsyncClient]:
    async with running(settings_for(world, pos_api_key=KEY)) as (_, client):
        client.headers["Authorization"] = f"Bearer {KEY}"
        yield client


async def record(till: httpx2.AsyncClient, body: Any, key: str = "ticket 1", path: str = MOVEMENTS) -> httpx2.Response:
    return await till.post(path, json=body, headers={"Idempotency-Key": key})


async def test_a_sale_a_receipt_and_a_count_move_the_stock(world: World, till: httpx2.AsyncClient) -> None:
    answers = [
        await record(till, SALE, "1"),
        await record(till, {**SALE, "kind": "receipt", "quantity": "5"}, "2"),
        await record(till, {**SALE, "kind": "count", "quantity": 16.5}, "3"),
    ]

    assert [201] * 3 == [answer.status_code for answer in answers]
    assert ["12.44", "17.44", "16.50"] == [answer.json()["movements"][0]["stock"] for answer in answers]
    assert [("pos_sale", 2, "1.25"), ("pos_receipt", 1, "5"), ("pos_count", 2, "0.94")] == [
        (row.source, row.movement_type, str(row.quantity)) for row in await world.ledger()
    ]
    assert {} == await world.broken_invariants()


@pytest.mark.parametrize(
    ("quantity", "recorded", "stock"),
    [
        (0.1 + 0.2, "0.3", "13.39"),
        ("0.30000000000000004", "0.3", "13.39"),
        ("-1.0E-15", "0", "13.69"),
        (".5", "0.5", "13.19"),
        ("+5.", "5", "8.69"),
    ],
)
async def test_a_till_that_adds_floats_sells_what_it_means(
    world: World, till: httpx2.AsyncClient, quantity: Any, recorded: str, stock: str
) -> None:
    answer = await record(till, {**SALE, "quantity": quantity})

    assert (201, stock) == (answer.status_code, answer.json()["movements"][0]["stock"])
    assert [recorded] == [str(row.quantity) for row in await world.ledger()]


async def test_the_same_key_records_once_and_says_what_is_recorded(world: World, till: httpx2.AsyncClient) -> None:
    first = await record(till, SALE)
    copies = await asyncio.gather(*(record(till, SALE) for _ in range(20)))

    assert 201 == first.status_code
    assert {200} == {copy.status_code for copy in copies}
    assert {"state": "known", "item_id": "avcc123", "stock": "12.44", "level_version": 2} == copies[0].json()["movements"][0]
    assert 1 == len(await world.ledger())


async def test_a_key_in_quotes_is_the_key_without_them(world: World, till: httpx2.AsyncClient) -> None:
    first, quoted = await record(till, SALE, "k1"), await record(till, SALE, '"k1"')
    quoted_first, bare = await record(till, SALE, r'"a \"b\" \\c"'), await record(till, SALE, r'a "b" \c')
    known = await by_sql(world, "sale", "1.25", "k1")

    assert [201, 200, 201, 200] == [answer.status_code for answer in (first, quoted, quoted_first, bare)]
    assert Decimal("12.44") == known
    assert 2 == len(await world.ledger())


async def test_a_sale_that_an_older_release_recorded_under_a_key_with_its_quotes_is_known(
    world: World, till: httpx2.AsyncClient
) -> None:
    assert Decimal("12.44") == await by_sql(world, "sale", "1.25", '"k1"')

    answer = await record(till, SALE, '"k1"')

    assert (200, "known") == (answer.status_code, answer.json()["movements"][0]["state"])
    assert 1 == len(await world.ledger())


async def test_many_counts_and_transfers_of_one_item_are_recorded_in_one_call(world: World, till: httpx2.AsyncClient) -> None:
    start = datetime.now(UTC) - timedelta(hours=1)
    counts = [
        {
            "item_id": "avcc123",
            "kind": "count",
            "quantity": n,
            "happened_at": (start + timedelta(seconds=n)).isoformat(),
        }
        for n in range(100)
    ]
    transfers = [{"item_id": "avcc123", "kind": "transfer", "quantity": 1, "to_store_id": "2"} for _ in range(100)]

    counted, moved = await record(till, {"movements": counts}, "c"), await record(till, {"movements": transfers}, "t")

    assert [201, 201] == [counted.status_code, moved.status_code]
    assert Decimal(-1) == await world.level("avcc123")
    assert {} == await world.broken_invariants()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (["k1", "k1"], "is there more than once"),
        (["k1", "k2"], "is there more than once"),
        (["", "k1"], "is there more than once"),
        (['"abc'], "begins with a double quote"),
        ([r'"a\x"'], "begins with a double quote"),
        (['"k1", "k2"'], "begins with a double quote"),
        (['""'], "must be 1 to 255 visible ASCII characters"),
    ],
    ids=str,
)
async def test_a_key_that_leaves_doubt_is_refused(world: World, till: httpx2.AsyncClient, keys: list[str], words: str) -> None:
    answer = await till.post(MOVEMENTS, json=SALE, headers=[("Idempotency-Key", key) for key in keys])

    assert 400 == answer.status_code
    assert words in answer.json()["message"]
    assert [] == await world.ledger()


@pytest.mark.parametrize("other", [{"quantity": "2"}, {"kind": "receipt"}, {"kind": "count"}, {"item_id": "tom001"}], ids=str)
async def test_the_same_key_for_another_movement_is_refused(till: httpx2.AsyncClient, other: dict[str, str]) -> None:
    await record(till, SALE)
    answer = await record(till, {**SALE, **other})

    assert 422 == answer.status_code
    assert "was used for another movement" in answer.json()["message"]


async def test_a_count_that_is_sent_again_is_known_though_the_stock_has_moved(till: httpx2.AsyncClient) -> None:
    count = {**SALE, "kind": "count", "quantity": "10"}
    await record(till, count, "count")
    await record(till, SALE, "sale")
    again = await record(till, count, "count")

    assert (200, "10.00") == (again.status_code, again.json()["movements"][0]["stock"])


async def test_a_ticket_with_a_refused_line_records_the_others_and_only_that_one_later(
    world: World, till: httpx2.AsyncClient
) -> None:
    ticket = {"movements": [SALE, {**SALE, "item_id": "new001"}, {**SALE, "item_id": "tom001"}]}
    first = await record(till, ticket)
    await world.execute("INSERT INTO pos_sync.item SELECT '1', 'new001', 'New', 'pos_kg', 'pos_kg', 'pos_sup_market', 1")
    second = await record(till, ticket)

    assert (409, 201) == (first.status_code, second.status_code)
    assert "new001" in first.json()["message"]
    assert ["recorded", "refused", "recorded"] == [line["state"] for line in first.json()["movements"]]
    assert ["known", "recorded", "known"] == [line["state"] for line in second.json()["movements"]]
    assert 3 == len(await world.ledger())
    assert [] == await world.refused()


async def test_a_ticket_is_recorded_whole_once_the_level_that_it_waits_for_is_free(
    world: World, till: httpx2.AsyncClient
) -> None:
    ticket = {"movements": [{**SALE, "item_id": "tom001"}, SALE]}
    async with world.engine.connect() as other:
        await other.execute(text("SELECT FROM pos_sync.stock_level WHERE store_id = '1' AND item_id = 'avcc123' FOR UPDATE"))
        # The first one waits for the lock; what comes after it is answered once held levels are skipped.
        held = asyncio.create_task(record(till, SALE, "held"))
        before = await record(till, {**SALE, "item_id": "saf001"}, "before")
        waiting = asyncio.create_task(record(till, ticket, "ticket"))
        after = [await record(till, {**SALE, "item_id": "saf001"}, f"after {number}") for number in range(5)]
        recorded = await world.ledger("tom001")
        await other.rollback()
    answers = [before, *after, await held, await waiting]

    assert {201} == {answer.status_code for answer in answers}
    assert [] == recorded
    assert ["recorded", "recorded"] == [line["state"] for line in answers[-1].json()["movements"]]
    assert {} == await world.broken_invariants()


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({**SALE, "quantity": "-1"}, 422, "quantity must not be negative"),
        ({**SALE, "kind": "gift"}, 422, "kind must be one of sale, receipt, count"),
        ({**SALE, "happened_at": "yesterday"}, 422, "happened_at must be a time"),
        ({**SALE, "happened_at": "2026-05-30T12:45:03"}, 422, "happened_at must be a time"),
        ({"movements": [SALE, {**SALE, "quantity": "1,5"}]}, 422, "movements[1].quantity"),
        ({"movements": []}, 422, "movements must be a list"),
        (
            {"movements": [SALE, {**SALE, "kind": "count"}]},
            422,
            "movements[1].kind is a count of an item that occurs more than once",
        ),
        ({**SALE, "happened_at": "9999-12-31T23:59:59Z"}, 422, "happened_at must be after 1970"),
        ({"movements": ["x"]}, 422, "movements[0] must be an object"),
        ([], 400, "not a JSON object"),
        ({"item_id": "avcc123", "kind": "sale"}, 422, "quantity is missing"),
        ({"movements": [SALE] * 501}, 422, "movements must be a list of 1 to 500 movements"),
        ({"movements": [SALE, SALE, {"item_id": "a", "kind": "sale"}]}, 422, "The field movements[2].quantity is missing."),
        ({"movements": [SALE, {**SALE, "item_id": 1.5}]}, 422, "movements[1].item_id must be text or a whole number"),
        ({**SALE, "item_id": "avcc123 "}, 422, "item_id has a blank at its end (U+0020)"),
        ({**SALE, "item_id": "avcc\u200b123"}, 422, "item_id holds the invisible character U+200B"),
        ({**SALE, "item_id": "🍅" * 129}, 422, "item_id is longer than 512 bytes"),
        ({**SALE, "kind": True}, 422, "kind must be one of sale, receipt, count"),
        ({**SALE, "happened_at": 1}, 422, "happened_at must be a time"),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_what_is_wrong_is_named(till: httpx2.AsyncClient, body: Any, status: int, words: str) -> None:
    answer = await record(till, body)

    assert status == answer.status_code
    assert words in answer.json()["message"]


async def test_without_the_key_of_the_pos_nothing_is_recorded_or_read(world: World, till: httpx2.AsyncClient) -> None:
    for headers in ({"Authorization": "Bearer wrong"}, {"Authorization": KEY}, {"Authorization": f"Basic {KEY}"}):
        answers = [
            await till.post(MOVEMENTS, json=SALE, headers={"Idempotency-Key": "1", **headers}),
            await till.get("/pos/stores/1/stock", headers=headers),
            await till.get(MOVEMENTS, headers=headers),
        ]
        assert {(401, "Bearer")} == {(answer.status_code, answer.headers["www-authenticate"]) for answer in answers}
        assert {"message"} == set(answers[0].json())
    assert [] == await world.ledger()


async def test_without_the_setting_the_routes_do_not_exist(client: httpx2.AsyncClient) -> None:
    answers = [
        await client.post(MOVEMENTS, json=SALE, headers={"Idempotency-Key": "1", "Authorization": f"Bearer {KEY}"}),
        await client.get("/pos/stores/1/stock"),
    ]

    assert [404, 404] == [answer.status_code for answer in answers]


async def test_a_store_id_that_nobody_has_reaches_no_database(till: httpx2.AsyncClient) -> None:
    for store_id in ("%00", "1%20", "%E2%80%8B1"):
        assert 404 == (await record(till, SALE, path=f"/pos/stores/{store_id}/movements")).status_code


@pytest.mark.parametrize("key", [None, "", "x" * 256, "ü"], ids=["none", "empty", "long", "not ASCII"])
async def test_a_movement_needs_a_key_by_which_it_is_known_again(till: httpx2.AsyncClient, key: str | None) -> None:
    headers = [] if key is None else [(b"Idempotency-Key", key.encode())]
    answer = await till.post(MOVEMENTS, json=SALE, headers=headers)

    assert 400 == answer.status_code
    assert "Idempotency-Key" in answer.json()["message"]


async def test_the_stock_and_the_ledger_are_read_page_by_page(till: httpx2.AsyncClient) -> None:
    for number in range(3):
        await record(till, SALE, str(number))
    first = (await till.get("/pos/stores/1/stock", params={"limit": 2})).json()
    second = (await till.get("/pos/stores/1/stock", params={"limit": 2, "after": first["next"]})).json()
    seen: list[tuple[str, int]] = []
    params: dict[str, Any] = {"limit": 2}
    while True:
        page = (await till.get(MOVEMENTS, params=params)).json()
        seen += [(row["item_id"], row["level_version"]) for row in page["movements"]]
        if page["next"] is None:
            break
        params["after"] = page["next"]
    sales = (await till.get(MOVEMENTS, params={"source": "pos_sale"})).json()["movements"]

    assert ["avcc123", "saf001"] == [row["item_id"] for row in first["stock"]]
    assert (["tom001"], None) == ([row["item_id"] for row in second["stock"]], second["next"])
    assert [("avcc123", 1), ("avcc123", 2), ("avcc123", 3), ("avcc123", 4), ("saf001", 1), ("tom001", 1)] == seen
    assert ["12.44", "11.19", "9.94"] == [row["balance_after"] for row in sales]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/pos/stores/9/stock", 404),
        ("/pos/stores/1/stock?item_id=typo", 404),
        ("/pos/stores/1/movements?item_id=typo", 404),
        ("/pos/stores/1/ledger?item_id=typo", 404),
        ("/pos/stores/1/movements?item=avcc123", 422),
        ("/pos/stores/1/stock?limit=0", 422),
        ("/pos/stores/1/movements?after=x", 422),
        ("/pos/stores/1/movements?source=x", 422),
        ("/pos/stores/1/stock?item_id=%00", 422),
        ("/pos/stores/1/stock?item_id=avcc123%20", 422),
        ("/pos/stores/1/movements?item_id=%E2%80%8Ba", 422),
        ("/pos/stores/%C2%A01/stock", 422),
        ("/pos/stores/1/stock?after=%00", 422),
        ("/pos/stores/1/movements?after=1:%00", 422),
        ("/pos/stores/%00/stock", 422),
    ],
)
async def test_a_bad_question_is_answered_with_a_message(till: httpx2.AsyncClient, path: str, status: int) -> None:
    answer = await till.get(path)

    assert status == answer.status_code
    assert {"message"} == set(answer.json())


async def test_500_movements_with_the_longest_ids_fit_into_one_call(world: World, till: httpx2.AsyncClient) -> None:
    lines = [{**SALE, "item_id": f"{number:03}" + "é" * 252} for number in range(500)]
    body = json.dumps({"movements": lines}).encode("ascii")
    largest = {"Idempotency-Key": "large", "Content-Type": "application/json"}

    answer = await till.post(MOVEMENTS, content=body, headers=largest)
    too_large = await till.post(MOVEMENTS, content=b" " * MAX_BODY_BYTES + body, headers=largest)

    assert 65536 < len(body) < MAX_BODY_BYTES
    assert 409 == answer.status_code
    assert ["unknown_item"] * 500 == [line["reason"] for line in answer.json()["movements"]]
    assert 413 == too_large.status_code
    assert [] == await world.ledger()


async def test_who_reads_is_not_told_to_send_a_movement_again(world: World, till: httpx2.AsyncClient) -> None:
    unknown = [await till.get(f"/pos/stores/9/{what}") for what in ("stock", "movements")]
    away = settings_for(world, pos_api_key=KEY, database_url="postgresql://nobody@127.0.0.1:1/nothing")
    async with running(away) as (_, client):
        headers = {"Authorization": f"Bearer {KEY}"}
        failed = [await client.get(f"/pos/stores/1/{what}", headers=headers) for what in ("stock", "movements")]

    assert {(404, 'The POS has no store "9". Make it with pos-sync catalog import.')} == {
        (answer.status_code, answer.json()["message"]) for answer in unknown
    }
    assert {(503, "The POS database is not available right now. Ask again in a moment.", "5")} == {
        (answer.status_code, answer.json()["message"], answer.headers["retry-after"]) for answer in failed
    }


@pytest.mark.parametrize("read_url", [None, "the primary", "nobody"])
async def test_what_is_read_from_the_primary_is_of_now_and_says_so(world: World, read_url: str | None) -> None:
    address = {None: None, "the primary": world.service_url, "nobody": "postgresql://nobody@127.0.0.1:1/nothing"}[read_url]
    async with running(settings_for(world, pos_api_key=KEY, database_read_url=address)) as (_, client):
        headers = {"Authorization": f"Bearer {KEY}"}
        answers = [
            await client.get(f"/pos/stores/1/{what}", headers=headers)
            for what in ("stock", "stock?item_id=avcc123", "movements", "ledger")
        ]

    assert [(200, "0")] * 4 == [(answer.status_code, answer.headers["x-data-age-seconds"]) for answer in answers]


async def test_a_path_that_only_begins_like_a_recording_records_nothing(world: World, till: httpx2.AsyncClient) -> None:
    answer = await record(till, SALE, path=f"{MOVEMENTS}%0A")

    assert 404 == answer.status_code
    assert [] == await world.ledger()


async def by_sql(world: World, kind: str, quantity: str, key: str) -> Decimal:
    async with world.engine.begin() as connection:
        query = text(f"SELECT pos_sync.record_pos_movement('1', 'avcc123', '{kind}', {quantity}, '{key}')")
        return Decimal(await connection.scalar(query))


async def test_text_from_a_till_cannot_steer_a_terminal(world: World, run: Run) -> None:
    with pytest.raises(DBAPIError, match="must hold no control characters"):
        await world.execute(r"SELECT pos_sync.record_movement('1', 'avcc123', 'sale', 1, 'k', NULL, E'\x1b[2J evil')")
    await world.execute(r"SELECT pos_sync.record_movement('1', 'avcc123', 'sale', 1, 'k', NULL, E'seen \u202e otherwise')")

    shown = (await run("ledger", "--store", "1")).output

    assert "seen <U+202E> otherwise" in shown


async def test_sql_records_the_same_in_the_callers_transaction(world: World) -> None:
    assert Decimal("12.44") == await by_sql(world, "sale", "1.25", "1")
    assert Decimal("17.44") == await by_sql(world, "receipt", "5", "2")
    assert Decimal("16.5") == await by_sql(world, "count", "16.5", "3")
    assert Decimal("17.44") == await by_sql(world, "receipt", "5", "2")
    # Sixteen decimals, all but one of them zeros.
    assert Decimal("15.00") == await by_sql(world, "sale", "3.0 / 2", "4")
    await by_sql(world, "receipt", "1.5", "5")
    async with world.engine.connect() as connection:
        await connection.execute(text("SELECT pos_sync.record_pos_movement('1', 'avcc123', 'sale', 1, 'never')"))
        await connection.rollback()

    assert 5 == len(await world.ledger())
    assert Decimal("16.5") == await world.level()
    assert {} == await world.broken_invariants()


async def test_sql_and_http_know_each_others_movements(world: World, till: httpx2.AsyncClient) -> None:
    await by_sql(world, "sale", "1.25", "ticket 1")
    over_http = await record(till, SALE, "ticket 1")
    await record(till, SALE, "ticket 2")
    assert Decimal("11.19") == await by_sql(world, "sale", "1.25", "ticket 2")

    assert 200 == over_http.status_code
    assert 2 == len(await world.ledger())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("'9', 'avcc123', 'sale', 1, 'k'", 'no store "9"'),
        ("'1', 'nope', 'sale', 1, 'k'", 'no item "nope"'),
        ("'1', 'avcc123', 'gift', 1, 'k'", "must be sale, receipt, count"),
        ("'1', 'avcc123', NULL, 1, 'k'", "must be sale, receipt, count"),
        ("'1', 'avcc123', 'sale', -1, 'k'", "must be 0 or more"),
        ("'1', 'avcc123', 'sale', 'NaN', 'k'", "must be 0 or more"),
        ("'1', 'avcc123', 'sale', NULL, 'k'", "must be 0 or more"),
        ("'1', 'avcc123', 'sale', 1, ' '", "idempotency key"),
        ("'1', 'avcc123', 'sale', 1, NULL", "idempotency key"),
    ],
)
async def test_sql_says_what_is_wrong(world: World, arguments: str, words: str) -> None:
    with pytest.raises(DBAPIError, match=words):
        await world.execute(f"SELECT pos_sync.record_pos_movement({arguments})")

    assert [] == await world.ledger()


async def test_sql_refuses_below_zero_where_the_store_does_and_another_use_of_a_key(world: World) -> None:
    await world.execute("UPDATE pos_sync.store SET negative_stock = 'refuse'")
    with pytest.raises(DBAPIError, match="below zero"):
        await by_sql(world, "sale", "14", "k")
    await by_sql(world, "sale", "1", "k")
    with pytest.raises(DBAPIError, match="used for another movement"):
        await by_sql(world, "sale", "2", "k")


async def test_sql_and_deliveries_at_once_lose_nothing(world: World, till: httpx2.AsyncClient) -> None:
    async def sell_by_sql() -> None:
        for number in range(40):
            await by_sql(world, "sale", "0.01", f"sql {number}")

    async def sell_over_http() -> None:
        for number in range(10):
            answers = await asyncio.gather(
                *(record(till, {**SALE, "quantity": "0.01"}, f"http {number} {line}") for line in range(8))
            )
            assert {201} == {answer.status_code for answer in answers}

    await asyncio.gather(sell_by_sql(), sell_by_sql(), sell_over_http())
    # Both runs by SQL use the same keys.
    assert Decimal("13.69") - Decimal("1.20") == await world.level()
    assert {} == await world.broken_invariants()


async def test_only_who_was_given_the_right_may_record_by_sql(world: World) -> None:
    await world.execute("DROP ROLE IF EXISTS some_till", "CREATE ROLE some_till LOGIN")
    async with world.engine.connect() as connection:
        function = "record_pos_movement(text,text,text,numeric,text,timestamptz)"
        may = f"SELECT has_function_privilege('some_till', '{function}', 'EXECUTE')"
        before = await connection.scalar(text(may))
        await connection.execute(text("GRANT EXECUTE ON FUNCTION record_pos_movement TO some_till"))
        after = await connection.scalar(text(may))
        await connection.rollback()
    await world.execute("DROP ROLE some_till")

    assert (False, True) == (before, after)


async def test_a_store_is_synchronised_over_http(world: World) -> None:
    await world.execute("UPDATE pos_sync.store SET mipos_store_id = store_id")
    async with mipos() as remote, running(settings_for(world, **remote.settings(pos_api_key=KEY))) as (_, client):
        client.headers["Authorization"] = f"Bearer {KEY}"
        dry = await client.post("/pos/stores/1/sync", params={"dry_run": "true"})
        sent_before = remote.calls.get("sync", 0)
        done = await client.post("/pos/stores/1/sync")
        remote.fail("sync", status=409, body='{"message": ["You don\'t have this store available."], "data": null}')
        refused = await client.post("/pos/stores/1/sync")
        unknown_store = await client.post("/pos/stores/9/sync")
        impossible_store = await client.post("/pos/stores/%00/sync", params={"dry_run": "true"})
        unauthorized = await client.post("/pos/stores/1/sync", headers={"Authorization": "Bearer wrong"})

    assert (200, 3, 0) == (dry.status_code, dry.json()["items"], sent_before)
    assert (200, "done", 3) == (done.status_code, done.json()["state"], done.json()["items"])
    assert 409 == refused.status_code
    assert "don't have this store available" in refused.json()["message"]
    assert (404, 404, 401) == (unknown_store.status_code, impossible_store.status_code, unauthorized.status_code)


async def test_without_an_account_a_store_is_not_synchronised_and_said_why(till: httpx2.AsyncClient) -> None:
    answer = await till.post("/pos/stores/1/sync")

    assert 409 == answer.status_code
    assert "no mipOS account is set" in answer.json()["message"]
