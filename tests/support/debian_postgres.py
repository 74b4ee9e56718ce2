"""Postgres from Debian's package: a primary and a standby, which the embedded one cannot make for want of pg_basebackup."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.service import free_port

START_SECONDS = 60


def binaries() -> Path | None:
    """The folder of the newest version's programs; None where there is none, or no right to run it as another user."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_basebackup"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found and os.geteuid() == 0 and shutil.which("setpriv") else None


def children_of(pid: int) -> list[int]:
    """The processes that `pid` has started."""
    children = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # pid (name) state parent ...
            if int(status.read_text().rpartition(")")[2].split()[1]) == pid:
                children.append(int(status.parent.name))
    return children


def signal_tree(parent: int, number: signal.Signals) -> None:
    """Send it to a process and to those that it has started, which may be sessions of their own.

    The parent is stopped first, so that it starts no more, and so that the others are still known as its children.
    """
    with suppress(ProcessLookupError):
        os.kill(parent, signal.SIGSTOP)
        for pid in (parent, *children_of(parent)):
            with suppress(ProcessLookupError):
                os.kill(pid, number)


class Server:
    """One server on loopback, run as the user `postgres`."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._settings: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """As the superuser, with the database `postgres`."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def make(self) -> None:
        """A cluster of its own."""
        self._own_folder()
        self._run("initdb", "-D", self._folder, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync")

    def follow(self, primary: "Server") -> None:
        """A standby of `primary`."""
        self._own_folder()
        source = f"host=127.0.0.1 port={primary.port} user=postgres application_name=standby"
        self._run("pg_basebackup", "-D", self._folder, "-d", source, "-R", "--checkpoint=fast", "--no-sync")

    def start(self, *settings: str) -> None:
        """Start it, with `name=value` for each setting, and wait until it answers."""
        self._settings = settings
        options = ["-c", "listen_addresses=127.0.0.1", "-c", f"port={self.port}", "-c", f"unix_socket_directories={self._folder}"]
        for setting in settings:
            options += ["-c", setting]
        command = [*self._as_postgres(), str(self._programs / "postgres"), "-D", str(self._folder), *options]
        with (self._folder.parent / f"{self._folder.name}.log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while subprocess.run(
            [self._programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)], check=False
        ).returncode:
            assert time.monotonic() < deadline, (self._folder.parent / f"{self._folder.name}.log").read_text()
            assert self._process.poll() is None

    def promote(self) -> None:
        """Make a standby the primary, and wait until it is."""
        self._run("pg_ctl", "promote", "-w", "-D", self._folder)

    def demote(self) -> None:
        """Make a primary a standby that follows nobody: it answers, and writes nothing."""
        assert self._process is not None
        self._run("pg_ctl", "stop", "-m", "fast", "-w", "-D", self._folder)
        self._process.wait()
        (self._folder / "standby.signal").touch()
        self.start(*self._settings)

    def wait_for(self, primary: "Server") -> None:
        """Wait until a standby has replayed what `primary` has written: where its first try to stream fails it waits for 5 s."""
        written = primary.ask("SELECT pg_current_wal_lsn()")
        deadline = time.monotonic() + START_SECONDS
        while self.ask(f"SELECT pg_last_wal_replay_lsn() >= '{written}'") != "t":
            assert time.monotonic() < deadline, "the standby does not follow"
            time.sleep(0.1)

    def ask(self, statement: str) -> str:
        """The one value that `statement` gives, as psql prints it."""
        command = [self._programs / "psql", "-X", "-A", "-t", "-q", "-d", self.url, "-c", statement]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def freeze(self) -> None:
        """Stop all of its processes where they are: it accepts connections, and answers nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it at once, frozen or not."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        signal_tree(self._process.pid, number)

    def _own_folder(self) -> None:
        user = pwd.getpwnam("postgres")
        self._folder.mkdir(mode=0o700)
        os.chown(self._folder, user.pw_uid, user.pw_gid)

    def _run(self, program: str, *arguments: str | Path) -> None:
        subprocess.run([*self._as_postgres(), self._programs / program, *arguments], check=True, capture_output=True)

    @staticmethod
    def _as_postgres() -> list[str]:
        return ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"]


@contextmanager
def one_server(*settings: str) -> Iterator[Server]:
    """A server that was started with `settings`."""
    with _in_a_folder() as (programs, folder):
        server = Server(programs, folder / "primary")
        try:
            server.make()
            server.start(*settings)
            yield server
        finally:
            server.stop()


@contextmanager
def with_standby(*settings: str, fill: Callable[[Server], None] = lambda _primary: None) -> Iterator[tuple[Server, Server]]:
    """A primary that was started with `settings` and filled, and a standby that follows it."""
    with one_server(*settings) as primary, _in_a_folder() as (programs, folder):
        fill(primary)
        standby = Server(programs, folder / "standby")
        try:
            standby.follow(primary)
            standby.start()
            standby.wait_for(primary)
            yield primary, standby
        finally:
            standby.stop()


@contextmanager
def _in_a_folder() -> Iterator[tuple[Path, Path]]:
    programs = binaries()
    assert programs is not None
    folder = Path(tempfile.mkdtemp(prefix="pos-sync-postgres-"))
    folder.chmod(0o755)
    try:
        yield programs, folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
