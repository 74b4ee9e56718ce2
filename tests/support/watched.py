"""A service whose problems are looked for many times a second, and a receiver of its alerts over real HTTP."""

import asyncio
import base64
import hashlib
import hmac
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx2
import pytest
import yaml
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.operations import alert_message, alerts, outage, problem_watch, traffic
from app.operator import drift_watch
from app.problems.kinds import EXIT_STATUS, Kind, Severity
from app.storage import problem_facts
from tests.conftest import running, settings_for
from tests.support.alert_rules import FILE, alert_name
from tests.support.commands import Run
from tests.support.mipos import listening
from tests.support.outbox import until
from tests.support.world import World

RULES = yaml.safe_load(FILE.read_text())
ABOVE_ZERO = re.compile(r"max by \(job\) \((.*)\) > 0")
ALERT_KEY = bytes(range(32))
ALERT_SECRET = f"whsec_{base64.b64encode(ALERT_KEY).decode()}"


@dataclass
class Receiver:
    """Takes alerts, and keeps those that are signed. `answers`: the statuses of its next answers; then 204."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    beats: int = 0
    answers: list[int] = field(default_factory=list)
    drips: int = 0
    """How many of the next messages are not answered to their end"""
    port: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        status = 204
        if request.method == "GET":
            self.beats += 1
        else:
            status = self.answers.pop(0) if self.answers else 204
            body, headers = await request.body(), request.headers
            signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
            signature = base64.b64encode(hmac.digest(ALERT_KEY, signed, hashlib.sha256)).decode()
            assert f"v1,{signature}" == headers["webhook-signature"]
            self.ids.append(headers["webhook-id"])
            if self.drips:
                self.drips -= 1
                await asyncio.sleep(60)
            if status == 204:
                self.messages.append(json.loads(body))
        await Response(status_code=status)(scope, receive, send)

    def told(self, kind: Kind) -> list[tuple[str, str | None]]:
        """What was said of this kind: (subject, severity), the severity None where it is over."""
        return [
            (change["subject"], change["severity"])
            for message in self.messages
            if message["type"] == "problems.changed"
            for change in message["data"]["changes"]
            if change["name"] == kind.name
        ]


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    async with listening(receiver, lifespan="off") as receiver.port:
        yield receiver


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all looks be made many times a second, and nothing wait before it is told."""
    monkeypatch.setattr(problem_watch, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(traffic, "FLUSH_SECONDS", 0.1)
    monkeypatch.setattr(drift_watch, "PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(drift_watch, "MAX_SHARE", 1.0)
    monkeypatch.setattr(outage, "TURN_SECONDS", 0.1)
    monkeypatch.setattr(alerts, "TURN_SECONDS", 0.1)
    monkeypatch.setattr(alerts, "MIN_PAUSE", timedelta())
    # Not at once: a service that starts does not know yet whether the database is there.
    monkeypatch.setattr(outage, "MIN_RISE", timedelta(seconds=3))
    monkeypatch.setattr(outage, "MIN_FALL", timedelta())
    monkeypatch.setattr(alert_message, "MIN_RISE", timedelta())
    monkeypatch.setattr(alert_message, "MIN_FALL", timedelta())
    monkeypatch.setattr(problem_facts, "MIN_ANCHOR_AGE", timedelta())


@dataclass
class Watched:
    """A running service, and all places in which a problem has to be seen."""

    world: World
    client: httpx2.AsyncClient
    receiver: Receiver
    run: Run

    async def shows(self, kind: Kind, severity: Severity, subject: str | None = None) -> None:
        """Wait until status, doctor, the metric and the webhook show it, by the same name."""

        async def is_shown() -> bool:
            is_told = any(
                told == severity.value and (subject is None or about == subject) for about, told in self.receiver.told(kind)
            )
            return is_told and await self.metric(kind, severity) > 0 and severity.value in await self.firing(kind)

        await until(is_shown)
        ended = await self.run("status", "--json")
        found = [one for one in json.loads(ended.stdout)["problems"] if one["name"] == kind.name]
        assert severity.value in {one["severity"] for one in found}, ended.stdout
        assert ended.exit_code >= EXIT_STATUS[severity]
        checked = {(check["name"], check["verdict"]) for check in json.loads((await self.run("doctor", "--json")).stdout)}
        verdict = "failed" if severity is Severity.CRITICAL else "warning"
        assert (kind.name, verdict) in checked

    async def is_over(self, kind: Kind) -> None:
        """Wait until none of them shows it any more, and the webhook was told so."""

        async def is_hidden() -> bool:
            told = self.receiver.told(kind)
            is_told = bool(told) and {subject for subject, _ in told} == {subject for subject, last in told if last is None}
            return is_told and not await self.firing(kind)

        await until(is_hidden)
        found = json.loads((await self.run("status", "--json")).stdout)["problems"]
        assert [] == [one for one in found if one["name"] == kind.name and one["severity"] != "info"]

    async def is_clear(self, kind: Kind) -> None:
        """Wait until `status` does not show it."""

        async def is_hidden() -> bool:
            problems = json.loads((await self.run("status", "--json")).stdout)["problems"]
            return kind.name not in {one["name"] for one in problems}

        await until(is_hidden)

    async def firing(self, kind: Kind) -> list[str]:
        """The severities of the rules about it that fire on the metrics of now."""
        series = dict(
            line.rsplit(" ", 1) for line in (await self.client.get("/metrics")).text.splitlines() if not line.startswith("#")
        )
        rules = [rule for group in RULES["groups"] for rule in group["rules"] if rule.get("alert") == alert_name(kind)]
        return [
            rule["labels"]["severity"]
            for rule in rules
            if (asked := ABOVE_ZERO.fullmatch(rule["expr"])) and float(series[asked[1]]) > 0
        ]

    async def metric(self, kind: Kind, severity: Severity) -> float:
        text = (await self.client.get("/metrics")).text
        name = f'pos_sync_problems{{name="{kind.name}",severity="{severity.value}"}} '
        return float(next(line for line in text.splitlines() if line.startswith(name)).rsplit(" ", 1)[1])


async def expect_deliveries(world: World, store: str, system: str) -> None:
    """Four weeks in which there were ten deliveries an hour, until now."""
    await world.execute(
        "INSERT INTO pos_sync.delivery_count (at, store_id, inventory_system_id, outcome, deliveries)"
        f" SELECT at, '{store}', '{system}', 'applied', 10"
        " FROM generate_series(date_trunc('hour', now()) - interval '28 days', now() - interval '1 hour', '1 hour') AS at",
        "INSERT INTO pos_sync.pair_delivery (store_id, inventory_system_id, first_at, last_at)"
        f" VALUES ('{store}', '{system}', now() - interval '28 days', now())",
    )


@asynccontextmanager
async def watched(world: World, run: Run, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> AsyncIterator[Watched]:
    """A service in this process that tells a receiver; commands have its settings."""
    hurry(monkeypatch)
    async with receiving() as receiver:
        url = f"http://127.0.0.1:{receiver.port}"
        values = {"alert_webhook_url": f"{url}/alerts", "alert_webhook_secret": ALERT_SECRET, "heartbeat_url": url, **settings}
        its = settings_for(world, **values)
        for name in values | {"mipos_client_secret": None}:
            value = getattr(its, name)
            if value is not None:
                shown = value.get_secret_value() if hasattr(value, "get_secret_value") else str(value)
                monkeypatch.setenv(name.upper(), shown)
        async with running(its) as (_, client):
            yield Watched(world, client, receiver, run)
