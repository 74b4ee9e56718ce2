"""The tables of deliveries that wait for a person: those that were refused, and those that may be duplicates."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from app.storage.tables import id_column, metadata, time_column

refused_delivery = Table(
    "refused_delivery",
    metadata,
    Column("refused_delivery_id", BigInteger, Identity(always=True)),
    Column("delivery_key", LargeBinary, nullable=False),
    Column("reason", Text, nullable=False),
    Column("status_code", SmallInteger, nullable=False),
    Column("message", Text, nullable=False),
    Column("raw_body", LargeBinary, nullable=False),
    Column("store_id", Text),
    Column("item_id", Text),
    Column("inventory_system_id", Text),
    Column("attempts", Integer, nullable=False, server_default=text("1")),
    Column("state", Text, nullable=False, server_default=text("'open'")),
    time_column("first_seen_at"),
    time_column("last_seen_at"),
    time_column("closed_at", nullable=True),
    Column("replay_message", Text),
    time_column("replayed_at", nullable=True),
    Column("actor", Text),
    Column("note", Text),
    PrimaryKeyConstraint("refused_delivery_id"),
    UniqueConstraint("delivery_key", "reason"),
    CheckConstraint("state IN ('open', 'resolved', 'replayed', 'dismissed')", name="state"),
    CheckConstraint("attempts > 0", name="attempts"),
)

# A delivery that is applied closes its open refusals, and one that was dismissed is not applied: probes of an index that is
# nearly always empty.
Index(
    "refused_delivery_unsettled_delivery_key_idx",
    refused_delivery.c.delivery_key,
    postgresql_where=text("state IN ('open', 'dismissed')"),
)

# A row is the movement that a delivery would be, were it applied: so its key is that of the ledger, and as long as it is open,
# further copies of it are the same row.
suspected_duplicate = Table(
    "suspected_duplicate",
    metadata,
    Column("suspected_duplicate_id", BigInteger, Identity(always=True)),
    id_column("store_id"),
    Column("dedupe_key", LargeBinary, nullable=False),
    Column("occurrence", SmallInteger, nullable=False),
    id_column("item_id"),
    id_column("inventory_system_id"),
    Column("reason", Text, nullable=False, server_default=text("'repeated'")),
    Column("after_version", BigInteger, nullable=False),
    # What it reports; null in rows from before these columns.
    Column("reported_stock", Numeric),
    Column("delta", Numeric),
    # The suspected duplicate that it follows from, where that was the last report.
    Column("follows_id", BigInteger),
    Column("sent_at_text", Text, nullable=False),
    Column("raw_body", LargeBinary, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("1")),
    Column("state", Text, nullable=False, server_default=text("'open'")),
    Column("actor", Text),
    Column("note", Text),
    time_column("first_seen_at"),
    time_column("last_seen_at"),
    time_column("closed_at", nullable=True),
    PrimaryKeyConstraint("suspected_duplicate_id"),
    UniqueConstraint("store_id", "dedupe_key", "occurrence"),
    ForeignKeyConstraint(["store_id", "item_id"], ["stock_level.store_id", "stock_level.item_id"]),
    CheckConstraint("reason IN ('repeated', 'echo', 'before_count')", name="reason"),
    CheckConstraint("occurrence > 0", name="occurrence"),
    CheckConstraint("state IN ('open', 'applied', 'dismissed')", name="state"),
    CheckConstraint("attempts > 0", name="attempts"),
)
