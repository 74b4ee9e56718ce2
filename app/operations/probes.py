"""GET /livez, /readyz and /metrics, for orchestrators and Prometheus; GET /docs, for people.

/docs is the OpenAPI document as a page without a script. FastAPI's own page loads its script from a CDN: it would stay empty in
a closed network, and run foreign code in an open one.
"""

import json
from collections.abc import Callable, Mapping
from html import escape
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from pydantic import BaseModel

from app.operations.methods import allowed_methods
from app.operations.metrics import Metrics
from app.operations.readiness import Readiness, Ready


class Alive(BaseModel):
    """The process answers."""

    message: str


def probe_router(readiness: Readiness, metrics: Metrics, *, waiting: Callable[[], int]) -> APIRouter:
    """The routes; `waiting` says how many deliveries wait for the database."""
    router = APIRouter(tags=["operations"])

    @router.get("/livez", operation_id="livez", summary="Is the process alive? Depends on nothing.")
    async def livez() -> Alive:
        return Alive(message="Alive.")

    @router.get(
        "/readyz",
        operation_id="readyz",
        summary="Should traffic come here?",
        responses={503: {"model": Ready, "description": "No: the message says why."}},
    )
    async def readyz(response: Response) -> Ready:
        report = await readiness.check()
        if not report.is_ready:
            response.status_code = int(HTTPStatus.SERVICE_UNAVAILABLE)
        return Ready(message=report.message)

    @router.head("/livez", include_in_schema=False)
    async def livez_head() -> Response:
        return _head_of(_json(await livez()))

    @router.head("/readyz", include_in_schema=False)
    async def readyz_head(response: Response) -> Response:
        report = await readyz(response)
        return _head_of(_json(report, status=response.status_code))

    @router.head("/metrics", include_in_schema=False)
    async def metrics_head() -> Response:
        return _head_of(await exposition())

    @router.options("/livez", include_in_schema=False)
    @router.options("/readyz", include_in_schema=False)
    @router.options("/metrics", include_in_schema=False)
    async def methods(request: Request) -> Response:
        return Response(status_code=int(HTTPStatus.NO_CONTENT), headers={"Allow": allowed_methods(request)})

    @router.get("/metrics", operation_id="metrics", summary="Prometheus metrics.", response_class=PlainTextResponse)
    async def exposition() -> Response:
        return Response(metrics.exposition(waiting=waiting()), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


def _json(report: BaseModel, *, status: int | None = None) -> Response:
    return JSONResponse(report.model_dump(), status_code=status or int(HTTPStatus.OK))


def _head_of(answer: Response) -> Response:
    """The answer to HEAD: what GET says of its body, without the body."""
    return Response(status_code=answer.status_code, headers=dict(answer.headers))


_STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}pre{background:#eee;overflow:auto;padding:1em}"
)
_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'", "X-Content-Type-Options": "nosniff"}


def docs_router(openapi: Callable[[], dict[str, Any]]) -> APIRouter:
    """The route; `openapi` makes the document."""
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    async def docs() -> HTMLResponse:
        return HTMLResponse(_page(openapi()), headers=_HEADERS)

    return router


def _page(document: Mapping[str, Any]) -> str:
    title = "{title} {version}".format(**document["info"])
    sections = [
        (f"{method.upper()} {path}: {operation['summary']}", operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    sections += document["components"]["schemas"].items()
    parts = [
        f"<h2>{escape(heading)}</h2><pre>{escape(json.dumps(section, indent=2, ensure_ascii=False))}</pre>"
        for heading, section in sections
    ]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    about = f'<h1>{escape(title)}</h1><p>{escape(document["info"]["description"])} <a href="openapi.json">For programs</a></p>'
    return f'<!doctype html><html lang="en">{head}{about}{"".join(parts)}</html>'
