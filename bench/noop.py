"""(a) The ceiling: a FastAPI endpoint that checks the signature and reads a pydantic body, and does nothing."""

from fastapi import FastAPI, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.receiving.middleware import WEBHOOK_PATH
from app.receiving.signature import HEADER, Key, verify
from app.settings import load_settings
from bench.body import StockMovementBody

_SIGNATURE = HEADER.lower().encode()


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
    """The application, with the secret of the settings."""
    app = FastAPI()
    secret = load_settings().mipos_client_secret.get_secret_value().encode()
    app.add_middleware(SignatureMiddleware, secret=secret)

    @app.post(WEBHOOK_PATH, status_code=204)
    async def receive_movement(body: StockMovementBody) -> None:
        del body

    @app.get("/livez")
    async def livez() -> dict[str, str]:
        return {"message": "Alive."}

    return app
