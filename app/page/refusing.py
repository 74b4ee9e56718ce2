"""What goes wrong at the page, as pages: in the visitor's language, with the way back, and true about what was done."""

from http import HTTPStatus
from urllib.parse import quote

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from markupsafe import Markup
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from app.errors import PosSyncError
from app.errors.requests import WrongMethod
from app.operations.methods import allowed_methods
from app.page.access import Access
from app.page.faults import NotLoggedIn, PageFault
from app.page.location import location_of
from app.page.rendering import Renderer, language_of, later, translations_of
from app.page.visitor import Visitor
from app.scope import REQUEST_ID
from app.storage.transactions import Fault, classify, sqlstate, why_failed

QUERY_CANCELED = "57014"
_AWAY = later(
    "The page cannot ask the database now. Deliveries are answered 503 meanwhile, and mipOS sends them again. What is wrong: "
    "pos-sync doctor"
)
_UNKNOWN = later(
    "The database went away meanwhile. Whether it was done is not known: look at it. Sending the same form again does it once."
)
_log = structlog.get_logger("pos_sync.page")


class Refusals:
    """The handlers of all that is raised."""

    def __init__(self, access: Access, renderer: Renderer) -> None:
        self._access = access
        self._renderer = renderer

    def add_to(self, app: FastAPI) -> None:
        """Handle it."""
        app.add_exception_handler(PosSyncError, self._refuse)
        app.add_exception_handler(HTTPException, self._refuse_address)
        app.add_exception_handler(RequestValidationError, self._refuse_address)
        app.add_exception_handler(Exception, self._tell_of_a_bug)
        for kind in (SQLAlchemyError, OSError, TimeoutError):
            app.add_exception_handler(kind, self._tell_of_the_database)

    async def _refuse(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, PosSyncError)
        if isinstance(error, NotLoggedIn) and request.method == "GET":
            login = f"/ui/login?asked_for={quote(error.asked_for, safe='/')}"
            if is_part(request):
                # htmx goes there itself: a whole page in the place of a part would be two pages in one.
                return Response(status_code=int(HTTPStatus.NO_CONTENT), headers={"HX-Redirect": "/ui/login"})
            return RedirectResponse(login, int(HTTPStatus.SEE_OTHER))
        said = translations_of(language_of(request)).gettext
        message = error.spoken(said) if isinstance(error, PageFault) else error.message
        is_english = message == error.message
        if isinstance(error, PageFault) and not is_english:
            message = error.shown(said)
        is_missing = error.status == HTTPStatus.NOT_FOUND
        title = later("Nothing here") if is_missing else later("This was not done")
        return await self._shown(request, int(error.status), title, message, is_english=is_english)

    async def _refuse_address(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else int(HTTPStatus.UNPROCESSABLE_ENTITY)
        if isinstance(error, RequestValidationError):
            first = error.errors()[0]
            message = f"The filter {first['loc'][-1]} cannot be used: {first['msg']}."
            return await self._shown(request, status, later("Nothing here"), message, is_english=True)
        answer = await self._shown(request, status, later("Nothing here"), later("There is nothing at this address."))
        if status == WrongMethod.status:
            answer.headers["Allow"] = allowed_methods(request)
        return answer

    async def _tell_of_the_database(self, request: Request, error: Exception) -> Response:
        """What is wrong, by what the database said: it is not away because one statement took too long."""
        fault, status, title = classify(error), HTTPStatus.SERVICE_UNAVAILABLE, later("Not available for a moment")
        if isinstance(error, PoolTimeout):
            message = later("The page is busy: others wait for long lists. Try again in a moment.")
        elif sqlstate(error) == QUERY_CANCELED:
            message = later("It took too long, and nothing was changed. Name a store, or another filter.")
        elif fault is Fault.BUSY:
            message = later("Somebody else is changing the same thing. Nothing was changed here. Try again in a moment.")
        elif fault is Fault.DATA:
            status, title = HTTPStatus.UNPROCESSABLE_ENTITY, later("This was not done")
            message = later("Something in the address or in the form cannot be used. Nothing was changed.")
        elif fault is Fault.BUG:
            raise error
        elif request.method != "GET":
            message = _UNKNOWN
        elif self._access.holds_cookie(request):
            message = _AWAY
        else:
            message = later("The page cannot be shown now. Try again in a moment.")
        _log.warning("page cannot be shown", reason=why_failed(error), sqlstate=sqlstate(error) or None, path=request.url.path)
        answer = await self._shown(request, int(status), title, message)
        answer.headers["Retry-After"] = "5"
        return answer

    async def _tell_of_a_bug(self, request: Request, _error: Exception) -> Response:
        request_id = request.scope.get(REQUEST_ID, "-")
        message = f"The page failed unexpectedly. The log says more, at request_id {request_id}."
        status = int(HTTPStatus.INTERNAL_SERVER_ERROR)
        return await self._shown(request, status, later("Something is wrong here"), message, is_english=True)

    async def _shown(self, request: Request, status: int, title: str, message: str, *, is_english: bool = False) -> Response:
        said = translations_of(language_of(request)).gettext
        if is_part(request):
            # In the place of the part, and as a success: htmx shows nothing else, and what is there may be true no more.
            return HTMLResponse(Markup('<p class="fault" role="alert">{}</p>').format(said(message)))
        visitor = await self._visitor(request)
        return self._renderer.page(
            request,
            "fault.html",
            status=status,
            visitor=visitor,
            may_act=visitor is not None and self._access.may_act(visitor),
            title=said(title),
            message=said(message),
            is_english=is_english,
            back=location_of(request) if request.method != "GET" else "/ui/",
        )

    async def _visitor(self, request: Request) -> Visitor | None:
        """For the navigation; None where nobody is logged in, or nobody can tell."""
        try:
            return await self._access.viewer(request)
        except (PosSyncError, SQLAlchemyError, OSError, TimeoutError):
            return None


def is_part(request: Request) -> bool:
    """Whether htmx asks, for a part of a page."""
    return "hx-request" in request.headers
