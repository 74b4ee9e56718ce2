"""The ceiling: a FastAPI endpoint that checks the signature and reads a pydantic body, and does nothing.

It is served by the `uvicorn` command with its defaults, and imports nothing of this service but how a signature is verified.
"""

import os
from typing import Literal

from fastapi import FastAPI, Response
from pydantic import BaseModel, Field
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.receiving.signature import HEADER, Key, verify
from bench.load import WEBHOOK_PATH

_SIGNATURE = HEADER.lower().encode()


class StockMovement(BaseModel):
    """The stock movement of one item, as mipOS relays it."""

    pos_id: str | int
    inventory_system_id: str | int
    current_stock: str | float
    quantity: str | float
    date: str = Field(max_length=64)
    movement_type: Literal[1, 2, "1", "2"]
    external_id: str | int
    now: str = Field(max_length=64)
    store_id: str | int


class SignatureMiddleware:
    """Reads the body, verifies it, and hands the same bytes on."""

    def __init__(self, app: ASGIApp, secret: bytes) -> None:
        self._app = app
        self._secrets = [(Key.CURRENT, secret)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] != "http" or scope["path"] != WEBHOOK_PATH:
            await self._app(scope, receive, send)
            return
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        signature = next((value for name, value in scope["headers"] if name == _SIGNATURE), b"")
        if verify(body, signature, self._secrets) is None:
            await Response(status_code=401)(scope, receive, send)
            return

        async def replay() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)


def application() -> FastAPI:
    """The application, with the secret of the environment."""
    app = FastAPI()
    app.add_middleware(SignatureMiddleware, secret=os.environ["MIPOS_CLIENT_SECRET"].encode())

    @app.post(WEBHOOK_PATH, status_code=204)
    async def receive_movement(body: StockMovement) -> None:
        del body

    @app.get("/livez")
    async def livez() -> dict[str, str]:
        return {"message": "Alive."}

    return app
