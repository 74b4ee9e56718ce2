"""/ui/outbox: stock updates by pair, and one by one; sending them now, and dismissing them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from sqlalchemy.ext.asyncio import AsyncConnection

from app.page.access import Form
from app.page.acting import (
    Act,
    Check,
    do,
    new_act_id,
    note_of,
    require_all_as_seen,
    seen_all,
    upto_of,
    versions_of,
    words_of,
)
from app.page.clock import read_clocks
from app.page.context import PageContext
from app.page.deliveries import ANY, chosen
from app.page.faults import Changed, NothingThere, WrongField, named
from app.page.filters import Filters
from app.page.refusals import numbers_in, require_number
from app.page.rendering import later
from app.page.sentence import counted, plurals
from app.page.text import OUTBOX_STATES
from app.storage import messages
from app.storage.outbox import OutboxState
from app.storage.page_lists import PAGE_ROWS
from app.storage.page_messages import (
    MessageFilter,
    count_messages,
    list_messages,
    list_numbers,
    list_pairs,
    lock_messages,
    read_messages,
)

HERE = "/ui/outbox"
ACTS = ("retry", "dismiss")
FILTERS = ("state", "store", "system", "item")
OPEN_STATES = {OutboxState.PENDING, OutboxState.DEAD}
_SENT = plurals("%(num)d stock update is sent now.", "%(num)d stock updates are sent now.")
_DISMISSED = plurals("%(num)d stock update was dismissed.", "%(num)d stock updates were dismissed.")
_NOT_THESE = later("The list is another one by now: %(count)s stock updates that are not on their way, and %(seen)s were shown")
_NONE = later("stock update %(number)s")
WAITING = "open"
"""The state that stands for both that need to be looked at: those that wait, and those that are not sent any more."""


def outbox_router(page: PageContext) -> APIRouter:
    """The routes."""
    router = APIRouter(prefix="/outbox")
    it = _Outbox(page)
    router.add_api_route("", it.show, methods=["GET"])
    router.add_api_route("/confirm", it.confirm, methods=["GET"])
    router.add_api_route("/retry", it.retry, methods=["POST"])
    router.add_api_route("/dismiss", it.dismiss, methods=["POST"])
    router.add_api_route("/{number:int}", it.show_one, methods=["GET"])
    return router


class _Outbox:
    def __init__(self, page: PageContext) -> None:
        self._page = page

    async def show(self, request: Request) -> Response:
        visitor = await self._page.access.viewer(request)
        filters = Filters(request, (*FILTERS, "after", "choose"))
        wanted = _wanted(filters.get)

        async def look(connection: AsyncConnection) -> dict[str, Any]:
            rows = await list_messages(connection, wanted, after=filters.number("after"), limit=PAGE_ROWS + 1)
            more, rows = len(rows) > PAGE_ROWS, rows[:PAGE_ROWS]
            clocks = await read_clocks(connection, self._page.settings)
            return {
                "pairs": await list_pairs(connection),
                "rows": rows,
                "count": await count_messages(connection, wanted) if more or filters.get("after") else len(rows),
                "clocks": clocks,
                "zone": clocks.alone(filters.get("store")),
                "first": filters.address(HERE, after=None, choose=None) if filters.get("after") else None,
                "next": filters.address(HERE, after=str(rows[-1].outbox_message_id), choose=None) if more else None,
                "choose_all": filters.address(HERE, choose="all"),
                "done": await words_of(connection, request.query_params.get("done")),
            }

        return await self._page.show(
            request,
            visitor,
            "outbox.html",
            look,
            filters=filters,
            names=FILTERS,
            states=OUTBOX_STATES,
            is_any=ANY,
            waiting=WAITING,
            is_open=set(wanted.states) <= OPEN_STATES,
        )

    async def show_one(self, request: Request, number: int) -> Response:
        visitor = await self._page.access.viewer(request)
        require_number(number, _NONE)

        async def look(connection: AsyncConnection) -> dict[str, Any]:
            found = await read_messages(connection, [number])
            if not found:
                raise NothingThere(_NONE, number=number)
            clocks = await read_clocks(connection, self._page.settings)
            return {
                "one": found[0],
                "zone": clocks.alone(found[0].store_id),
                "done": await words_of(connection, request.query_params.get("done")),
            }

        return await self._page.show(request, visitor, "message.html", look, states=OUTBOX_STATES)

    async def confirm(self, request: Request) -> Response:
        """How many it touches, and what it does."""
        visitor = await self._page.access.viewer(request)
        self._page.access.require_operator(visitor)
        filters = Filters(request, ("act", "number", "all", *FILTERS))
        act = filters.get("act") or "retry"
        if act not in ACTS:
            raise WrongField("There is no such act: %(acts)s", acts=", ".join(ACTS))
        wanted = _all_wanted(filters.get) if filters.is_set("all") else None

        async def look(connection: AsyncConnection) -> dict[str, Any]:
            numbers = numbers_in(request) if wanted is None else await list_numbers(connection, wanted)
            if not numbers:
                raise (
                    WrongField("Choose at least one row")
                    if wanted is None
                    else WrongField("None of them is left. Go back to the list")
                )
            found = await read_messages(connection, numbers if wanted is None else numbers[-PAGE_ROWS:])
            is_touched = {one.outbox_message_id: one.is_retried if act == "retry" else one.is_dismissed for one in found}
            return {
                "rows": [one for one in found if is_touched[one.outbox_message_id]],
                "left_out": [one for one in found if not is_touched[one.outbox_message_id]],
                "unknown": [] if wanted else [number for number in numbers if number not in is_touched],
                "touched": len(numbers) if wanted else sum(is_touched.values()),
                "seen_all": seen_all(numbers) if wanted else None,
                "clocks": await read_clocks(connection, self._page.settings),
            }

        found = await self._page.reader.read_now(look)
        return self._page.render(
            request,
            visitor,
            "outbox_confirm.html",
            act=act,
            filters=filters,
            names=FILTERS,
            states=OUTBOX_STATES,
            act_id=new_act_id(),
            **found,
        )

    async def retry(self, request: Request) -> Response:
        """Send them now."""
        form = await self._page.access.order(request)
        numbers, check = await self._confirmed(form)
        act = Act(form, counted(_SENT, len(numbers)), location=_location(numbers), check=check)
        answer = await do(self._page.engine, act, lambda connection: messages.retry(connection, numbers, actor=act.actor))
        self._page.on_recorded()
        return answer

    async def dismiss(self, request: Request) -> Response:
        """Never send them."""
        form = await self._page.access.order(request)
        note = note_of(form)
        numbers, check = await self._confirmed(form)
        act = Act(form, counted(_DISMISSED, len(numbers), note=note), location=_location(numbers), check=check)

        async def work(connection: AsyncConnection) -> None:
            done = await messages.dismiss(connection, numbers, actor=act.actor, note=note)
            if left := sorted(set(numbers) - set(done)):
                raise Changed("stock update %(number)s cannot be dismissed by now", number=left[0])

        return await do(self._page.engine, act, work)

    async def _confirmed(self, form: Form) -> tuple[list[int], Check]:
        """Those that the form names, or all of the list that it names; and the check that they are those that were seen."""
        if not form.text("all"):
            seen = versions_of(form)
            return list(seen), _as_seen(seen)
        wanted, upto = _all_wanted(form.text), upto_of(form)
        async with self._page.engine.connect() as connection:
            numbers = await list_numbers(connection, wanted, upto=upto)

        async def check(connection: AsyncConnection) -> None:
            # One that is on its way by now is missing.
            locked = await list_numbers(connection, wanted, upto=upto, is_locked=True)
            for found in (locked, numbers):
                require_all_as_seen(form, found, changed=_NOT_THESE)

        return numbers, check


def _wanted(value_of: Callable[[str], str | None]) -> MessageFilter:
    """Of an address, or of a form that says the same."""
    given = value_of("state") or None
    states: tuple[OutboxState | None, ...] = (OutboxState.PENDING, OutboxState.DEAD)
    if given != WAITING:
        states = (chosen(given, "state", OUTBOX_STATES, None),) if given else states
    return MessageFilter(
        states=states,
        store_id=value_of("store") or None,
        system_id=value_of("system") or None,
        item_id=value_of("item") or None,
    )


def _all_wanted(value_of: Callable[[str], str | None]) -> MessageFilter:
    wanted = _wanted(value_of)
    if not set(wanted.states) <= OPEN_STATES:
        raise WrongField(
            "Choose the state of those that wait, or of those that are not sent any more: others are not changed at once"
        )
    return wanted


def _location(numbers: Sequence[int]) -> str:
    return f"{HERE}/{numbers[0]}" if len(numbers) == 1 else HERE


def _as_seen(seen: Mapping[int, str]) -> Check:
    """None was tried since, and none is on its way."""

    async def check(connection: AsyncConnection) -> None:
        found = await lock_messages(connection, list(seen))
        for number, version in seen.items():
            if number not in found:
                raise Changed("there is no stock update %(number)s", number=number)
            now, is_on_its_way = found[number]
            if is_on_its_way:
                raise Changed("stock update %(number)s is on its way just now, and cannot be changed meanwhile", number=number)
            if now != version:
                state, _, tries = now.partition(".")
                raise Changed(
                    "the state of stock update %(number)s is by now: %(state)s. It was tried %(tries)s times",
                    number=number,
                    state=named(state, OUTBOX_STATES),
                    tries=tries,
                )

    return check
