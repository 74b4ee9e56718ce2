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
    Computed,
    DateTime,
    ForeignKeyConstraint,
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
from app.storage.schema import SCHEMA

metadata = MetaData(
    schema=SCHEMA,
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    },
)


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


ZONE_IS_KNOWN = "timezone IS NULL OR (timestamp '2000-01-01 00:00:00' AT TIME ZONE timezone) IS NOT NULL"

store = Table(
    "store",
    metadata,
    id_column("store_id"),
    Column("name", Text, nullable=False),
    Column("mipos_store_id", Text),
    # Null: as the rule TIMEZONE says. A name that Postgres does not know could not date a movement.
    Column("timezone", Text),
    Column("negative_stock", Text),
    time_column("created_at"),
    # Until then nobody expects deliveries.
    time_column("closed_until", nullable=True),
    PrimaryKeyConstraint("store_id"),
    UniqueConstraint("mipos_store_id"),
    id_check("store_id"),
    CheckConstraint("negative_stock IN ('allow', 'refuse')", name="negative_stock"),
    CheckConstraint(ZONE_IS_KNOWN, name="timezone"),
)

integration = Table(
    "integration",
    metadata,
    id_column("store_id"),
    id_column("inventory_system_id"),
    Column("user_id_tps", Text, nullable=False),
    Column("enabled", Boolean, nullable=False, server_default=text("true")),
    time_column("created_at"),
    # What becomes of a delivery that may be a movement of its own under a date that was used before.
    Column("repeated_dates", Text, nullable=False, server_default=text("'suspect'")),
    CheckConstraint("repeated_dates IN ('suspect', 'apply')", name="repeated_dates"),
    PrimaryKeyConstraint("store_id", "inventory_system_id"),
    ForeignKeyConstraint(["store_id"], ["store.store_id"]),
    id_check("inventory_system_id"),
)

# Units, suppliers and items belong to a store: the same id may be something else in another one.
unit = Table(
    "unit",
    metadata,
    id_column("store_id"),
    id_column("unit_id"),
    Column("name", Text, nullable=False),
    Column("short_name", Text, nullable=False),
    PrimaryKeyConstraint("store_id", "unit_id"),
    ForeignKeyConstraint(["store_id"], ["store.store_id"]),
    id_check("unit_id"),
    CheckConstraint("name <> ''", name="name"),
    CheckConstraint("short_name <> ''", name="short_name"),
)

supplier = Table(
    "supplier",
    metadata,
    id_column("store_id"),
    id_column("supplier_id"),
    Column("name", Text, nullable=False),
    PrimaryKeyConstraint("store_id", "supplier_id"),
    ForeignKeyConstraint(["store_id"], ["store.store_id"]),
    id_check("supplier_id"),
    CheckConstraint("name <> ''", name="name"),
)

FOLDED_NAME = r"lower(regexp_replace(NORMALIZE(name, NFKD), '[\u0300-\u036f]'::text, ''::text, 'g'::text))"

item = Table(
    "item",
    metadata,
    id_column("store_id"),
    id_column("item_id"),
    Column("name", Text, nullable=False),
    id_column("purchase_unit_id"),
    id_column("consumption_unit_id"),
    id_column("supplier_id"),
    Column("cost", Numeric, nullable=False),
    # A retired item is in no export and no sync, and still takes movements.
    time_column("retired_at", nullable=True),
    # The store whose definition it has, where its first movement came before it was imported.
    Column("copied_from", Text),
    # A level below it is a problem that a person is told of.
    Column("low_stock", Numeric),
    Column("folded_name", Text, Computed(FOLDED_NAME, persisted=True), nullable=False),
    PrimaryKeyConstraint("store_id", "item_id"),
    ForeignKeyConstraint(["store_id"], ["store.store_id"]),
    ForeignKeyConstraint(["store_id", "purchase_unit_id"], ["unit.store_id", "unit.unit_id"]),
    ForeignKeyConstraint(["store_id", "consumption_unit_id"], ["unit.store_id", "unit.unit_id"]),
    ForeignKeyConstraint(["store_id", "supplier_id"], ["supplier.store_id", "supplier.supplier_id"]),
    id_check("item_id"),
    CheckConstraint("name <> ''", name="name"),
    quantity_check("cost", lowest=">= 0"),
    quantity_check("low_stock", lowest=">= 0"),
)
Index("item_item_id_idx", item.c.item_id)
Index("item_folded_name_idx", item.c.store_id, item.c.folded_name, item.c.item_id)
Index("item_low_stock_idx", item.c.store_id, item.c.item_id, postgresql_where=item.c.low_stock.is_not(None))


stock_level = Table(
    "stock_level",
    metadata,
    id_column("store_id"),
    id_column("item_id"),
    Column("quantity", Numeric, nullable=False),
    Column("version", BigInteger, nullable=False),
    time_column("updated_at"),
    # No row of the level happened later, and no count. Null: the level was last written before there were these columns.
    time_column("newest_at", nullable=True),
    time_column("counted_at", nullable=True),
    PrimaryKeyConstraint("store_id", "item_id"),
    ForeignKeyConstraint(["store_id"], ["store.store_id"]),
    ForeignKeyConstraint(["store_id", "item_id"], ["item.store_id", "item.item_id"]),
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
    # What was counted; a count from before this column has it in `balance_after`.
    Column("counted", Numeric),
    Column("other_store_id", Text),
    Column("refers_to", BigInteger),
    PrimaryKeyConstraint("store_id", "item_id", "level_version"),
    UniqueConstraint("store_id", "dedupe_key", "occurrence"),
    CheckConstraint("level_version > 0", name="level_version"),
    CheckConstraint(
        "source IN ('inventory_system', 'opening', 'unit_change', 'reconcile', 'correction', 'reversal', 'pos_sale', 'pos_count',"
        " 'pos_receipt', 'pos_return', 'pos_waste', 'pos_adjustment', 'pos_transfer')",
        name="source",
    ),
    CheckConstraint("source NOT IN ('correction', 'reversal') OR refers_to IS NOT NULL", name="refers_to"),
    CheckConstraint("source <> 'pos_transfer' OR other_store_id IS NOT NULL", name="other_store_id"),
    quantity_check("counted"),
    CheckConstraint("source NOT IN ('reconcile', 'unit_change') OR (actor IS NOT NULL AND note IS NOT NULL)", name="reconcile"),
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

IS_COUNT = "(source IN ('pos_count', 'opening', 'unit_change') OR (source = 'reconcile' AND inventory_system_id IS NULL))"
"""SQL: whether a ledger row says what there was. An adopted number names its system, and is a change."""
HAPPENED_AT = "coalesce(happened_at, received_at)"
"""SQL: when a ledger row happened; rows from before revision 0006 have only the time of their receipt."""
LATE_AFTER = "interval '1 day'"

# Few rows are in these: the hot path writes none of them but the summary of received_at, which is a page for each thousand.
Index(
    "stock_movement_count_idx",
    stock_movement.c.store_id,
    stock_movement.c.item_id,
    # As Postgres writes them, so that the models can be compared with what the migrations make.
    text("COALESCE(happened_at, received_at)"),
    text(r"COALESCE(dedupe_key, '\x'::bytea)"),
    postgresql_where=text(IS_COUNT),
)
Index(
    "stock_movement_refers_to_idx",
    stock_movement.c.store_id,
    stock_movement.c.item_id,
    stock_movement.c.refers_to,
    postgresql_where=stock_movement.c.refers_to.is_not(None),
)
Index(
    "stock_movement_late_idx",
    stock_movement.c.store_id,
    stock_movement.c.happened_at,
    postgresql_where=text(f"received_at - happened_at > {LATE_AFTER}"),
)
Index("stock_movement_received_at_idx", stock_movement.c.received_at, postgresql_using="brin")

service_rule = Table(
    "service_rule",
    metadata,
    Column("is_only", Boolean, nullable=False, server_default=text("true")),
    Column("pos_id", Text),
    Column("negative_stock", Text, nullable=False),
    Column("reported_stock", Text, nullable=False),
    Column("timezone", Text, nullable=False),
    Column("max_count_age_days", Integer, nullable=False, server_default=text("7")),
    time_column("recorded_at"),
    PrimaryKeyConstraint("is_only"),
    CheckConstraint(ZONE_IS_KNOWN, name="timezone"),
    CheckConstraint("max_count_age_days > 0", name="max_count_age_days"),
    CheckConstraint("is_only", name="is_only"),
    CheckConstraint("negative_stock IN ('allow', 'refuse')", name="negative_stock"),
    CheckConstraint("reported_stock IN ('after', 'before')", name="reported_stock"),
)
