"""The tables of what operators are told: deliveries counted, problems, alert messages, pings."""

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, DateTime, Integer, PrimaryKeyConstraint, Table, Text, text

from app.storage.tables import metadata, time_column

delivery_count = Table(
    "delivery_count",
    metadata,
    # The hour, for verified deliveries; the minute, for others. Where the pair is not known, both ids are empty.
    Column("at", DateTime(timezone=True), nullable=False),
    Column("store_id", Text, nullable=False),
    Column("inventory_system_id", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("deliveries", BigInteger, nullable=False),
    PrimaryKeyConstraint("at", "store_id", "inventory_system_id", "outcome"),
    CheckConstraint("deliveries > 0", name="deliveries"),
)

pair_delivery = Table(
    "pair_delivery",
    metadata,
    Column("store_id", Text, nullable=False),
    Column("inventory_system_id", Text, nullable=False),
    time_column("first_at", nullable=True),
    time_column("last_at", nullable=True),
    # Deliveries that name the pair and had a wrong signature, since the last verified one.
    Column("unsigned", BigInteger, nullable=False, server_default=text("0")),
    time_column("unsigned_at", nullable=True),
    # When a delivery was last answered otherwise than "send it again".
    time_column("settled_at", nullable=True),
    PrimaryKeyConstraint("store_id", "inventory_system_id"),
)
"""When each store and system first and last sent a verified delivery"""

problem = Table(
    "problem",
    metadata,
    Column("name", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("words", Text, nullable=False),
    Column("since", DateTime(timezone=True), nullable=False),
    Column("looked_at", DateTime(timezone=True), nullable=False),
    # When it was over; the row stays until the alert webhook was told.
    time_column("cleared_at", nullable=True),
    Column("told_severity", Text),
    time_column("told_at", nullable=True),
    time_column("acknowledged_at", nullable=True),
    Column("acknowledged_by", Text),
    PrimaryKeyConstraint("name", "subject"),
    CheckConstraint("severity IN ('info', 'warning', 'critical')", name="severity"),
)

alert_state = Table(
    "alert_state",
    metadata,
    Column("is_only", Boolean, nullable=False, server_default=text("true")),
    time_column("looked_at", nullable=True),
    # How often the database was away so far: it makes the id of a message that every replica sends alike.
    Column("outage", BigInteger, nullable=False, server_default=text("0")),
    PrimaryKeyConstraint("is_only"),
    CheckConstraint("is_only", name="is_only"),
)

alert_message = Table(
    "alert_message",
    metadata,
    Column("message_id", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("words", Text),
    time_column("created_at"),
    time_column("next_attempt_at"),
    time_column("sent_at", nullable=True),
    PrimaryKeyConstraint("message_id"),
)

ping = Table(
    "ping",
    metadata,
    Column("nonce", Text, nullable=False),
    # Where it went: another PUBLIC_URL is another question.
    Column("url", Text, nullable=False),
    Column("state", Text, nullable=False, server_default=text("'sent'")),
    Column("words", Text, nullable=False, server_default=text("''")),
    time_column("sent_at"),
    time_column("answered_at", nullable=True),
    PrimaryKeyConstraint("nonce"),
    CheckConstraint("state IN ('sent', 'returned', 'refused', 'lost')", name="state"),
)
