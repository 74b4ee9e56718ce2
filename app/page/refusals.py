"""/ui/deliveries/refused: one refused delivery whole; and replaying, dismissing and reopening, alone or several at once."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from sqlalchemy.ext.asyncio import AsyncConnection

from app.operator.refusals import OperatorResult, Verdict, dismiss, preview, reopen, replay
from app.page.access import Form
from app.page.acting import (
    Act,
    Check,
    do,
    new_act_id,
    note_of,
    require_all_as_seen,
    require_as_seen,
    seen_all,
    start,
    tell,
    upto_of,
    use,
    versions_of,
    words_of,
)
from app.page.body import show_body
from app.page.clock import read_clocks
from app.page.context import PageContext
from app.page.deliveries import HERE
from app.page.faults import FormRefused, NothingThere, Ours, WrongField
from app.page.filters import Filters
from app.page.jobs import MAX_RESULTS, Progress
from app.page.rendering import address, later
from app.page.sentence import Sentence, Value, counted, plurals
from app.page.text import REASONS, REFUSAL_STATES, VERDICTS
from app.receiving.body import read_fields
from app.storage import refusals
from app.storage.filters import TOO_LARGE
from app.storage.page_deliveries import count_touched, known_items, lock_refused
from app.storage.refusals import Selection, State

MAX_PREVIEWED = 50
"""Of many, so many are tried before they are confirmed."""
ACTS = ("replay", "dismiss")
REPLAY = later("replay")
"""The kind of its jobs"""
_REPLAYING = plurals("Replay of %(num)d refused delivery.", "Replay of %(num)d refused deliveries.")
_DISMISSED = plurals("%(num)d refused delivery was dismissed.", "%(num)d refused deliveries were dismissed.")
_REOPENED = plurals("%(num)d refused delivery was opened again.", "%(num)d refused deliveries were opened again.")
_NONE = later("refused delivery %(number)s")
_GONE = later("there is no refused delivery %(number)s")
_NOT_THESE = later("The list is another one by now: %(count)s open refused deliveries, and %(seen)s were shown")
_MOVED = later("refused delivery %(number)s is %(state)s by now%(by)s, and was %(seen)s")
_DECISIONS = {"": None, "counted": True, "not_counted": False}


def refusals_router(page: PageContext) -> APIRouter:
    """The routes."""
    router = APIRouter(prefix="/deliveries/refused")
    it = _Refusals(page)
    router.add_api_route("/confirm", it.confirm, methods=["GET"])
    router.add_api_route("/replay", it.replay, methods=["POST"])
    router.add_api_route("/dismiss", it.dismiss, methods=["POST"])
    router.add_api_route("/reopen", it.reopen, methods=["POST"])
    router.add_api_route("/{number:int}", it.show, methods=["GET"])
    return router


def require_number(number: int, none: str) -> int:
    """A number that a row can have; `none` names what there is not, as `NothingThere` does.

    Raises:
        NothingThere
    """
    if not 0 < number < TOO_LARGE:
        raise NothingThere(none, number=number)
    return number


def numbers_in(request: Request) -> list[int]:
    """The rows that were chosen in a list; each once, in order.

    Raises:
        FormRefused: the address names something else.
    """
    given = request.query_params.getlist("number")
    if any(not one.isascii() or not one.isdigit() or int(one) >= TOO_LARGE for one in given):
        raise FormRefused("It names a row that cannot be")
    return sorted({int(one) for one in given})


def as_seen_check(seen: Mapping[int, str]) -> Check:
    """Each refused delivery is in the state in which it was shown."""

    async def check(connection: AsyncConnection) -> None:
        found = await lock_refused(connection, list(seen))
        for number, state in seen.items():
            require_as_seen(found.get(number), state, number=number, states=REFUSAL_STATES, said=(_GONE, _MOVED))

    return check


class _Refusals:
    def __init__(self, page: PageContext) -> None:
        self._page = page

    async def show(self, request: Request, number: int) -> Response:
        visitor = await self._page.access.viewer(request)
        require_number(number, _NONE)

        async def look(connection: AsyncConnection) -> dict[str, Any]:
            one = (await refusals.read(connection, [number])).get(number)
            if one is None:
                raise NothingThere(_NONE, number=number)
            clocks = await read_clocks(connection, self._page.settings)
            return {
                "one": one,
                "zone": clocks.alone(one.store_id),
                "touched": await count_touched(connection, [number]),
                "known_items": await known_items(connection, [(one.store_id, one.item_id)]),
                "body": show_body(one.raw_body),
                "fields": read_fields(one.raw_body),
                "done": await words_of(connection, request.query_params.get("done")),
            }

        return await self._page.show(
            request, visitor, "refused.html", look, reasons=REASONS, states=REFUSAL_STATES, act_id=new_act_id()
        )

    async def confirm(self, request: Request) -> Response:
        """What would happen, tried and taken back; and how many it touches."""
        visitor = await self._page.access.viewer(request)
        self._page.access.require_operator(visitor)
        filters = Filters(request, ("act", "number", "all", "reason", "store", "item"))
        act = filters.get("act") or "replay"
        if act not in ACTS:
            raise WrongField("There is no such act: %(acts)s", acts=", ".join(ACTS))

        async def look(connection: AsyncConnection) -> dict[str, Any]:
            if filters.is_set("all"):
                numbers = await refusals.list_ids(connection, _selection(filters.get))
            else:
                numbers = numbers_in(request)
            if not numbers:
                raise (
                    WrongField("None of them is left. Go back to the list")
                    if filters.is_set("all")
                    else WrongField("Choose at least one row")
                )
            clocks = await read_clocks(connection, self._page.settings)
            kept = await refusals.read(connection, numbers[:MAX_PREVIEWED] if filters.is_set("all") else numbers)
            is_open = [one for one in numbers if filters.is_set("all") or (one in kept and kept[one].state is State.OPEN)]
            touched = set(is_open)
            return {
                "numbers": is_open,
                "left_out": [(one, kept[one].state if one in kept else None) for one in numbers if one not in touched],
                "kept": kept,
                "known_items": await known_items(connection, [(one.store_id, one.item_id) for one in kept.values()]),
                "touched": await count_touched(connection, is_open),
                "clocks": clocks,
            }

        found = await self._page.reader.read_now(look)
        results = await preview(self._page.engine, found["numbers"][:MAX_PREVIEWED])
        return self._page.render(
            request,
            visitor,
            "refused_confirm.html",
            act=act,
            filters=filters,
            results=results,
            seen_all=seen_all(found["numbers"]) if filters.is_set("all") else None,
            is_undecided=any(one.verdict is Verdict.UNDECIDED for one in results) or len(found["numbers"]) > len(results),
            verdicts=VERDICTS,
            states=REFUSAL_STATES,
            act_id=new_act_id(),
            **found,
        )

    async def replay(self, request: Request) -> Response:
        """One at once; several as a job."""
        form = await self._page.access.order(request)
        if form.text("decision") not in _DECISIONS:
            raise FormRefused("It says something else of the count than was asked")
        was_counted = _DECISIONS[form.text("decision")]
        note = note_of(form)
        if form.text("all"):
            numbers, check = await self._whole_list(form)
            return await self._replay_many(form, numbers, note, was_counted=was_counted, check=check)
        seen = versions_of(form)
        if len(seen) > 1:
            return await self._replay_many(form, sorted(seen), note, was_counted=was_counted, check=as_seen_check(seen))
        (number,) = seen
        about: dict[str, Value] = {"number": number}
        words = later("Refused delivery %(number)s was replayed. Its own page shows what became of it.")
        said = Sentence(words, about, note=note)
        act = Act(form, said, location=f"{HERE}/refused/{number}", check=as_seen_check(seen))

        async def case() -> None:
            (result,) = await replay(
                self._page.engine, [number], actor=act.actor, note=note, was_counted=was_counted, first=act.guard
            )
            became = {"became": VERDICTS[result.verdict]}
            said = Sentence(later("Refused delivery %(number)s: %(became)s."), about, became, note=note)
            await tell(self._page.engine, act, said)

        answer = await use(act, case)
        self._page.on_recorded()
        return answer

    async def _whole_list(self, form: Form) -> tuple[list[int], Check]:
        """All that are open of the list that the form names, and the check that they are those that were shown."""
        selection, upto = _selection(form.text), upto_of(form)
        async with self._page.engine.connect() as connection:
            numbers = await refusals.list_ids(connection, selection, upto=upto)

        async def check(connection: AsyncConnection) -> None:
            asked = await refusals.list_ids(connection, selection, upto=upto)
            locked = await lock_refused(connection, asked)
            still_open = [number for number, row in locked.items() if row.state == State.OPEN.value]
            for found in (still_open, numbers):
                require_all_as_seen(form, found, changed=_NOT_THESE)

        return numbers, check

    async def _replay_many(
        self, form: Form, numbers: Sequence[int], note: str, *, was_counted: bool | None, check: Check
    ) -> Response:
        act = Act(form, counted(_REPLAYING, len(numbers), note=note), check=check)
        keeps_all = len(numbers) <= MAX_RESULTS

        async def work(progress: Progress) -> None:
            for number in numbers:
                (result,) = await replay(self._page.engine, [number], actor=act.actor, note=note, was_counted=was_counted)
                await progress.step(*([_told(result)] if keeps_all or not result.verdict.is_good else []))
                self._page.on_recorded()

        asked = {"numbers": list(numbers), "was_counted": was_counted, "note": note}
        return await start(self._page.jobs, act, kind=REPLAY, asked=asked, total=len(numbers), work=work)

    async def dismiss(self, request: Request) -> Response:
        """All in one transaction."""
        form = await self._page.access.order(request)
        note = note_of(form)
        if form.text("all"):
            numbers, check = await self._whole_list(form)
        else:
            seen = _open_only(versions_of(form), State.OPEN)
            numbers, check = list(seen), as_seen_check(seen)
        location = f"{HERE}/refused/{numbers[0]}" if len(numbers) == 1 else HERE
        act = Act(form, counted(_DISMISSED, len(numbers), note=note), location=location, check=check)
        return await do(self._page.engine, act, lambda connection: dismiss(connection, numbers, actor=act.actor, note=note))

    async def reopen(self, request: Request) -> Response:
        """Those that were dismissed."""
        form = await self._page.access.order(request)
        note, seen = note_of(form), _open_only(versions_of(form), State.DISMISSED)
        location = f"{HERE}/refused/{next(iter(seen))}" if len(seen) == 1 else HERE
        act = Act(form, counted(_REOPENED, len(seen), note=note), location=location, check=as_seen_check(seen))
        return await use(act, lambda: reopen(self._page.engine, list(seen), actor=act.actor, note=note, first=act.guard))


def _open_only(seen: Mapping[int, str], state: State) -> Mapping[int, str]:
    if any(one != state for one in seen.values()):
        raise FormRefused(
            "It names a refused delivery that was not %(state)s when it was shown", state=Ours(REFUSAL_STATES[state])
        )
    return seen


def _selection(value_of: Any) -> Selection:  # noqa: ANN401 - of an address or of a form
    return Selection(reason=value_of("reason") or None, store_id=value_of("store") or None, item_id=value_of("item") or None)


def _told(result: OperatorResult) -> list[str]:
    return [str(result.number), result.verdict.name, result.message, result.about]


def confirm_address(numbers: Iterable[int], act: str = "replay") -> str:
    """The page that asks before it is done."""
    return address(f"{HERE}/refused/confirm", act=act, number=list(numbers))
