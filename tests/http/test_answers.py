"""Each row of the design's table of answers, over the real app and a real Postgres."""

import json
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from tests.conftest import running, settings_for
from tests.support.sender import PATH, body_of, signed
from tests.support.world import World


async def deliver(client: httpx2.AsyncClient, **changes: Any) -> httpx2.Response:
    body = body_of(**changes)
    return await client.post(PATH, content=body, headers=signed(body))


def message_of(answer: httpx2.Response) -> str:
    assert "application/json" == answer.headers["content-type"]
    message = answer.json()["message"]
    assert isinstance(message, str)
    assert message
    return message


async def test_204_with_a_truly_empty_body_when_applied(world: World, client: httpx2.AsyncClient) -> None:
    answer = await deliver(client)

    assert 204 == answer.status_code
    assert b"" == answer.content
    assert "content-type" not in answer.headers
    assert Decimal("12.44") == await world.level()
    (row,) = await world.ledger()
    assert (Decimal("-1.25"), Decimal("12.44"), 2, Decimal("12.44")) == (
        row.delta,
        row.balance_after,
        row.level_version,
        row.reported_stock,
    )
    assert ("2020-05-30 12:45:03", "2020-06-01 02:55:18", 1) == (row.date_text, row.sent_at_text, row.occurrence)
    assert {} == await world.broken_invariants()


async def test_204_without_effect_when_already_applied(world: World, client: httpx2.AsyncClient) -> None:
    answers = [await deliver(client), await deliver(client), await deliver(client, now="2020-06-01 03:00:00")]

    assert [204, 204, 204] == [answer.status_code for answer in answers]
    assert Decimal("12.44") == await world.level()
    assert 1 == len(await world.ledger())


async def test_a_machine_that_subtracts_floats_is_understood(world: World, client: httpx2.AsyncClient) -> None:
    reports = [
        {"current_stock": "12.139999999999999", "quantity": "0.3"},
        # The same report, as numbers: known.
        {"current_stock": "@", "quantity": "$"},
        {"current_stock": "5", "quantity": "$"},
        {"current_stock": "1.0E-15", "quantity": "2"},
    ]
    for report in reports:
        body = body_of(**report).replace(b'"@"', b"12.139999999999999").replace(b'"$"', b"0.30000000000000004")
        assert 204 == (await client.post(PATH, content=body, headers=signed(body))).status_code

    assert [("0.3", "12.14"), ("0.3", "5"), ("2", "0")] == [
        (str(row.quantity), str(row.reported_stock)) for row in await world.ledger()
    ]
    assert Decimal("11.09") == await world.level()
    assert [] == await world.refused()
    assert {} == await world.broken_invariants()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"a":1,"a":2}', b'{"quantity":NaN}', b"\xef\xbb\xbf{}", b"\xff", b"{}x"])
async def test_400_when_not_readable_as_sent(client: httpx2.AsyncClient, body: bytes) -> None:
    answer = await client.post(PATH, content=body, headers=signed(body))

    assert 400 == answer.status_code
    assert "cannot be read" in message_of(answer)


async def test_401_in_one_text_for_every_way_of_not_being_signed(world: World, client: httpx2.AsyncClient) -> None:
    body = body_of()
    headers = [
        signed(body, X_Signature_Request=None),
        signed(body, X_Signature_Request=""),
        signed(body, X_Signature_Request="abc"),
        signed(body, secret="another secret altogether"),
        signed(body + b" "),
    ]

    answers = [await client.post(PATH, content=body, headers=these) for these in headers]

    assert {401} == {answer.status_code for answer in answers}
    assert 1 == len({message_of(answer) for answer in answers})
    assert "X-Signature-Request" == answers[0].headers["www-authenticate"]
    assert [] == await world.ledger()
    assert [] == await world.refused()


async def test_401_for_two_signatures_of_which_one_is_right(client: httpx2.AsyncClient) -> None:
    body = body_of()
    headers = [*signed(body).items(), ("X-Signature-Request", "0" * 64)]

    assert 401 == (await client.post(PATH, content=body, headers=headers)).status_code


async def test_404_for_another_path_and_no_redirect_for_a_slash(client: httpx2.AsyncClient) -> None:
    for path in (
        "/",
        "/webhooks",
        f"{PATH}%0A",
        f"{PATH}%0a?x",
        f"{PATH}/",
        "/webhooks/stock/1",
        "//webhooks/stock",
        "/redoc",
    ):
        answer = await client.post(path, content=b"{}")
        assert 404 == answer.status_code, path
        assert message_of(answer)


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_405_with_allow_for_another_method(client: httpx2.AsyncClient, method: str) -> None:
    answer = await client.request(method, PATH)

    assert 405 == answer.status_code
    assert "POST" == answer.headers["allow"]
    assert message_of(answer)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"store_id": 99}, 'no store "99"'),
        ({"external_id": "nope"}, 'no item with external_id "nope"'),
        ({"inventory_system_id": "nobody"}, 'not connected to the inventory system "nobody"'),
    ],
)
async def test_409_when_this_pos_cannot_apply_it(
    world: World, client: httpx2.AsyncClient, changes: dict[str, Any], said: str
) -> None:
    answer = await deliver(client, **changes)

    assert 409 == answer.status_code
    assert said in message_of(answer)
    assert [] == await world.ledger()


async def test_409_when_the_integration_is_disabled(world: World, client: httpx2.AsyncClient) -> None:
    await world.execute("UPDATE pos_sync.integration SET enabled = false")

    assert 409 == (await deliver(client)).status_code
    assert Decimal("13.69") == await world.level()


async def test_409_for_another_pos_where_one_is_configured(world: World) -> None:
    async with running(settings_for(world, pos_id="7")) as (_, client):
        answer = await deliver(client)
        right = await deliver(client, pos_id="7")

    assert (409, 204) == (answer.status_code, right.status_code)
    assert 'pos_id "1"' in message_of(answer)


async def test_409_below_zero_only_where_the_store_refuses_it(world: World, client: httpx2.AsyncClient) -> None:
    assert 204 == (await deliver(client, quantity="20")).status_code
    assert Decimal("-6.31") == await world.level()

    await world.execute("UPDATE pos_sync.store SET negative_stock = 'refuse' WHERE store_id = '1'")
    answer = await deliver(client, quantity="22.51", external_id="tom001")

    assert 409 == answer.status_code
    assert "below zero" in message_of(answer)
    assert Decimal("22.5") == await world.level("tom001")


async def test_the_setting_decides_for_stores_without_a_policy_of_their_own(world: World) -> None:
    async with running(settings_for(world, negative_stock="refuse")) as (_, client):
        assert 409 == (await deliver(client, quantity="20")).status_code
        await world.execute("UPDATE pos_sync.store SET negative_stock = 'allow' WHERE store_id = '1'")
        assert 204 == (await deliver(client, quantity="20")).status_code


async def test_413_by_declared_and_by_counted_size(client: httpx2.AsyncClient) -> None:
    body = b" " * 65537

    async def chunks() -> Any:
        for _ in range(70):
            yield b" " * 1000

    declared = await client.post(PATH, content=body, headers=signed(body))
    counted = await client.post(PATH, content=chunks(), headers=signed(body))

    assert (413, 413) == (declared.status_code, counted.status_code)
    assert "65536" in message_of(declared)
    assert "connection" not in declared.headers
    assert message_of(counted)


async def test_a_body_as_large_as_the_cap_is_read(client: httpx2.AsyncClient) -> None:
    body = body_of().ljust(65536)

    assert 204 == (await client.post(PATH, content=body, headers=signed(body))).status_code


@pytest.mark.parametrize(
    "header",
    [
        {"Content_Encoding": "gzip"},
        {"Content_Encoding": "br"},
        {"Content_Encoding": "identity, gzip"},
    ],
    ids=repr,
)
async def test_415_for_an_encoding(client: httpx2.AsyncClient, header: dict[str, str]) -> None:
    body = body_of()

    answer = await client.post(PATH, content=body, headers=signed(body, **header))

    assert 415 == answer.status_code
    assert message_of(answer)


@pytest.mark.parametrize(
    ("encodings", "status"),
    [
        (["identity", "gzip"], 415),
        (["gzip", "identity"], 415),
        (["", "gzip"], 415),
        (["identity", "identity"], 204),
        (["", ""], 204),
    ],
)
async def test_of_several_encodings_each_is_judged_and_an_empty_one_is_none(
    client: httpx2.AsyncClient, encodings: list[str], status: int
) -> None:
    body = body_of()
    headers = [*signed(body).items(), *(("Content-Encoding", encoding) for encoding in encodings)]

    answer = await client.post(PATH, content=body, headers=headers)

    assert status == answer.status_code
    assert status == 204 or "compressed" in message_of(answer)


@pytest.mark.parametrize(
    "header",
    [
        {"Content_Encoding": "identity"},
        {"Content_Encoding": ""},
        {"Content_Type": "text/plain"},
        {"Content_Type": "text/json"},
        {"Content_Type": "application/x-www-form-urlencoded"},
        {"Content_Type": ""},
    ],
    ids=repr,
)
async def test_a_signed_body_is_read_as_json_however_it_is_marked(client: httpx2.AsyncClient, header: dict[str, str]) -> None:
    body = body_of()

    assert 204 == (await client.post(PATH, content=body, headers=signed(body, **header))).status_code


@pytest.mark.parametrize(
    "header",
    [
        {"Content_Type": "application/json; charset=utf-8"},
        {"Content_Type": "APPLICATION/JSON"},
        {"Content_Type": "application/vnd.mipos+json"},
        {"Content_Type": None},
        {"Content_Encoding": "identity"},
    ],
    ids=repr,
)
async def test_json_by_any_of_its_names_is_taken(client: httpx2.AsyncClient, header: dict[str, Any]) -> None:
    body = body_of()

    assert 204 == (await client.post(PATH, content=body, headers=signed(body, **header))).status_code


async def test_422_names_the_field(client: httpx2.AsyncClient) -> None:
    answer = await deliver(client, quantity="1,25")

    assert 422 == answer.status_code
    assert 'The field quantity must be a number such as "1.25".' == message_of(answer)


async def test_503_with_retry_after_when_the_database_is_away(world: World) -> None:
    nowhere = world.service_url.replace("host=", "host=/nowhere")
    async with running(settings_for(world, database_url=nowhere, response_deadline=1)) as (_, client):
        good = await deliver(client)
        bad = await deliver(client, quantity="x")

    assert (503, 503) == (good.status_code, bad.status_code)
    assert "5" == good.headers["retry-after"]
    assert "Send the movement again" in message_of(good)


async def test_500_says_nothing_of_its_cause(client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("internals")

    monkeypatch.setattr("app.applying.batch_writer.apply_movements", fail)
    answer = await deliver(client)

    assert 500 == answer.status_code
    assert "internals" not in message_of(answer)


async def test_a_previous_secret_is_accepted_beside_the_current_one(world: World) -> None:
    settings = settings_for(
        world, mipos_client_secret="the new secret of 2026", mipos_client_secret_previous="the old secret of 2025"
    )
    async with running(settings) as (_, client):
        answers = []
        for number, secret in enumerate(["the new secret of 2026", "the old secret of 2025", "the older secret of 2024"]):
            body = body_of(date=str(number))
            answers.append((await client.post(PATH, content=body, headers=signed(body, secret=secret))).status_code)

    assert [204, 204, 401] == answers


async def test_the_order_of_keys_spaces_and_unknown_keys_do_not_matter(world: World, client: httpx2.AsyncClient) -> None:
    document = dict(reversed(json.loads(body_of(user_id_tps="30")).items()))
    body = json.dumps(document, indent=3, ensure_ascii=False).encode()

    assert 204 == (await client.post(PATH, content=body, headers=signed(body))).status_code
    assert 204 == (await deliver(client)).status_code
    assert 1 == len(await world.ledger())
