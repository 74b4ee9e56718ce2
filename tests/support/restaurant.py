"""A restaurant in business words: what its inventory systems report, what its POS shows, what its operator types."""

import asyncio
import json
from dataclasses import dataclass, field
from decimal import Decimal
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx2

from tests.support.commands import Run
from tests.support.postgres import SAMPLES
from tests.support.sender import PATH, body_of, signed
from tests.support.world import World

SYSTEM = "4344be8c-c6b9-4c51-88a6-d620144ab406"

PATIENCE_SECONDS = 60


@dataclass
class Restaurant:
    """One world with one running POS service, and the operator's commands."""

    world: World
    client: httpx2.AsyncClient
    run: Run
    folder: Path
    _seconds: int = field(default=0, repr=False)

    async def reports(self, change: str, item: str, *, now_at: str, **changes: Any) -> httpx2.Response:
        """An inventory system reports that it moved `item` by `change` ("-1.25") and has `now_at` of it after that."""
        return await self.sends(self._body(change, item, now_at=now_at, **changes))

    def _body(self, change: str, item: str, *, now_at: str, **changes: Any) -> bytes:
        self._seconds += 1
        moment = f"2026-05-30 12:{self._seconds // 60 % 60:02}:{self._seconds % 60:02}"
        values = {
            "movement_type": 2 if change.startswith("-") else 1,
            "quantity": change.lstrip("+-"),
            "external_id": item,
            "current_stock": now_at,
            "date": moment,
            "now": moment,
        }
        return body_of(**{**values, **changes})

    async def delivers(self, change: str, item: str, *, now_at: str, **changes: Any) -> None:
        """Reports a movement that has to be taken, again while the answer is 503, as mipOS does."""
        body = self._body(change, item, now_at=now_at, **changes)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (answer := await self.sends(body)).status_code == HTTPStatus.SERVICE_UNAVAILABLE:  # noqa: ASYNC110 - it says no more
                await asyncio.sleep(0.1)
        assert (204, b"") == (answer.status_code, answer.content)

    async def sends(self, body: bytes, **headers: Any) -> httpx2.Response:
        return await self.client.post(PATH, content=body, headers=signed(body, **headers))

    async def stock(self, item: str, store: str = "1") -> str:
        """What the POS shows, without zeros that only tell how it was written."""
        (row,) = json.loads((await self.run("stock", "--store", store, "--item", item, "--json")).output)
        return format(Decimal(row["quantity"]).normalize(), "f")

    async def drift(self, item: str, store: str = "1", system: str = SYSTEM) -> dict[str, Any]:
        arguments = ("--store", store, "--item", item, "--system", system)
        (row,) = json.loads((await self.run("drift", "--json", *arguments)).output)
        return dict(row)

    async def refused(self, *arguments: str) -> list[dict[str, Any]]:
        return list(json.loads((await self.run("refused", "list", "--json", *arguments)).output))

    async def opens_store(self, store: str, *, without_stock: bool = False) -> None:
        """The POS gets a further store with the catalogue of store 1."""
        document = json.loads((SAMPLES / "store-1.json").read_text())
        if without_stock:
            document["items"] = document["items"][:1]
        await self._imports(store, document)

    async def creates_item(self, item: str, name: str, store: str = "1") -> None:
        """The item is made in the POS; what the catalogue says of its stock is 0."""
        document = json.loads((SAMPLES / "store-1.json").read_text())
        document["items"].append({**document["items"][0], "external_id": item, "name": name, "stock": "0"})
        await self._imports(store, document)

    async def outcomes(self, outcome: str) -> float:
        """How many deliveries ended so, by the service's own count."""
        lines = (await self.client.get("/metrics")).text.splitlines()
        found = [line for line in lines if line.startswith(f'pos_sync_deliveries_total{{outcome="{outcome}"}}')]
        return float(found[0].rsplit(" ", 1)[1]) if found else 0.0

    async def _imports(self, store: str, document: Any) -> None:
        path = self.folder / f"catalog-{store}.json"
        path.write_text(json.dumps(document), encoding="utf-8")
        result = await self.run("catalog", "import", "--store", store, str(path))
        assert 0 == result.exit_code, result.output
