"""/ui/system: registration, token, ping, database, replicas, seals, and the settings without secrets."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncConnection

from app import version
from app.mipos.wiring import token_account, why_not_registering, why_not_sending
from app.operations.readiness import describe_registration
from app.operator.ping import send_ping
from app.page.access import Form
from app.page.acting import Act, new_act_id, use, words_of
from app.page.context import PageContext
from app.page.faults import WrongField
from app.page.rendering import UTC_ZONE, later
from app.page.visitor import Visitor
from app.settings import Settings
from app.storage import retention
from app.storage.migrations import read_schema_state
from app.storage.mipos_account import STOCK_WEBHOOK, read_registration, read_token
from app.storage.page_lists import read_system

SECRET = "set"  # noqa: S105 - what is shown in the place of one


def system_router(page: PageContext) -> APIRouter:
    """The routes."""
    router = APIRouter()

    @router.get("/system")
    async def system(request: Request, visitor: Annotated[Visitor, Depends(page.access.viewer)]) -> Response:
        async def look(connection: AsyncConnection) -> dict[str, Any]:
            settings = page.settings
            token = None if settings.mipos_client_id is None else await read_token(connection, token_account(settings))
            registered = await read_registration(connection, STOCK_WEBHOOK)
            return {
                "version": version(),
                "schema": (await read_schema_state(connection)).revision,
                "registered": registered,
                "registration": describe_registration(registered, why_not=why_not_registering(settings)),
                "why_not_sending": why_not_sending(settings),
                "token": token,
                "facts": await read_system(connection),
                "pruned": await retention.read_last(connection),
                "zone": UTC_ZONE,
                "standby": _standing_of(page),
                "public_url": settings.public_url,
                "shown_settings": list(shown_settings(settings)),
                "done": await words_of(connection, request.query_params.get("done")),
                "act_id": new_act_id(),
            }

        return await page.show(request, visitor, "system.html", look)

    @router.post("/system/ping")
    async def ping(form: Annotated[Form, Depends(page.access.order)]) -> Response:
        """As `pos-sync ping`: what came of it stands on the page."""
        if page.settings.public_url is None:
            raise WrongField("PUBLIC_URL is not set, so there is no way to try")

        act = Act(form, later("A ping was asked for. The page System shows what came of it."), location="/ui/system")

        async def case() -> None:
            # It calls ourselves, so it is sent when the act is committed: a form that comes twice sends one.
            async with page.engine.begin() as connection:
                await act.guard(connection)
            await send_ping(page.settings, page.engine)

        return await use(act, case)

    return router


def _standing_of(page: PageContext) -> str | None:
    """Of the standby that is read; None where there is none."""
    standby = page.reader.standby
    if standby is None:
        return None
    return "not looked at yet" if standby.why_unused is None else standby.why_unused or "read"


def shown_settings(settings: Settings) -> Any:  # noqa: ANN401 - pairs of name and text
    """Each setting and its value; of a secret, and of an address that may hold one, only whether it is set."""
    for name in sorted(type(settings).model_fields):
        value = getattr(settings, name)
        if value is None or value == "":
            yield name.upper(), ""
        else:
            yield name.upper(), SECRET if isinstance(value, SecretStr) or _may_hold_a_secret(name) else str(value)


def _may_hold_a_secret(name: str) -> bool:
    """Monitors and chat tools put a key into the address itself."""
    return name in {"alert_webhook_url", "heartbeat_url"}
