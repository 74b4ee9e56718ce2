"""The tables of what goes out: the registration, the token, leases, messages, and full synchronisations."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from app.storage.tables import id_column, metadata, time_column

webhook_registration = Table(
    "webhook_registration",
    metadata,
    Column("type", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("words", Text, nullable=False),
    Column("attempted_at", DateTime(timezone=True), nullable=False),
    Column("next_attempt_at", DateTime(timezone=True)),
    Column("registered_url", Text),
    Column("registered_at", DateTime(timezone=True)),
    Column("account", LargeBinary, nullable=False),
    # Calls after a silence that brought deliveries back, and not for long.
    Column("renewals", Integer, nullable=False, server_default=text("0")),
    PrimaryKeyConstraint("type"),
    CheckConstraint("state IN ('pending', 'registered', 'failed')", name="state"),
)

lease = Table(
    "lease",
    metadata,
    Column("name", Text, nullable=False),
    Column("held_until", DateTime(timezone=True), nullable=False),
    PrimaryKeyConstraint("name"),
)

outbox_claim = Table("outbox_claim", metadata, Column("never", Boolean), CheckConstraint("never IS NULL", name="never"))
"""Without rows. Who claims messages locks it, and so does who waits until nobody does."""

access_token = Table(
    "access_token",
    metadata,
    Column("account", Text, nullable=False),
    Column("token", Text, nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    time_column("obtained_at"),
    PrimaryKeyConstraint("account"),
)


outbox_message = Table(
    "outbox_message",
    metadata,
    Column("outbox_message_id", BigInteger, Identity(always=True)),
    id_column("store_id"),
    id_column("item_id"),
    Column("level_version", BigInteger, nullable=False),
    id_column("inventory_system_id"),
    Column("state", Text, nullable=False, server_default=text("'pending'")),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    # Tries of which nobody knows whether they arrived: each may have been applied by mipOS.
    Column("unknown_sends", Integer, nullable=False, server_default=text("0")),
    time_column("unknown_until", nullable=True),
    # When the first send began that may have arrived.
    time_column("sent_at", nullable=True),
    time_column("next_attempt_at"),
    Column("claimed_until", DateTime(timezone=True)),
    Column("words", Text),
    Column("actor", Text),
    Column("note", Text),
    time_column("created_at"),
    time_column("closed_at", nullable=True),
    PrimaryKeyConstraint("outbox_message_id"),
    UniqueConstraint("store_id", "item_id", "level_version", "inventory_system_id", name="outbox_message_movement_key"),
    CheckConstraint("state IN ('pending', 'sent', 'dead', 'covered', 'dismissed')", name="state"),
    CheckConstraint("attempts >= 0", name="attempts"),
)

# The order of a pair's messages is that of its ledger rows.
Index(
    "outbox_message_pending_idx",
    outbox_message.c.inventory_system_id,
    outbox_message.c.store_id,
    outbox_message.c.item_id,
    outbox_message.c.level_version,
    postgresql_where=outbox_message.c.state == "pending",
)
Index(
    "outbox_message_dead_idx",
    outbox_message.c.outbox_message_id,
    postgresql_where=outbox_message.c.state == "dead",
)

sync_run = Table(
    "sync_run",
    metadata,
    Column("sync_run_id", BigInteger, Identity(always=True)),
    id_column("store_id"),
    id_column("inventory_system_id"),
    Column("state", Text, nullable=False),
    Column("items", Integer, nullable=False),
    Column("units", Integer, nullable=False),
    Column("suppliers", Integer, nullable=False),
    Column("covered", Integer, nullable=False, server_default=text("0")),
    Column("words", Text, nullable=False),
    Column("actor", Text, nullable=False),
    time_column("started_at"),
    time_column("ended_at", nullable=True),
    PrimaryKeyConstraint("sync_run_id"),
    ForeignKeyConstraint(["store_id"], ["store.store_id"]),
    CheckConstraint("state IN ('running', 'done', 'refused', 'unknown')", name="state"),
)
Index("sync_run_latest_idx", sync_run.c.store_id, sync_run.c.inventory_system_id, sync_run.c.sync_run_id)

# What is known of an inventory system's stock of an item: what a full synchronisation set, its newest anchor and what was
# acknowledged since, and the drift as it was last computed.
system_level = Table(
    "system_level",
    metadata,
    id_column("store_id"),
    id_column("item_id"),
    id_column("inventory_system_id"),
    # The unit was changed: nothing is told until a full synchronisation has set the stock in the new one.
    Column("is_held", Boolean, nullable=False, server_default=text("false")),
    Column("synced_stock", Numeric),
    Column("synced_version", BigInteger),
    time_column("synced_at", nullable=True),
    Column("anchor_kind", Text),
    Column("anchor_stock", Numeric),
    Column("anchor_version", BigInteger),
    Column("anchor_date", Text),
    time_column("anchored_at", nullable=True),
    Column("told_since", Numeric),
    time_column("told_until", nullable=True),
    Column("anchor_uncertain", Numeric),
    Column("drift", Numeric),
    Column("uncertain", Numeric),
    Column("causes", JSONB),
    Column("is_unsettled", Boolean, nullable=False, server_default=text("false")),
    Column("compared_version", BigInteger),
    # The messages up to this row were deleted for their age, and what they come to is in the anchor.
    Column("pruned_version", BigInteger),
    time_column("compared_at", nullable=True),
    PrimaryKeyConstraint("store_id", "item_id", "inventory_system_id"),
    CheckConstraint("anchor_kind IN ('report', 'sync', 'echo', 'adopted')", name="anchor_kind"),
)

Index("system_level_drift_idx", system_level.c.store_id, postgresql_where=system_level.c.drift != 0)

# What a delivery would be known by that brings our own stock update back.
echo_identity = Table(
    "echo_identity",
    metadata,
    id_column("store_id"),
    Column("dedupe_key", LargeBinary, nullable=False),
    Column("outbox_message_id", BigInteger, nullable=False),
    PrimaryKeyConstraint("store_id", "dedupe_key"),
)

# The order in which a store's committed rows are told, and of each level the newest row that has a place in it.
change_feed = Table(
    "change_feed",
    metadata,
    id_column("store_id"),
    Column("position", BigInteger, nullable=False),
    id_column("item_id"),
    Column("level_version", BigInteger, nullable=False),
    PrimaryKeyConstraint("store_id", "position"),
)
change_feed_level = Table(
    "change_feed_level",
    metadata,
    id_column("store_id"),
    id_column("item_id"),
    Column("level_version", BigInteger, nullable=False),
    PrimaryKeyConstraint("store_id", "item_id"),
)
change_feed_state = Table(
    "change_feed_state",
    metadata,
    Column("is_only", Boolean, nullable=False, server_default=text("true")),
    Column("position", BigInteger, nullable=False, server_default=text("0")),
    time_column("numbered_at", nullable=True),
    time_column("swept_at", nullable=True),
    PrimaryKeyConstraint("is_only"),
    CheckConstraint("is_only", name="is_only"),
)

replica = Table(
    "replica",
    metadata,
    Column("replica_id", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("head", Text, nullable=False),
    time_column("seen_at"),
    PrimaryKeyConstraint("replica_id"),
)
"""Worker processes that run; `head` is the newest revision that their code knows."""
