"""POST /pos/stores/{store_id}/sync: send a store's whole inventory now."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.errors import InvalidField
from app.errors.requests import CannotSync, NotReadable
from app.mipos.sync import Order, check, synchronise
from app.mipos.wiring import mipos_of, why_not_sending
from app.pos.api_key import ApiKey, guarded_router
from app.settings import Settings
from app.stock.text import fault_in_id
from app.storage.syncs import State
from app.wire import errors

ACTOR = "POS over HTTP"
_COPIED = ("store_id", "inventory_system_id", "state", "items", "units", "suppliers", "covered")
_STATUS = {State.DONE: int(HTTPStatus.OK), State.REFUSED: int(HTTPStatus.CONFLICT)}


class SyncResult(BaseModel):
    """What came of it; of a check (`dry_run`) only the message and the number of items."""

    message: str = Field(description="mipOS's own words, and what a person should know besides.")
    items: int | None = None
    store_id: str | None = None
    inventory_system_id: str | None = None
    state: State | None = None
    units: int | None = None
    suppliers: int | None = None
    covered: int | None = Field(default=None, description="Messages that need not be sent any more.")


def sync_router(settings: Settings, engine: AsyncEngine, api_key: ApiKey) -> APIRouter:
    """The route, guarded by the key."""
    router = guarded_router(api_key)

    @router.post(
        "/sync",
        operation_id="synchronise_store",
        summary="Send the whole inventory to the inventory system. Can take minutes: answers when it is done.",
        response_model_exclude_none=True,
        responses={
            **errors({404: "There is no such store.", 422: "A parameter is out of its contract."}),
            409: {"model": SyncResult, "description": "Not sendable, or refused by mipOS."},
            503: {"model": SyncResult, "description": "mipOS was not reached, or the outcome is unknown: send again."},
        },
    )
    async def sync(
        store_id: str,
        response: Response,
        system: Annotated[str | None, Query(description="Not needed where the store has one.")] = None,
        *,
        dry_run: Annotated[bool, Query(description="Only check it against mipOS's rules.")] = False,
    ) -> SyncResult:
        if system is not None and (fault := fault_in_id(system)):
            raise InvalidField("system", fault)
        order = Order(store_id, actor=ACTOR, inventory_system_id=system)
        try:
            if dry_run:
                body = await check(engine, order)
                return SyncResult(message="It can be sent. Nothing was.", items=len(body["items"]))
            why_not = why_not_sending(settings)
            if why_not is not None:
                raise CannotSync(f"Cannot synchronise: {why_not}.")
            async with mipos_of(settings, engine) as (client, tokens):
                result = await synchronise(engine, client, tokens, order)
        except (OSError, TimeoutError, SQLAlchemyError) as error:
            raise NotReadable from error
        response.status_code = _STATUS.get(result.state, int(HTTPStatus.SERVICE_UNAVAILABLE))
        if response.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
            response.headers["Retry-After"] = "60"
        return SyncResult(message=result.words, **{name: getattr(result, name) for name in _COPIED})

    return router
