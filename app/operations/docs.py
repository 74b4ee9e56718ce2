"""GET /docs: the OpenAPI document as a page for people, without a script, and without anything from elsewhere.

FastAPI's own page loads its script from a CDN: it would stay empty in a closed network, and run foreign code in an open one.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from html import escape
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

DOCS_PATH = "/docs"

_STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}pre{background:#eee;overflow:auto;padding:1em}"
)
_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'", "X-Content-Type-Options": "nosniff"}


def docs_router(openapi: Callable[[], dict[str, Any]]) -> APIRouter:
    """The route; `openapi` makes the document."""
    router = APIRouter(include_in_schema=False)

    @router.get(DOCS_PATH)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page_of(openapi()), headers=_HEADERS)

    return router


def page_of(document: Mapping[str, Any]) -> str:
    """`document` as HTML."""
    title = escape(f"{document['info']['title']} {document['info']['version']}")
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>',
        f'<p>{escape(document["info"]["description"])}</p><p>For programs: <a href="openapi.json">openapi.json</a></p>',
    ]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts += _operation(f"{method.upper()} {path}", operation)
    parts += [f"<h2>{escape(name)}</h2><pre>{_json(schema)}</pre>" for name, schema in document["components"]["schemas"].items()]
    return "\n".join(parts) + "</html>\n"


def _operation(heading: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h2>{escape(heading)}</h2><p>{escape(operation['summary'])} {escape(operation.get('description', ''))}</p>"
    schemes = ", ".join(name for scheme in operation.get("security", ()) for name in scheme)
    if schemes:
        yield f"<p>Security: {escape(schemes)}</p>"
    for parameter in operation.get("parameters", ()):
        described = f"{parameter['in']}: {parameter.get('description', '')}"
        yield f"<p><code>{escape(parameter['name'])}</code> in {escape(described)}</p>"
    if "requestBody" in operation:
        yield f"<pre>{_json(operation['requestBody']['content'])}</pre>"
    rows = (f"<li>{escape(status)}: {escape(answer['description'])}" for status, answer in operation["responses"].items())
    yield f"<ul>{''.join(rows)}</ul>"


def _json(value: object) -> str:
    return escape(json.dumps(value, indent=2, ensure_ascii=False))
