"""What the alert webhook is told, and how it is signed (Standard Webhooks: webhook-id, webhook-timestamp, webhook-signature)."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

from app.problems.kinds import Kind, Severity, worst
from app.storage.problems import Known

MIN_RISE = timedelta(seconds=15)
"""A problem that is over by then is not told of."""
MIN_FALL = timedelta(minutes=5)
"""A problem that begins again by then has not ended."""
REPEAT = timedelta(days=1)
"""Of what is critical, until somebody acknowledges it"""
RUNBOOK = "docs/runbook.md"
MAX_SHOWN = 10
"""Changes in the text for people; the data has all of them."""


@dataclass(frozen=True, slots=True)
class AlertTarget:
    """Where messages go, with which key they are signed, and what they call this service."""

    url: str
    key: bytes
    service: str


@dataclass(frozen=True, slots=True)
class Change:
    """One problem of which the webhook was told otherwise, or not at all. `severity` is None where it is over."""

    kind: Kind
    subject: str
    severity: Severity | None
    was: Severity | None
    words: str
    since: datetime

    @property
    def name(self) -> str:
        """The kind's name."""
        return self.kind.name


@dataclass(frozen=True, slots=True)
class AlertMessage:
    """One message; the same id is the same message, however often it is sent."""

    message_id: str
    body: str

    def headers(self, target: AlertTarget) -> dict[str, str]:
        """Its headers, signed now."""
        timestamp = str(int(time.time()))
        signed = f"{self.message_id}.{timestamp}.{self.body}".encode()
        signature = base64.b64encode(hmac.digest(target.key, signed, hashlib.sha256)).decode("ascii")
        return {
            "Content-Type": "application/json",
            "webhook-id": self.message_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": f"v1,{signature}",
        }


def is_lower(one: Known) -> bool:
    """Whether it is there, and less bad than the webhook was told."""
    return one.is_present and one.told_severity is not None and one.severity.rank < one.told_severity.rank


def changes_of(
    known: Sequence[Known], *, now: datetime, lower_since: Mapping[tuple[str, str], datetime] = MappingProxyType({})
) -> list[Change]:
    """What has changed since the webhook was told, and lasts. `lower_since`: from when on those that `is_lower` are so."""
    return [change for one in known if (change := _change_of(one, now=now, lower_since=lower_since.get(one.key))) is not None]


def _change_of(one: Known, *, now: datetime, lower_since: datetime | None) -> Change | None:
    is_worth_telling = one.is_present and one.severity is not Severity.INFO
    told_rank = one.told_severity.rank if one.told_severity else 0
    if is_worth_telling and one.severity.rank > told_rank:
        is_told = now - one.since >= MIN_RISE
    elif is_worth_telling and one.severity.rank == told_rank:
        is_old = one.told_at is not None and now - one.told_at >= REPEAT
        is_told = one.severity is Severity.CRITICAL and is_old and one.acknowledged_at is None
    elif one.cleared_at is not None:
        is_told = one.told_severity is not None and now - one.cleared_at >= MIN_FALL
    else:
        is_told = lower_since is not None and now - lower_since >= MIN_FALL
    severity = one.severity if is_worth_telling else None
    return Change(one.kind, one.subject, severity, one.told_severity, one.words, one.since) if is_told else None


def message_of(changes: Sequence[Change], known: Sequence[Known], target: AlertTarget, *, now: datetime) -> AlertMessage:
    """The message that tells `changes`. The same changes after the same last message have the same id."""
    present = [one for one in known if one.is_present and one.severity is not Severity.INFO]
    told_at = max((one.told_at for one in known if one.told_at is not None), default=None)
    told = [[one.name, one.subject, one.severity and one.severity.value, one.was and one.was.value] for one in changes]
    digest = hashlib.sha256(json.dumps([target.service, str(told_at), told]).encode()).hexdigest()
    severity = worst([one.severity for one in present])
    document = {
        "type": "problems.changed",
        "timestamp": now.isoformat(timespec="seconds"),
        "text": _text(changes, target),
        "data": {
            "service": target.service,
            "severity": severity.value if severity else None,
            "changes": [_document(one.kind, one.subject, one.severity, one.words, one.since, was=one.was) for one in changes],
            "problems": [_document(one.kind, one.subject, one.severity, one.words, one.since) for one in present],
        },
    }
    return AlertMessage(f"msg_{digest[:32]}", json.dumps(document, ensure_ascii=False))


def _document(
    kind: Kind, subject: str, severity: Severity | None, words: str, since: datetime, **more: Severity | None
) -> dict[str, str | None]:
    return {
        "name": kind.name,
        "subject": subject,
        "severity": severity.value if severity else None,
        **{name: value.value if value else None for name, value in more.items()},
        "title": kind.title,
        "words": words,
        "since": since.isoformat(timespec="seconds"),
        "remedy": kind.remedy,
        "runbook": f"{RUNBOOK}#{kind.name}",
    }


def _text(changes: Sequence[Change], target: AlertTarget) -> str:
    lines = [_line(one) for one in changes[:MAX_SHOWN]]
    more = len(changes) - MAX_SHOWN
    return "\n".join([f"pos-sync {target.service}", *lines, *([f"... and {more} more"] if more > 0 else [])])


def _line(one: Change) -> str:
    about = f" ({one.subject})" if one.subject else ""
    if one.severity is None:
        return f"OVER {one.name}{about}: {one.kind.title}"
    return f"{one.severity.value.upper()} {one.name}{about}: {one.kind.title}. {one.words}. What to do: {one.kind.remedy}"


def test_message(target: AlertTarget, *, now: datetime) -> AlertMessage:
    """A message that says that it is a test."""
    text = f"pos-sync {target.service}\nTEST: this is what an alert looks like. Nothing is wrong."
    document = {"type": "problems.test", "timestamp": now.isoformat(timespec="seconds"), "text": text, "data": {}}
    return AlertMessage(f"msg_test_{int(now.timestamp())}", json.dumps(document))
