"""The two functions that round, in Python and in SQL, come to the same."""

from decimal import Decimal

import asyncpg
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from app.stock.quantity import round_quantity, to_canonical
from tests.support.ledger import in_a_loop, new_ledger

numbers = st.decimals(min_value=-(10**14), max_value=10**14, allow_nan=False, allow_infinity=False, places=20)


def test_both_round_half_even_to_fourteen_decimals() -> None:
    with in_a_loop() as portal, portal.wrap_async_context_manager(new_ledger()) as (world, _):

        async def connect() -> asyncpg.Connection:
            return await asyncpg.connect(world.owner_url)

        connection = portal.call(connect)

        async def rounded(number: Decimal) -> Decimal:
            return Decimal(await connection.fetchval("SELECT pos_sync.round_half_even($1)", number) or 0)

        @given(numbers)
        @example(Decimal("12.139999999999999"))
        @example(Decimal("0.000000000000005"))
        @example(Decimal("0.000000000000015"))
        @example(Decimal("-0.000000000000025"))
        @example(Decimal("0.0000000000000050000000000000000001"))
        @example(Decimal("1E-15"))
        @settings(deadline=None, suppress_health_check=list(HealthCheck))
        def hold(number: Decimal) -> None:
            assert to_canonical(round_quantity(number)) == to_canonical(portal.call(rounded, number))

        hold()
        portal.call(connection.close)
