"""The tables of deliveries that wait for a person: refused ones, possible duplicates, and unverified ones that were captured."""

from sqlalchemy import (
    ARRAY,
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
    # By which its log line is found.
    Column("request_id", Text),
    # When its body was deleted, which is empty since. Where it came again, it has one again.
    time_column("pruned_at", nullable=True),
    PrimaryKeyConstraint("refused_delivery_id"),
    UniqueConstraint("delivery_key", "reason"),
    CheckConstraint("state IN ('open', 'resolved', 'replayed', 'dismissed', 'folded')", name="state"),
    CheckConstraint("attempts > 0", name="attempts"),
)

# A delivery that is applied closes its open refusals, and one that was dismissed is not applied: probes of an index that is
# nearly always empty.
Index(
    "refused_delivery_unsettled_delivery_key_idx",
    refused_delivery.c.delivery_key,
    postgresql_where=text("state IN ('open', 'dismissed')"),
)
Index(
    "refused_delivery_open_idx",
    refused_delivery.c.reason,
    refused_delivery.c.first_seen_at,
    refused_delivery.c.refused_delivery_id,
    postgresql_where=refused_delivery.c.state == "open",
)
Index(
    "refused_delivery_request_id_idx",
    refused_delivery.c.request_id,
    postgresql_where=refused_delivery.c.request_id.is_not(None),
)
Index("refused_delivery_folded_idx", refused_delivery.c.reason, postgresql_where=refused_delivery.c.state == "folded")
Index(
    "refused_delivery_body_idx",
    refused_delivery.c.closed_at,
    refused_delivery.c.refused_delivery_id,
    postgresql_where=text("pruned_at IS NULL AND state IN ('resolved', 'replayed', 'dismissed')"),
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
    Column("request_id", Text),
    time_column("pruned_at", nullable=True),
    PrimaryKeyConstraint("suspected_duplicate_id"),
    UniqueConstraint("store_id", "dedupe_key", "occurrence"),
    ForeignKeyConstraint(["store_id", "item_id"], ["stock_level.store_id", "stock_level.item_id"]),
    CheckConstraint("reason IN ('repeated', 'echo', 'before_count')", name="reason"),
    CheckConstraint("occurrence > 0", name="occurrence"),
    CheckConstraint("state IN ('open', 'applied', 'dismissed')", name="state"),
    CheckConstraint("attempts > 0", name="attempts"),
)
Index(
    "suspected_duplicate_request_id_idx",
    suspected_duplicate.c.request_id,
    postgresql_where=suspected_duplicate.c.request_id.is_not(None),
)
Index("suspected_duplicate_open_idx", suspected_duplicate.c.item_id, postgresql_where=suspected_duplicate.c.state == "open")
Index(
    "suspected_duplicate_body_idx",
    suspected_duplicate.c.closed_at,
    suspected_duplicate.c.suspected_duplicate_id,
    postgresql_where=text("pruned_at IS NULL AND state IN ('applied', 'dismissed')"),
)

# An operator's order to keep what is not verified, until a time. The last one counts.
capture = Table(
    "capture",
    metadata,
    Column("capture_id", BigInteger, Identity(always=True)),
    time_column("started_at"),
    Column("ends_at", DateTime(timezone=True), nullable=False),
    Column("max_kept", SmallInteger, nullable=False),
    Column("actor", Text, nullable=False),
    PrimaryKeyConstraint("capture_id"),
    CheckConstraint("max_kept BETWEEN 1 AND 200", name="max_kept"),
    CheckConstraint("ends_at <= started_at + interval '24 hours'", name="ends_at"),
)

# Anybody may have sent these: nothing reads them but the commands of an operator.
captured_delivery = Table(
    "captured_delivery",
    metadata,
    Column("captured_delivery_id", BigInteger, Identity(always=True)),
    Column("capture_id", BigInteger, nullable=False),
    # Of body and signature, so that the same sent again is the same row.
    Column("content_hash", LargeBinary, nullable=False),
    Column("raw_body", LargeBinary, nullable=False),
    # The headers by which it might be signed: name and value in turns.
    Column("signatures", ARRAY(Text), nullable=False),
    Column("content_type", Text),
    Column("client", Text),
    Column("names_known_pair", Boolean, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("1")),
    time_column("first_seen_at"),
    time_column("last_seen_at"),
    time_column("delivered_at", nullable=True),
    Column("outcome", Text),
    Column("actor", Text),
    PrimaryKeyConstraint("captured_delivery_id"),
    UniqueConstraint("capture_id", "content_hash"),
    ForeignKeyConstraint(["capture_id"], ["capture.capture_id"], ondelete="CASCADE"),
    CheckConstraint("length(raw_body) <= 65536", name="raw_body"),
    CheckConstraint("attempts > 0", name="attempts"),
)
