"""A cluster of three Postgres servers under Patroni, with one etcd: on loopback, in a folder of its own."""

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx2

from tests.support.debian_postgres import binaries, signal_tree
from tests.support.service import free_port

NODES = 3
TTL_SECONDS = 20
"""After this time without a word from the leader another one is elected; Patroni takes no less."""
START_SECONDS = 120
ETCD = shutil.which("etcd", path="/usr/bin:/usr/local/bin")


def why_not() -> str | None:
    """Why no cluster can be started here; None where it can."""
    if ETCD is None:
        return "etcd is not installed (Debian: etcd-server)"
    if find_spec("patroni") is None:
        return "Patroni is not installed (requirements/proof.txt)"
    return None if binaries() else "Debian's Postgres is not installed, or this is not root"


class Node:
    """One server, and the Patroni that starts, promotes and demotes it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.port, self.api_port = free_port(), free_port()
        self.data = folder / name
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """For DATABASE_URL."""
        return f"127.0.0.1:{self.port}"

    def write_configuration(self, etcd_port: int, dynamic: dict[str, Any]) -> None:
        """Patroni's file (YAML, of which JSON is a part). `dynamic` is what all nodes share; the first one stores it in etcd."""
        programs = binaries()
        assert programs is not None
        configuration = {
            "scope": "pos-sync",
            "name": self.name,
            "restapi": {"listen": f"127.0.0.1:{self.api_port}", "connect_address": f"127.0.0.1:{self.api_port}"},
            "etcd3": {"host": f"127.0.0.1:{etcd_port}"},
            "bootstrap": {"dcs": dynamic, "initdb": ["no-locale", "no-sync", {"encoding": "UTF8"}, {"auth": "trust"}]},
            "postgresql": {
                "listen": self.address,
                "connect_address": self.address,
                "data_dir": str(self.data),
                "bin_dir": str(programs),
                "pgpass": str(self._folder / f"{self.name}.pgpass"),
                "authentication": {name: {"username": "postgres"} for name in ("superuser", "replication", "rewind")},
                "pg_hba": ["local all all trust", "host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"],
                "parameters": {"unix_socket_directories": str(self._folder)},
            },
        }
        (self._folder / f"{self.name}.yml").write_text(json.dumps(configuration))

    def start(self) -> None:
        """Start Patroni, which starts the server."""
        # It runs as another user, who may not enter the folder of this checkout.
        become_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        may_read = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
        patroni = [sys.executable, "-m", "patroni", str(self._folder / f"{self.name}.yml")]
        with (self._folder / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen([*become_postgres, *may_read, *patroni], stdout=log, stderr=log, cwd=self._folder)

    @property
    def is_running(self) -> bool:
        """Whether its Patroni is there."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL to Patroni and to the server, as if the machine had lost its power."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def freeze(self) -> None:
        """SIGSTOP to both: the node accepts connections, and answers nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen node go on where it was."""
        self._signal(signal.SIGCONT)

    def answers(self, path: str) -> bool:
        """Whether Patroni says yes to `path`, such as /primary or /sync."""
        try:
            return httpx2.get(f"http://127.0.0.1:{self.api_port}{path}", timeout=2).status_code == 200
        except httpx2.TransportError:
            return False

    def log(self) -> str:
        """The end of what Patroni and the server wrote."""
        return "\n".join((self._folder / f"{self.name}.log").read_text(errors="replace").splitlines()[-30:])

    def _signal(self, number: signal.Signals) -> None:
        """To Patroni and its helpers first, so that they start no server again, and then to the server, which is none of them."""
        if self._process is not None and self.is_running:
            signal_tree(self._process.pid, number)
        postmaster = self._postmaster()
        if postmaster is not None:
            signal_tree(postmaster, number)

    def _postmaster(self) -> int | None:
        try:
            pid = int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        # The file of a server that was killed names a process that may be another one by now.
        return pid if str(self.data).encode() in command else None


class Cluster:
    """Three nodes, of which one leads. `is_synchronous`: no COMMIT without a standby that has it, also where none is there."""

    def __init__(self, folder: Path, *, is_synchronous: bool) -> None:
        self.nodes = [Node(folder, f"node{number}") for number in range(1, NODES + 1)]
        self._folder = folder
        self._is_synchronous = is_synchronous
        self._etcd: subprocess.Popen[bytes] | None = None
        self._etcd_port = free_port()

    def start(self) -> None:
        """Start all, and wait until one leads and the others follow."""
        self._start_etcd()
        dynamic = {
            "ttl": TTL_SECONDS,
            "loop_wait": 5,
            "retry_timeout": 5,
            "synchronous_mode": self._is_synchronous,
            "synchronous_mode_strict": self._is_synchronous,
            "postgresql": {"use_pg_rewind": True, "parameters": {"wal_log_hints": "on"}},
        }
        for node in self.nodes:
            node.write_configuration(self._etcd_port, dynamic)
            node.start()
        self.wait_until_whole()

    def wait_until_whole(self) -> None:
        """Until one leads and all others stream from it; where COMMIT waits for a standby, until one is synchronous."""
        wanted = "sync_standby" if self._is_synchronous else "replica"
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            roles = [(member["role"], member["state"]) for member in self.members()]
            followers = [state for role, state in roles if role in ("replica", "sync_standby", "quorum_standby")]
            is_led = ("leader", "running") in roles and any(role == wanted for role, _ in roles)
            if is_led and followers == ["streaming"] * (NODES - 1) and (not self._is_synchronous or self._has_sync_standby()):
                return
            time.sleep(0.2)
        raise AssertionError(f"the cluster is not whole: {self.members()}\n" + "\n".join(node.log() for node in self.nodes))

    def members(self) -> list[dict[str, Any]]:
        """What the first Patroni that answers says of all nodes."""
        for node in self.nodes:
            with suppress(httpx2.TransportError, json.JSONDecodeError, KeyError):
                answer = httpx2.get(f"http://127.0.0.1:{node.api_port}/cluster", timeout=2)
                return list(answer.json()["members"])
        return []

    @property
    def leader(self) -> Node:
        """The node that leads now."""
        return next(node for node in self.nodes if node.answers("/primary"))

    def url(self, *, first: Node | None = None, last: Node | None = None, user: str = "postgres", database: str) -> str:
        """DATABASE_URL with all nodes, in their order but for the one that is to stand first or last."""
        order = sorted(self.nodes, key=lambda node: (node is not first, node is last))
        return f"postgresql://{user}@{','.join(node.address for node in order)}/{database}"

    def switch_over(self) -> None:
        """Ask the leader's Patroni to let a standby lead, as an operator does."""
        leader = self.leader
        candidate = next(node for node in self.nodes if node.answers("/sync" if self._is_synchronous else "/replica"))
        answer = httpx2.post(
            f"http://127.0.0.1:{leader.api_port}/switchover",
            json={"leader": leader.name, "candidate": candidate.name},
            timeout=START_SECONDS,
        )
        assert answer.status_code == 200, answer.text

    def stop(self) -> None:
        """End everything at once, frozen or not."""
        for node in self.nodes:
            node.kill()
        if self._etcd is not None:
            self._etcd.kill()
            self._etcd.wait()

    def _has_sync_standby(self) -> bool:
        return any(node.answers("/sync") for node in self.nodes)

    def _start_etcd(self) -> None:
        assert ETCD is not None
        peer = f"http://127.0.0.1:{free_port()}"
        client = f"http://127.0.0.1:{self._etcd_port}"
        command = [ETCD, "--data-dir", str(self._folder / "etcd"), "--unsafe-no-fsync"]
        command += ["--listen-client-urls", client, "--advertise-client-urls", client]
        command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"]
        with (self._folder / "etcd.log").open("wb") as log:
            self._etcd = subprocess.Popen(command, stdout=log, stderr=log, env={"ETCD_UNSUPPORTED_ARCH": "arm64"})
        deadline = time.monotonic() + START_SECONDS
        while True:
            with suppress(httpx2.TransportError):
                if httpx2.get(f"{client}/health", timeout=2).status_code == 200:
                    return
            assert self._etcd.poll() is None, (self._folder / "etcd.log").read_text()
            assert time.monotonic() < deadline, (self._folder / "etcd.log").read_text()
            time.sleep(0.05)


@contextmanager
def patroni(*, is_synchronous: bool = True) -> Iterator[Cluster]:
    """A cluster that is whole; it and its folder are gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="pos-sync-patroni-"))
    user = pwd.getpwnam("postgres")
    os.chown(folder, user.pw_uid, user.pw_gid)
    cluster = Cluster(folder, is_synchronous=is_synchronous)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)
