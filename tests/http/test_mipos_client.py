"""The client against the sandbox over real HTTP: every documented message can be produced, and is understood."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from pydantic import SecretStr

from app.mipos.answers import Answer, Done, NeedsHuman, Transient, Unauthorized
from app.mipos.client import MiposClient
from tests.support.mipos import CREDENTIALS, SYSTEM, Remote, credentials_with, mipos
from tests.support.postgres import SAMPLES
from tests.support.sender import SECRET
from tests.support.service import free_port

INVENTORY: dict[str, Any] = {**json.loads((SAMPLES / "store-2.json").read_text()), "inventory_system_id": SYSTEM}
ITEM: dict[str, Any] = INVENTORY["items"][0]
UPDATE = {
    "user_id_tps": "30",
    "inventory_system_id": SYSTEM,
    "current_stock": "12.44",
    "quantity": "1.25",
    "date": "2020-05-30 12:45:03",
    "movement_type": 2,
    "external_id": "avcc123",
}


@pytest.fixture
async def remote() -> AsyncIterator[Remote]:
    async with mipos() as it:
        yield it


@pytest.fixture
async def client(remote: Remote) -> AsyncIterator[MiposClient]:
    async with MiposClient(remote.url) as it:
        yield it


async def token_of(client: MiposClient) -> SecretStr:
    answer = await client.fetch_token(CREDENTIALS)
    assert isinstance(answer, Done)
    return SecretStr(answer.data["token"])


async def test_the_four_calls_and_their_successes(remote: Remote, client: MiposClient) -> None:
    token = await token_of(client)

    assert Done("Webhook successfully created.") == await client.manage_webhook(
        "https://pos.example.com/webhooks/stock", token=token
    )
    assert Done("Synchronization data was sent to the inventory system.") == await client.sync("1", INVENTORY, token=token)
    assert Done("status 204, without a word") == await client.update_stock(
        "1", {**UPDATE, "external_id": "item_abc123"}, token=token
    )
    assert {"3": "https://pos.example.com/webhooks/stock"} == remote.platform.webhooks
    assert {"item_abc123": "9.97", "item_abc456": "5.50"} == remote.platform.systems[SYSTEM].stock


async def test_the_token_call_is_a_read_and_a_refresh_kills_the_old_token(client: MiposClient) -> None:
    first = await token_of(client)
    assert first == await token_of(client)

    refreshed = await client.refresh_token(CREDENTIALS, first)

    assert isinstance(refreshed, Done)
    assert "New access token." == refreshed.words
    assert Unauthorized("Unauthorized.") == await client.manage_webhook("https://x", token=first)
    assert isinstance(await client.manage_webhook("https://x", token=await token_of(client)), Done)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"client_id": "x"}, "Client id not found with this user."),
        ({"client_secret": "x"}, "Client secret not found with this user."),
        ({"email": "x"}, "Invalid credentials."),
        ({"password": "x"}, "Invalid credentials."),
        ({"client_id": ""}, "The client id field is required."),
        ({"client_secret": ""}, "The client secret field is required."),
        ({"email": ""}, "The email field is required."),
        ({"password": ""}, "The password field is required."),
    ],
)
async def test_every_refusal_of_the_token_call(client: MiposClient, changes: dict[str, str], words: str) -> None:
    answer = await client.fetch_token(credentials_with(**changes))

    assert NeedsHuman(words, 422 if "required" in words else 409) == answer


async def test_every_refusal_of_the_refresh_call(client: MiposClient) -> None:
    none_yet = await client.refresh_token(CREDENTIALS, SecretStr("x"))
    await token_of(client)
    wrong = await client.refresh_token(credentials_with(client_id="x", client_secret="y"), SecretStr("x"))
    body = {"client_id": "a", "client_secret": "b", "grant_type": "refresh_token", "refresh_token": ""}
    empty = await call(client, "/api/oauth/token/refresh", body)

    assert NeedsHuman("Token not found with this user.", 409) == none_yet
    assert (
        NeedsHuman(
            "Client id not found with this user. Client secret not found with this user."
            " Authenticated user not found. Token Mismatch.",
            409,
        )
        == wrong
    )
    assert NeedsHuman("The refresh token field is required.", 422) == empty


async def call(client: MiposClient, path: str, body: dict[str, Any]) -> Answer:
    """A call that the client's own methods would never make."""
    return await client._call(path, body, token=await token_of(client))  # noqa: SLF001


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"type": "3"}, 422, "The url field is required."),
        ({"url": "x"}, 422, "The type field is required."),
        ({"type": "9", "url": "x"}, 422, "The selected type is invalid."),
        ({"type": "1", "url": "x"}, 409, "Invalid type."),
    ],
)
async def test_every_refusal_of_the_manage_call(client: MiposClient, body: dict[str, Any], status: int, words: str) -> None:
    assert NeedsHuman(words, status) == await call(client, "/api/v1/inventory/pos/webhook/manage", body)


def item(**changes: Any) -> dict[str, Any]:
    return {**INVENTORY, "items": [{**ITEM, **changes}]}


SYNC_REFUSALS: list[tuple[dict[str, Any], str]] = [
    (item(name=""), "The item must have a name."),
    (item(external_id=""), "The item must have an external id."),
    (item(purchase_unit_external_id=""), "The item must have an purchase unit external id."),
    (item(consumption_unit_external_id=None), "The item must have an consumption unit external id."),
    (item(supplier_external_id=""), "The item must have a supplier external id."),
    (item(cost=""), "The item must have a cost."),
    (item(stock=""), "The item must have a stock."),
    (item(purchase_unit_external_id=7), "The item purchase unit external id must be a string."),
    (item(consumption_unit_external_id=7), "The item consumption unit external id must be a string."),
    (item(cost=1250), "The item cost must be a string."),
    (item(stock=11.22), "The item stock must be a string."),
    (item(purchase_unit_external_id="u9"), "Item purchase unit external id (u9) not found in units array"),
    (item(supplier_external_id="s9"), "Item supplier external id (s9) not found in suppliers array"),
    ({**INVENTORY, "units": [*INVENTORY["units"], {"short_name": "u", "external_id": "u"}]}, "The unit must have a name."),
    ({**INVENTORY, "units": [*INVENTORY["units"], {"name": "u", "external_id": "u"}]}, "The unit must have a short name."),
    ({**INVENTORY, "units": [*INVENTORY["units"], {"name": "u", "short_name": "u"}]}, "The unit must have an external id."),
    ({**INVENTORY, "suppliers": [*INVENTORY["suppliers"], {"external_id": "s"}]}, "The supplier must have a name."),
    ({**INVENTORY, "suppliers": [*INVENTORY["suppliers"], {"name": "s"}]}, "The supplier must have an external id."),
    ({**INVENTORY, "inventory_system_id": "x"}, "The third_party_id does not have an Inventory System role or does not exist."),
]


@pytest.mark.parametrize(("body", "words"), SYNC_REFUSALS, ids=[words for _, words in SYNC_REFUSALS])
async def test_every_refusal_of_a_sync_s_content(client: MiposClient, body: dict[str, Any], words: str) -> None:
    answer = await client.sync("1", body, token=await token_of(client))

    assert isinstance(answer, NeedsHuman)
    assert 409 == answer.status
    assert words in answer.words


async def test_every_refusal_of_a_sync_s_store(remote: Remote, client: MiposClient) -> None:
    token = await token_of(client)
    system = remote.platform.systems[SYSTEM]
    system.knows_store = False

    unknown = await client.sync("9", INVENTORY, token=token)
    not_integrated = await client.sync("2", INVENTORY, token=token)
    not_known_there = await client.sync("1", INVENTORY, token=token)

    assert "You don't have this store available." in unknown.words
    assert (
        NeedsHuman("No integration record was found between this user store and the third party system.", 409) == not_integrated
    )
    assert NeedsHuman("External id not found for this store in the inventory system.", 409) == not_known_there


@pytest.mark.parametrize("name", ["items", "inventory_system_id", "units", "suppliers", "user_id_tps"])
async def test_every_missing_field_of_a_sync(client: MiposClient, name: str) -> None:
    body = {key: value for key, value in INVENTORY.items() if key != name}

    answer = await client.sync("1", body, token=await token_of(client))

    assert NeedsHuman(f"The {name.replace('_', ' ')} field is required.", 422) == answer


async def test_an_inventory_system_id_that_is_no_string(client: MiposClient) -> None:
    answer = await client.sync("1", {**INVENTORY, "inventory_system_id": 7}, token=await token_of(client))

    assert NeedsHuman("The inventory system id must be a string.", 422) == answer


def unavailable(remote: Remote) -> None:
    remote.platform.webhook_types_available = False


def without_webhooks(remote: Remote) -> None:
    remote.platform.systems[SYSTEM].has_webhooks = False


def unchanged(_remote: Remote) -> None:
    pass


@pytest.mark.parametrize(
    ("prepare", "store", "changes", "status", "words"),
    [
        (unchanged, "1", {"user_id_tps": "31"}, 409, "This user_id_tps does not own this inventory system."),
        (unchanged, "2", {}, 409, "No integration record was found between this user store and the third party system."),
        (unchanged, "1", {"external_id": "x"}, 409, "External id not found for this store in the inventory system."),
        (unavailable, "1", {}, 409, "This type of webhook is not available."),
        (without_webhooks, "1", {}, 409, "This inventory system does not have this type of webhook available."),
        (unchanged, "1", {"user_id_tps": ""}, 422, "The user id tps field is required."),
        (unchanged, "1", {"inventory_system_id": ""}, 422, "The inventory system id field is required."),
        (unchanged, "1", {"current_stock": ""}, 422, "The current stock field is required."),
        (unchanged, "1", {"quantity": ""}, 422, "The quantity field is required."),
        (unchanged, "1", {"date": ""}, 422, "The date field is required."),
        (unchanged, "1", {"movement_type": None}, 422, "The movement type field is required."),
        (unchanged, "1", {"movement_type": 3}, 422, "The selected movement type is invalid."),
    ],
)
async def test_every_refusal_of_a_stock_update(  # noqa: PLR0913, PLR0917 - a table of cases
    remote: Remote,
    client: MiposClient,
    prepare: Callable[[Remote], None],
    store: str,
    changes: dict[str, Any],
    status: int,
    words: str,
) -> None:
    prepare(remote)

    assert NeedsHuman(words, status) == await client.update_stock(store, {**UPDATE, **changes}, token=await token_of(client))


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"status": 500}, Transient("status 500, without a word", may_have_arrived=True)),
        ({"status": 502, "html": True}, Transient("502 Bad Gateway", may_have_arrived=True)),
        ({"status": 503, "body": '{"message": "Maintenance."}', "retry_after": 9}, Transient("Maintenance.", 9.0)),
        ({"status": 429, "retry_after": 3}, Transient("status 429, without a word", 3.0)),
        ({"cut": True}, Transient("mipOS could not be reached: the answer was cut, or is not HTTP", may_have_arrived=True)),
        ({"delay": 30}, Transient("mipOS did not answer in time", may_have_arrived=True)),
        ({"hang": True}, Transient("mipOS did not answer in time", may_have_arrived=True)),
        ({"unauthorized": True}, Unauthorized("Unauthorized.")),
        ({"expired_token": True}, Unauthorized("Unauthorized.")),
        ({"status": 204}, Done("status 204, without a word")),
    ],
    ids=repr,
)
async def test_every_fault_is_one_of_the_four(remote: Remote, how: dict[str, Any], expected: Answer) -> None:
    async with MiposClient(remote.url, call_seconds=1) as client:
        token = await token_of(client)
        remote.fail("manage", **how)

        assert expected == await client.manage_webhook("https://x", token=token)
        assert "expired_token" in how or isinstance(await client.manage_webhook("https://x", token=token), Done)


async def test_ten_megabytes_of_garbage_are_not_read_to_their_end(remote: Remote, client: MiposClient) -> None:
    token = await token_of(client)
    remote.fail("manage", megabytes=10, status=409)

    answer = await client.manage_webhook("https://x", token=token)

    assert isinstance(answer, NeedsHuman)
    assert len(answer.words) <= 300


@pytest.mark.parametrize("base_url", ["http://127.0.0.1:{free}", "http://nowhere.invalid", "https://127.0.0.1:{free}"])
async def test_a_mipos_that_cannot_be_reached_is_transient(base_url: str) -> None:
    async with MiposClient(base_url.format(free=free_port()), call_seconds=3) as client:
        answer = await client.fetch_token(CREDENTIALS)

    assert isinstance(answer, Transient)


async def test_a_server_that_speaks_no_http_is_transient() -> None:
    async def babble(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x00\x01 hello, I am no web server \r\n\r\n" * 10)
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    async with server, MiposClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as client:
        answer = await client.fetch_token(CREDENTIALS)

    assert isinstance(answer, Transient)
    assert SECRET not in repr(answer)


async def test_a_store_id_stays_within_its_part_of_the_path(remote: Remote, client: MiposClient) -> None:
    token = await token_of(client)

    await client.sync("a b?x=1#y", INVENTORY, token=token)
    assert "a b?x=1#y" == remote.sandbox.received[-1].store_id
    assert NeedsHuman("Not Found", 404) == await client.sync("../1/system/sync/..", INVENTORY, token=token)
    assert 1 == remote.calls["sync"]
