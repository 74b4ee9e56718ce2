"""Fault 2: the connection to Postgres dies after each message of a delivery, in both directions, before and after COMMIT."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import Enum

from proof.book import NO_CONTENT, Book, Sent
from proof.cluster import compared, new_world, query, started
from proof.finding import Finding, told
from proof.route import Route
from proof.sender import UNAVAILABLE, Sender
from tests.support.proxy import How, Message, PostgresProxy
from tests.support.world import World

DEADLINE = 0.5
"""RESPONSE_DEADLINE, in seconds, where the delivery cannot be saved: the shortest that the service takes."""
SAVING_DEADLINE = 4.0
"""Where it can be: a lost connection is to be replaced within the delivery."""
USUAL_SECONDS = 10.0
POLL_SECONDS = 0.1


class Phase(Enum):
    """Where in a delivery's conversation with Postgres the first lost message stands."""

    CONNECTING = "while connecting"
    WRITING = "before COMMIT was sent"
    COMMIT_LOST = "with COMMIT on its way to Postgres"
    ANSWER_LOST = "with the answer to COMMIT on its way back"


@dataclass(frozen=True)
class Mode:
    """One way to cut at every point."""

    text: str
    how: How
    deadline: float
    is_repeated: bool = False


MODES = (
    Mode("once, by RST", How.RESET, SAVING_DEADLINE),
    Mode("every try, by RST", How.RESET, DEADLINE, is_repeated=True),
    Mode("once, silently", How.SILENT, DEADLINE),
)


@dataclass
class _Cuts:
    """What the cuts of one mode came to, by phase."""

    points: Counter[Phase]
    answers: dict[Phase, Counter[int]]
    committed: Counter[Phase]
    not_reached: int = 0


async def run(route: Route) -> AsyncIterator[Finding]:
    """Each mode, on a connection that is made for the delivery and on one that has been used before.

    The modes side by side, each with its own service and database: most of their time is waiting for deadlines.
    """
    modes = [
        _cut_everywhere(route, mode, f"2{letter}. connection cut {mode.text}{route.suffix}")
        for letter, mode in zip("abc", MODES, strict=True)
    ]
    for finding in await asyncio.gather(*modes):
        yield finding


async def _cut_everywhere(route: Route, mode: Mode, name: str) -> Finding:
    finding = Finding(name, rounds=0)
    cuts = _Cuts(Counter(), {phase: Counter() for phase in Phase}, Counter())
    async with new_world() as world, PostgresProxy(route.upstream(world)).running() as proxy:
        url = f"postgresql://pos_sync@127.0.0.1:{proxy.port}/{world.database}"
        async with started(url, **{"response_deadline": mode.deadline, **route.settings}) as service:
            sender = Sender(Book(name), lambda: service.port)
            sender.may_answer = frozenset({NO_CONTENT, UNAVAILABLE})
            async with compared(finding, world, sender):
                usual = len(await _conversation(proxy, sender, is_new=False))
                for is_new in (True, False):
                    messages = await _conversation(proxy, sender, is_new=is_new)
                    points = _points(messages, mode)
                    finding.notes.append(
                        f"a delivery on a {'new' if is_new else 'used'} connection is {len(messages)} messages; "
                        f"{'each' if len(points) == len(messages) else f'{len(points)} of them, without repetitions,'} "
                        "was once the first to be lost"
                    )
                    for after in points:
                        await _wait_for_usual(proxy, sender, usual)
                        await _cut(proxy, sender, world, mode, finding=finding, cuts=cuts, after=after, is_new=is_new)
                        finding.rounds = (finding.rounds or 0) + 1
                    if cuts.not_reached > len(points) // 2:
                        finding.problems["most cuts fell behind the end of the conversation"] += 1
    if cuts.not_reached:
        finding.notes.append(
            f"{cuts.not_reached} cuts fell behind the end of a conversation that was shorter than the measured one"
        )
    finding.notes += _table(cuts)
    for phase in (Phase.WRITING, Phase.COMMIT_LOST, Phase.ANSWER_LOST):
        if not cuts.points[phase]:
            finding.problems[f"no cut fell {phase.value}: the proxy did not do its work"] += 1
    if cuts.committed[Phase.ANSWER_LOST] != cuts.points[Phase.ANSWER_LOST]:
        finding.problems["a COMMIT that Postgres confirmed was not in the ledger"] += 1
    return finding


async def _conversation(proxy: PostgresProxy, sender: Sender, *, is_new: bool) -> list[Message]:
    """The messages of an undisturbed delivery."""
    await _prepare(proxy, sender, is_new=is_new)
    proxy.arm(None)
    await sender.settle([sender.book.write()], connections=1)
    return list(proxy.passed)


async def _wait_for_usual(proxy: PostgresProxy, sender: Sender, usual: int) -> None:
    """Wait until a delivery is as few messages as before, or a cut would fall before those that count.

    After a silent cut Postgres holds the level for the lost session until its own limits end that, and the service asks again.
    """
    deadline = time.monotonic() + USUAL_SECONDS
    while time.monotonic() < deadline:
        proxy.arm(None)
        await sender.settle([sender.book.write()], connections=1)
        if len(proxy.passed) <= usual:
            return
        await asyncio.sleep(POLL_SECONDS)


def _points(messages: Sequence[Message], mode: Mode) -> list[int]:
    """After how many messages to cut: after each; where a cut costs the whole deadline, a run of like messages counts once."""
    return [
        after
        for after, message in enumerate(messages)
        if mode.deadline == SAVING_DEADLINE or after == 0 or message != messages[after - 1]
    ]


async def _prepare(proxy: PostgresProxy, sender: Sender, *, is_new: bool) -> None:
    if is_new:
        proxy.reset_all()
        return
    # The second one finds the statements prepared.
    for sent in sender.book.write_many(2):
        await sender.settle([sent], connections=1)


async def _cut(  # noqa: PLR0913 - everything that one cut touches
    proxy: PostgresProxy,
    sender: Sender,
    world: World,
    mode: Mode,
    *,
    finding: Finding,
    cuts: _Cuts,
    after: int,
    is_new: bool,
) -> None:
    await _prepare(proxy, sender, is_new=is_new)
    proxy.arm(after, mode.how, is_repeated=mode.is_repeated)
    sent = sender.book.write()
    # Bound to the configured deadline, generously: this machine may be doing other things.
    sender.slowest_allowed = 2 * mode.deadline + 2
    answer = await sender.deliver(sent)
    sender.slowest_allowed = None
    if not proxy.lost:
        cuts.not_reached += 1
        finding.rounds = (finding.rounds or 0) - 1
    proxy.disarm()
    if answer is None:
        return
    phase = _phase(proxy.passed_before_first_loss, proxy.lost)
    rows = await _rows(world, sent)
    cuts.points[phase] += 1
    cuts.answers[phase][answer.status] += 1
    cuts.committed[phase] += bool(rows)
    if answer.status == NO_CONTENT and rows != 1:
        finding.lost = (finding.lost or 0) + (rows == 0)
    if phase is not Phase.ANSWER_LOST and mode.is_repeated and rows:
        finding.problems["a movement is in the ledger though each of its COMMITs was lost"] += 1
    await sender.settle([sent], connections=1)
    if await _rows(world, sent) != 1:
        finding.problems[f"sent again until 204 after a cut {phase.value}, it is not in the ledger once"] += 1


def _phase(passed: Sequence[Message], lost: Sequence[Message]) -> Phase:
    """Of the first cut; where every try was cut, the ones after the first fell at the same point or before it."""
    if any(message.commits for message in passed):
        # The tag of COMMIT may have come through and only the end of the conversation be lost: the driver cannot know either.
        return Phase.ANSWER_LOST
    if lost and lost[0].commits:
        return Phase.COMMIT_LOST
    # What the driver asks about types when it first prepares the statement counts as writing, since it happens there. What is
    # looked up on each new connection before it does not. On a used one the statement is prepared, and is the first thing sent.
    messages = [*passed, *lost[:1]]
    has_begun = any(message.text.startswith("BEGIN") or "apply_movements" in message.text for message in messages)
    return Phase.WRITING if has_begun or messages[0].name == "Bind" else Phase.CONNECTING


async def _rows(world: World, sent: Sent) -> int:
    rows = await query(
        "SELECT count(*) FROM pos_sync.stock_movement WHERE date_text = $1", sent.date_text, database=world.database
    )
    return int(rows[0][0])


def _table(cuts: _Cuts) -> list[str]:
    lines = ["\n| the connection died | cuts | first answers | then in the ledger |", "|---|---:|---|---:|"]
    lines += [
        f"| {phase.value} | {cuts.points[phase]} | {told(cuts.answers[phase])} | {cuts.committed[phase]} |"
        for phase in Phase
        if cuts.points[phase]
    ]
    return lines
