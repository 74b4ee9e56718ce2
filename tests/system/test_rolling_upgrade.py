"""Replicas of earlier releases while the schema is brought to this one, which says that they can work with it, and after it."""

import asyncio
from decimal import Decimal
from pathlib import Path

import httpx2
import pytest

from app.storage.embedded_postgres import SERVICE_ROLE
from app.storage.migrations import compatible_from, head
from tests.support.mipos import AUTHORIZED, KEY
from tests.support.releases import fill_by, forget_code, run_code, take_code, use_code
from tests.support.sender import PATH, body_of, signed
from tests.support.service import Service, serving
from tests.support.world import World

pytestmark = pytest.mark.slow
RELEASES = {"0008": "00c0933", "0012": "bab9243"}
"""Revisions of the code: the last at the oldest revision that this schema works with, and at the one before it."""


@pytest.fixture(params=RELEASES)
def old_code(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return take_code(RELEASES[request.param], tmp_path)


@pytest.fixture
async def old_world(empty_world: World, old_code: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A database that an earlier release has migrated and filled, and where processes run its code."""
    return fill_by(old_code, empty_world, monkeypatch)


async def revision_of(world: World) -> str:
    return str(await world.scalar("SELECT version_num FROM alembic_version"))


def answers_of(service: Service, day: str) -> dict[str, int]:
    """What it says when it is asked for all that a rolling upgrade must not disturb."""
    with httpx2.Client(base_url=service.url, timeout=20) as client:

        def deliver(body: bytes) -> int:
            return client.post(PATH, content=body, headers=signed(body)).status_code

        sale = {"item_id": "avcc123", "kind": "sale", "quantity": "0.25"}
        key = {**AUTHORIZED, "Idempotency-Key": f'"{day}"'}
        return {
            "ready": client.get("/readyz").status_code,
            "new": deliver(body_of(date=day)),
            "known": deliver(body_of()),
            "unknown item": deliver(body_of(external_id="unknown", date=day)),
            "unreadable": deliver(b"{"),
            "a sale": client.post("/pos/stores/1/movements", json=sale, headers=key).status_code,
            "its copy": client.post("/pos/stores/1/movements", json=sale, headers=key).status_code,
        }


async def heads_of_two(world: World) -> list[str]:
    """The newest revisions that two running replicas know, once each has said its own, which tells nobody when it does."""
    while len(heads := await world.scalar("SELECT array_agg(head ORDER BY head) FROM replica")) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    return list(heads)


async def test_replicas_of_an_earlier_release_serve_while_it_is_migrated_and_may_start_again_after_it(
    old_world: World, old_code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the revision on that `compatible_from` names; where one comes that excludes them, test_old_replica has its case."""
    old = await revision_of(old_world)
    assert compatible_from() <= old < head()
    first = {"ready": 200, "new": 204, "known": 204, "unknown item": 409, "unreadable": 400, "a sale": 201, "its copy": 200}
    again = {**first, "a sale": 200}
    days = "2026-11-20", "2026-11-21", "2026-11-22", "2026-11-23"
    with serving(old_world.service_url, pos_api_key=KEY) as kept:
        before = answers_of(kept, days[0])
        forget_code(monkeypatch)
        run_code(old_world.owner_url, "migrate", "--grant-to", SERVICE_ROLE)
        during = answers_of(kept, days[1])
        with serving(old_world.service_url, pos_api_key=KEY) as new:
            beside = answers_of(new, days[2]), answers_of(kept, days[2])
            heads = await heads_of_two(old_world)

    use_code(old_code, monkeypatch)
    migrated = run_code(old_world.owner_url, "migrate", "--grant-to", SERVICE_ROLE)
    with serving(old_world.service_url, pos_api_key=KEY) as back:
        after = answers_of(back, days[3])

    assert [old, head()] == heads
    assert [first, first, (first, again), first] == [before, during, beside, after]
    assert "a newer version has made it" in migrated.stdout
    assert head() == await revision_of(old_world)
    assert Decimal("13.69") - 5 * Decimal("1.25") - 4 * Decimal("0.25") == await old_world.level()
    assert {} == await old_world.broken_invariants()
