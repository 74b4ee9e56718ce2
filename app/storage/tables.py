"""The tables of stock, as migrations make them; a test holds the two together. Those of what goes out are in `mipos_tables`.

Natural text keys, the store first in every key, so that the schema can be sharded by store. Quantities are `numeric` without
a fixed scale, since a fixed one rounds silently; checks keep out NaN, Infinity and what could not be held exactly.
"""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    Computed,
    DateTime,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)

from app.stock.text import MAX_TEXT_LENGTH

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    }
)


def matching(table: Table, **wanted: object) -> list[ColumnElement[bool]]:
    """The conditions that each named column of `table` has the value that is wanted; None is any."""
    return [table.c[name] == value for name, value in wanted.items() if value is not None]


def id_column(name: str, *, nullable: bool = False) -> Column[str]:
    """A natural key, or a part of one."""
    return Column(name, Text, nullable=nullable)


def id_check(name: str) -> CheckConstraint:
    """Not empty, and no longer than `MAX_TEXT_LENGTH`."""
    return CheckConstraint(f"{name} <> '' AND length({name}) <= {MAX_TEXT_LENGTH}", name=name)


def quantity_check(name: str, *, lowest: str = "> -1e15") -> CheckConstraint:
    """A number that can be held exactly. NaN sorts above every number, so the upper bound keeps it out together with Infinity."""
    return CheckConstraint(f"{name} {lowest} AND {name} < 1e15 AND scale({name}) <= 14", name=name)


def time_column(name: str, *, nullable: bool = False) -> Column[datetime]:
    """A moment; now, unless it may be missing."""
    return Column(name, DateTime(timezone=True), nullable=nullable, server_default=None if nullable else func.now())


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


refused_delivery = Table(
    "refused_delivery",
    metadata,
    Column("refused_delivery_id", BigInteger, Identity(always=True)),
    Column("delivery_key", LargeBinary, nullable=False),
    Column("reason", Text, nullable=False),
    Column("http_status", SmallInteger, nullable=False),
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

# A delivery that is applied closes its open refusals: one probe of an index that is nearly always empty.
Index(
    "refused_delivery_open_delivery_key_idx",
    refused_delivery.c.delivery_key,
    postgresql_where=refused_delivery.c.state == "open",
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
    Column("after_version", BigInteger, nullable=False),
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
    CheckConstraint("occurrence > 1", name="occurrence"),
    CheckConstraint("state IN ('open', 'applied', 'dismissed')", name="state"),
    CheckConstraint("attempts > 0", name="attempts"),
)
