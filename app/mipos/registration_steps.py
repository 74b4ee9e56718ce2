"""What to do about our webhook's registration, and what an answer of mipOS makes of it. Pure: `registration` acts."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from app.mipos.answers import Answer, Done, NeedsHuman, Transient, backoff
from app.problems.judging import MAX_RENEWALS
from app.storage.mipos_account import Registration, RegistrationState

FRESH = timedelta(minutes=10)
"""A registration of our URL that is younger than this was made by a worker that started together with us."""
PAUSE_FOR_A_HUMAN = timedelta(minutes=15)
MAX_WAIT = PAUSE_FOR_A_HUMAN * 1.1
"""No pause is longer, jitter included."""
MIN_RENEWAL_AGE = timedelta(days=1)
FORGET_RENEWALS = timedelta(days=7)
"""After a registration that lasted this long, renewals are counted from 0."""
_ALREADY_EXISTS = "already exists"


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again after `pause`."""

    pause: timedelta


@dataclass(frozen=True, slots=True)
class Call:
    """Call mipOS now."""


@dataclass(frozen=True, slots=True)
class Finished:
    """Our URL is registered."""


@dataclass(frozen=True, slots=True)
class Superseded:
    """Another deployment registers another URL by now: stop, or the two would take turns without end."""


@dataclass(frozen=True, slots=True)
class Target:
    """What to register, with which account (a hash), for a worker that started at `started_at`."""

    url: str
    account: bytes
    started_at: datetime | None = None
    """By the database's clock; None until it was asked."""


def next_step(
    known: Registration | None, target: Target, *, now: datetime, was_ours: bool
) -> Wait | Call | Finished | Superseded:
    """What a worker does about its target, knowing what all workers did so far.

    `was_ours` says that this worker has seen the state tell of its own target before.
    """
    if known is None or not known.is_about(target.url, target.account):
        return Superseded() if known is not None and was_ours else Call()
    started_at = target.started_at or now
    if known.state is RegistrationState.REGISTERED:
        is_fresh = known.registered_at is not None and started_at - FRESH < known.registered_at <= now
        return Finished() if is_fresh else Call()
    pause = timedelta() if known.next_attempt_at is None else known.next_attempt_at - now
    # A longer one than there is was written by another clock.
    is_due = not timedelta() < pause <= MAX_WAIT
    return Call() if is_due or known.attempted_at <= started_at - FRESH else Wait(pause)


@dataclass(frozen=True, slots=True)
class Signs:
    """What tells whether mipOS still has our URL: a verified delivery proves it."""

    is_silent: bool
    """No pair delivers of which deliveries are expected."""
    last_delivery_at: datetime | None


def renewals_of(known: Registration | None, target: Target, signs: Signs, *, now: datetime) -> int | None:
    """How many renewals there are with the one that is due now; None where none is.

    At most one a day, and only in a silence. Where deliveries came back after `MAX_RENEWALS` and stopped again, another
    deployment takes the URL each time: calling on would take it from that one each day.
    """
    if known is None or not known.is_about(target.url, target.account) or known.registered_at is None:
        return None
    is_expected = signs.is_silent or signs.last_delivery_at is None
    age = now - known.registered_at
    if known.state is not RegistrationState.REGISTERED or not is_expected or age < MIN_RENEWAL_AGE:
        return None
    if age > FORGET_RENEWALS:
        return 1
    has_helped = signs.last_delivery_at is not None and signs.last_delivery_at > known.registered_at
    if not has_helped:
        return known.renewals
    return known.renewals + 1 if known.renewals < MAX_RENEWALS else None


def outcome_of(  # noqa: PLR0913 - a pure function of all that counts, each by name
    answer: Answer, known: Registration | None, target: Target, *, now: datetime, jitter: float, renewals: int = 0
) -> Registration:
    """The state after mipOS answered; `jitter` is from 0 to 1.

    "Already exists" is a success if the URL is the one that mipOS took last, else mipOS holds another URL and a person has
    to act (docs/reference/mipos-api.md).
    """
    url, account = target.url, target.account
    is_retry = known is not None and known.is_about(url, account) and known.state is not RegistrationState.REGISTERED
    attempts = known.attempts + 1 if known is not None and is_retry else 1
    is_same_account = known is not None and known.account == account
    registered_url = known.registered_url if known is not None and is_same_account else None
    registered_at = known.registered_at if known is not None and is_same_account else None
    is_ours = isinstance(answer, NeedsHuman) and _ALREADY_EXISTS in answer.words.lower() and registered_url == url
    if isinstance(answer, Done) or is_ours:
        return Registration(url, RegistrationState.REGISTERED, 0, answer.words, now, None, url, now, account, renewals)
    if isinstance(answer, Transient):
        state, pause = RegistrationState.PENDING, backoff(attempts, jitter=jitter, asked=answer.retry_after)
    else:
        state, pause = RegistrationState.FAILED, PAUSE_FOR_A_HUMAN * (1 + jitter / 10)
    return Registration(url, state, attempts, answer.words, now, now + pause, registered_url, registered_at, account, renewals)
