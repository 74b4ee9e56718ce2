"""A failover between two servers: nothing that was acknowledged is lost, nothing is doubled, and the frozen one is left."""

import asyncio
import time
from collections.abc import Iterator

import httpx2
import pytest
from sqlalchemy import text

from app.catalog_body import read_catalog
from app.operator.catalog import import_catalog
from app.storage.migrations import migrate
from tests.support.debian_postgres import Server, binaries, with_standby
from tests.support.postgres import SAMPLES, looking_engine
from tests.support.sender import PATH, body_of, signed
from tests.support.service import serving

PROGRAMS = binaries()
DELIVERIES = 120
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAMS is None, reason="Debian's Postgres is not installed, or this is not root"),
]


@pytest.fixture
def servers() -> Iterator[tuple[Server, Server]]:
    """A primary, and a standby to which it replicates synchronously."""
    with with_standby("synchronous_standby_names=standby") as both:
        yield both


@pytest.mark.parametrize("frozen_is_first", [True, False], ids=["frozen first", "frozen last"])
async def test_a_primary_that_freezes_loses_and_doubles_nothing(servers: tuple[Server, Server], *, frozen_is_first: bool) -> None:
    primary, standby = servers
    owner = looking_engine(primary.url)
    await migrate(owner)
    await import_catalog(owner, "1", read_catalog((SAMPLES / "store-1.json").read_text()))
    await owner.dispose()
    ports = [primary.port, standby.port] if frozen_is_first else [standby.port, primary.port]
    address = f"postgresql://postgres@{','.join(f'127.0.0.1:{port}' for port in ports)}/postgres"
    acknowledged: set[int] = set()
    with serving(address) as service:

        async def deliver(client: httpx2.AsyncClient, number: int) -> None:
            """Again and again until it is acknowledged, as mipOS does."""
            body = body_of(date=f"number {number}", quantity="0.1")
            while (await client.post(PATH, content=body, headers=signed(body))).status_code != 204:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
            acknowledged.add(number)

        async with httpx2.AsyncClient(base_url=service.url, timeout=30) as client:
            await asyncio.gather(*(deliver(client, number) for number in range(DELIVERIES // 2)))
            primary.freeze()
            rest = asyncio.gather(*(deliver(client, number) for number in range(DELIVERIES // 2, DELIVERIES)))
            # Until somebody promotes it, a standby is no way out.
            while (await client.get("/readyz")).status_code != 503:  # noqa: ASYNC110 - it has to be asked
                await asyncio.sleep(0.1)
            await asyncio.to_thread(standby.promote)
            promoted = time.monotonic()
            await rest
            seconds = time.monotonic() - promoted
            while (await client.get("/readyz")).status_code != 200:  # noqa: ASYNC110 - it has to be asked
                await asyncio.sleep(0.1)

    new = looking_engine(standby.url)
    async with new.connect() as connection:
        rows = await connection.scalar(text("SELECT count(*) FROM pos_sync.stock_movement WHERE source = 'inventory_system'"))
        distinct = await connection.scalar(
            text("SELECT count(DISTINCT dedupe_key) FROM pos_sync.stock_movement WHERE source = 'inventory_system'")
        )
    await new.dispose()
    print(f"all acknowledged {seconds:.1f} s after the promotion")  # noqa: T201 - shown where it fails
    assert DELIVERIES == len(acknowledged) == rows == distinct
