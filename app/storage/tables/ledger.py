"""The stock levels, the ledger that they are the sum of, and the rules by which movements are judged."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    ForeignKeyConstraint,
    LargeBinary,
    Numeric,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from app.storage.tables.base import id_column, metadata, quantity_check, time_column

stock_level = Table(
    "stock_level",
    metadata,
    id_column("store_id"),
    id_column("item_id"),
    Column("quantity", Numeric, nullable=False),
    Column("version", BigInteger, nullable=False),
    time_column("updated_at"),
    PrimaryKeyConstraint("store_id", "item_id"),
    ForeignKeyConstraint(["store_id"], ["store.store_id"]),
    ForeignKeyConstraint(["item_id"], ["item.item_id"]),
    quantity_check("quantity"),
    CheckConstraint("version >= 0", name="version"),
    # Room in each page, so that a change of a level stays in its page and touches no index.
    postgresql_with={"fillfactor": 80},
)

stock_movement = Table(
    "stock_movement",
    metadata,
    id_column("store_id"),
    id_column("item_id"),
    Column("level_version", BigInteger, nullable=False),
    Column("source", Text, nullable=False),
    Column("inventory_system_id", Text),
    Column("movement_type", SmallInteger, nullable=False),
    Column("quantity", Numeric, nullable=False),
    Column(
        "delta",
        Numeric,
        Computed("CASE WHEN movement_type = 1 THEN quantity ELSE - quantity END", persisted=True),
        nullable=False,
    ),
    Column("balance_after", Numeric, nullable=False),
    Column("reported_stock", Numeric),
    Column("date_text", Text),
    Column("sent_at_text", Text),
    Column("dedupe_key", LargeBinary),
    Column("occurrence", SmallInteger, nullable=False, server_default=text("1")),
    time_column("received_at"),
    Column("actor", Text),
    Column("note", Text),
    time_column("happened_at", nullable=True),
    Column("reason", Text),
    Column("reference", Text),
    PrimaryKeyConstraint("store_id", "item_id", "level_version"),
    UniqueConstraint("store_id", "dedupe_key", "occurrence"),
    CheckConstraint("level_version > 0", name="level_version"),
    CheckConstraint(
        "source IN ('inventory_system', 'opening', 'reconcile', 'reversal', 'pos_sale', 'pos_count', 'pos_receipt')",
        name="source",
    ),
    CheckConstraint("source <> 'reconcile' OR (actor IS NOT NULL AND note IS NOT NULL)", name="reconcile"),
    CheckConstraint("movement_type IN (1, 2)", name="movement_type"),
    CheckConstraint("length(dedupe_key) = 32", name="dedupe_key"),
    CheckConstraint("occurrence > 0", name="occurrence"),
    # So that every writer makes identities in the same way: by two ways, one movement would be two.
    CheckConstraint(
        "source <> 'inventory_system' OR substr(dedupe_key, 1, 10) ="
        " substr(convert_to(date_text, 'UTF8') || decode(repeat('00', 10), 'hex'), 1, 10)",
        name="dated",
    ),
    CheckConstraint(
        "source <> 'inventory_system' OR (inventory_system_id IS NOT NULL AND dedupe_key IS NOT NULL"
        " AND reported_stock IS NOT NULL AND date_text IS NOT NULL AND sent_at_text IS NOT NULL)",
        name="reported",
    ),
    quantity_check("quantity", lowest=">= 0"),
    quantity_check("balance_after"),
    quantity_check("reported_stock"),
)

service_rule = Table(
    "service_rule",
    metadata,
    Column("is_only", Boolean, nullable=False, server_default=text("true")),
    Column("pos_id", Text),
    Column("negative_stock", Text, nullable=False),
    Column("reported_stock", Text, nullable=False),
    Column("timezone", Text, nullable=False),
    time_column("recorded_at"),
    PrimaryKeyConstraint("is_only"),
    CheckConstraint("is_only", name="is_only"),
    CheckConstraint("negative_stock IN ('allow', 'refuse')", name="negative_stock"),
    CheckConstraint("reported_stock IN ('after', 'before')", name="reported_stock"),
)
