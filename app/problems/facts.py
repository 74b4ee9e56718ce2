"""What is known of how the service stands, from which problems are judged. Pure: `app.storage.problem_facts` reads it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from app.problems.silence import Profile


@dataclass(frozen=True, slots=True)
class Pair:
    """A store and an enabled inventory system, and when it last delivered. `first_at` is None before its first delivery."""

    store_id: str
    inventory_system_id: str
    zone: ZoneInfo
    closed_until: datetime | None
    first_at: datetime | None
    last_at: datetime | None
    profile: Profile
    unsigned: int
    """Deliveries that name the pair and had a wrong signature, or none, since its last verified one"""
    unsigned_at: datetime | None
    """When the newest of them came"""
    settled_at: datetime | None = None
    """When a delivery was last answered otherwise than "send it again" """

    @property
    def name(self) -> str:
        """For a person."""
        return f"store {self.store_id}, system {self.inventory_system_id}"


@dataclass(frozen=True, slots=True)
class Waiting:
    """Open refusals of one reason."""

    reason: str
    number: int
    oldest_at: datetime
    folded: int = 0
    """Older ones of this reason that are only counted"""


@dataclass(frozen=True, slots=True)
class Queue:
    """Stock updates of a store and a system that are not sent."""

    store_id: str
    inventory_system_id: str
    pending: int
    oldest_at: datetime | None
    why: str | None
    """What the oldest of those that wait is waiting for: what was said last, or what is not set up"""
    dead: int
    dead_words: str | None
    """What was said of the newest of those that are not sent any more"""

    @property
    def name(self) -> str:
        """For a person."""
        return f"store {self.store_id}, system {self.inventory_system_id}"


@dataclass(frozen=True, slots=True)
class Differing:
    """Items of a store that differ for one cause, with nothing on its way, and by how much together."""

    store_id: str
    cause: str
    items: int
    amount: Decimal


@dataclass(frozen=True, slots=True)
class LastSync:
    """The newest full synchronisation of a pair that has ended."""

    store_id: str
    inventory_system_id: str
    is_done: bool
    started_at: datetime
    ended_at: datetime | None
    words: str


@dataclass(frozen=True, slots=True)
class Registered:
    """The registration. `registered_at` is None where mipOS never took our URL."""

    is_wanted: bool
    """Whether PUBLIC_URL and an account are set, so that this service registers itself"""
    state: str | None
    """None before the first attempt"""
    words: str
    attempted_at: datetime | None
    registered_at: datetime | None
    renewals: int
    attempts: int = 0
    """That failed, since it last succeeded"""


@dataclass(frozen=True, slots=True)
class LastPing:
    """What came of the newest ping that has ended, and whether one ever came back."""

    state: str
    words: str
    ended_at: datetime
    ever_returned: bool


@dataclass(frozen=True, slots=True)
class Low:
    """A level below its threshold."""

    store_id: str
    item_id: str
    quantity: Decimal
    threshold: Decimal
    unit: str


@dataclass(frozen=True, slots=True)
class Facts:
    """All of it, at one moment by the database's clock."""

    now: datetime
    pairs: Sequence[Pair]
    unsettled: int
    """Deliveries of the last five minutes that were answered "send it again" """
    refusals: Sequence[Waiting]
    duplicates: int
    queues: Sequence[Queue]
    drift: Sequence[Differing]
    syncs: Sequence[LastSync]
    registration: Registered
    ping: LastPing | None
    database_bytes: int
    disk_bytes: int | None
    """DATABASE_DISK_BYTES"""
    idle_slots: Sequence[str]
    durability: str | None
    """What a COMMIT does not survive; None where nothing is wrong"""
    low: Sequence[Low]
    """At most `MAX_LOW`"""
    low_number: int
    folded: int = 0
    """Refusals of all reasons that were one too many: their bodies are deleted"""
