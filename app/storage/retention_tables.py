"""The tables of retention: what the last prune deleted; and the trace of a message, which goes with it."""

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, DateTime, PrimaryKeyConstraint, Table, Text, text

from app.storage.tables import id_column, metadata

prune_state = Table(
    "prune_state",
    metadata,
    Column("is_only", Boolean, nullable=False, server_default=text("true")),
    Column("ended_at", DateTime(timezone=True), nullable=False),
    Column("actor", Text, nullable=False),
    Column("messages", BigInteger, nullable=False),
    Column("refusal_bodies", BigInteger, nullable=False),
    Column("duplicate_bodies", BigInteger, nullable=False),
    Column("sync_runs", BigInteger, nullable=False),
    PrimaryKeyConstraint("is_only"),
    CheckConstraint("is_only", name="is_only"),
)

# Written only while tracing is on, for rows that are told to somebody: W3C's traceparent of the commit.
outbox_trace = Table(
    "outbox_trace",
    metadata,
    id_column("store_id"),
    id_column("item_id"),
    Column("level_version", BigInteger, nullable=False),
    Column("traceparent", Text, nullable=False),
    PrimaryKeyConstraint("store_id", "item_id", "level_version"),
    CheckConstraint("length(traceparent) <= 64", name="traceparent"),
)
