"""The stand-in mipOS over HTTP: the documented calls, the inventory systems' side of them, and /sandbox to steer and to ask."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import structlog
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, Field
from starlette.types import ASGIApp, Receive, Scope, Send

from app.failure import reason_of_call
from app.receiving.mipos_sender import DOCUMENTED_MOVEMENT, now_text, php_json, signed_headers
from app.sandbox.browsers import NoBrowsers
from app.sandbox.faults import Fault, Faulty
from app.sandbox.platform import POS_WEBHOOK_TYPE, UNAUTHORIZED, InventorySystem, Platform, Reply, after_movement
from app.stock.movement import MovementType

POS = "/api/v1/inventory/pos"
INVENTORY = "/api/v1/inventory/system"
RELAY_SECONDS = 30

_log = structlog.get_logger("pos_sync.sandbox")


class NewSystem(BaseModel):
    """An inventory system to be known."""

    user_id_tps: str = "30"
    stores: list[str] = Field(default=["1"], description="The POS's ids of the stores that it is integrated with.")
    has_webhooks: bool = True
    knows_store: bool = True
    stock: dict[str, str] = Field(default_factory=dict, description="external_id -> its own stock.")


class StoreId(BaseModel):
    """A store, by its id in the POS."""

    store_id: str


class InventoryMovement(BaseModel):
    """A movement that happened in an inventory system."""

    store_id: str = Field(default=str(DOCUMENTED_MOVEMENT["store_id"]), description="mipOS's id of the store.")
    inventory_system_id: str = DOCUMENTED_MOVEMENT["inventory_system_id"]
    pos_id: str = DOCUMENTED_MOVEMENT["pos_id"]
    external_id: str = DOCUMENTED_MOVEMENT["external_id"]
    quantity: str = DOCUMENTED_MOVEMENT["quantity"]
    movement_type: int = DOCUMENTED_MOVEMENT["movement_type"]
    current_stock: str | None = Field(default=None, description="The system's stock after it; kept by the sandbox if not given.")
    date: str | None = Field(default=None, description="When; now, if not given.")


@dataclass(frozen=True, slots=True)
class Received:
    """A call that was received, for tests to ask; secrets and tokens are left out."""

    call: str
    store_id: str | None
    body: Any
    traceparent: str | None = None


class Sandbox(FastAPI):
    """The stand-in mipOS."""

    def __init__(self, platform: Platform, *, state_file: Path | None = None, run_id: str | None = None) -> None:
        super().__init__(title="mipOS sandbox", docs_url=None, redoc_url=None, redirect_slashes=False)
        self.add_middleware(NoBrowsers)
        self.platform = platform
        self._run_id = run_id
        self._state_file = state_file
        if state_file is not None and state_file.exists():
            try:
                platform.restore(json.loads(state_file.read_text()))
            except (ValueError, KeyError, TypeError):
                _log.warning("sandbox starts empty: its state cannot be read", file=str(state_file))
        self.received: list[Received] = []
        self.calls: Counter[str] = Counter()
        self.faults: list[Fault] = []
        self._add_calls()
        self._add_steering()

    def _add_calls(self) -> None:
        platform = self.platform

        self._add("/api/oauth/token", "token", lambda body, _: platform.fetch_token(body), is_open=True)
        self._add(
            "/api/oauth/token/refresh",
            "refresh",
            lambda body, request: platform.refresh_token(body, request.headers.get("authorization")),
            is_open=True,
        )
        self._add(f"{POS}/webhook/manage", "manage", lambda body, _: platform.manage_webhook(body))
        store = f"{POS}/store/{{store_id}}/system"
        self._add(f"{store}/sync", "sync", lambda body, request: platform.sync(request.path_params["store_id"], body))
        self._add(
            f"{store}/stock/update",
            "stock_update",
            lambda body, request: platform.update_stock(request.path_params["store_id"], body),
        )

    def _add(self, path: str, call: str, work: Callable[[dict[str, Any], Request], Reply], *, is_open: bool = False) -> None:
        async def handle(request: Request) -> Response | _Asgi:
            body = await _json_object(request)
            await self._note(call, request, body)
            fault = self._next_fault(call)
            if fault is not None:
                await asyncio.sleep(fault.delay)
                if fault.expired_token:
                    self.platform.expire_token()
                if fault.replaces_the_answer:
                    return _Asgi(Faulty(fault))
            if not is_open and not self.platform.is_authorized(request.headers.get("authorization")):
                return _response(Reply(401, UNAUTHORIZED))
            reply = work(body, request)
            self._save()
            return _response(reply)

        self.add_route(path, handle, methods=["POST"])  # type: ignore[arg-type]

    def _add_steering(self) -> None:
        @self.post("/sandbox/faults", status_code=204)
        async def add_fault(fault: Fault) -> None:
            """Let the next calls go wrong."""
            self.faults.append(fault)

        @self.delete("/sandbox/faults", status_code=204)
        async def clear_faults() -> None:
            """Let all calls work again."""
            self.faults.clear()

        @self.get("/sandbox/received")
        async def show_received() -> dict[str, Any]:
            """What was received, and how often each call was made."""
            received = [{"call": r.call, "store_id": r.store_id, "body": r.body} for r in self.received]
            told = {"calls": dict(self.calls), "received": received, "webhooks": self.platform.webhooks}
            return {**told, "run_id": self._run_id}

        @self.put("/sandbox/systems/{system_id}", status_code=204)
        async def put_system(system_id: str, system: NewSystem) -> None:
            """Make an inventory system known, or change it."""
            self.platform.systems[system_id] = InventorySystem(
                user_id_tps=system.user_id_tps,
                stores=set(system.stores),
                has_webhooks=system.has_webhooks,
                knows_store=system.knows_store,
                stock=dict(system.stock),
            )

        @self.put("/sandbox/stores/{mipos_store_id}", status_code=204)
        async def put_store(mipos_store_id: str, store: StoreId) -> None:
            """Give a store of the POS an id at mipOS."""
            self.platform.stores[mipos_store_id] = store.store_id
            self._save()

        @self.get("/sandbox/systems/{system_id}")
        async def show_system(system_id: str) -> dict[str, Any]:
            """An inventory system's own stock."""
            system = self.platform.systems[system_id]
            return {"user_id_tps": system.user_id_tps, "stores": sorted(system.stores), "stock": system.stock}

        @self.post("/sandbox/movements")
        async def report(movement: InventoryMovement) -> Response:
            """Let an inventory system report a movement of its own; answers what the POS answered."""
            return await self._report(movement)

        @self.post(f"{INVENTORY}/store/{{store_id}}/pos/stock/update")
        async def relay(store_id: str, request: Request) -> Response:
            """The inventory system's call by which mipOS learns of a movement, and relays it to the POS."""
            return await self._relay(store_id, await _json_object(request))

    async def _report(self, movement: InventoryMovement) -> Response:
        system = self.platform.systems.get(movement.inventory_system_id)
        current_stock = movement.current_stock
        if current_stock is None:
            before = (system.stock if system else {}).get(movement.external_id, "0")
            current_stock = after_movement(before, movement.quantity, is_removal=movement.movement_type == MovementType.REMOVE)
        if system is not None:
            system.stock[movement.external_id] = current_stock
            self._save()
        return await self._relay(
            movement.store_id,
            {
                "pos_id": movement.pos_id,
                "inventory_system_id": movement.inventory_system_id,
                "current_stock": current_stock,
                "quantity": movement.quantity,
                "date": movement.date or now_text(),
                "movement_type": movement.movement_type,
                "external_id": movement.external_id,
            },
        )

    async def _relay(self, store_id: str, movement: dict[str, Any]) -> Response:
        """Add `now` and the POS's own store id, sign, call the registered URL, and hand its answer back."""
        url = self.platform.webhooks.get(POS_WEBHOOK_TYPE)
        if url is None:
            return _response(Reply(409, {"message": ["The POS has not registered a webhook of this type."], "data": None}))
        pos_store_id = self.platform.stores.get(store_id, store_id)
        body = php_json(
            {**movement, "now": now_text(), "store_id": int(pos_store_id) if pos_store_id.isdecimal() else pos_store_id}
        )
        headers = signed_headers(body, self.platform.account.client_secret.encode("ascii"))
        try:
            # No proxy of the environment: what it calls is on this machine or beside it.
            async with httpx2.AsyncClient(timeout=RELAY_SECONDS, trust_env=False) as client:
                answer = await client.post(url, content=body, headers=headers)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            return _response(Reply(502, {"message": f"The POS could not be reached ({reason_of_call(error)}).", "data": None}))
        kept = {"content-type": answer.headers["content-type"]} if "content-type" in answer.headers else {}
        return Response(answer.content, status_code=answer.status_code, headers=kept)

    def _save(self) -> None:
        if self._state_file is None:
            return
        # Written aside and moved, so that a kill leaves the old one; only for its owner, since the token is in it.
        new = self._state_file.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(json.dumps(self.platform.to_document()))
        new.replace(self._state_file)

    async def _note(self, call: str, request: Request, body: dict[str, Any]) -> None:
        self.calls[call] += 1
        hidden = {"client_secret", "password", "refresh_token"}
        shown = {name: value for name, value in body.items() if name not in hidden}
        self.received.append(Received(call, request.path_params.get("store_id"), shown, request.headers.get("traceparent")))

    def _next_fault(self, call: str) -> Fault | None:
        for number, fault in enumerate(self.faults):
            if fault.call == call:
                if fault.times == 1:
                    del self.faults[number]
                else:
                    self.faults[number] = fault.model_copy(update={"times": fault.times - 1})
                return fault
        return None


class _Asgi(Response):
    """A response that leaves the answering to an ASGI app."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__()
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


async def _json_object(request: Request) -> dict[str, Any]:
    """The body as an object; anything else counts as an empty one, as with PHP."""
    try:
        document = json.loads(await request.body())
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _response(reply: Reply) -> Response:
    if reply.body is None:
        return Response(status_code=reply.status)
    # A bare JSON string is what a 401 of mipOS is.
    content = json.dumps(reply.body) if isinstance(reply.body, str) else php_json(reply.body).decode("ascii")
    return Response(content, status_code=reply.status, media_type="application/json")
