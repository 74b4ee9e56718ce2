from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.mipos.answers import Answer, Done, NeedsHuman, Transient, Unauthorized
from app.mipos.registration_steps import (
    FRESH,
    PAUSE_FOR_A_HUMAN,
    Call,
    Finished,
    Signs,
    Superseded,
    Target,
    Wait,
    next_step,
    outcome_of,
    renewals_of,
)
from app.storage.mipos_account import Registration, RegistrationState

URL = "https://pos.example.com/webhooks/stock"
OTHER = "https://old.example.com/webhooks/stock"
START = datetime(2026, 11, 23, tzinfo=UTC)
ACCOUNT = b"account"
TARGET = Target(URL, ACCOUNT, START)
SOON = START + timedelta(seconds=5)
REGISTERED = Registration(URL, RegistrationState.REGISTERED, 0, "ok", START, None, URL, START, ACCOUNT)
PENDING = Registration(URL, RegistrationState.PENDING, 3, "away", START, SOON, OTHER, START - timedelta(days=1), ACCOUNT)
FAILED = replace(PENDING, state=RegistrationState.FAILED, words="Invalid type.")


@pytest.mark.parametrize(
    ("known", "now", "expected"),
    [
        (None, START, Call()),
        (REGISTERED, START, Finished()),
        (replace(REGISTERED, registered_at=START - FRESH + timedelta(seconds=1)), START, Finished()),
        (replace(REGISTERED, registered_at=START - FRESH), START, Call()),
        (replace(REGISTERED, url=OTHER, registered_url=OTHER), START, Call()),
        (PENDING, START, Wait(timedelta(seconds=5))),
        (PENDING, SOON, Call()),
        (FAILED, START, Wait(timedelta(seconds=5))),
        (FAILED, SOON, Call()),
        (replace(FAILED, attempted_at=START - FRESH, next_attempt_at=START + timedelta(hours=1)), START, Call()),
        # What the clock of another machine wrote, a day ahead, holds nobody up.
        (replace(FAILED, attempted_at=START + timedelta(days=1), next_attempt_at=START + timedelta(days=1)), START, Call()),
        (replace(REGISTERED, registered_at=START + timedelta(days=1)), START, Call()),
        (replace(PENDING, url=OTHER), START, Call()),
        (replace(REGISTERED, account=b"another"), START, Call()),
        (replace(FAILED, account=b"another"), START, Call()),
    ],
)
def test_what_a_worker_does_next(known: Registration | None, now: datetime, expected: object) -> None:
    assert expected == next_step(known, TARGET, now=now, was_ours=False)


@pytest.mark.parametrize("other", [replace(REGISTERED, url=OTHER), replace(PENDING, account=b"another")])
def test_a_worker_that_sees_another_deployment_s_url_after_its_own_leaves_it_alone(other: Registration) -> None:
    assert Superseded() == next_step(other, TARGET, now=SOON, was_ours=True)


def test_what_another_account_had_registered_is_not_known_of_this_one() -> None:
    exists = NeedsHuman("The webhook url of this type already exists", 409)

    after = outcome_of(exists, replace(REGISTERED, account=b"another"), TARGET, now=START, jitter=0)

    assert (RegistrationState.FAILED, None, ACCOUNT) == (after.state, after.registered_url, after.account)


@pytest.mark.parametrize(
    ("answer", "known", "state", "attempts", "registered_url"),
    [
        (Done("ok"), None, RegistrationState.REGISTERED, 0, URL),
        (Done("ok"), FAILED, RegistrationState.REGISTERED, 0, URL),
        (Transient("away"), None, RegistrationState.PENDING, 1, None),
        (Transient("away"), PENDING, RegistrationState.PENDING, 4, OTHER),
        (Transient("away"), REGISTERED, RegistrationState.PENDING, 1, URL),
        (Transient("away"), replace(PENDING, url=OTHER), RegistrationState.PENDING, 1, OTHER),
        (NeedsHuman("Invalid type.", 409), None, RegistrationState.FAILED, 1, None),
        (Unauthorized("Unauthorized."), None, RegistrationState.FAILED, 1, None),
        (
            NeedsHuman("The webhook url of this type already exists, use ...", 409),
            REGISTERED,
            RegistrationState.REGISTERED,
            0,
            URL,
        ),
        (NeedsHuman("The webhook url of this type ALREADY EXISTS", 409), PENDING, RegistrationState.FAILED, 4, OTHER),
        (NeedsHuman("already exists", 409), None, RegistrationState.FAILED, 1, None),
    ],
)
def test_what_an_answer_makes_of_the_state(
    answer: Answer, known: Registration | None, state: RegistrationState, attempts: int, registered_url: str | None
) -> None:
    after = outcome_of(answer, known, TARGET, now=START, jitter=0)

    assert (URL, state, attempts, registered_url) == (after.url, after.state, after.attempts, after.registered_url)
    assert answer.words == after.words
    assert (after.next_attempt_at is None) == (state is RegistrationState.REGISTERED)


def test_a_refusal_is_tried_again_slowly_and_a_failure_quickly() -> None:
    refused = outcome_of(NeedsHuman("no", 409), None, TARGET, now=START, jitter=0)
    failed = outcome_of(Transient("away"), None, TARGET, now=START, jitter=0)

    assert START + PAUSE_FOR_A_HUMAN == refused.next_attempt_at
    assert START + timedelta(seconds=1) == failed.next_attempt_at


DAY = timedelta(days=1)
SILENT = Signs(is_silent=True, last_delivery_at=START - DAY)
CAME_BACK = Signs(is_silent=True, last_delivery_at=START + timedelta(hours=1))


@pytest.mark.parametrize(
    ("known", "signs", "now", "expected"),
    [
        pytest.param(
            REGISTERED, Signs(is_silent=False, last_delivery_at=START), START + 9 * DAY, None, id="a delivery proves it"
        ),
        pytest.param(REGISTERED, SILENT, START + DAY / 2, None, id="at most daily"),
        pytest.param(REGISTERED, SILENT, START + DAY, 0, id="silence"),
        pytest.param(REGISTERED, Signs(is_silent=False, last_delivery_at=None), START + DAY, 0, id="nothing ever came"),
        pytest.param(REGISTERED, CAME_BACK, START + DAY, 1, id="deliveries came back, and stopped"),
        pytest.param(replace(REGISTERED, renewals=1), SILENT, START + DAY, 1, id="it did not help"),
        pytest.param(replace(REGISTERED, renewals=1), CAME_BACK, START + DAY, 2, id="a second time"),
        pytest.param(replace(REGISTERED, renewals=2), CAME_BACK, START + DAY, None, id="another deployment"),
        pytest.param(replace(REGISTERED, renewals=2), CAME_BACK, START + 8 * DAY, 1, id="forgotten after a week"),
        pytest.param(FAILED, SILENT, START + DAY, None, id="not registered"),
        pytest.param(replace(REGISTERED, url=OTHER), SILENT, START + DAY, None, id="another URL"),
        pytest.param(None, SILENT, START, None, id="nothing known"),
    ],
)
def test_when_the_call_is_repeated(known: Registration | None, signs: Signs, now: datetime, expected: int | None) -> None:
    assert expected == renewals_of(known, TARGET, signs, now=now)
