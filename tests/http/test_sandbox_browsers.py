"""No web page steers the sandbox: what a browser sends is known by its Origin, and a rebound name by its Host."""

import httpx2
import pytest

from app.sandbox.server import Sandbox
from tests.support.mipos import platform


async def steer(**headers: str) -> tuple[set[int], int]:
    """The statuses of a look and of an order to fail, and how many of these orders the sandbox has taken."""
    sandbox = Sandbox(platform())
    transport = httpx2.ASGITransport(sandbox)
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8090", headers=headers) as client:
        answers = [await client.get("/sandbox/received"), await client.post("/sandbox/faults", json={"call": "token"})]
    return {answer.status_code for answer in answers}, len(sandbox.faults)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:8090"},
        {"Host": "evil.example"},
        {"Host": "evil.example:8090"},
        {"Host": "localhost.evil.example"},
        {"Host": "127.0.0.1.evil.example:8090"},
        {"Host": ""},
        {"Host": "[::1"},
    ],
    ids=repr,
)
async def test_a_foreign_origin_or_host_is_refused(headers: dict[str, str]) -> None:
    assert ({403}, 0) == await steer(**headers)


@pytest.mark.parametrize("host", ["127.0.0.1:8090", "localhost:8090", "[::1]:8090", "10.1.2.3", "sandbox:8090"])
async def test_an_address_and_a_name_without_dots_are_taken(host: str) -> None:
    statuses, taken = await steer(Host=host)

    assert 403 not in statuses
    assert 1 == taken
