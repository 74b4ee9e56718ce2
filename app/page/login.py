"""/ui/login, /ui/link/..., /ui/logout and /ui/language: how visitors get in and out."""

import asyncio
from datetime import timedelta
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.ext.asyncio import AsyncEngine

from app.page.access import COOKIE, Access, Form
from app.page.location import safe_location
from app.page.rendering import LANGUAGE_COOKIE, LANGUAGES, Renderer, language_of, translations_of
from app.page.visitor import MAX_NAME_LENGTH, Role, link_hash, network_of
from app.stock.text import fault_in
from app.storage import page_access
from app.storage.page_access import Grant
from app.storage.waits import MAX_LOGIN_WAIT

SESSION_LASTS = timedelta(hours=12)
MAX_DELAY, MAX_WAIT = 4.0, MAX_LOGIN_WAIT.total_seconds()
"""Seconds: that a failed login adds for the next one from its network, and that anybody waits before being told to come later."""
pause = asyncio.sleep
LANGUAGE_LASTS = int(timedelta(days=365).total_seconds())


def login_router(access: Access, engine: AsyncEngine, renderer: Renderer) -> APIRouter:  # noqa: C901, PLR0915 - its routes
    """The routes; none of them asks for a visitor but the logout."""
    router = APIRouter()

    def _form(
        request: Request, *, problem: str = "", status: HTTPStatus = HTTPStatus.OK, name: str = "", asked_for: str
    ) -> Response:
        return renderer.page(
            request,
            "login.html",
            status=int(status),
            problem=problem,
            name=name,
            asked_for=asked_for,
            has_login=access.keys.has_login,
        )

    async def _let_in(request: Request, grant: Grant, location: str) -> Response:
        cookie, session_hash = access.keys.new_cookie(Role(grant.role))
        async with engine.begin() as connection:
            await page_access.open_session(connection, session_hash, grant, lasts=SESSION_LASTS)
        answer = RedirectResponse(location, int(HTTPStatus.SEE_OTHER))
        answer.set_cookie(
            COOKIE,
            cookie,
            max_age=int(SESSION_LASTS.total_seconds()),
            path="/ui",
            httponly=True,
            # With "strict", a link from a chat would arrive logged out.
            samesite="lax",
            secure=request.url.scheme == "https",
        )
        return answer

    @router.get("/login")
    async def show(request: Request, asked_for: str = "/ui/") -> Response:
        access.require_safe(request)
        return _form(request, asked_for=safe_location(asked_for))

    @router.post("/login")
    async def log_in(request: Request) -> Response:
        fields = await access.read_form(request)
        name, password = (fields.get(part, [""])[-1] for part in ("name", "password"))
        name, asked_for = name.strip(), safe_location(fields.get("asked_for", [""])[-1])
        said = translations_of(language_of(request)).gettext
        if not name or len(name) > MAX_NAME_LENGTH or fault_in(name, max_length=MAX_NAME_LENGTH):
            problem = said("Write your name, in up to 60 characters.")
            return _form(request, problem=problem, status=HTTPStatus.UNPROCESSABLE_ENTITY, asked_for=asked_for)
        network = network_of(request.client.host if request.client else None)
        async with engine.begin() as connection:
            wait = await page_access.queue_login(connection, network, max_delay=MAX_DELAY, max_wait=MAX_WAIT)
        if wait is None:
            problem = said(
                "Wrong passwords come from your network just now. Try again in a few seconds, or use a link: pos-sync page link"
            )
            answer = _form(request, problem=problem, status=HTTPStatus.TOO_MANY_REQUESTS, name=name, asked_for=asked_for)
            answer.headers["Retry-After"] = str(int(MAX_WAIT))
            return answer
        await pause(wait)
        role = access.keys.role_of(password)
        async with engine.begin() as connection:
            if role is None:
                await page_access.note_failure(connection, network)
            elif role is Role.OPERATOR or Role.OPERATOR not in access.keys.roles:
                # A viewer could try the operators' password by turns with the own one.
                await page_access.forget_failures(connection, network)
        if role is None:
            access.note_failed_login(network)
            problem = said("This password is wrong.")
            return _form(request, problem=problem, status=HTTPStatus.UNAUTHORIZED, name=name, asked_for=asked_for)
        return await _let_in(request, Grant(name, role), asked_for)

    @router.get("/link/{link}")
    async def show_link(request: Request, link: str) -> Response:
        """Nothing but a button: a chat that previews the link must not spend it."""
        del link
        access.require_safe(request)
        return renderer.page(request, "link.html")

    @router.post("/link/{link}")
    async def spend_link(request: Request, link: str) -> Response:
        await access.read_form(request)
        async with engine.begin() as connection:
            grant = await page_access.spend_link(connection, link_hash(link))
        if grant is None or Role(grant.role) not in access.keys.roles:
            said = translations_of(language_of(request)).gettext
            problem = said("This link was used, or is too old. Log in, or make another one: pos-sync page link")
            return _form(request, problem=problem, status=HTTPStatus.UNAUTHORIZED, asked_for="/ui/")
        return await _let_in(request, grant, "/ui/")

    @router.post("/logout")
    async def log_out(form: Annotated[Form, Depends(access.form)]) -> Response:
        if form.visitor.session_hash is not None:
            async with engine.begin() as connection:
                await page_access.close_session(connection, form.visitor.session_hash)
        answer = RedirectResponse("/ui/login", int(HTTPStatus.SEE_OTHER))
        answer.delete_cookie(COOKIE, path="/ui")
        return answer

    @router.post("/language")
    async def choose_language(request: Request) -> Response:
        fields = await access.read_form(request)
        chosen = fields.get("language", [""])[-1]
        answer = RedirectResponse(safe_location(fields.get("here", [""])[-1]), int(HTTPStatus.SEE_OTHER))
        if chosen in LANGUAGES:
            answer.set_cookie(LANGUAGE_COOKIE, chosen, max_age=LANGUAGE_LASTS, path="/ui", samesite="lax")
        return answer

    return router
