"""From the facts to the problems. Pure: the limits stand here, and in the table of docs/runbook.md."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from app.problems import kinds
from app.problems.facts import Facts, Pair, Queue
from app.problems.kinds import Problem, Severity
from app.problems.silence import MIN_WEEKS, is_silent, missed
from app.stock.quantity import to_canonical
from app.stock.text import number_of

INFO, WARNING, CRITICAL = Severity.INFO, Severity.WARNING, Severity.CRITICAL

MIN_CRITICAL_UNSIGNED = 3
"""Wrong signatures since the last verified delivery: fewer may be somebody's test."""
VERIFIED_LATELY = timedelta(seconds=15)
"""Where a pair was verified so lately, somebody else sends the wrong ones."""
UNSIGNED_FORGOTTEN, UNSIGNED_FORGOTTEN_CRITICAL = timedelta(hours=1), timedelta(days=7)
"""After the newest of them"""
MIN_CRITICAL_UNSETTLED, MAX_UNSETTLED_TIME = 3, timedelta(seconds=60)
"""So many are answered 503, and for so long none otherwise: nothing comes in."""
MAX_QUEUE_AGE = timedelta(seconds=60)
MAX_QUEUE_AGE_CRITICAL = timedelta(minutes=15)
MIN_FAILED_REGISTRATIONS = 2
"""One that has failed once is tried again a second later."""
MAX_RENEWALS = 2
"""Calls that brought the deliveries back, and not for long: then another deployment takes the URL each time."""
MAX_WATCH_AGE = timedelta(minutes=2)
DISK_WARNING, DISK_CRITICAL = 0.8, 0.9
"""Of DATABASE_DISK_BYTES"""


def judge(facts: Facts) -> list[Problem]:
    """Every problem, the worst first."""
    found = [
        *_signatures(facts),
        *_silence(facts),
        *_registration(facts),
        *_ping(facts),
        *_unsettled(facts),
        *_waiting(facts),
        *_outbox(facts),
        *_drift(facts),
        *_syncs(facts),
        *_low_stock(facts),
        *_disk(facts),
    ]
    # What mipOS says may end with a full stop, and who prints the words adds one.
    found = [replace(problem, words=problem.words.rstrip(".")) for problem in found]
    return sorted(found, key=lambda problem: (-problem.severity.rank, problem.key))


def silent_pairs(facts: Facts) -> list[Pair]:
    """The pairs that usually deliver at this time of the week, and do not."""
    return [pair for pair in facts.pairs if pair.profile.is_known and _is_silent(pair, facts.now)]


def are_all_silent(facts: Facts) -> bool:
    """Whether every pair is silent of which it can be told."""
    known = [pair for pair in facts.pairs if pair.profile.is_known and not _is_closed(pair, facts.now)]
    return bool(known) and len(silent_pairs(facts)) == len(known)


def _is_closed(pair: Pair, now: datetime) -> bool:
    return pair.closed_until is not None and now < pair.closed_until


def _is_silent(pair: Pair, now: datetime) -> bool:
    if _is_closed(pair, now):
        return False
    # After a closing nobody is late before what was expected since then is missed.
    since = max(filter(None, (pair.last_at, pair.closed_until)), default=None)
    return since is not None and is_silent(pair.profile, since=since, now=now, zone=pair.zone)


def _signatures(facts: Facts) -> Iterator[Problem]:
    for pair in facts.pairs:
        if not pair.unsigned or pair.unsigned_at is None:
            continue
        is_lately = pair.last_at is not None and facts.now - pair.last_at < VERIFIED_LATELY
        is_critical = pair.unsigned >= MIN_CRITICAL_UNSIGNED and not is_lately
        if facts.now - pair.unsigned_at < (UNSIGNED_FORGOTTEN_CRITICAL if is_critical else UNSIGNED_FORGOTTEN):
            words = (
                f"{number_of(pair.unsigned, 'delivery', 'deliveries')} with a wrong signature, or none, and none verified since"
            )
            yield Problem(kinds.SIGNATURES, pair.name, CRITICAL if is_critical else WARNING, words)


def _silence(facts: Facts) -> Iterator[Problem]:
    silent = silent_pairs(facts)
    if are_all_silent(facts):
        since = max((pair.last_at for pair in silent if pair.last_at is not None), default=None)
        words = f"No delivery from {number_of(len(silent), 'store and system', 'stores and systems')}, the last {_since(since)}"
        yield Problem(kinds.SILENCE, kinds.ALL_PAIRS, CRITICAL, words)
    for pair in silent:
        expected = missed(pair.profile, since=pair.last_at or facts.now, now=facts.now, zone=pair.zone)
        words = f"Last delivery {_since(pair.last_at)}; since then about {expected:.0f} were expected"
        yield Problem(kinds.SILENCE, pair.name, WARNING, words)
    for pair in facts.pairs:
        if pair.first_at is None:
            yield Problem(kinds.SILENCE, pair.name, INFO, "It never delivered, so silence cannot be told from quiet hours")
        elif not pair.profile.is_known and _is_silent(pair, facts.now):
            words = f"Last delivery {_since(pair.last_at)}; less than {MIN_WEEKS} weeks are known, so these may be quiet hours"
            yield Problem(kinds.SILENCE, pair.name, INFO, words)


def _registration(facts: Facts) -> Iterator[Problem]:
    known = facts.registration
    if not known.is_wanted:
        return
    has_helped = known.registered_at is not None and any(
        pair.last_at is not None and pair.last_at > known.registered_at for pair in facts.pairs
    )
    if known.renewals >= MAX_RENEWALS and has_helped and are_all_silent(facts):
        words = "Deliveries came back after each registration and stopped again"
        yield Problem(kinds.ANOTHER_DEPLOYMENT, "", CRITICAL, words)
    if known.state == "failed":
        yield Problem(kinds.REGISTRATION, "", CRITICAL, f"mipOS says: {known.words}")
    elif known.state == "pending" and known.attempts >= MIN_FAILED_REGISTRATIONS:
        yield Problem(kinds.REGISTRATION, "", WARNING, f"Tried again by itself; mipOS says: {known.words}")


def _ping(facts: Facts) -> Iterator[Problem]:
    last = facts.ping
    if last is None or last.state == "returned":
        return
    if last.state == "refused" or last.ever_returned:
        yield Problem(kinds.PUBLIC_URL, "", CRITICAL, last.words)
    else:
        yield Problem(kinds.PUBLIC_URL, "", INFO, f"It cannot be checked from here: {last.words}")


def _unsettled(facts: Facts) -> Iterator[Problem]:
    if facts.unsettled:
        settled_at = max((pair.settled_at for pair in facts.pairs if pair.settled_at is not None), default=None)
        is_all = settled_at is None or facts.now - settled_at > MAX_UNSETTLED_TIME
        severity = CRITICAL if is_all and facts.unsettled >= MIN_CRITICAL_UNSETTLED else WARNING
        words = f"{number_of(facts.unsettled, 'delivery was', 'deliveries were')} answered 503 in the last five minutes"
        yield Problem(kinds.UNSETTLED, "", severity, words + (", and none otherwise" if severity is CRITICAL else ""))


def _waiting(facts: Facts) -> Iterator[Problem]:
    for waiting in facts.refusals:
        words = f"{number_of(waiting.number, 'delivery', 'deliveries')}, the oldest {_since(waiting.oldest_at)}"
        if waiting.folded:
            older = number_of(waiting.folded, "older one was", "older ones were")
            words += f"; {older} folded into this count, and the bodies deleted (pos-sync refused list --state folded)"
        yield Problem(kinds.REFUSALS, waiting.reason, WARNING, words)
    if facts.duplicates:
        words = number_of(
            facts.duplicates, "delivery may be a movement of its own", "deliveries may each be a movement of its own"
        )
        yield Problem(kinds.DUPLICATES, "", WARNING, words)


def _outbox(facts: Facts) -> Iterator[Problem]:
    for queue in facts.queues:
        if queue.dead:
            words = f"{number_of(queue.dead, 'stock update')}{_said(queue)}"
            yield Problem(kinds.OUTBOX_DEAD, queue.name, WARNING, words)
        age = timedelta() if queue.oldest_at is None else facts.now - queue.oldest_at
        if age > MAX_QUEUE_AGE:
            severity = CRITICAL if age > MAX_QUEUE_AGE_CRITICAL else WARNING
            why = f": {queue.why}" if queue.why else ""
            words = f"{number_of(queue.pending, 'stock update')}, the oldest {_since(queue.oldest_at)}{why}"
            yield Problem(kinds.OUTBOX_LATE, queue.name, severity, words)


def _said(queue: Queue) -> str:
    return f": {queue.dead_words}" if queue.dead_words else ""


def _drift(facts: Facts) -> Iterator[Problem]:
    for one in facts.drift:
        words = f"{number_of(one.items, 'item')}, together by {to_canonical(one.amount)}"
        yield Problem(kinds.DRIFT, f"store {one.store_id}, {one.cause}", WARNING, words)


def _syncs(facts: Facts) -> Iterator[Problem]:
    for run in facts.syncs:
        if not run.is_done:
            name = f"store {run.store_id}, system {run.inventory_system_id}"
            words = f"The last one, {_since(run.ended_at or run.started_at)}, failed: {run.words or 'it was cut off'}"
            yield Problem(kinds.SYNC, name, WARNING, words)


def _low_stock(facts: Facts) -> Iterator[Problem]:
    if facts.low_number:
        shown = ", ".join(
            f"{low.item_id} in store {low.store_id} ({to_canonical(low.quantity)} of {to_canonical(low.threshold)} {low.unit})"
            for low in facts.low
        )
        more = f" and {facts.low_number - len(facts.low)} more" if facts.low_number > len(facts.low) else ""
        yield Problem(kinds.LOW_STOCK, "", WARNING, f"{number_of(facts.low_number, 'item')}: {shown}{more}")


def _disk(facts: Facts) -> Iterator[Problem]:
    if facts.disk_bytes is None:
        yield Problem(kinds.DISK, "", INFO, "Not watched: DATABASE_DISK_BYTES is not set")
    elif facts.database_bytes > DISK_WARNING * facts.disk_bytes:
        severity = CRITICAL if facts.database_bytes > DISK_CRITICAL * facts.disk_bytes else WARNING
        part = 100 * facts.database_bytes / facts.disk_bytes
        yield Problem(kinds.DISK, "", severity, f"The database uses {part:.0f} % of DATABASE_DISK_BYTES")
    for slot in facts.idle_slots:
        yield Problem(kinds.SLOT, slot, WARNING, f"Slot {slot} is inactive, so Postgres keeps all WAL for it")
    if facts.durability is not None:
        yield Problem(kinds.DURABILITY, "", WARNING, facts.durability)


def _since(moment: datetime | None) -> str:
    return "never" if moment is None else f"at {moment:%Y-%m-%d %H:%M:%S} UTC"
