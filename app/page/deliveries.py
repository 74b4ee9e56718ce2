"""/ui/deliveries: refused, suspected and captured deliveries, as lists whose filters stand in the address."""

from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import Response
from sqlalchemy.ext.asyncio import AsyncConnection

from app.operator.captures import verifies
from app.page.acting import new_act_id, words_of
from app.page.clock import read_clocks
from app.page.context import PageContext
from app.page.faults import WrongField
from app.page.filters import Filters, text_of
from app.page.text import REASONS, REFUSAL_STATES, SUSPECT_STATES, SUSPICIONS
from app.receiving.body import read_subject
from app.receiving.client_secrets import client_secrets
from app.storage import captures
from app.storage.captures import MAX_KEPT
from app.storage.page_deliveries import (
    count_captured,
    count_refused,
    count_suspects,
    known_items,
    list_captured,
    list_refused,
    list_suspects,
    suspects_that,
)
from app.storage.page_lists import PAGE_ROWS
from app.storage.refusals import Selection, State

HERE = "/ui/deliveries"
KINDS = ("refused", "suspected", "captured")
NAMES = ("kind", "state", "reason", "store", "item", "after", "choose")
ANY = "all"
"""Of a state: any"""
_Value = TypeVar("_Value")


def deliveries_router(page: PageContext) -> APIRouter:
    """The routes."""
    router = APIRouter()
    lists = _Lists(page)
    router.add_api_route("/deliveries", lists.show, methods=["GET"])
    return router


def chosen(given: str | None, name: str, known: Mapping[_Value, str], default: _Value | None) -> _Value | None:
    """The value of a filter among those that are known: `default` where it is not set, None where any is asked for.

    Raises:
        WrongField: it is none of them.
    """
    if given is None:
        return default
    found = {str(one): one for one in known}.get(given)
    if found is None and given != ANY:
        raise WrongField(
            "There is no %(name)s %(value)s. There are: %(known)s, %(any)s",
            name=name,
            value=text_of(given),
            known=", ".join(map(str, known)),
            any=ANY,
        )
    return found


class _Lists:
    def __init__(self, page: PageContext) -> None:
        self._page = page

    async def show(self, request: Request) -> Response:
        visitor = await self._page.access.viewer(request)
        filters = Filters(request, NAMES)
        kind = filters.get("kind") or "refused"
        if kind not in KINDS:
            raise WrongField("There is no kind %(kind)s. There are: %(kinds)s", kind=text_of(kind), kinds=", ".join(KINDS))
        rows_of = {"refused": self._refused, "suspected": self._suspected, "captured": self._captured}[kind]

        async def look(connection: AsyncConnection) -> dict[str, Any]:
            clocks = await read_clocks(connection, self._page.settings)
            found = await rows_of(connection, filters)
            rows, number, counted = (found.pop(name) for name in ("rows", "number", "counted"))
            more = len(rows) > PAGE_ROWS
            # What is all on one page needs no counting, which would look at each row that is not shown.
            count = await counted() if more or filters.get("after") else len(rows)
            last = getattr(rows[PAGE_ROWS - 1], number) if more else None
            return {
                **found,
                "rows": rows[:PAGE_ROWS],
                "count": count,
                "clocks": clocks,
                "zone": clocks.alone(filters.get("store")),
                "first": filters.address(HERE, after=None, choose=None) if filters.get("after") else None,
                "next": filters.address(HERE, after=str(last), choose=None) if more else None,
                "choose_all": filters.address(HERE, choose="all"),
                "open_refused": await count_refused(connection, Selection()),
                "open_suspected": await count_suspects(connection, suspects_that(state="open")),
                "kept_captured": await count_captured(connection),
                "done": await words_of(connection, request.query_params.get("done")),
            }

        template = f"{kind}_list.html"
        return await self._page.show(
            request, visitor, template, look, filters=filters, kind=kind, is_any=ANY, act_id=new_act_id()
        )

    async def _refused(self, connection: AsyncConnection, filters: Filters) -> dict[str, Any]:
        state = chosen(filters.get("state"), "state", REFUSAL_STATES, State.OPEN)
        reason = chosen(filters.get("reason"), "reason", REASONS, None)
        selection = Selection(state=state, reason=reason, store_id=filters.get("store"), item_id=filters.get("item"))
        rows = await list_refused(connection, selection, after=filters.number("after"), limit=PAGE_ROWS + 1)
        return {
            "number": "refused_delivery_id",
            "rows": rows,
            "known_items": await known_items(connection, [(one.store_id, one.item_id) for one in rows]),
            "counted": partial(count_refused, connection, selection),
            "is_open": state is State.OPEN,
            "states": REFUSAL_STATES,
            "reasons": REASONS,
        }

    async def _suspected(self, connection: AsyncConnection, filters: Filters) -> dict[str, Any]:
        state = chosen(filters.get("state"), "state", SUSPECT_STATES, next(iter(SUSPECT_STATES)))
        reason = chosen(filters.get("reason"), "reason", SUSPICIONS, None)
        wanted = suspects_that(state=state, reason=reason, store_id=filters.get("store"), item_id=filters.get("item"))
        return {
            "number": "suspected_duplicate_id",
            "rows": await list_suspects(
                connection, wanted, is_open=state == "open", after=filters.number("after"), limit=PAGE_ROWS + 1
            ),
            "counted": partial(count_suspects, connection, wanted),
            "states": SUSPECT_STATES,
            "reasons": SUSPICIONS,
        }

    async def _captured(self, connection: AsyncConnection, filters: Filters) -> dict[str, Any]:
        secrets = client_secrets(self._page.settings)
        rows = await list_captured(connection, after=filters.number("after"), limit=PAGE_ROWS + 1)
        return {
            "number": "captured_delivery_id",
            "rows": rows,
            "subjects": {one.captured_delivery_id: read_subject(one.raw_body) for one in rows},
            "verified": {one.captured_delivery_id: verifies(one, secrets) for one in rows},
            "counted": partial(count_captured, connection),
            "capture": await captures.newest(connection),
            "max_kept": MAX_KEPT,
        }
