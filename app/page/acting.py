"""How the page changes something: once for each form, on what the visitor saw, and in the transaction of the change itself.

A form carries an id of its own. It is committed with what the form does, so a second click, or a proxy that sends it again, finds
it and is led to the same place. What was confirmed is compared in the same transaction: if it changed, nothing is done.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import structlog
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.page.access import Form
from app.page.faults import Changed, FormRefused, Ours, WrongField, named
from app.page.jobs import Jobs, location_of
from app.page.reader import note_change
from app.page.rendering import later
from app.page.sentence import EnglishWords, Sentence
from app.page.words import of_fault
from app.stock.text import fault_in
from app.storage import page_acts
from app.storage.transactions import run_transaction

MAX_NOTE_LENGTH = 255
MAX_AT_ONCE = 20_000
"""Rows that a form changes in one transaction, well within the limit of a statement"""
TOLD = timedelta(minutes=2)
"""How long the page that an act leads to says what was done"""
_log = structlog.get_logger("pos_sync.page")
_ACT_ID = re.compile("[0-9a-f]{32}")
_SEEN_ALL = re.compile("([0-9]{1,18})[.]([0-9]{1,18})[.][0-9a-f]{32}")

Check = Callable[[AsyncConnection], Awaitable[None]]
"""Locks and compares what was confirmed; raises `Changed` where it is not as it was shown."""


def new_act_id() -> str:
    """For a form."""
    return uuid4().hex


def act_id_of(form: Form) -> str:
    """By what the act is known: the form's own id, with all that the form says, so that nothing else passes for it.

    Raises:
        FormRefused: it has none.
    """
    if not _ACT_ID.fullmatch(form.text("act_id")):
        raise FormRefused("It has no id of its own. Load the page again")
    said = [form.visitor.name, form.path, *(f"{name}={values}" for name, values in sorted(form.fields.items()))]
    return hashlib.sha256("\0".join(said).encode()).hexdigest()[:32]


def note_of(form: Form) -> str:
    """The note, which has to be there.

    Raises:
        WrongField: it is missing or too long.
    """
    note = form.text("note")
    if fault := fault_in(note, max_length=MAX_NOTE_LENGTH):
        raise WrongField("The note %(fault)s. Write why", fault=of_fault(fault))
    return note


def numbers_of(form: Form, name: str = "number") -> list[int]:
    """The numbers of the rows that were chosen, as they were shown: `NUMBER` or `NUMBER:VERSION`; each once, in order.

    Raises:
        WrongField: none was chosen.
    """
    return sorted(versions_of(form, name))


def versions_of(form: Form, name: str = "number") -> dict[int, str]:
    """The rows that were chosen, and what was seen of each.

    Raises:
        WrongField: none was chosen.
    """
    found: dict[int, str] = {}
    for text in form.all(name):
        number, _, version = text.partition(":")
        if not re.fullmatch("[0-9]{1,18}", number):
            raise FormRefused("It names a row that cannot be")
        found[int(number)] = version
    if not found:
        raise WrongField("Choose at least one row")
    return found


def require_as_seen(
    row: Any,  # noqa: ANN401 - of one of two tables
    state: str,
    *,
    number: int,
    states: Mapping[Any, str],
    said: tuple[str, str],
) -> None:
    """`row` is in the `state` in which row `number` was shown.

    `said` are the words for one that is gone, and for one that is in another of the `states` now.

    Raises:
        Changed
    """
    if row is None:
        raise Changed(said[0], number=number)
    if row.state != state:
        by = Ours(later(" (by %(actor)s)"), actor=row.actor) if row.actor else ""
        seen = named(state, states) if state else Ours(later("not looked at"))
        raise Changed(said[1], number=number, state=named(row.state, states), by=by, seen=seen)


def seen_all(numbers: Sequence[int]) -> str:
    """What a form says of a whole list: how many rows there were, up to which number, and which they were.

    Raises:
        WrongField: they are too many for one transaction.
    """
    if len(numbers) > MAX_AT_ONCE:
        raise WrongField(
            "These are %(count)s, and the page changes %(most)s at once. Choose a store or another filter, or use the command",
            count=len(numbers),
            most=MAX_AT_ONCE,
        )
    digest = hashlib.sha256(repr(sorted(numbers)).encode()).hexdigest()[:32]
    return f"{len(numbers)}.{max(numbers)}.{digest}"


def upto_of(form: Form) -> int:
    """The last number of the list that was seen: what came since is left.

    Raises:
        FormRefused: it does not say.
    """
    found = _SEEN_ALL.fullmatch(form.text("seen"))
    if found is None:
        raise FormRefused("It does not say which rows were shown")
    return int(found[2])


def require_all_as_seen(form: Form, numbers: Sequence[int], *, changed: str) -> None:
    """They are those that were seen; `changed` says that they are not.

    Raises:
        Changed
    """
    if not numbers or seen_all(numbers) != form.text("seen"):
        raise Changed(changed, count=len(numbers), seen=form.text("seen").partition(".")[0])


class DoneBefore(Exception):
    """This form was done already; `location` is where its effect is seen."""

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.location = location


async def _nothing(_connection: AsyncConnection) -> None: ...


class Act:
    """One form that changes something. `guard` goes first in the transaction that does it."""

    def __init__(self, form: Form, said: Sentence | str, *, location: str = "", check: Check = _nothing) -> None:
        """`said` stands at the page to which it leads. Without a `location` that is the page of its job."""
        self.act_id = act_id_of(form)
        self.actor = form.visitor.actor
        self.location = location or location_of(self.act_id)
        self.said = said if isinstance(said, Sentence) else Sentence(said)
        self._check = check

    async def guard(self, connection: AsyncConnection) -> None:
        """Claim the act in this transaction, and compare.

        Raises:
            DoneBefore: it was done.
            Changed: it must not be done.
        """
        kept = {"actor": self.actor, "location": self.location, "words": self.said.to_text()}
        if not await page_acts.claim(connection, self.act_id, **kept):
            done = await page_acts.read_act(connection, self.act_id)
            raise DoneBefore(self.location if done is None else done.location)
        await self._check(connection)

    def log(self) -> None:
        """Tell that it was done."""
        words = self.said.told(EnglishWords())
        _log.info("page act", actor=self.actor, act=words, location=self.location, act_id=self.act_id)

    @property
    def answer(self) -> Response:
        """See other: the place where the effect is seen."""
        return led_to(self.location, act_id=self.act_id)


async def do(engine: AsyncEngine, act: Act, work: Callable[[AsyncConnection], Awaitable[object]]) -> Response:
    """Do `work` in one transaction with the act.

    Raises:
        Changed: nothing was done.
    """

    async def alone(connection: AsyncConnection, _driver: object) -> None:
        await work(connection)

    return await use(act, lambda: run_transaction(engine, alone, first=act.guard))


async def use(act: Act, case: Callable[[], Awaitable[object]]) -> Response:
    """Run a use case that was given `act.guard` for its own transaction.

    Raises:
        Changed, and what the use case raises.
    """
    try:
        await case()
    except DoneBefore as before:
        return led_to(before.location, act_id=act.act_id)
    act.log()
    return act.answer


async def start(jobs: Jobs, act: Act, **job: Any) -> Response:  # noqa: ANN401 - as `Jobs.start`
    """Do an act as a job; to the page of its progress, which says what becomes of it.

    Raises:
        Changed: nothing was started.
    """
    try:
        await jobs.start(act.act_id, actor=act.actor, first=act.guard, **job)
    except DoneBefore as before:
        return led_to(before.location)
    act.log()
    return led_to(act.location)


async def tell(engine: AsyncEngine, act: Act, said: Sentence) -> None:
    """Let the page that the act leads to say what became of it, where that is known only now."""
    act.said = said
    async with engine.begin() as connection:
        await page_acts.reword(connection, act.act_id, said.to_text())


def led_to(location: str, *, act_id: str | None = None) -> Response:
    """303; the page there says what was done."""
    if act_id is not None:
        location += ("&" if "?" in location else "?") + f"done={act_id}"
    answer = RedirectResponse(location, int(HTTPStatus.SEE_OTHER))
    note_change(answer)
    return answer


async def words_of(connection: AsyncConnection, act_id: str | None) -> str:
    """What was done by the act that led here; empty where none did, or some time ago: a link may be kept and shared."""
    if act_id is None or not _ACT_ID.fullmatch(act_id):
        return ""
    done = await page_acts.read_act(connection, act_id, within=TOLD)
    return "" if done is None else done.words
