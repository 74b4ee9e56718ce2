"""GET /pos/status: how the service stands, for who has the POS's key."""

from fastapi import APIRouter

from app.operations.readiness import Readiness, ReadinessReport
from app.pos.api_key import ApiKey, guarded_router


def status_router(readiness: Readiness, api_key: ApiKey) -> APIRouter:
    """The route, guarded by the key."""
    router = guarded_router(api_key, prefix="/pos")

    @router.get("/status", operation_id="service_status", summary="How the service stands: database, schema, registration.")
    async def status() -> ReadinessReport:
        return await readiness.check()

    return router
