"""/ui/deliveries/captured: unverified deliveries, why their signatures do not match, and delivering one that verifies by now."""

import asyncio
import re
from datetime import timedelta
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from sqlalchemy.ext.asyncio import AsyncConnection

from app.operator.captures import NotVerified, UnknownCaptured, deliver, verifies
from app.page.access import Form
from app.page.acting import Act, Check, do, new_act_id, note_of, use, versions_of, words_of
from app.page.body import show_body
from app.page.clock import read_clocks
from app.page.context import PageContext
from app.page.deliveries import HERE
from app.page.faults import Changed, FormRefused, NothingThere, WrongField
from app.page.filters import Filters
from app.page.refusals import require_number
from app.page.rendering import address, later
from app.page.sentence import Sentence
from app.receiving.body import read_fields, read_subject
from app.receiving.client_secrets import client_secrets, exchanged_keys, own_keys
from app.receiving.explanation import Explanation, explain
from app.storage import captures
from app.storage.captures import MAX_CAPTURE_TIME, MAX_KEPT, CapturedDelivery
from app.storage.page_deliveries import lock_captures

LIST = address(HERE, kind="captured")


def captures_router(page: PageContext) -> APIRouter:
    """The routes."""
    router = APIRouter(prefix="/deliveries/captured")
    it = _Captures(page)
    router.add_api_route("/start", it.start, methods=["POST"])
    router.add_api_route("/stop", it.stop, methods=["POST"])
    router.add_api_route("/deliver", it.deliver, methods=["POST"])
    router.add_api_route("/{number:int}", it.show, methods=["GET"])
    return router


class _Captures:
    def __init__(self, page: PageContext) -> None:
        self._page = page
        # To explain takes up to seconds of a processor: one at a time, beside the deliveries.
        self._explaining = asyncio.Lock()

    async def show(self, request: Request, number: int) -> Response:
        visitor = await self._page.access.viewer(request)
        require_number(number, later("captured delivery %(number)s"))
        filters = Filters(request, ("explain",))

        async def look(connection: AsyncConnection) -> dict[str, Any]:
            one = await captures.read(connection, number)
            if one is None:
                raise NothingThere("captured delivery %(number)s; each is gone after 24 hours", number=number)
            subject = read_subject(one.raw_body)
            clocks = await read_clocks(connection, self._page.settings)
            return {
                "one": one,
                "subject": subject,
                "zone": clocks.alone(subject.store_id),
                "verified": verifies(one, client_secrets(self._page.settings)),
                "body": show_body(one.raw_body),
                "fields": read_fields(one.raw_body),
                "done": await words_of(connection, request.query_params.get("done")),
            }

        found, age = await self._page.reader.read(request, look)
        explanation = await self._explain(found["one"]) if filters.is_set("explain") else None
        return self._page.render(
            request, visitor, "captured.html", age=age, explanation=explanation, act_id=new_act_id(), **found
        )

    async def _explain(self, one: CapturedDelivery) -> Explanation:
        keys = own_keys(self._page.settings) + exchanged_keys(self._page.settings)
        async with self._explaining:
            return await asyncio.to_thread(explain, one.raw_body, list(one.signatures), keys)

    async def start(self, request: Request) -> Response:
        """Keep from now on; one that is on ends."""
        form = await self._page.access.order(request)
        length = timedelta(minutes=_whole(form, "minutes", most=int(MAX_CAPTURE_TIME.total_seconds()) // 60))
        max_kept = _whole(form, "most", most=MAX_KEPT)
        words = later("The capture is on. Let mipOS send a movement now, and load this page again.")
        act = Act(form, words, location=LIST, check=_as_seen(form))
        return await do(
            self._page.engine,
            act,
            lambda connection: captures.start(connection, length=length, max_kept=max_kept, actor=act.actor),
        )

    async def stop(self, request: Request) -> Response:
        """What was kept stays for its day."""
        form = await self._page.access.order(request)
        act = Act(form, later("The capture has ended."), location=LIST, check=_as_seen(form))
        return await do(self._page.engine, act, captures.stop)

    async def deliver(self, request: Request) -> Response:
        """One that verifies under the secrets of today; nothing can force it."""
        form = await self._page.access.order(request)
        note, seen = note_of(form), versions_of(form)
        if len(seen) != 1:
            raise FormRefused("It names several captured deliveries")
        (number,) = seen
        words = later("Captured delivery %(number)s was delivered. Its own page shows what became of it.")
        act = Act(form, Sentence(words, {"number": number}, note=note), location=f"{HERE}/captured/{number}")

        async def case() -> None:
            await deliver(
                self._page.database,
                self._page.engine,
                number,
                secrets=client_secrets(self._page.settings),
                actor=act.actor,
                first=act.guard,
            )

        try:
            answer = await use(act, case)
        except UnknownCaptured:
            raise NothingThere("captured delivery %(number)s; each is gone after 24 hours", number=number) from None
        except NotVerified:
            raise Changed("its signature does not match with the client secrets that are set") from None
        self._page.on_recorded()
        return answer


def _whole(form: Form, name: str, *, most: int) -> int:
    given = form.text(name)
    if not re.fullmatch("[0-9]{1,6}", given) or not 1 <= int(given) <= most:
        raise WrongField("The field %(field)s has to be a whole number from 1 to %(most)s", field=name, most=most)
    return int(given)


def _as_seen(form: Form) -> Check:
    """No capture was started or stopped since."""

    async def check(connection: AsyncConnection) -> None:
        await lock_captures(connection)
        capture = await captures.newest(connection)
        now = "" if capture is None or not capture.is_on else str(capture.capture_id)
        if now != form.text("seen"):
            if capture is None or not now:
                raise Changed("the capture has ended")
            raise Changed("a capture was started by %(actor)s", actor=capture.actor)

    return check
