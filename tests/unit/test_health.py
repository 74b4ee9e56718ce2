"""What keeps a worker from writing, by what its own transactions say."""

import pytest
from sqlalchemy.exc import DBAPIError

from app.operations.health import MAX_FAULT_AGE, Health
from app.problems import kinds
from app.storage.watch import ServerState


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Refusal(Exception):
    sqlstate = "42501"


@pytest.mark.parametrize("state", [ServerState.UNKNOWN, ServerState.READ_ONLY, ServerState.SILENT])
def test_a_server_that_does_not_write(state: ServerState) -> None:
    ailment = Health(lambda: state).ailment

    assert ailment is not None
    assert kinds.DATABASE is ailment.kind


def test_a_server_that_answers_and_takes_no_delivery() -> None:
    clock = Clock()
    health = Health(lambda: ServerState.WRITES, clock=clock)
    found = [health.ailment]
    for fault, code in (("busy", "55P03"), ("away", "53100"), ("not_set_up", "42501")):
        health.on_fault(fault, code)
        found.append(health.ailment)
    clock.now = MAX_FAULT_AGE + 1
    found.append(health.ailment)
    health.on_fault("away", "53300")
    health.on_batch()
    found.append(health.ailment)

    assert [None, None, kinds.DISK, kinds.DATABASE, None, None] == [one and one.kind for one in found]


def test_a_schema_that_is_not_as_it_should_be_is_told_as_that() -> None:
    clock = Clock()
    health = Health(lambda: ServerState.WRITES, clock=clock)
    health.on_fault("not_set_up", "42P01")
    found = [health.ailment]
    health.note_schema("It is at revision 0008.")
    found.append(health.ailment)
    health.note_schema(None)
    found.append(health.ailment)
    health.note_schema("It is at revision 0008.")
    clock.now = MAX_FAULT_AGE + 1
    found.append(health.ailment)
    away = Health(lambda: ServerState.SILENT)
    away.note_schema("It is at revision 0008.")
    found.append(away.ailment)

    assert [kinds.SCHEMA, kinds.SCHEMA, None, None, kinds.DATABASE] == [one and one.kind for one in found]
    assert [True, True] == ["42P01" in found[0].words, "0008" in found[1].words] if found[0] and found[1] else False


def test_a_look_that_fails_is_a_sign_where_nothing_is_delivered() -> None:
    health = Health(lambda: ServerState.WRITES)
    health.note_look(DBAPIError("SELECT", None, Refusal()))
    failing = health.ailment
    health.note_look(None)

    assert failing is not None
    assert "42501" in failing.words
    assert health.ailment is None
