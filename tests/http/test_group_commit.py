"""Group commit: each delivery its own answer, neighbours unharmed, and no answer before the commit."""

import asyncio
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from app.storage.engine import Database
from tests.conftest import new_world, running, settings_for
from tests.support.sender import PATH, body_of, signed
from tests.support.world import POISON, World

END_SESSIONS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE usename = 'pos_sync' AND datname = current_database() AND pid <> pg_backend_pid()"
)


async def deliver(client: httpx2.AsyncClient, **changes: Any) -> int:
    body = body_of(**changes)
    return (await client.post(PATH, content=body, headers=signed(body))).status_code


async def deliver_together(client: httpx2.AsyncClient, changes: Sequence[dict[str, Any]]) -> list[int]:
    return list(await asyncio.gather(*(deliver(client, **these) for these in changes)))


def batch_sizes(metrics: str) -> tuple[float, float]:
    """How many batches there were, and how many deliveries in them."""
    values = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if line.startswith("pos_sync_batch_size_"))
    return float(values["pos_sync_batch_size_count"]), float(values["pos_sync_batch_size_sum"])


def failures(fault: str, metrics: str) -> int:
    """How many transactions failed in this way; `conflict`: another had come first."""
    found = re.findall(rf'pos_sync_failed_transactions_total\{{fault="{fault}"\}} (\d+)', metrics)
    return int(found[0]) if found else 0


async def test_deliveries_that_come_together_share_transactions(world: World, client: httpx2.AsyncClient) -> None:
    statuses = await deliver_together(client, [{"quantity": "0.01", "date": str(number)} for number in range(100)])

    assert [204] * 100 == statuses
    assert Decimal("12.69") == await world.level()
    batches, deliveries = batch_sizes((await client.get("/metrics")).text)
    assert 100 == deliveries
    assert batches < 20
    assert {} == await world.broken_invariants()


async def test_each_of_a_batch_gets_its_own_answer(world: World, client: httpx2.AsyncClient) -> None:
    changes = [{"date": "a"}, {"date": "a"}, {"external_id": "no"}, {"quantity": "x"}, {"store_id": 9}, {"date": "b"}] * 5

    statuses = await deliver_together(client, changes)

    assert [204, 204, 409, 422, 409, 204] * 5 == statuses
    assert Decimal("11.19") == await world.level()
    assert [5, 5, 5] == sorted(kept.attempts for kept in await world.refused())
    assert {} == await world.broken_invariants()


async def test_one_that_the_database_refuses_does_not_harm_its_neighbours(world: World, client: httpx2.AsyncClient) -> None:
    await world.execute(
        POISON, "CREATE TRIGGER poison BEFORE INSERT ON stock_movement FOR EACH ROW EXECUTE FUNCTION refuse_poison()"
    )
    changes: list[dict[str, Any]] = [{"date": str(number), "quantity": "0.1"} for number in range(20)]
    changes[7]["date"] = "poison"

    statuses = await deliver_together(client, changes)

    assert 422 == statuses.pop(7)
    assert [204] * 19 == statuses
    assert Decimal("11.79") == await world.level()
    (kept,) = await world.refused()
    assert "unstorable_value" == kept.reason
    assert {} == await world.broken_invariants()


@pytest.mark.parametrize("pooler", ["none", "transaction"])
async def test_nobody_is_answered_before_the_commit(world: World, pooler: str) -> None:
    """What is refused at COMMIT was applied until then."""
    await world.execute(
        POISON,
        "CREATE CONSTRAINT TRIGGER poison AFTER INSERT ON stock_movement DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION refuse_poison()",
    )
    async with running(settings_for(world, database_pooler=pooler)) as (_, client):
        statuses = await deliver_together(client, [{"date": "poison"}, *({"date": str(number)} for number in range(10))])

    assert [422] + [204] * 10 == statuses
    assert 10 == len(await world.ledger())


async def test_a_transaction_that_another_came_before_is_run_again(world: World, client: httpx2.AsyncClient) -> None:
    await world.execute(
        "CREATE SEQUENCE tries",
        # What a sequence gave is not taken back by a rollback.
        "CREATE FUNCTION fail_once() RETURNS trigger LANGUAGE plpgsql SET search_path = pos_sync AS $$ BEGIN"
        " IF nextval('tries') = 1 THEN RAISE EXCEPTION 'could not serialize access' USING ERRCODE = '40001'; END IF;"
        " RETURN NULL; END $$",
        "CREATE TRIGGER fail AFTER INSERT ON stock_movement FOR EACH STATEMENT EXECUTE FUNCTION fail_once()",
    )

    assert 204 == await deliver(client)
    assert 1 == failures("conflict", (await client.get("/metrics")).text)
    assert 1 == len(await world.ledger())


async def test_a_locked_row_is_503_and_its_neighbours_are_applied(world: World) -> None:
    async with running(settings_for(world, response_deadline=2.5)) as (_, client), world.engine.connect() as other:
        await other.execute(text("SELECT 1 FROM pos_sync.stock_level WHERE item_id = 'avcc123' FOR UPDATE"))
        changes: list[dict[str, Any]] = [{"external_id": "tom001", "date": str(number)} for number in range(10)]

        statuses = await deliver_together(client, [{}, *changes])
        await other.rollback()
        after = await deliver(client)

    assert [503] + [204] * 10 == statuses
    assert 204 == after
    assert Decimal("12.44") == await world.level()


async def test_many_for_a_locked_row_do_not_hold_up_the_others(world: World) -> None:
    async with running(settings_for(world)) as (_, client), world.engine.connect() as other:
        await other.execute(text("SELECT 1 FROM pos_sync.stock_level WHERE item_id = 'avcc123' FOR UPDATE"))
        held = [asyncio.create_task(deliver(client, date=f"held {number}")) for number in range(40)]
        free = [await deliver(client, external_id="tom001", date=str(number)) for number in range(20)]
        were_held = not any(task.done() for task in held)
        await other.rollback()

        assert [204] * 40 == list(await asyncio.gather(*held))

    assert were_held
    assert [204] * 20 == free
    assert {} == await world.broken_invariants()


async def test_a_copy_that_waited_for_its_original_is_known_and_not_refused(world: World) -> None:
    """The store refuses negative stock, and the original leaves too little for a second one."""
    refusing = settings_for(world, negative_stock="refuse")
    async with running(refusing) as (_, one), running(refusing) as (_, other):
        for number in range(30):
            changes = {"quantity": "12", "date": str(number)}
            assert [204, 204] == list(await asyncio.gather(deliver(one, **changes), deliver(other, **changes)))
            assert 204 == await deliver(one, quantity="12", movement_type=1, date=f"back {number}")

    assert [] == await world.refused()
    assert 60 == len(await world.ledger())


async def test_a_refusal_and_its_later_success_in_one_batch_leave_no_open_record(world: World) -> None:
    async with running(settings_for(world, negative_stock="refuse")) as (_, client), world.engine.connect() as other:
        await other.execute(text("LOCK TABLE pos_sync.stock_level"))
        sent = []
        for changes in ({"quantity": "20"}, {"quantity": "10", "movement_type": 1}, {"quantity": "20", "now": "again"}):
            sent.append(asyncio.create_task(deliver(client, **changes)))
            await asyncio.sleep(0)
        await other.rollback()
        statuses = await asyncio.gather(*sent)
        again = await deliver(client, quantity="20")

    assert [204, 204] == [statuses[1], again]
    assert {"resolved"} >= {kept.state for kept in await world.refused()}
    assert Decimal("3.69") == await world.level()


async def test_a_session_that_has_become_read_only_is_left(world: World, client: httpx2.AsyncClient) -> None:
    await world.execute(
        # It keeps the first session that writes, over the rollback too: that one is read-only from then on.
        "CREATE SEQUENCE first_session",
        "CREATE FUNCTION refuse_first() RETURNS trigger LANGUAGE plpgsql SET search_path = pos_sync AS $$ BEGIN"
        " IF NOT (SELECT is_called FROM first_session) THEN PERFORM setval('first_session', pg_backend_pid()); END IF;"
        " IF (SELECT last_value FROM first_session) = pg_backend_pid() THEN"
        " RAISE EXCEPTION 'cannot execute INSERT in a read-only transaction' USING ERRCODE = '25006'; END IF;"
        " RETURN NULL; END $$",
        "CREATE TRIGGER refuse AFTER INSERT ON stock_movement FOR EACH STATEMENT EXECUTE FUNCTION refuse_first()",
    )

    assert 204 == await deliver(client)
    assert 1 == failures("away", (await client.get("/metrics")).text)


async def test_a_database_that_is_read_only_is_waited_for(world: World, client: httpx2.AsyncClient) -> None:
    await world.execute(f"ALTER DATABASE {world.database} SET default_transaction_read_only = on", END_SESSIONS)
    held = asyncio.create_task(deliver(client))
    # Once for the session that was ended, and once for one that is read-only.
    while not held.done() and failures("away", (await client.get("/metrics")).text) < 2:
        # The client and the app are in this process, and neither makes the loop turn.
        await world.execute("SELECT")
    is_held = not held.done()
    await world.execute(
        "SET default_transaction_read_only = off", f"ALTER DATABASE {world.database} RESET default_transaction_read_only"
    )

    assert is_held
    assert 204 == await held
    assert 204 == await deliver(client, date="after")


async def test_a_failure_inside_postgres_for_one_row_spares_the_others(world: World) -> None:
    await world.execute(
        POISON.replace("RAISE EXCEPTION 'poison'", "RAISE EXCEPTION 'poison' USING ERRCODE = 'XX001'"),
        "CREATE TRIGGER poison BEFORE INSERT ON stock_movement FOR EACH ROW EXECUTE FUNCTION refuse_poison()",
    )
    async with running(settings_for(world, response_deadline=2)) as (_, client):
        statuses = await deliver_together(client, [{"date": "poison"}, *({"date": str(number)} for number in range(10))])

    assert [503] + [204] * 10 == statuses


async def test_a_database_that_is_not_set_up_is_503_and_said_so(world: World, client: httpx2.AsyncClient) -> None:
    await world.execute("REVOKE EXECUTE ON FUNCTION apply_movements FROM pos_sync")
    body = body_of()
    answer = await client.post(PATH, content=body, headers=signed(body))
    await world.execute("GRANT EXECUTE ON FUNCTION apply_movements TO pos_sync")

    assert 503 == answer.status_code
    assert "not set up" in answer.json()["message"]
    assert 204 == await deliver(client)
    assert 'pos_sync_failed_transactions_total{fault="not_set_up"} 1.0' in (await client.get("/metrics")).text


async def test_past_the_waiting_line_it_is_503_at_once(world: World) -> None:
    async with running(settings_for(world, waiting_line=5, response_deadline=2)) as (_, client):
        async with world.engine.connect() as other:
            await other.execute(text("LOCK TABLE pos_sync.stock_level"))
            statuses = await deliver_together(client, [{"date": str(number)} for number in range(20)])
            await other.rollback()
        after = await deliver(client)

    assert {503} == set(statuses)
    assert 204 == after


async def test_an_answer_that_would_be_overloaded_says_to_come_back_soon(world: World) -> None:
    async with running(settings_for(world, waiting_line=1, response_deadline=1)) as (_, client), world.engine.connect() as other:
        await other.execute(text("LOCK TABLE pos_sync.stock_level"))
        body = body_of()
        answers = await asyncio.gather(*(client.post(PATH, content=body, headers=signed(body)) for _ in range(4)))

    overloaded = [answer for answer in answers if "receiving more" in answer.json()["message"]]
    assert overloaded
    assert {"1"} == {answer.headers["retry-after"] for answer in overloaded}


async def test_a_connection_that_the_server_cuts_is_replaced_within_the_delivery(
    world: World, client: httpx2.AsyncClient
) -> None:
    assert 204 == await deliver(client, date="first")
    for round_ in range(5):
        await world.execute(END_SESSIONS)
        assert 204 == await deliver(client, date=f"round {round_}")

    assert 6 == len(await world.ledger())
    assert {} == await world.broken_invariants()


@pytest.mark.parametrize("size", [1, 10], ids=["alone", "together"])
@pytest.mark.parametrize("pooler", ["none", "transaction"])
async def test_a_commit_whose_answer_was_lost_is_looked_up_and_not_repeated(
    world: World, monkeypatch: pytest.MonkeyPatch, size: int, pooler: str
) -> None:
    """The server commits, and the connection dies before it says so."""
    lost = 0

    async def connect_badly(database: Database) -> Any:
        connection = await connect(database)

        def losing(run: Callable[..., Any]) -> Callable[..., Any]:
            async def lose_the_answer(query: str, *args: Any, **kwargs: Any) -> Any:
                nonlocal lost
                answer = await run(query, *args, **kwargs)
                has_committed = not connection.is_in_transaction() and ("COMMIT" in query or "apply_movements" in query)
                if has_committed and lost < 2:
                    lost += 1
                    connection.terminate()
                    raise ConnectionResetError
                return answer

            return lose_the_answer

        return _Wrapped(connection, execute=losing(connection.execute), fetchrow=losing(connection.fetchrow))

    connect = Database.connect
    monkeypatch.setattr(Database, "connect", connect_badly)
    async with running(settings_for(world, database_pooler=pooler)) as (_, client):
        statuses = await deliver_together(client, [{"date": str(number)} for number in range(size)])

    assert 2 == lost
    assert [204] * size == statuses
    assert size == len(await world.ledger())
    assert {} == await world.broken_invariants()


class _Wrapped:
    """A driver connection with another `execute` and `fetchrow`."""

    def __init__(self, connection: Any, *, execute: Callable[..., Any], fetchrow: Callable[..., Any]) -> None:
        self._connection = connection
        self.execute = execute
        self.fetchrow = fetchrow

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


async def test_two_services_on_one_database_apply_each_movement_once(world: World) -> None:
    async with running(settings_for(world)) as (_, one), running(settings_for(world)) as (_, other):
        changes = [{"date": str(number % 25), "external_id": "saf001", "quantity": "0.001"} for number in range(200)]
        halves = await asyncio.gather(deliver_together(one, changes), deliver_together(other, changes[::-1]))

    assert [204] * 400 == halves[0] + halves[1]
    assert 25 == len(await world.ledger())
    assert Decimal("0.017") == await world.level("saf001")
    assert {} == await world.broken_invariants()


async def test_services_that_contend_for_one_level_do_not_conflict(world: World) -> None:
    async with running(settings_for(world)) as (_, one), running(settings_for(world)) as (_, other):
        answers = []
        for round_ in range(15):
            changes = [{"date": f"{round_} {number}", "quantity": "0.01"} for number in range(20)]
            answers += await asyncio.gather(deliver_together(one, changes[::2]), deliver_together(other, changes[1::2]))
        metrics = [(await client.get("/metrics")).text for client in (one, other)]

    assert {204} == {status for statuses in answers for status in statuses}
    assert 300 == len(await world.ledger())
    assert 0 == sum(failures("conflict", text) for text in metrics)
    assert {} == await world.broken_invariants()


async def test_two_services_that_start_one_level_at_once_do_not_lose_a_movement() -> None:
    async with new_world() as world:
        await world.execute("DELETE FROM pos_sync.integration WHERE store_id = '2'")
        await world.execute(
            "INSERT INTO pos_sync.integration (store_id, inventory_system_id, user_id_tps)"
            " VALUES ('2', '4344be8c-c6b9-4c51-88a6-d620144ab406', '30')"
        )
        async with running(settings_for(world)) as (_, one), running(settings_for(world)) as (_, other):
            # The first round starts the level, the others change it.
            for round_ in range(5):
                changes = [{"store_id": 2, "date": f"{round_} {number}", "quantity": "1"} for number in range(40)]
                halves = await asyncio.gather(deliver_together(one, changes[::2]), deliver_together(other, changes[1::2]))
                assert [204] * 40 == halves[0] + halves[1]

        assert Decimal(-200) == await world.level(store_id="2")
        assert {} == await world.broken_invariants()
