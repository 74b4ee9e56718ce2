"""What a COMMIT survives: each of our connections waits at least for the disk, and whether a standby has it too can be asked."""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection


def raised_synchronous_commit(*, is_local: bool) -> str:
    """SQL: let a COMMIT wait for the disk, and for synchronous standbys, whatever the server, role or database says.

    Never lowers it: `remote_apply` waits for more. `is_local`: until the transaction ends.
    """
    return (
        f"SELECT pg_catalog.set_config('synchronous_commit', 'on', {'true' if is_local else 'false'})"
        " WHERE pg_catalog.current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')"
    )


@dataclass(frozen=True, slots=True)
class Standbys:
    """The servers that follow this one."""

    number: int
    are_seen: bool
    """Whether the role may see what they are. Else some may be backups: pg_monitor may see it."""
    are_waited_for: bool
    """Whether a COMMIT waits for some of them, and ends only when they have it"""

    @property
    def fault(self) -> str | None:
        """That a 204 is not as safe as the standbys make believe; None where it is, or where there are none."""
        if self.number == 0 or self.are_waited_for:
            return None
        kind = "standby" if self.are_seen else "standby or backup (this role cannot see which)"
        none = "and it is not synchronous" if self.number == 1 else "and none is synchronous"
        return f"{self.number} x {kind}, {none}: a 204 survives a crash, not the loss of the machine"


async def read_standbys(connection: AsyncConnection) -> Standbys:
    """The standbys now. A role without pg_monitor sees how many there are, and not what they are."""
    query = text(
        "SELECT count(*), count(*) = count(sender.state), current_setting('synchronous_standby_names') <> ''"
        " FROM pg_catalog.pg_stat_replication AS sender"
        " WHERE coalesce(sender.state, 'streaming') IN ('streaming', 'catchup') AND NOT EXISTS ("
        "SELECT FROM pg_catalog.pg_replication_slots AS slot"
        " WHERE slot.active_pid = sender.pid AND slot.slot_type = 'logical')"
    )
    return Standbys(*(await connection.execute(query)).one())
