"""All places in which a problem has to be seen, and in real time: how many seconds after its condition held each showed it."""

import asyncio
import json
import re
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx2

from app.doctor.check import Verdict
from app.problems.kinds import Kind, Severity
from tests.support.prometheus import Prometheus
from tests.support.service import run_command
from tests.support.watched import Receiver

PROMISED_SECONDS = 60.0
"""docs/runbook.md: "within a minute from the time when its condition holds" """
PATIENCE_SECONDS = 180.0
"""Then a test gives up: on a busy machine, what was promised may be late."""
PLACES = ("status", "doctor", "metric", "rule", "webhook")
LATENESS = 3.0
"""By how much more than this test the service may be late on a busy machine: it has more turns to wait for."""
_TICK_SECONDS = 0.5
_SHOWN = re.compile(r'pos_sync_problems\{name="(\w+)",severity="(\w+)"\} (\S+)')
_SEVERITIES = {Verdict.WARNING: Severity.WARNING, Verdict.FAILED: Severity.CRITICAL}

_NOT_HTTPS = ("registration", "warning")
"""What `doctor` alone says of a PUBLIC_URL as it is in tests"""

Alarm = tuple[str, str]
"""(name, severity)"""
Seen = Mapping[tuple[Alarm, str], float]
"""Seconds, by alarm and place"""


def alarm(kind: Kind, severity: Severity) -> Alarm:
    return kind.name, severity.value


@dataclass
class Places:
    """A running service, and what each place shows of its problems, from `watching` on."""

    service_url: str
    receiver: Receiver
    prometheus: Prometheus
    client: httpx2.AsyncClient
    values: Mapping[str, str]
    """The service's settings, for commands"""
    late: float = 0.0
    """By how many seconds this test was late: a machine that is busy keeps no promise of time"""
    history: dict[str, list[tuple[float, set[Alarm]]]] = field(default_factory=lambda: defaultdict(list))
    """What each place has shown, and when it answered"""

    @property
    def now(self) -> float:
        """Seconds."""
        return asyncio.get_running_loop().time()

    async def run(self, *arguments: str, status: int | None = 0) -> str:
        """What a command prints; it has to end with `status`, unless that is None."""
        ended = await asyncio.to_thread(run_command, *arguments, **self.values)
        assert status in (None, ended.returncode), ended.stdout + ended.stderr
        return ended.stdout

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Ask each place again and again. A command is a process that looks by itself, and costs the most."""
        served = [("metric", self._metric), ("rule", self.prometheus.firing), ("webhook", self._webhook)]
        commands = [("status", self._status), ("doctor", self._doctor)]
        tasks = [self._tick(), self._watch(served, 1.0), self._watch(commands, 8.0)]
        running = [asyncio.create_task(task) for task in tasks]
        try:
            yield
            assert [] == [task for task in running if task.done()]
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _tick(self) -> None:
        while True:
            due = self.now + _TICK_SECONDS
            await asyncio.sleep(_TICK_SECONDS)
            self.late += self.now - due

    async def _watch(self, places: Sequence[tuple[str, Callable[[], Awaitable[set[Alarm]]]]], pause: float) -> None:
        while True:
            for place, ask in places:
                shown = await ask()
                self.history[place].append((self.now, shown))
            await asyncio.sleep(pause)

    async def _status(self) -> set[Alarm]:
        found = json.loads(await self.run("status", "--json", status=None))["problems"]
        return {(one["name"], one["severity"]) for one in found}

    async def _doctor(self) -> set[Alarm]:
        checks = json.loads(await self.run("doctor", "--json", status=None))
        found = {(one["name"], _SEVERITIES[Verdict(one["verdict"])].value) for one in checks if one["verdict"] in _SEVERITIES}
        return found - {_NOT_HTTPS}

    async def _metric(self) -> set[Alarm]:
        try:
            text = (await self.client.get(f"{self.service_url}/metrics")).text
        except httpx2.TransportError:
            return set()
        return {(name, severity) for name, severity, number in _SHOWN.findall(text) if float(number) > 0}

    async def _webhook(self) -> set[Alarm]:
        """What it was told, and not told to be over."""
        last: dict[tuple[str, str], str | None] = {}
        for message in self.receiver.messages:
            for change in message["data"]["changes"]:
                last[change["name"], change["subject"]] = change["severity"]
        return {(name, severity) for (name, _), severity in last.items() if severity is not None}

    async def shown(self, held: Mapping[Alarm, float], *, places: tuple[str, ...] = PLACES) -> Seen:
        """Wait until all of `places` have shown each alarm: how many seconds after its condition `held`."""

        def first(alarm: Alarm, place: str) -> float | None:
            return next((at for at, shown in self.history[place] if alarm in shown), None)

        return await self._wait(held, places, first)

    async def over(self, ended: Mapping[Kind, float], *, places: tuple[str, ...] = PLACES) -> Seen:
        """Wait until none of `places` shows an alarm of these kinds any more: how many seconds after it `ended`."""

        def first(alarm: Alarm, place: str) -> float | None:
            alarms = {(alarm[0], severity.value) for severity in (Severity.WARNING, Severity.CRITICAL)}
            at = None
            for answered, shown in self.history[place]:
                if alarms & shown:
                    at = None
                elif at is None and answered >= ended_at[alarm]:
                    at = answered
            return at

        ended_at = {(kind.name, ""): at for kind, at in ended.items()}
        return await self._wait(ended_at, places, first)

    async def _wait(
        self, since: Mapping[Alarm, float], places: tuple[str, ...], first: Callable[[Alarm, str], float | None]
    ) -> Seen:
        deadline = max(since.values()) + PATIENCE_SECONDS
        while True:
            found = {(alarm, place): first(alarm, place) for alarm in since for place in places}
            missing = [one for one, at in found.items() if at is None]
            if not missing:
                return {(alarm, place): at - since[alarm] for (alarm, place), at in found.items() if at is not None}
            assert self.now < deadline, missing
            await asyncio.sleep(_TICK_SECONDS)

    def check_promise(self, seen: Seen, *, title: str, beyond: Mapping[str, float] | None = None) -> None:
        """Print the seconds, and hold them to the promise; `beyond` is what a place may take longer."""
        allowed = PROMISED_SECONDS + LATENESS * self.late
        lines = [f"\n{title}: seconds; at most {PROMISED_SECONDS:g}, and on a machine as busy as this one {allowed:.0f}"]
        for alarm in sorted({alarm for alarm, _ in seen}):
            places = [f"{place} {seen[alarm, place]:5.1f}" for place in PLACES if (alarm, place) in seen]
            lines.append(f"  {' '.join(alarm):<28} {' '.join(places)}")
        sys.stdout.write("\n".join(lines) + "\n")
        assert {} == {one: at for one, at in seen.items() if at > allowed + (beyond or {}).get(one[1], 0.0)}
