"""A person at the operator page, over HTTP: logs in, follows forms as a browser would."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import unescape
from html.parser import HTMLParser
from typing import Any

import httpx2
from uvicorn.server import ServerState

from app.main import create_app
from app.server.protocol import Protocol
from app.server.run import server_config
from app.settings import Settings
from tests.conftest import settings_for
from tests.support.world import World

PASSWORD, VIEWER_PASSWORD = "an-operator-of-tests", "a-viewer-of-the-tests"
ORIGIN = {"Origin": "http://pos", "Sec-Fetch-Site": "same-origin"}


class _Forms(HTMLParser):
    """The forms of a page: action, method, and the fields that a browser would send."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[dict[str, Any]] = []
        self._form: dict[str, Any] | None = None
        self._select: str | None = None
        self._area: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "form":
            self._form = {
                "action": found.get("action") or "",
                "method": found.get("method") or "get",
                "fields": [],
                "buttons": [],
            }
            self.forms.append(self._form)
        if self._form is None:
            return
        name = found.get("name")
        if tag == "input" and name:
            kind = found.get("type") or "text"
            if kind not in {"checkbox", "radio"} or "checked" in found:
                self._form["fields"].append((name, found.get("value") or ""))
        elif tag == "select" and name:
            self._select = name
        elif tag == "option" and self._select and "selected" in found:
            self._form["fields"].append((self._select, found.get("value") or ""))
        elif tag == "textarea" and name:
            self._form["fields"].append((name, ""))
        elif tag == "button" and name:
            self._form["buttons"].append((name, found.get("value") or ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        elif tag == "select":
            self._select = None


def forms_of(html: str) -> list[dict[str, Any]]:
    """Every form of a page."""
    parser = _Forms()
    parser.feed(html)
    return parser.forms


class Person:
    """Somebody with a browser, without JavaScript."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self.client = client
        self.html = ""
        self.status = 0

    async def open(self, path: str) -> str:
        """The page at `path`, through redirects."""
        return await self._take(await self.client.get(path, follow_redirects=True))

    async def log_in(self, name: str = "Ana", password: str = PASSWORD) -> str:
        """With a password."""
        await self.open("/ui/login")
        return await self.send("/ui/login", name=name, password=password)

    async def send(self, action: str, *, follow: bool = True, **fields: Any) -> str:
        """Fill in and send the form of this page whose address begins with `action`; a list chooses several boxes."""
        form, filled = self._form(action)
        content = {**filled, **fields}
        if form["method"].lower() == "get":
            answer = await self.client.get(form["action"], params=content, follow_redirects=follow)
        else:
            answer = await self.client.post(form["action"], data=content, headers=self._headers, follow_redirects=follow)
        return await self._take(answer)

    async def _take(self, answer: httpx2.Response) -> str:
        self.html, self.status = answer.text, answer.status_code
        self.url = str(answer.url)
        return self.html

    def fields(self, action: str) -> tuple[str, dict[str, Any]]:
        """Address and fields of the form whose address begins with `action`, to send it more than once."""
        form, fields = self._form(action)
        return form["action"], fields

    async def post(self, action: str, fields: dict[str, Any]) -> httpx2.Response:
        """Send these fields as a form of this page; what is shown stays."""
        return await self.client.post(action, data=fields, headers=self._headers, follow_redirects=False)

    def _form(self, action: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """The form, and what it sends as it stands."""
        (form,) = [one for one in forms_of(self.html) if one["action"].startswith(action)][:1]
        fields: dict[str, Any] = {}
        for name, value in form["fields"]:
            fields.setdefault(name, []).append(value)
        return form, fields

    @property
    def _headers(self) -> dict[str, str]:
        return {**ORIGIN, "Origin": str(self.client.base_url).rstrip("/")}

    @property
    def text(self) -> str:
        """What a person reads."""
        bare = re.sub(r"<(script|style).*?</\1>", " ", self.html, flags=re.DOTALL)
        return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", bare)))


class _Loopback(httpx2.AsyncHTTPTransport):
    """Connects to a port of this machine, whatever machine the address names; `Host` stays as a browser sends it."""

    def __init__(self, port: int) -> None:
        super().__init__(verify=False, trust_env=False)
        self._port = port

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        here = request.url.copy_with(scheme="http", host="127.0.0.1", port=self._port)
        return await super().handle_async_request(
            httpx2.Request(request.method, here, headers=request.headers, stream=request.stream, extensions=request.extensions)
        )


@asynccontextmanager
async def browsing(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of `http://pos`: over TCP, a service in this process that speaks HTTP as in production."""
    app = create_app(settings)
    config = server_config("", settings, workers=1)
    config.app, config.factory = app, False
    config.load()
    async with app.router.lifespan_context(app):
        server = await asyncio.get_running_loop().create_server(
            lambda: Protocol(config=config, server_state=ServerState(), app_state={}), "127.0.0.1", 0
        )
        transport = _Loopback(server.sockets[0].getsockname()[1])
        try:
            async with httpx2.AsyncClient(transport=transport, base_url="http://pos", timeout=60) as client:
                yield client
        finally:
            server.close()


@asynccontextmanager
async def person_at(world: World, *, name: str = "Ana", password: str = PASSWORD, **settings: Any) -> AsyncIterator[Person]:
    """An operator who has logged in at a service with a page."""
    kept = settings_for(world, operator_password=PASSWORD, viewer_password=VIEWER_PASSWORD, operator_plain_http=True, **settings)
    async with browsing(kept) as client:
        person = Person(client)
        await person.log_in(name, password)
        yield person
