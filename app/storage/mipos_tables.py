"""The tables of what goes out: the registration, the token, leases, messages, and full synchronisations."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

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
    Column("user_id_tps", Text, nullable=False),
    Column("state", Text, nullable=False, server_default=text("'pending'")),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
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
