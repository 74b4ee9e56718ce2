"""The connection to Postgres is lost at every point of a delivery; `make proof` does it in more ways, and under load."""

from tests.conftest import running, settings_for
from tests.support.proxy import Message, PostgresProxy
from tests.support.sender import PATH, body_of, signed
from tests.support.world import World


async def test_a_connection_that_is_lost_after_any_message_costs_no_delivery_and_doubles_none(world: World) -> None:
    lost: list[Message] = []
    answers_lost = 0
    async with PostgresProxy(world.server_address).running() as proxy:
        address = f"postgresql://pos_sync@127.0.0.1:{proxy.port}/{world.database}"
        async with running(settings_for(world, database_url=address)) as (_, client):

            async def deliver(date: str) -> int:
                body = body_of(quantity="0.001", date=date)
                return (await client.post(PATH, content=body, headers=signed(body))).status_code

            # The first prepares the statements, so that the second is like all others.
            assert [204, 204] == [await deliver("first"), await deliver("second")]
            proxy.arm(None)
            assert 204 == await deliver("undisturbed")
            for after in range(len(proxy.passed)):
                assert 204 == await deliver(f"before {after}")
                proxy.arm(after)
                assert 204 == await deliver(f"cut {after}")
                assert 204 == await deliver(f"cut {after}")
                lost += proxy.lost
                answers_lost += any(message.commits for message in proxy.passed_before_first_loss)

    assert any(message.commits for message in lost), "COMMIT itself was once lost"
    assert answers_lost, "and its answer"
    dates = [row.date_text for row in await world.ledger()]
    assert len(dates) == len(set(dates)) == 3 + 2 * len(lost)
    assert {} == await world.broken_invariants()
