"""Tells the alert webhook that the database cannot be used: it is away, full, or has a schema of another version.

It tells from memory, as there is no table to read, and once a day that it still is so. Every replica notices; one worker of each
sends, and all of one database the same id, so that a receiver can tell the copies.
"""

import asyncio
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from app.operations.ailment import Ailment
from app.operations.alert_message import MIN_FALL, MIN_RISE, REPEAT, AlertMessage, AlertTarget, Change, message_of
from app.operations.alerts import CALL_SECONDS, post
from app.problems.kinds import BY_NAME, DATABASE, Kind, Severity
from app.storage import problems
from app.storage.transactions import DATABASE_FAILURES
from app.storage.waits import MAX_ALERT_PAUSE

TURN_SECONDS = 1.0
LEARN_SECONDS = 60.0
MAX_REMEMBERED_BYTES = 1000
_log = structlog.get_logger("pos_sync.alerts")


@dataclass(frozen=True, slots=True)
class Origin:
    """From where it is told: `installation` names what all replicas share, and `replica` what the workers of one share."""

    installation: str
    replica: str


class Outage:
    """Watches what is known of the server, and tells when it cannot be written to, and when it can again."""

    def __init__(
        self,
        engine: AsyncEngine,
        target: AlertTarget | None,
        *,
        ailment: Callable[[], Ailment | None],
        on_ailment: Callable[[Ailment | None], None],
        origin: Origin,
    ) -> None:
        self._engine = engine
        self._target = target
        self._ailment = ailment
        self._on_ailment = on_ailment
        self._kind = DATABASE
        """What was told to keep it from writing"""
        self._installation = origin.installation
        lock_name = hashlib.sha256(f"{origin.installation} {origin.replica}".encode()).hexdigest()[:16]
        self._lock_path = Path(tempfile.gettempdir()) / f"pos-sync-{lock_name}.lock"
        self._lock: int | None = None
        self._number = 0
        """How often it was away before, as the database said last"""
        self._hour = ""
        """In which the database was last looked at: no id comes twice, also where the end of an outage could not be counted"""
        self._learn_at = 0.0
        self._has_ended = False
        """Whether an outage was told to be over, and is not counted yet"""
        self._began_at: datetime | None = None
        self._told: Severity | None = None
        self._told_at: datetime | None = None
        self._repeats = 0
        """How often it was told that it still lasts. While the database is away, nobody can acknowledge it."""
        self._changes = 0
        """How often another kind took its place in one outage, such as a database that came back with an older schema"""

    async def run(self) -> None:
        """Until it is cancelled."""
        self._recall()
        try:
            await self._watch()
        finally:
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        away_since: float | None = None
        # Begun again after a failure, it has to tell that what it told of is over.
        back_since = loop.time() if self._told is not None else None
        retry_at, failures = 0.0, 0
        kind, kind_since = self._kind, loop.time()
        async with httpx2.AsyncClient(timeout=CALL_SECONDS) as client:
            while True:
                now, ailment = loop.time(), self._ailment()
                if ailment is None:
                    if away_since is not None:
                        away_since, back_since = None, now
                    # The first connections after an outage may still be the dead ones: so until it is done.
                    if self._has_ended:
                        await self._end()
                    elif self._told is None and now >= self._learn_at:
                        await self._learn()
                elif away_since is None:
                    away_since, back_since, self._began_at = now, None, datetime.now(UTC)
                if ailment is not None and ailment.kind is not kind:
                    kind, kind_since = ailment.kind, now
                is_away = away_since is not None and now - away_since >= MIN_RISE.total_seconds()
                self._on_ailment(ailment if is_away else None)
                is_over = self._told is not None and back_since is not None and now - back_since >= MIN_FALL.total_seconds()
                wanted = Severity.CRITICAL if is_away else None if is_over else self._told
                # Not each time that two kinds take turns.
                is_other = is_away and kind is not self._kind and now - kind_since >= MIN_RISE.total_seconds()
                is_due = wanted is not self._told or is_other or (is_away and self._is_to_be_repeated())
                if is_due and now >= retry_at:
                    if await self._tell(
                        client, kind if is_away else self._kind, wanted, "" if ailment is None else ailment.words
                    ):
                        failures = 0
                    else:
                        failures += 1
                        retry_at = now + min(2**failures, MAX_ALERT_PAUSE.total_seconds())
                await asyncio.sleep(TURN_SECONDS)

    def _is_to_be_repeated(self) -> bool:
        return self._told_at is not None and datetime.now(UTC) - self._told_at >= REPEAT

    async def _learn(self) -> None:
        try:
            async with self._engine.connect() as connection:
                look = await problems.read_look(connection)
        except DATABASE_FAILURES:
            return
        self._number, self._hour = look.outage, "" if look.looked_at is None else f"{look.looked_at:%Y-%m-%d %H}"
        self._learn_at = asyncio.get_running_loop().time() + LEARN_SECONDS

    async def _tell(self, client: httpx2.AsyncClient, kind: Kind, severity: Severity | None, words: str) -> bool:
        """Send that it began, or is over; whether that is done, by this worker or by another of this replica."""
        is_same = kind is self._kind or self._told is None
        repeats = self._repeats + 1 if severity is not None and severity is self._told and is_same else 0
        changes = 0 if self._told is None else self._changes + (not is_same)
        if self._target is not None and self._is_first():
            began_at = self._began_at or datetime.now(UTC)
            told = [Change(kind, "", severity, self._told if is_same else None, words, began_at)]
            if not is_same:
                told.insert(0, Change(self._kind, "", None, self._told, "", began_at))
            drawn = message_of(told, [], self._target, now=datetime.now(UTC))
            name = f"{self._installation} outage {self._number} {self._hour} {kind.name} {changes} {severity} {repeats}"
            message = AlertMessage(f"msg_{hashlib.sha256(name.encode()).hexdigest()[:32]}", drawn.body)
            fault = await post(client, self._target, message)
            if fault is not None:
                _log.warning("alert not taken, trying again", reason=fault)
                return False
        self._told, self._told_at, self._repeats = severity, datetime.now(UTC), repeats
        self._kind, self._changes = kind, changes
        self._has_ended = severity is None
        self._remember()
        return True

    def _remember(self) -> None:
        """For a worker that starts in the middle of an outage: which one it is, and what was told of it."""
        if self._lock is None:
            return
        told = None if self._told is None else self._told.value
        told_at = None if self._told_at is None else self._told_at.isoformat()
        counts = {"outage": self._number, "repeats": self._repeats, "changes": self._changes}
        known = {**counts, "hour": self._hour, "told": told, "told_at": told_at, "kind": self._kind.name}
        content = json.dumps(known).encode()
        with suppress(OSError):
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, content, 0)

    def _recall(self) -> None:
        try:
            file = os.open(self._lock_path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return
        try:
            if os.fstat(file).st_uid != os.geteuid():
                return
            known = json.loads(os.read(file, MAX_REMEMBERED_BYTES))
            self._number, self._hour = int(known["outage"]), str(known["hour"])
            self._told = None if known["told"] is None else Severity(known["told"])
            self._kind = BY_NAME[known["kind"]]
            self._told_at = None if known["told_at"] is None else datetime.fromisoformat(known["told_at"])
            self._repeats, self._changes = int(known["repeats"]), int(known["changes"])
        except (ValueError, KeyError, TypeError):
            # An empty file: nothing was told yet.
            return
        finally:
            os.close(file)

    async def _end(self) -> None:
        try:
            async with self._engine.begin() as connection:
                await problems.end_outage(connection, self._number)
        except DATABASE_FAILURES:
            return
        self._has_ended, self._learn_at = False, 0.0

    def _is_first(self) -> bool:
        """Whether this worker is the one of its replica that sends. The lock ends with the process."""
        if self._lock is not None:
            return True
        try:
            # Not what another user has put there: a link would be followed.
            lock = os.open(self._lock_path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError:
            # No folder to write to: better told twice than not at all.
            return True
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return False
        self._lock = lock
        return True
