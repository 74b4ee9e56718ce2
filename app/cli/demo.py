"""What `pos-sync dev` shows once all is running: a movement that comes in, a sale that goes out, and a count that comes late."""

import asyncio
from datetime import UTC, datetime, timedelta

import click
import httpx2
from sqlalchemy.ext.asyncio import AsyncEngine

from app.cli.output import show_table
from app.receiving.mipos_sender import DOCUMENTED_MOVEMENT
from app.settings import Settings
from app.stock.quantity import to_plain
from app.storage import messages
from app.storage.engine import Database
from app.storage.levels import StockedItem, list_levels
from app.storage.outbox import OutboxState

SOLD_STORE, SOLD_ITEM, SOLD = "1", "tom001", "2"
SENT_SECONDS = 10.0
LOOK_SECONDS = 0.05
WAITING_STORE, WAITING_ITEM = "2", "item_abc123"
WAIT_SECONDS = 900
"""For which the stand-in mipOS lets the last sale wait"""
STRAYED_ITEM, STRAYED = "saf001", {"quantity": "0.002", "movement_type": 2, "current_stock": "0.030"}
"""A report after which the system's own stock lacks more than it says"""
COUNTED, COUNT_AGE = "22", timedelta(minutes=10)
"""What was counted of the sold item, and how long before the sale."""


async def demonstrate(owner: Database, settings: Settings) -> None:
    """Let an inventory system report a movement, and show the stock before and after; then let the POS sell and count.

    What a person has to look at is made too, once, so that the page has something to show.
    """
    engine = owner.create_engine()
    try:
        await _receive(engine, settings)
        if await _sell(engine, settings):
            await _go_wrong(settings)
    finally:
        await engine.dispose()


async def _receive(engine: AsyncEngine, settings: Settings) -> None:
    document = DOCUMENTED_MOVEMENT
    store_id, item_id = str(document["store_id"]), str(document["external_id"])
    before = await _levels(engine, store_id)
    # As in the document of mipOS, but of now.
    movement = {name: document[name] for name in ("external_id", "quantity", "movement_type")}
    async with httpx2.AsyncClient(trust_env=False) as client:
        answer = await client.post(f"{settings.mipos_base_url}/sandbox/movements", json=movement, timeout=30)
    after = await _levels(engine, store_id)
    click.echo()
    click.echo(
        f"An inventory system reported a movement, as in the document of mipOS: remove {document['quantity']} of {item_id}."
    )
    click.echo("The sandbox signed it and called the webhook; the service verified it, applied it, and answered")
    click.echo(f"{answer.status_code} {answer.reason_phrase}. The stock of store {store_id}:")
    click.echo()
    show_table(
        ["item", "name", "before", "after"],
        [[level.item_id, level.name, to_plain(before[key].quantity), to_plain(level.quantity)] for key, level in after.items()],
        right=(2, 3),
    )


async def _sell(engine: AsyncEngine, settings: Settings) -> bool:
    """A sale and a late count, by HTTP as a till would record them, and what the inventory system knows of them then.

    False where an earlier run has recorded them.
    """
    before = (await _levels(engine, SOLD_STORE))[SOLD_ITEM].quantity
    sale = {"item_id": SOLD_ITEM, "kind": "sale", "quantity": SOLD}
    counted_at = datetime.now(UTC) - COUNT_AGE
    count = {"item_id": SOLD_ITEM, "kind": "count", "quantity": COUNTED, "happened_at": counted_at.isoformat()}
    answer = await _record(settings, SOLD_STORE, sale, "the-first-ticket")
    ours = (await _levels(engine, SOLD_STORE))[SOLD_ITEM].quantity
    click.echo()
    if answer.status_code != httpx2.codes.CREATED:
        click.echo("The POS's first sale was recorded in an earlier run; sent again with the same key, it changes nothing.")
        return False
    click.echo(
        f"The POS sold {SOLD} of {SOLD_ITEM} in store {SOLD_STORE} ({to_plain(before)} -> {to_plain(ours)}), and the service"
    )
    click.echo(f"told the inventory system: {await _outcome(engine, settings)}.")
    await _record(settings, SOLD_STORE, count, "the-first-count")
    counted = (await _levels(engine, SOLD_STORE))[SOLD_ITEM].quantity
    click.echo()
    click.echo(f"Only now arrives the count of {COUNTED} that was made ten minutes before that sale ({to_plain(ours)} ->")
    click.echo(f"{to_plain(counted)}): time decides, so what was sold since stays sold. The inventory system was told:")
    click.echo(f"{await _outcome(engine, settings)}.")
    return True


async def _go_wrong(settings: Settings) -> None:
    """A delivery that is refused, a system whose stock strays, and a sale that waits for a mipOS that is busy."""
    sandbox = f"{settings.mipos_base_url}/sandbox"
    async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:
        unknown = {"external_id": "tofu01", "quantity": "3", "movement_type": 1}
        refused = await client.post(f"{sandbox}/movements", json=unknown)
        await client.post(f"{sandbox}/movements", json={"external_id": STRAYED_ITEM, **STRAYED})
        await client.post(f"{sandbox}/faults", json={"call": "stock_update", "status": 503, "retry_after": WAIT_SECONDS})
    await _record(settings, WAITING_STORE, {"item_id": WAITING_ITEM, "kind": "sale", "quantity": "1"}, "the-second-ticket")
    click.echo()
    click.echo(
        f"Three things wait for a person now: a delivery that was refused ({refused.status_code}: the POS has no tofu01), a"
    )
    click.echo(f"stock of {STRAYED_ITEM} that differs from the inventory system's, and a sale that mipOS does not take yet.")


async def _record(settings: Settings, store_id: str, movement: dict[str, str], key: str) -> httpx2.Response:
    """As a till does."""
    assert settings.pos_api_key is not None
    headers = {"Authorization": f"Bearer {settings.pos_api_key.get_secret_value()}", "Idempotency-Key": key}
    async with httpx2.AsyncClient(trust_env=False) as client:
        url = f"http://127.0.0.1:{settings.port}/pos/stores/{store_id}/movements"
        return await client.post(url, json=movement, headers=headers, timeout=30)


async def _outcome(engine: AsyncEngine, settings: Settings) -> str:
    """What the inventory system says of its own stock, once the newest message has been tried."""
    newest = None
    for _ in range(int(SENT_SECONDS / LOOK_SECONDS)):
        async with engine.connect() as connection:
            found = await messages.find(connection, store_id=SOLD_STORE, item_id=SOLD_ITEM, limit=1000)
        newest = found[-1] if found else None
        if newest is not None and newest.state is not OutboxState.PENDING:
            break
        await asyncio.sleep(LOOK_SECONDS)
    if newest is None or newest.state is not OutboxState.SENT:
        return "nothing yet" + (f" ({newest.words})" if newest is not None and newest.words else "")
    async with httpx2.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"{settings.mipos_base_url}/sandbox/systems/{newest.inventory_system_id}", timeout=30)
    return f"its own stock of {SOLD_ITEM} is {answer.json()['stock'].get(SOLD_ITEM)} now"


async def _levels(engine: AsyncEngine, store_id: str) -> dict[str, StockedItem]:
    async with engine.connect() as connection:
        return {level.item_id: level for level in await list_levels(connection, store_id=store_id)}
