"""Judging: from facts to problems, and what the alert webhook is told of them. The limits are those of docs/runbook.md."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml

from app.operations.alert_message import MIN_FALL, MIN_RISE, REPEAT, AlertTarget, changes_of, message_of
from app.problems import kinds
from app.problems.facts import Differing, Facts, LastPing, LastSync, Low, Pair, Queue, Registered, Waiting
from app.problems.judging import judge
from app.problems.kinds import EXIT_STATUS, KINDS, Severity, worst
from app.problems.silence import Profile
from app.storage.problems import Known
from tests.support import alert_rules

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
UNKNOWN = Profile((0.0,) * 168, 0.0, 0)
BUSY = Profile((6.0,) * 168, 1008.0, 4)
PAIR = Pair("1", "x", ZoneInfo("UTC"), None, NOW - timedelta(days=40), NOW - MINUTE, BUSY, 0, None)
WELL = Facts(
    now=NOW,
    pairs=[PAIR],
    unsettled=0,
    refusals=[],
    duplicates=0,
    queues=[],
    drift=[],
    syncs=[],
    registration=Registered(True, "registered", "", NOW, NOW, 0),
    ping=LastPing("returned", "", NOW, True),
    database_bytes=10,
    disk_bytes=100,
    idle_slots=[],
    durability=None,
    low=[],
    low_number=0,
)
WARNING, CRITICAL, INFO = Severity.WARNING, Severity.CRITICAL, Severity.INFO


def queue(*, minutes: float = 0, dead: int = 0) -> Queue:
    oldest_at = NOW - MINUTE * minutes if minutes else None
    return Queue("1", "x", 1 if minutes else 0, oldest_at, "mipOS is away.", dead, "No such integration.")


def unsigned(number: int, *, at: datetime = NOW - MINUTE, last_at: datetime | None = PAIR.last_at) -> list[Pair]:
    return [replace(PAIR, unsigned=number, unsigned_at=at, last_at=last_at)]


def pending(attempts: int) -> Registered:
    return replace(WELL.registration, state="pending", attempts=attempts)


def silent(**changes: Any) -> Pair:
    return replace(PAIR, last_at=NOW - timedelta(hours=2), **changes)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, [], id="well"),
        pytest.param({"pairs": unsigned(1)}, [("signatures", WARNING)], id="one wrong signature"),
        pytest.param({"pairs": unsigned(3)}, [("signatures", CRITICAL)], id="three"),
        pytest.param({"pairs": unsigned(9, last_at=NOW)}, [("signatures", WARNING)], id="nine, and one verified just now"),
        pytest.param({"pairs": unsigned(1, at=NOW - timedelta(hours=2))}, [], id="one, long ago"),
        pytest.param({"pairs": [silent()]}, [("silence", CRITICAL), ("silence", WARNING)], id="the only pair is silent"),
        pytest.param({"pairs": [silent(), replace(PAIR, store_id="2")]}, [("silence", WARNING)], id="one of two"),
        pytest.param({"pairs": [silent(closed_until=NOW + MINUTE)]}, [], id="closed"),
        pytest.param({"pairs": [silent(closed_until=NOW - MINUTE)]}, [], id="just opened again"),
        pytest.param({"pairs": [silent(profile=UNKNOWN)]}, [], id="no history"),
        pytest.param({"pairs": [silent(profile=replace(BUSY, weeks=2))]}, [("silence", INFO)], id="too little history"),
        pytest.param({"pairs": [replace(PAIR, profile=replace(BUSY, weeks=2))]}, [], id="little history, and not silent"),
        pytest.param({"pairs": [replace(PAIR, first_at=None, last_at=None)]}, [("silence", INFO)], id="never delivered"),
        pytest.param({"registration": replace(WELL.registration, state="failed")}, [("registration", CRITICAL)], id="failed"),
        pytest.param({"registration": pending(1)}, [], id="tried for the first time"),
        pytest.param({"registration": pending(2)}, [("registration", WARNING)], id="pending"),
        pytest.param({"registration": replace(WELL.registration, is_wanted=False, state="failed")}, [], id="not wanted"),
        pytest.param(
            {"registration": replace(WELL.registration, renewals=2, registered_at=NOW - timedelta(days=1)), "pairs": [silent()]},
            [("another_deployment", CRITICAL), ("silence", CRITICAL), ("silence", WARNING)],
            id="another deployment",
        ),
        pytest.param({"ping": LastPing("lost", "x", NOW, True)}, [("public_url", CRITICAL)], id="lost"),
        pytest.param({"ping": LastPing("lost", "x", NOW, False)}, [("public_url", INFO)], id="never came back"),
        pytest.param({"ping": LastPing("refused", "x", NOW, False)}, [("public_url", CRITICAL)], id="refused"),
        pytest.param({"ping": None}, [], id="never pinged"),
        pytest.param({"unsettled": 2}, [("unsettled", WARNING)], id="unsettled"),
        pytest.param({"unsettled": 3}, [("unsettled", CRITICAL)], id="nothing but unsettled"),
        pytest.param({"unsettled": 9, "pairs": [replace(PAIR, settled_at=NOW)]}, [("unsettled", WARNING)], id="some unsettled"),
        pytest.param({"refusals": [Waiting("x", 1, NOW)], "duplicates": 1}, [("duplicates", WARNING), ("refusals", WARNING)]),
        pytest.param({"queues": [queue(dead=11)]}, [("outbox_dead", WARNING)], id="dead"),
        pytest.param({"queues": [queue(minutes=0.9)]}, [], id="on its way"),
        pytest.param({"queues": [queue(minutes=1.1)]}, [("outbox_late", WARNING)], id="late"),
        pytest.param({"queues": [queue(minutes=16)]}, [("outbox_late", CRITICAL)], id="very late"),
        pytest.param({"drift": [Differing("1", "gap", 2, Decimal("1.5"))]}, [("drift", WARNING)], id="drift"),
        pytest.param({"syncs": [LastSync("1", "x", False, NOW, None, "")]}, [("sync", WARNING)], id="sync"),
        pytest.param({"syncs": [LastSync("1", "x", True, NOW, NOW, "")]}, [], id="sync done"),
        pytest.param({"low": [Low("1", "a", Decimal(1), Decimal(2), "KG")], "low_number": 1}, [("low_stock", WARNING)], id="low"),
        pytest.param({"database_bytes": 80}, [], id="disk at 80 %"),
        pytest.param({"database_bytes": 81}, [("disk", WARNING)], id="disk above"),
        pytest.param({"database_bytes": 91}, [("disk", CRITICAL)], id="disk nearly full"),
        pytest.param({"disk_bytes": None}, [("disk", INFO)], id="disk not watched"),
        pytest.param({"idle_slots": ["s"]}, [("replication_slot", WARNING)], id="slot"),
        pytest.param({"durability": "1 x standby"}, [("durability", WARNING)], id="durability"),
    ],
)
def test_what_is_a_problem(changes: dict[str, Any], expected: list[tuple[str, Severity]]) -> None:
    found = judge(replace(WELL, **changes))

    assert sorted(expected) == sorted((one.kind.name, one.severity) for one in found)
    assert all(one.severity in one.kind.severities for one in found)
    assert all(one.words and not one.words.endswith(".") for one in found)


def test_words_have_a_singular_and_a_plural() -> None:
    for pairs, words in (
        ([silent()], "No delivery from 1 store and system, the last at "),
        ([silent(), silent(store_id="2")], "No delivery from 2 stores and systems, the last at "),
    ):
        assert judge(replace(WELL, pairs=pairs))[0].words.startswith(words)


def test_numbers_have_no_zeros_at_their_end() -> None:
    drift = judge(replace(WELL, drift=[Differing("1", "gap", 3, Decimal("38.50"))]))
    low = judge(replace(WELL, low=[Low("1", "a", Decimal("1.00"), Decimal("2.0"), "KG")], low_number=1))
    assert ["3 items, together by 38.5", "1 item: a in store 1 (1 of 2 KG)"] == [one.words for one in [*drift, *low]]


def test_how_commands_end() -> None:
    assert [0, 3, 4] == [EXIT_STATUS[one] for one in (INFO, WARNING, CRITICAL)]
    assert CRITICAL is worst([INFO, CRITICAL, WARNING])
    assert None is worst([])


def known(**changes: Any) -> Known:
    one = Known(kinds.DRIFT, "a", WARNING, "1 item", NOW - MIN_RISE, NOW, None, None, None, None, None)
    return replace(one, **changes)


TOLD: dict[str, Any] = {"told_severity": WARNING, "told_at": NOW - timedelta(hours=1)}
TOLD_CRITICAL: dict[str, Any] = {"severity": CRITICAL, "told_severity": CRITICAL}


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        pytest.param(known(since=NOW - MIN_RISE / 2), None, id="just begun"),
        pytest.param(known(), WARNING, id="lasts"),
        pytest.param(known(severity=INFO), None, id="only information"),
        pytest.param(known(**TOLD), None, id="told"),
        pytest.param(known(severity=CRITICAL, **TOLD), CRITICAL, id="worse"),
        pytest.param(known(**TOLD, cleared_at=NOW - MIN_FALL / 2), None, id="just over"),
        pytest.param(known(**TOLD, cleared_at=NOW - MIN_FALL), "over", id="over"),
        pytest.param(known(cleared_at=NOW - MIN_FALL), None, id="over, and never told"),
        pytest.param(known(**TOLD_CRITICAL, told_at=NOW - REPEAT / 2), None, id="critical, told today"),
        pytest.param(known(**TOLD_CRITICAL, told_at=NOW - REPEAT), CRITICAL, id="critical, told yesterday"),
        pytest.param(known(**TOLD_CRITICAL, told_at=NOW - REPEAT, acknowledged_at=NOW), None, id="acknowledged"),
    ],
)
def test_what_the_webhook_is_told(one: Known, expected: Severity | str | None) -> None:
    changes = changes_of([one], now=NOW)

    assert ([] if expected is None else [None if expected == "over" else expected]) == [change.severity for change in changes]


@pytest.mark.parametrize(("severity", "expected"), [(WARNING, WARNING), (INFO, None)])
def test_what_is_less_bad_is_told_when_it_has_been_so_for_a_while(severity: Severity, expected: Severity | None) -> None:
    """However long ago the last message was."""
    one = known(severity=severity, told_severity=CRITICAL, told_at=NOW - REPEAT)
    since = [NOW - MIN_FALL / 2, NOW - MIN_FALL]
    told = [changes_of([one], now=NOW, lower_since={one.key: moment}) for moment in since]

    assert [[], [expected]] == [[change.severity for change in changes] for changes in told]
    assert [] == changes_of([one], now=NOW)


def test_a_message_has_text_for_chat_tools_and_all_of_it_for_programs() -> None:
    target = AlertTarget("http://127.0.0.1/", bytes(32), "https://pos.example.com")
    every = [known(subject=f"store {n}") for n in range(12)]
    message = message_of(changes_of(every, now=NOW), every, target, now=NOW)
    document = json.loads(message.body)

    assert (
        "WARNING drift (store 0): Our stock differs from an inventory system's. 1 item. What to do: pos-sync drift"
        in document["text"]
    )
    assert document["text"].endswith("... and 2 more")
    assert (12, 12, "warning") == (
        len(document["data"]["changes"]),
        len(document["data"]["problems"]),
        document["data"]["severity"],
    )
    # The same once more, a moment later, is the same message.
    assert message.message_id == message_of(changes_of(every, now=NOW), every, target, now=NOW + MINUTE).message_id


def test_the_rules_are_those_of_the_kinds_and_each_has_its_page_in_the_runbook() -> None:
    assert alert_rules.rules() == alert_rules.FILE.read_text()
    rules = [rule for group in yaml.safe_load(alert_rules.rules())["groups"] for rule in group["rules"] if "alert" in rule]
    runbook = (ROOT / "docs/runbook.md").read_text()
    anchors = set(re.findall(r"^## ([a-z_]+)$", runbook, re.MULTILINE))

    assert {kind.name for kind in KINDS} == anchors
    for rule in rules:
        assert {"summary", "description", "runbook_url"} == set(rule["annotations"])
        assert rule["annotations"]["runbook_url"].removeprefix("docs/runbook.md#") in anchors
    told = {(rule["labels"]["problem"], rule["labels"]["severity"]) for rule in rules}
    wanted = {(kind.name, severity.value) for kind in KINDS for severity in kind.severities if severity is not INFO}
    assert wanted - {("watch", "warning")} == told
    for kind in KINDS:
        section = runbook.split(f"\n## {kind.name}\n")[1].split("\n## ")[0]
        assert kind.title in section
        assert all(f"**{severity.value}**" in section for severity in kind.severities), kind.name
