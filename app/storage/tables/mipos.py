"""What the workers of all replicas share in dealing with mipOS."""

from sqlalchemy import CheckConstraint, Column, DateTime, Integer, LargeBinary, PrimaryKeyConstraint, Table, Text

from app.storage.tables.base import metadata, time_column

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
