"""A Citus cluster on loopback: a coordinator and two workers, from the installation that POS_SYNC_CITUS names."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.debian_postgres import Server

VARIABLE = "POS_SYNC_CITUS"
"""Names the folder of a Postgres with Citus in it: the one that holds bin"""
WORKERS = 2
SETTINGS = ("shared_preload_libraries=citus", "fsync=off", "citus.node_conninfo=sslmode=disable", "max_prepared_transactions=100")


def why_not() -> str | None:
    """Why no cluster can be started here; None where it can."""
    named = os.environ.get(VARIABLE)
    if named is None:
        return f"{VARIABLE} names no Postgres with Citus"
    if not (Path(named) / "bin" / "postgres").exists():
        return f"{VARIABLE} names a folder without bin/postgres"
    return None if os.geteuid() == 0 and shutil.which("setpriv") else "Postgres cannot be run as another user: this is not root"


@dataclass(frozen=True)
class Cluster:
    """The coordinator, and the workers that hold the tables."""

    coordinator: Server
    workers: tuple[Server, ...]

    @property
    def servers(self) -> tuple[Server, ...]:
        """All of them."""
        return self.coordinator, *self.workers

    def execute(self, *statements: str, role: str = "postgres") -> str:
        """Run statements at the coordinator, each in a transaction of its own; what they return."""
        return self._run(self.coordinator, *statements, role=role)

    def join(self) -> None:
        """Make one cluster of the servers."""
        for server in self.servers:
            self._run(server, "CREATE EXTENSION citus")
        self.execute(f"SELECT citus_set_coordinator_host('127.0.0.1', {self.coordinator.port})")
        self.execute(*(f"SELECT citus_add_node('127.0.0.1', {worker.port})" for worker in self.workers))

    def worker_of(self, schema: str) -> Server:
        """Where the tables of a schema are."""
        found = self.execute(f"SELECT DISTINCT nodeport FROM citus_shards WHERE table_name::text LIKE '{schema}.%'")
        (worker,) = [one for one in self.workers if str(one.port) == found.strip()]
        return worker

    @staticmethod
    def _run(server: Server, *statements: str, role: str = "postgres") -> str:
        url = server.url.replace("postgres@", f"{role}@", 1)
        commands = [part for statement in statements for part in ("-c", statement)]
        return subprocess.run(
            ["psql", "-qAtX", "-v", "ON_ERROR_STOP=1", "-d", url, *commands], check=True, capture_output=True, text=True
        ).stdout


@contextmanager
def clustered() -> Iterator[Cluster]:
    """A cluster until the block ends."""
    programs = Path(os.environ[VARIABLE]) / "bin"
    folder = Path(tempfile.mkdtemp(prefix="pos-sync-citus-"))
    folder.chmod(0o755)
    names = ("coordinator", *(f"worker-{number}" for number in range(WORKERS)))
    coordinator, *workers = [Server(programs, folder / name) for name in names]
    cluster = Cluster(coordinator, tuple(workers))
    try:
        for server in cluster.servers:
            server.make()
            server.start(*SETTINGS)
        cluster.join()
        yield cluster
    finally:
        for server in cluster.servers:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)
