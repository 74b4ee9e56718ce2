"""GET /livez, /readyz and /metrics, for orchestrators and Prometheus."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, Field

from app.operations.health import Readiness
from app.operations.metrics import Metrics
from app.wire import ErrorBody


class Alive(BaseModel):
    """The process answers."""

    message: str


class ReadinessReport(BaseModel):
    """Whether traffic should come here, and each part of the reason."""

    message: str
    database: str
    # `schema` is a method of BaseModel.
    schema_: str = Field(alias="schema")
    draining: bool
    registration: dict[str, Any] = Field(description="Reported here, and never deciding.")


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
        responses={503: {"model": ReadinessReport | ErrorBody, "description": "No: the message says why."}},
    )
    async def readyz(response: Response) -> ReadinessReport:
        health = await readiness.check()
        if not health.is_ready:
            response.status_code = int(HTTPStatus.SERVICE_UNAVAILABLE)
        return ReadinessReport(
            message=health.message,
            database=health.database,
            schema=health.schema,
            draining=health.draining,
            registration=health.registration,
        )

    @router.get("/metrics", operation_id="metrics", summary="Prometheus metrics.", response_class=PlainTextResponse)
    async def exposition() -> Response:
        return Response(metrics.exposition(waiting=waiting()), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router
