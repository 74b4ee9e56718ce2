"""No web page steers the sandbox: a browser on the same machine would carry its requests past every firewall."""

import ipaddress
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class NoBrowsers:
    """Refuses what a page sends (it has an Origin), and what is meant for another name (a page whose name leads here)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403, or pass it on."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            if "origin" in headers or not _is_own(headers.get("host", "")):
                words = "The sandbox takes requests of programs, by its address, by localhost, or by a name without dots."
                await JSONResponse({"message": words}, status_code=int(HTTPStatus.FORBIDDEN))(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _is_own(host: str) -> bool:
    """Whether no public name can be meant: an address, or a name of this machine or of a container."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return bool(name) and "." not in name
    return True
