"""Lets visitors in: every route of the page asks for one, and every form is checked before anything is done."""

import asyncio
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

import structlog
from fastapi import Request
from sqlalchemy.ext.asyncio import AsyncEngine

from app.page.faults import FormRefused, NotAllowed, NotLoggedIn, PlainHttp
from app.page.location import asked_for
from app.page.visitor import Keys, Role, Visitor
from app.receiving.signed_body import Receipt
from app.scope import PEER
from app.settings import Settings
from app.storage.page_access import read_session

COOKIE = "pos_sync_page"
MAX_FORM_BYTES = 65536
MAX_FIELDS = 2000
FORM_SECONDS = 10.0
FORM_TYPE = "application/x-www-form-urlencoded"
_log = structlog.get_logger("pos_sync.page")
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of a form that was sent by this visitor from this page; of several with one name, all."""

    visitor: Visitor
    path: str
    fields: Mapping[str, list[str]]

    def text(self, name: str) -> str:
        """The field, without blanks around it; empty where there is none."""
        return self.fields.get(name, [""])[-1].strip()

    def all(self, name: str) -> list[str]:
        """Each field of that name."""
        return self.fields.get(name, [])


class Access:
    """FastAPI dependencies: `viewer`, `operator`, and `form` for what is sent."""

    def __init__(
        self, settings: Settings, engine: AsyncEngine, receipt: Receipt, *, on_failed_login: Callable[[], None] = lambda: None
    ) -> None:
        self.keys = Keys(settings)
        self.is_read_only = settings.operator_read_only
        self._engine = engine
        self._receipt = receipt
        self._on_failed_login = on_failed_login
        self._allows_plain_http = settings.operator_plain_http
        public = urlsplit(settings.public_url or "")
        self._public_origin = f"{public.scheme}://{public.netloc}"

    async def viewer(self, request: Request) -> Visitor:
        """Return the visitor, who may see the page.

        Raises:
            NotLoggedIn, PlainHttp
        """
        self.require_safe(request)
        peer = request.scope.get(PEER)
        named = self.keys.named_by_proxy(request.scope["headers"], peer[0] if peer else None)
        if named is not None:
            return named
        signed = self.keys.read_cookie(request.cookies.get(COOKIE, ""))
        if signed is None:
            raise NotLoggedIn(asked_for(request))
        role, session_hash = signed
        async with self._engine.connect() as connection:
            grant = await read_session(connection, session_hash)
        if grant is None or grant.role != role:
            raise NotLoggedIn(asked_for(request))
        return Visitor(grant.name, role, self.keys.form_key(role, session_hash), session_hash)

    def note_failed_login(self, network: str) -> None:
        """Log a failed login, so that operators see it."""
        _log.warning("page login failed", network=network)
        self._on_failed_login()

    def holds_cookie(self, request: Request) -> bool:
        """Whether the cookie is one of ours, which can be told without the database: who has it may be told that it is away."""
        return self.keys.read_cookie(request.cookies.get(COOKIE, "")) is not None

    async def form(self, request: Request) -> Form:
        """What a visitor sends, whatever it does.

        Raises:
            NotLoggedIn, PlainHttp, FormRefused
        """
        visitor = await self.viewer(request)
        fields = await self.read_form(request)
        sent = fields.get("form_token", [""])[-1]
        if not hmac.compare_digest(sent.encode(), visitor.form_token.encode()):
            raise FormRefused("It was made for another login. Load the page again")
        return Form(visitor, request.url.path, fields)

    async def order(self, request: Request) -> Form:
        """What an operator sends to change something.

        Raises:
            NotAllowed, and what `form` raises
        """
        form = await self.form(request)
        self.require_operator(form.visitor)
        return form

    def require_operator(self, visitor: Visitor) -> None:
        """Refuse who may only look.

        Raises:
            NotAllowed
        """
        if self.is_read_only:
            raise NotAllowed("The page changes nothing: OPERATOR_READ_ONLY is set")
        if visitor.role is not Role.OPERATOR:
            raise NotAllowed("You may look, and change nothing. Log in as an operator")

    def may_act(self, visitor: Visitor) -> bool:
        """Whether buttons are shown."""
        return visitor.role is Role.OPERATOR and not self.is_read_only

    async def read_form(self, request: Request) -> Mapping[str, list[str]]:
        """The fields, of a form that a page of ours sent.

        Raises:
            FormRefused: another site sent it, or it is no form.
        """
        self.require_safe(request)
        self._require_own_origin(request)
        headers = dict(request.scope["headers"])
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        body = await self._receipt.read(
            request.receive,
            declared_length=headers.get(b"content-length"),
            deadline=asyncio.get_running_loop().time() + FORM_SECONDS,
            max_body_bytes=MAX_FORM_BYTES,
        )
        if body and kind != FORM_TYPE.encode():
            raise FormRefused("It is no form")
        found: dict[str, list[str]] = {}
        try:
            pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
        except ValueError:
            raise FormRefused("It cannot be read") from None
        for name, value in pairs:
            found.setdefault(name, []).append(value)
        return found

    def require_safe(self, request: Request) -> None:
        """Refuse what is readable on its way, unless it stays on this machine.

        Raises:
            PlainHttp
        """
        if request.url.scheme == "https" or self._allows_plain_http:
            return
        client = request.client.host if request.client else ""
        # The name too: a page of somebody else may have led a browser on this machine here, by a name of its own.
        if client not in _LOOPBACK or (request.url.hostname or "") not in _LOOPBACK:
            raise PlainHttp

    def _require_own_origin(self, request: Request) -> None:
        site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
        if site is None and origin is None:
            raise FormRefused("Your browser does not say which page sent it (Origin)")
        own = {f"{request.url.scheme}://{request.headers.get('host')}", self._public_origin}
        if site not in {None, "same-origin", "none"} or (origin is not None and origin not in own):
            raise FormRefused("Another site sent it")
