"""/ui/deliveries/suspected: one suspected duplicate whole, and saying whether it counts."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from sqlalchemy.ext.asyncio import AsyncConnection

from app.operator.duplicates import apply_suspected, dismiss_suspected
from app.operator.refusals import OperatorResult
from app.page.acting import Act, Check, new_act_id, note_of, require_as_seen, tell, use, versions_of, words_of
from app.page.body import show_body
from app.page.clock import read_clocks
from app.page.context import PageContext
from app.page.deliveries import HERE
from app.page.faults import Changed, English, FormRefused, NothingThere, Ours
from app.page.refusals import require_number
from app.page.rendering import later
from app.page.sentence import Sentence, Value
from app.page.text import SUSPECT_STATES, SUSPECT_VERDICTS, SUSPICIONS
from app.receiving.body import read_fields
from app.storage import duplicates
from app.storage.page_deliveries import lock_suspect

_NONE = later("suspected duplicate %(number)s")
_GONE = later("there is no suspected duplicate %(number)s")
_MOVED = later("suspected duplicate %(number)s is %(state)s by now%(by)s, and was %(seen)s")


def duplicates_router(page: PageContext) -> APIRouter:
    """The routes."""
    router = APIRouter(prefix="/deliveries/suspected")
    it = _Duplicates(page)
    router.add_api_route("/apply", it.apply, methods=["POST"])
    router.add_api_route("/dismiss", it.dismiss, methods=["POST"])
    router.add_api_route("/{number:int}", it.show, methods=["GET"])
    return router


class _Duplicates:
    def __init__(self, page: PageContext) -> None:
        self._page = page

    async def show(self, request: Request, number: int) -> Response:
        visitor = await self._page.access.viewer(request)
        require_number(number, _NONE)

        async def look(connection: AsyncConnection) -> dict[str, Any]:
            one = await duplicates.read(connection, number)
            if one is None:
                raise NothingThere(_NONE, number=number)
            clocks = await read_clocks(connection, self._page.settings)
            return {
                "one": one,
                "zone": clocks.alone(one.store_id),
                "body": show_body(one.raw_body),
                "fields": read_fields(one.raw_body),
                "done": await words_of(connection, request.query_params.get("done")),
            }

        return await self._page.show(
            request, visitor, "suspected.html", look, reasons=SUSPICIONS, states=SUSPECT_STATES, act_id=new_act_id()
        )

    async def apply(self, request: Request) -> Response:
        """It counts."""
        return await self._decide(request, applies=True)

    async def dismiss(self, request: Request) -> Response:
        """It does not count."""
        return await self._decide(request, applies=False)

    async def _decide(self, request: Request, *, applies: bool) -> Response:
        form = await self._page.access.order(request)
        note, seen = note_of(form), versions_of(form)
        if len(seen) != 1:
            raise FormRefused("It names several suspected duplicates")
        (number,) = seen
        about: dict[str, Value] = {"number": number}
        act = Act(
            form,
            Sentence(later("Suspected duplicate %(number)s was decided."), about, note=note),
            location=f"{HERE}/suspected/{number}",
            check=_as_seen(number, seen[number]),
        )
        decide = apply_suspected if applies else dismiss_suspected

        async def case() -> None:
            result = await decide(self._page.engine, number, actor=act.actor, note=note, first=act.guard)
            _require_done(result)
            became = {"became": SUSPECT_VERDICTS[result.verdict]}
            await tell(
                self._page.engine, act, Sentence(later("Suspected duplicate %(number)s: %(became)s."), about, became, note=note)
            )

        answer = await use(act, case)
        self._page.on_recorded()
        return answer


def _as_seen(number: int, state: str) -> Check:
    async def check(connection: AsyncConnection) -> None:
        row = await lock_suspect(connection, number)
        require_as_seen(row, state, number=number, states=SUSPECT_STATES, said=(_GONE, _MOVED))

    return check


def _require_done(result: OperatorResult) -> None:
    if not result.verdict.is_good:
        raise Changed(
            "it is now: %(verdict)s. %(words)s",
            verdict=Ours(SUSPECT_VERDICTS[result.verdict]),
            words=English(result.message.rstrip(".")),
        )
