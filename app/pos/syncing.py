"""POST /pos/stores/{store_id}/sync: send a store's whole inventory now."""

from dataclasses import asdict
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.errors import CannotSync, DatabaseAway
from app.mipos.sync import Order, Synchronised, check, synchronise
from app.mipos.wiring import mipos_of, why_not_sending
from app.pos.bearer import ApiKey, guarded_router
from app.settings import Settings
from app.storage.syncs import State

ACTOR = "POS over HTTP"
_STATUS = {State.DONE: HTTPStatus.OK, State.REFUSED: HTTPStatus.CONFLICT}


def syncing_router(settings: Settings, engine: AsyncEngine, api_key: ApiKey) -> APIRouter:
    """The route, guarded by the key."""
    router = guarded_router(api_key)

    @router.post(
        "/sync",
        summary="Send the whole inventory to the inventory system. Can take minutes: answers when it is done.",
        responses={409: {"description": "Not sendable, or refused by mipOS."}, 503: {"description": "Unknown: send again."}},
    )
    async def sync(
        store_id: str,
        system: Annotated[str | None, Query(description="Not needed where the store has one.")] = None,
        *,
        dry_run: Annotated[bool, Query(description="Only check it against mipOS's rules.")] = False,
    ) -> JSONResponse:
        order = Order(store_id, actor=ACTOR, inventory_system_id=system)
        try:
            if dry_run:
                body = await check(engine, order)
                return JSONResponse({"message": "It can be sent. Nothing was.", "items": len(body["items"])})
            why_not = why_not_sending(settings)
            if why_not is not None:
                raise CannotSync(f"Cannot synchronise: {why_not}.")
            async with mipos_of(settings, engine) as (client, tokens):
                return _answer(await synchronise(engine, client, tokens, order))
        except (OSError, TimeoutError, SQLAlchemyError) as error:
            raise DatabaseAway from error

    return router


def _answer(result: Synchronised) -> JSONResponse:
    status = _STATUS.get(result.state, HTTPStatus.SERVICE_UNAVAILABLE)
    found: dict[str, Any] = {**asdict(result), "state": result.state.value}
    message = found.pop("words")
    headers = {"Retry-After": "60"} if status is HTTPStatus.SERVICE_UNAVAILABLE else None
    return JSONResponse({"message": message, **found}, status_code=int(status), headers=headers)
