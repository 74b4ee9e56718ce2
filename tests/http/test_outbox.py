"""The outbox: what the store's other systems are told, in order, at least once, and never the one that it came from."""

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx2
import pytest
import structlog
from sqlalchemy import text
from structlog.testing import capture_logs

from app.mipos.outbox import MAX_DATABASE_PAUSE_SECONDS, POLL_SECONDS
from app.storage import outbox
from app.storage.waits import MAX_CALL_PAUSE
from tests.conftest import running, settings_for
from tests.support.commands import Run
from tests.support.mipos import SYSTEM, mipos
from tests.support.outbox import OTHER, connect_other, connect_stores, messages, sell, settled, until, updates
from tests.support.postgres import SAMPLES
from tests.support.proxy import PostgresProxy
from tests.support.sender import PATH, body_of, signed
from tests.support.world import World


async def test_a_sale_is_told_as_documented_in_the_time_of_the_store(world: World) -> None:
    await world.execute("UPDATE pos_sync.store SET mipos_store_id = 'm-1', timezone = 'America/Guayaquil' WHERE store_id = '1'")
    async with mipos(stores={"m-1": "1"}) as remote, running(settings_for(world, **remote.settings())):
        await world.execute(
            "SELECT pos_sync.record_pos_movement('1', 'avcc123', 'sale', 1.25, 'ticket 7', '2020-05-30 17:45:03+00')"
        )
        await settled(world)

    assert [
        {
            "user_id_tps": "30",
            "inventory_system_id": SYSTEM,
            "current_stock": "12.44",
            "quantity": "1.25",
            "date": "2020-05-30 12:45:03",
            "movement_type": 2,
            "external_id": "avcc123",
        }
    ] == updates(remote)
    assert ["m-1"] == [received.store_id for received in remote.sandbox.received if received.call == "stock_update"]
    assert ["sent"] == [message.state for message in await messages(world)]


async def test_a_movement_of_one_system_reaches_the_other_and_never_comes_back(world: World) -> None:
    await connect_stores(world)
    async with mipos() as remote:
        await connect_other(world, remote)
        async with running(settings_for(world, **remote.settings())) as (_, client):
            body = body_of()
            assert 204 == (await client.post(PATH, content=body, headers=signed(body))).status_code
            await settled(world)

    assert [(OTHER, "1.25", "12.44")] == [
        (body["inventory_system_id"], body["quantity"], body["current_stock"]) for body in updates(remote)
    ]


async def test_a_switched_off_system_is_not_told(world: World) -> None:
    await world.execute("UPDATE pos_sync.integration SET enabled = false")
    await sell(world, "1", "ticket")

    assert [] == await messages(world)


async def test_what_is_sold_while_mipos_is_down_is_sent_in_order_once_it_is_up(world: World) -> None:
    await connect_stores(world)
    async with mipos() as remote:
        port = remote.port
    settings = settings_for(world, **{**remote.settings(), "mipos_base_url": f"http://127.0.0.1:{port}"})
    async with running(settings):
        for number in range(3):
            await sell(world, "1", f"ticket {number}")

        async def is_tried() -> bool:
            return (await messages(world))[0].attempts > 0

        await until(is_tried)
        async with mipos(port=port) as remote:
            await settled(world)

    assert ["12.69", "11.69", "10.69"] == [body["current_stock"] for body in updates(remote)]


async def test_a_long_outage_of_the_database_makes_no_long_pause(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    # As after many tries: the pause would be the longest between two calls.
    monkeypatch.setattr("app.mipos.outbox.backoff", lambda *_args, **_jitter: MAX_CALL_PAUSE)
    structlog.reset_defaults()
    await connect_stores(world)
    async with mipos() as remote, PostgresProxy(world.server_address).running() as proxy:
        address = f"postgresql://pos_sync@127.0.0.1:{proxy.port}/{world.database}"
        with capture_logs() as lines:
            async with running(settings_for(world, **remote.settings(), database_url=address)):
                proxy.arm(0, is_repeated=True)
                proxy.reset_all()
                await sell(world, "1", "ticket")

                async def is_waiting() -> bool:
                    return any(line["event"] == "outbox waits for the database" for line in lines)

                await until(is_waiting)
                proxy.disarm()
                # Its patience is a fifth of that pause.
                await settled(world)

    assert MAX_DATABASE_PAUSE_SECONDS + POLL_SECONDS < 5
    assert ["12.69"] == [body["current_stock"] for body in updates(remote)]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"status": 409, "body": '{"message": ["This type of webhook is not available."], "data": null}'}, "not available"),
        ({"status": 422, "body": '{"date": ["The date field is required."]}'}, "date field is required"),
    ],
    ids=["409", "422"],
)
async def test_what_mipos_refuses_is_dead_in_its_words_and_the_next_goes_on(
    world: World, fault: dict[str, Any], words: str
) -> None:
    await connect_stores(world)
    await sell(world, "1", "one")
    await sell(world, "1", "two")
    async with mipos() as remote:
        remote.fail("stock_update", **fault)
        async with running(settings_for(world, **remote.settings())) as (_, client):
            await settled(world)
            metrics = (await client.get("/metrics")).text

    dead, sent = await messages(world)
    assert ("dead", "sent") == (dead.state, sent.state)
    assert words in dead.words
    assert 'pos_sync_outbox_messages_total{state="dead"} 1.0' in metrics


async def test_a_token_that_is_not_taken_any_more_is_replaced_once_and_the_message_sent(world: World) -> None:
    await connect_stores(world)
    async with mipos() as remote, running(settings_for(world, **remote.settings())):
        await sell(world, "1", "one")
        await settled(world)
        before = remote.calls
        remote.platform.expire_token()
        await sell(world, "1", "two")
        await settled(world)

    assert ["sent", "sent"] == [message.state for message in await messages(world)]
    assert before["refresh"] + 1 == remote.calls["refresh"] if "refresh" in before else 1 == remote.calls["refresh"]


async def test_retry_after_is_honoured(world: World) -> None:
    await connect_stores(world)
    await sell(world, "1", "one")
    async with mipos() as remote:
        remote.fail("stock_update", status=429, retry_after=3600)
        async with running(settings_for(world, **remote.settings())):

            async def is_put_off() -> bool:
                (message,) = await messages(world)
                return message.attempts == 1 and message.claimed_until is None

            await until(is_put_off)

    async with world.engine.connect() as connection:
        # Not longer than the longest pause of our own.
        seconds = await connection.scalar(text("SELECT extract(epoch FROM next_attempt_at - now()) FROM pos_sync.outbox_message"))
    assert 200 < seconds <= 300


async def test_a_store_without_an_id_at_mipos_keeps_its_messages_and_says_what_to_do(world: World) -> None:
    await sell(world, "1", "one")
    async with mipos() as remote, running(settings_for(world, **remote.settings())):

        async def is_said() -> bool:
            (message,) = await messages(world)
            return message.words is not None

        await until(is_said)
    (message,) = await messages(world)
    assert ("pending", "The store has no id at mipOS. Set it: pos-sync store set 1 --mipos-id ID") == (
        message.state,
        message.words,
    )


@pytest.mark.slow
async def test_a_message_that_no_token_opens_the_way_for_waits_and_is_not_dead(world: World) -> None:
    await connect_stores(world)
    async with mipos() as remote:
        remote.fail("stock_update", unauthorized=True, times=1000)
        async with running(settings_for(world, **remote.settings())):
            await sell(world, "1", "ticket")

            async def is_tried() -> bool:
                return (await messages(world))[0].attempts > 0 and (await messages(world))[0].words is not None

            await until(is_tried)

    (message,) = await messages(world)
    assert ("pending", "No access to mipOS: Unauthorized.") == (message.state, message.words)


@pytest.mark.slow
async def test_a_thousand_sales_under_faults_arrive_in_order_each_sent_by_one_of_two_replicas(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await connect_stores(world)
    items = [f"bulk{number}" for number in range(50)]
    await world.execute(
        "INSERT INTO pos_sync.item SELECT '1', 'bulk' || n, 'Bulk', 'pos_kg', 'pos_kg', 'pos_sup_market', 1"
        " FROM generate_series(0, 49) AS n"
    )
    async with mipos() as remote:
        remote.platform.systems[SYSTEM].stock.update(dict.fromkeys(items, "0"))
        for call in range(20):
            remote.fail("stock_update", status=500) if call % 2 else remote.fail("stock_update", unauthorized=True)
        remote.fail("stock_update", cut=True, times=5)
        done = []
        update_stock = remote.platform.update_stock

        def note(store_id: str, body: Any) -> Any:
            reply = update_stock(store_id, body)
            done.extend([(body["external_id"], body["current_stock"])] if reply.status == 204 else [])
            return reply

        monkeypatch.setattr(remote.platform, "update_stock", note)
        one, two = (settings_for(world, outbox_parallel=8, **remote.settings()) for _ in range(2))
        async with running(one), running(two):
            for batch in range(20):
                await world.execute(
                    *[f"SELECT pos_sync.record_pos_movement('1', '{item}', 'sale', 0.1, '{item} {batch}')" for item in items]
                )
            await settled(world)
        stock = remote.platform.systems[SYSTEM].stock

    for item in items:
        told = [Decimal(number) for name, number in done if name == item]
        assert [Decimal(-number) / 10 for number in range(1, 21)] == told
    assert {"sent"} == {message.state for message in await messages(world)}
    assert {Decimal(-2)} == {Decimal(stock[item]) for item in items}


async def test_one_that_is_lost_with_its_process_is_sent_by_another_once_its_claim_has_ended(world: World) -> None:
    await connect_stores(world)
    await sell(world, "1", "one")
    await world.execute("UPDATE pos_sync.outbox_message SET claimed_until = now() + interval '1 second', attempts = 1")
    async with mipos() as remote, running(settings_for(world, **remote.settings())):
        await settled(world)

    assert ["12.69"] == [body["current_stock"] for body in updates(remote)]


async def test_while_a_synchronisation_holds_a_store_nothing_is_sent_to_it(world: World) -> None:
    await connect_stores(world)
    await world.execute(f"INSERT INTO pos_sync.lease VALUES ('sync 1 {SYSTEM}', now() + interval '1 hour')")
    await sell(world, "1", "one")
    async with mipos() as remote:
        await connect_other(world, remote)
        async with running(settings_for(world, **remote.settings())):
            await sell(world, "1", "two")

            async def is_other_told() -> bool:
                return len(updates(remote)) == 1

            await until(is_other_told)
            await world.execute("DELETE FROM pos_sync.lease WHERE name LIKE 'sync%'")
            await settled(world)

    assert [OTHER, SYSTEM, SYSTEM] == [body["inventory_system_id"] for body in updates(remote)]


async def test_without_an_account_it_receives_and_keeps_what_it_would_send(world: World, client: httpx2.AsyncClient) -> None:
    await sell(world, "1", "one")
    body = body_of()

    assert 204 == (await client.post(PATH, content=body, headers=signed(body))).status_code
    assert ["pending"] == [message.state for message in await messages(world)]


async def test_a_movement_on_the_command_line_is_recorded_once_and_its_message_queued(world: World, run: Run) -> None:
    sale = ("movement", "--store", "1", "--item", "avcc123", "--sale", "1.25", "--key", "7")
    first, again = await run(*sale), await run(*sale)
    other = await run("movement", "--store", "1", "--item", "avcc123", "--receipt", "1.25", "--key", "7")
    unknown = await run("movement", "--store", "1", "--item", "nope", "--count", "1")

    assert "Recorded, with the key 7. The stock of avcc123 in store 1 after it: 12.44.\n" == first.output
    assert again.output.startswith("Recorded before")
    assert (1, 1) == (other.exit_code, unknown.exit_code)
    assert "used for another movement" in other.output
    assert "No store has an item" in unknown.output
    assert "pos-sync catalog import" in unknown.output
    assert ["pending"] == [message.state for message in await messages(world)]


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--at", "0001-01-01T00:00:00+05:00", "must be after 1970 and before 9999"),
        ("--at", "0500-01-01T00:00:00Z", "must be after 1970 and before 9999"),
        ("--at", "2026-05-30T12:45:03", "must be a time with its offset"),
        ("--key", "caf\u00e9", "visible ASCII"),
        ("--key", " ", "visible ASCII"),
    ],
)
async def test_the_command_has_the_bounds_of_the_http_api(run: Run, option: str, value: str, words: str) -> None:
    result = await run("movement", "--store", "1", "--item", "avcc123", "--sale", "1", option, value)

    assert 2 == result.exit_code
    assert words in result.stderr
    assert "Traceback" not in result.stderr


async def test_operators_list_show_retry_and_dismiss_messages(world: World, run: Run) -> None:
    for number in range(3):
        await sell(world, "1", f"ticket {number}")
    await world.execute(
        "UPDATE pos_sync.outbox_message SET state = 'dead', words = 'Not available.', closed_at = now() WHERE level_version = 2",
        "UPDATE pos_sync.outbox_message SET state = 'sent', closed_at = now() WHERE level_version = 3",
    )
    dead, sent, waiting = (message.outbox_message_id for message in await messages(world))

    listed = await run("outbox", "list")
    shown = await run("outbox", "show", str(dead))
    retried = await run("outbox", "retry", str(dead), str(sent))
    dismissed = await run("outbox", "dismiss", str(waiting), "--note", "by hand", "--actor", "Ana")
    everything = json.loads((await run("outbox", "list", "--all", "--json")).output)

    assert 3 == len(listed.output.splitlines())
    assert "Not available." in listed.output
    assert "Not available." in shown.output
    assert (1, f"to be sent again: 1\n  {sent}: sent already\n") == (retried.exit_code, retried.output)
    assert 0 == dismissed.exit_code
    assert ["pending", "sent", "dismissed"] == [one["state"] for one in everything]
    assert ("Ana", "by hand") == (everything[2]["actor"], everything[2]["note"])
    assert 1 == (await run("outbox", "show", "999999")).exit_code


async def test_a_line_of_0_is_recorded_and_listed_without_a_sign_and_a_person_is_told_that_nothing_would_move(
    world: World, run: Run
) -> None:
    await sell(world, "0", "a voided line")
    refused = [
        await run("movement", "--store", "1", "--item", "avcc123", f"--{kind}", "0", *more)
        for kind, *more in [("sale",), ("receipt",), ("adjustment", "--reason", "x"), ("transfer", "--to", "2")]
    ]
    counted = await run("movement", "--store", "1", "--item", "avcc123", "--count", "13.69")
    listed = json.loads((await run("outbox", "list", "--json")).output)

    assert [2] * 4 == [ended.exit_code for ended in refused]
    assert all("must not be 0: nothing would move" in ended.output for ended in refused)
    assert 0 == counted.exit_code
    assert ["0", "0"] == [one["change"] for one in listed]


async def test_all_that_is_dead_is_retried_at_once(world: World, run: Run) -> None:
    await sell(world, "1", "one")
    await world.execute("UPDATE pos_sync.outbox_message SET state = 'dead', closed_at = now()")

    assert "to be sent again: 1\n" == (await run("outbox", "retry", "--dead")).output
    assert "Nothing: every stock update has been sent." not in (await run("outbox", "list")).output


@pytest.mark.parametrize("is_imported", [True, False], ids=["import", "store set"])
async def test_after_the_user_is_corrected_waiting_and_retried_messages_name_the_new_one(
    world: World, run: Run, *, is_imported: bool
) -> None:
    await connect_stores(world)
    await sell(world, "0.25", "refused")
    async with mipos() as remote:
        remote.platform.systems[SYSTEM].user_id_tps = "31"
        async with running(settings_for(world, **remote.settings())):
            await settled(world)
        (dead,) = await messages(world)
        await sell(world, "0.5", "waiting")
        if is_imported:
            file = json.loads((SAMPLES / "store-1.json").read_text()) | {"user_id_tps": "31"}
            repaired = await run("catalog", "import", "--store", "1", "-", input=json.dumps(file).encode())
        else:
            repaired = await run("store", "set", "1", "--connect", SYSTEM, "31")
        await run("outbox", "retry", "--dead")
        async with running(settings_for(world, **remote.settings())):
            await settled(world)

    assert ("dead", 0) == (dead.state, repaired.exit_code)
    assert "does not own this inventory system" in dead.words
    assert [("30", "0.25"), ("31", "0.25"), ("31", "0.5")] == [
        (body["user_id_tps"], body["quantity"]) for body in updates(remote)
    ]
    assert ["sent", "sent"] == [message.state for message in await messages(world)]


async def test_a_call_that_is_under_way_when_the_service_stops_ends_and_is_not_made_again(world: World) -> None:
    await connect_stores(world)
    await sell(world, "1", "one")
    async with mipos() as remote:
        remote.fail("stock_update", delay=0.5, status=204, body="")
        async with running(settings_for(world, **remote.settings())):

            async def is_called() -> bool:
                return bool(updates(remote))

            await until(is_called)

    assert ["sent"] == [message.state for message in await messages(world)]


async def test_who_settles_after_another_has_claimed_changes_nothing_of_that_claim(world: World) -> None:
    await connect_stores(world)
    await sell(world, "1", "one")
    lasts = timedelta(seconds=60)
    async with world.engine.begin() as connection:
        (first,) = await outbox.claim(connection, limit=5, lasts=lasts)
    await world.execute("UPDATE pos_sync.outbox_message SET claimed_until = now() - interval '1 second'")
    async with world.engine.begin() as connection:
        (second,) = await outbox.claim(connection, limit=5, lasts=lasts)
    async with world.engine.begin() as connection:
        await outbox.settle(connection, [outbox.Settled(first, outbox.OutboxState.PENDING, "too late")])
    (kept,) = await messages(world)

    assert (second.claimed_until, None) == (kept.claimed_until, kept.words)


async def test_claims_go_on_from_pair_to_pair_and_never_hold_two_of_one(world: World) -> None:
    await connect_stores(world)
    for item in ("avcc123", "saf001", "tom001"):
        await sell(world, "0.001", f"{item} 1", item=item)
        await sell(world, "0.001", f"{item} 2", item=item)
    lasts = timedelta(seconds=60)
    async with world.engine.begin() as connection:
        first = await outbox.claim(connection, limit=2, lasts=lasts)
        rest = await outbox.claim(connection, limit=2, lasts=lasts, after=first[-1].pair)
        again = await outbox.claim(connection, limit=9, lasts=lasts)

    assert ["avcc123", "saf001", "tom001"] == [message.item_id for message in [*first, *rest]]
    assert [] == again


async def test_what_is_told_again_after_later_movements_tells_the_stock_of_now(world: World, run: Run) -> None:
    """Else an old `current_stock` would be the last that the system hears."""
    await connect_stores(world)
    async with mipos() as remote, running(settings_for(world, **remote.settings())):
        remote.fail("stock_update", status=409, body='{"message": ["No."], "data": null}')
        await sell(world, "1", "refused")
        await settled(world)
        await sell(world, "2", "later")
        await settled(world)
        retried = await run("outbox", "retry", "--dead")
        await settled(world)

    assert 0 == retried.exit_code
    assert ["12.69", "10.69", "10.69"] == [body["current_stock"] for body in updates(remote)]
    assert ["sent", "sent"] == [message.state for message in await messages(world)]


async def test_messages_of_a_disabled_integration_wait_and_are_said_to(world: World, run: Run) -> None:
    await connect_stores(world)
    await sell(world, "1", "ticket")
    await run("store", "set", "1", "--disable", SYSTEM)
    async with mipos() as remote, running(settings_for(world, **remote.settings())):
        await sell(world, "1", "not queued")
        listed = (await run("outbox", "list")).output
        before = updates(remote)
        await run("store", "set", "1", "--enable", SYSTEM)
        await settled(world)

    assert "the integration is disabled" in listed
    assert [] == before
    assert ["12.69"] == [body["current_stock"] for body in updates(remote)]


async def test_a_send_whose_outcome_is_not_known_is_counted_and_one_that_never_left_is_not(world: World) -> None:
    await connect_stores(world)
    async with mipos() as remote:
        port = remote.port
    settings = settings_for(world, **{**remote.settings(), "mipos_base_url": f"http://127.0.0.1:{port}"})
    async with running(settings):
        await sell(world, "1", "ticket")

        async def is_tried() -> bool:
            return (await messages(world))[0].attempts > 0

        await until(is_tried)
        (never_left,) = await messages(world)
    # A further try may be under way when the service stops: its claim would last, and nobody knows what became of it.
    await world.execute("UPDATE pos_sync.outbox_message SET next_attempt_at = now(), claimed_until = NULL, unknown_sends = 0")
    async with mipos() as remote:
        remote.fail("stock_update", cut=True)
        async with running(settings_for(world, **remote.settings())):
            await settled(world)
    (sent,) = await messages(world)

    assert (0, 1) == (never_left.unknown_sends, sent.unknown_sends)
    assert (sent.sent_at, sent.unknown_until) != (None, None)
