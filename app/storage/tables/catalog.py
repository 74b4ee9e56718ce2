"""The stores, the systems that they are connected to, and what they stock."""

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from app.storage.tables.base import id_check, id_column, metadata, quantity_check, time_column

store = Table(
    "store",
    metadata,
    id_column("store_id"),
    Column("name", Text, nullable=False),
    Column("mipos_store_id", Text),
    Column("timezone", Text, nullable=False),
    Column("negative_stock", Text),
    time_column("created_at"),
    PrimaryKeyConstraint("store_id"),
    UniqueConstraint("mipos_store_id"),
    id_check("store_id"),
    CheckConstraint("negative_stock IN ('allow', 'refuse')", name="negative_stock"),
)

integration = Table(
    "integration",
    metadata,
    id_column("store_id"),
    id_column("inventory_system_id"),
    Column("user_id_tps", Text, nullable=False),
    Column("enabled", Boolean, nullable=False, server_default=text("true")),
    time_column("created_at"),
    PrimaryKeyConstraint("store_id", "inventory_system_id"),
    ForeignKeyConstraint(["store_id"], ["store.store_id"]),
    id_check("inventory_system_id"),
)

unit = Table(
    "unit",
    metadata,
    id_column("unit_id"),
    Column("name", Text, nullable=False),
    Column("short_name", Text, nullable=False),
    PrimaryKeyConstraint("unit_id"),
    id_check("unit_id"),
    CheckConstraint("name <> ''", name="name"),
    CheckConstraint("short_name <> ''", name="short_name"),
)

supplier = Table(
    "supplier",
    metadata,
    id_column("supplier_id"),
    Column("name", Text, nullable=False),
    PrimaryKeyConstraint("supplier_id"),
    id_check("supplier_id"),
    CheckConstraint("name <> ''", name="name"),
)

item = Table(
    "item",
    metadata,
    id_column("item_id"),
    Column("name", Text, nullable=False),
    id_column("purchase_unit_id"),
    id_column("consumption_unit_id"),
    id_column("supplier_id"),
    Column("cost", Numeric, nullable=False),
    PrimaryKeyConstraint("item_id"),
    ForeignKeyConstraint(["purchase_unit_id"], ["unit.unit_id"]),
    ForeignKeyConstraint(["consumption_unit_id"], ["unit.unit_id"]),
    ForeignKeyConstraint(["supplier_id"], ["supplier.supplier_id"]),
    id_check("item_id"),
    CheckConstraint("name <> ''", name="name"),
    quantity_check("cost", lowest=">= 0"),
)
