"""The retry storm: 200 copies of one signed body over 20 connections against two running processes."""

import asyncio
from decimal import Decimal

import pytest

from tests.support.sender import body_of, raw_request, signed
from tests.support.service import send_copies, serving
from tests.support.world import World

pytestmark = pytest.mark.slow

COPIES = 200
CONNECTIONS = 20


async def test_200_copies_over_20_connections_against_two_processes_are_one_movement(world: World) -> None:
    request = raw_request(body_of(), signed(body_of()))
    with serving(world.service_url) as one, serving(world.service_url) as other:
        ports = [(one, other)[number % 2].port for number in range(CONNECTIONS)]
        answers = await asyncio.gather(*(send_copies(port, request, COPIES // CONNECTIONS) for port in ports))

    assert [204] * COPIES == [status for statuses in answers for status in statuses]
    assert 1 == len(await world.ledger())
    assert Decimal("12.44") == await world.level()
    assert {} == await world.broken_invariants()
