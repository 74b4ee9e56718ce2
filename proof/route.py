"""The ways from the service to Postgres: straight, or through PgBouncer in transaction mode."""

from dataclasses import dataclass, field
from typing import Any

from proof.cluster import Server
from tests.support.world import World


@dataclass(frozen=True)
class Route:
    """One way to the database; the faults of the process, the connection and the server are run on each."""

    server: Server
    pgbouncer_port: int | None = None
    seed: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    """Of the service, beside what a fault sets."""

    @property
    def suffix(self) -> str:
        """For a finding's name."""
        return "" if self.pgbouncer_port is None else ", through PgBouncer"

    def url(self, world: World) -> str:
        """`DATABASE_URL` of a service in `world`, as its least-rights role."""
        if self.pgbouncer_port is None:
            return world.service_url
        return f"postgresql://pos_sync@127.0.0.1:{self.pgbouncer_port}/{world.database}"

    def upstream(self, world: World) -> str | tuple[str, int]:
        """Where a proxy before this route connects to."""
        return world.server_address if self.pgbouncer_port is None else ("127.0.0.1", self.pgbouncer_port)
