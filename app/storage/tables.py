"""The tables, as migrations make them; a test holds the two together.

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

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    }
)

LONGEST_ID = 255


def _id(name: str, *, nullable: bool = False) -> Column[str]:
    return Column(name, Text, nullable=nullable)


def _id_check(name: str) -> CheckConstraint:
    return CheckConstraint(f"{name} <> '' AND length({name}) <= {LONGEST_ID}", name=name)


def _quantity_check(name: str, *, lowest: str = "> -1e15") -> CheckConstraint:
    """NaN sorts above every number, so the upper bound keeps it out together with Infinity."""
    return CheckConstraint(f"{name} {lowest} AND {name} < 1e15 AND scale({name}) <= 14", name=name)


def _time(name: str, *, nullable: bool = False) -> Column[datetime]:
    return Column(name, DateTime(timezone=True), nullable=nullable, server_default=None if nullable else func.now())


store = Table(
    "store",
    metadata,
    _id("store_id"),
    Column("name", Text, nullable=False),
    Column("mipos_store_id", Text),
    Column("timezone", Text, nullable=False),
    Column("negative_stock", Text),
    _time("created_at"),
    PrimaryKeyConstraint("store_id"),
    UniqueConstraint("mipos_store_id"),
    _id_check("store_id"),
    CheckConstraint("negative_stock IN ('allow', 'refuse')", name="negative_stock"),
)

integration = Table(
    "integration",
    metadata,
    _id("store_id"),
    _id("inventory_system_id"),
    Column("user_id_tps", Text, nullable=False),
    Column("enabled", Boolean, nullable=False, server_default=text("true")),
    _time("created_at"),
    PrimaryKeyConstraint("store_id", "inventory_system_id"),
    ForeignKeyConstraint(["store_id"], ["store.store_id"]),
    _id_check("inventory_system_id"),
)

unit = Table(
    "unit",
    metadata,
    _id("unit_id"),
    Column("name", Text, nullable=False),
    Column("short_name", Text, nullable=False),
    PrimaryKeyConstraint("unit_id"),
    _id_check("unit_id"),
    CheckConstraint("name <> ''", name="name"),
    CheckConstraint("short_name <> ''", name="short_name"),
)

supplier = Table(
    "supplier",
    metadata,
    _id("supplier_id"),
    Column("name", Text, nullable=False),
    PrimaryKeyConstraint("supplier_id"),
    _id_check("supplier_id"),
    CheckConstraint("name <> ''", name="name"),
)

item = Table(
    "item",
    metadata,
    _id("item_id"),
    Column("name", Text, nullable=False),
    _id("purchase_unit_id"),
    _id("consumption_unit_id"),
    _id("supplier_id"),
    Column("cost", Numeric, nullable=False),
    PrimaryKeyConstraint("item_id"),
    ForeignKeyConstraint(["purchase_unit_id"], ["unit.unit_id"]),
    ForeignKeyConstraint(["consumption_unit_id"], ["unit.unit_id"]),
    ForeignKeyConstraint(["supplier_id"], ["supplier.supplier_id"]),
    _id_check("item_id"),
    CheckConstraint("name <> ''", name="name"),
    _quantity_check("cost", lowest=">= 0"),
)

stock_level = Table(
    "stock_level",
    metadata,
    _id("store_id"),
    _id("item_id"),
    Column("quantity", Numeric, nullable=False),
    Column("version", BigInteger, nullable=False),
    _time("updated_at"),
    PrimaryKeyConstraint("store_id", "item_id"),
    ForeignKeyConstraint(["store_id"], ["store.store_id"]),
    ForeignKeyConstraint(["item_id"], ["item.item_id"]),
    _quantity_check("quantity"),
    CheckConstraint("version >= 0", name="version"),
    # Room in each page, so that a change of a level stays in its page and touches no index.
    postgresql_with={"fillfactor": 80},
)

stock_movement = Table(
    "stock_movement",
    metadata,
    _id("store_id"),
    _id("item_id"),
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
    Column("sent_text", Text),
    Column("dedupe_key", LargeBinary),
    Column("occurrence", SmallInteger, nullable=False, server_default=text("1")),
    _time("received_at"),
    Column("actor", Text),
    Column("note", Text),
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
        " AND reported_stock IS NOT NULL AND date_text IS NOT NULL AND sent_text IS NOT NULL)",
        name="reported",
    ),
    _quantity_check("quantity", lowest=">= 0"),
    _quantity_check("balance_after"),
    _quantity_check("reported_stock"),
)

refused_delivery = Table(
    "refused_delivery",
    metadata,
    Column("refused_delivery_id", BigInteger, Identity(always=True)),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("reason", Text, nullable=False),
    Column("http_status", SmallInteger, nullable=False),
    Column("message", Text, nullable=False),
    Column("raw_body", LargeBinary, nullable=False),
    Column("store_id", Text),
    Column("item_id", Text),
    Column("inventory_system_id", Text),
    Column("attempts", Integer, nullable=False, server_default=text("1")),
    Column("state", Text, nullable=False, server_default=text("'open'")),
    _time("first_seen_at"),
    _time("last_seen_at"),
    _time("closed_at", nullable=True),
    Column("replay_message", Text),
    _time("replayed_at", nullable=True),
    Column("actor", Text),
    Column("note", Text),
    PrimaryKeyConstraint("refused_delivery_id"),
    UniqueConstraint("fingerprint", "reason"),
    CheckConstraint("state IN ('open', 'resolved', 'replayed', 'dismissed')", name="state"),
    CheckConstraint("attempts > 0", name="attempts"),
)

# A delivery that is applied closes its open refusals: one probe of an index that is nearly always empty.
Index(
    "refused_delivery_open_fingerprint_idx",
    refused_delivery.c.fingerprint,
    postgresql_where=refused_delivery.c.state == "open",
)

# A row is the movement that a delivery would be, were it applied: so its key is that of the ledger, and as long as it is open,
# further copies of it are the same row.
suspected_duplicate = Table(
    "suspected_duplicate",
    metadata,
    Column("suspected_duplicate_id", BigInteger, Identity(always=True)),
    _id("store_id"),
    Column("dedupe_key", LargeBinary, nullable=False),
    Column("occurrence", SmallInteger, nullable=False),
    _id("item_id"),
    _id("inventory_system_id"),
    Column("after_version", BigInteger, nullable=False),
    Column("sent_text", Text, nullable=False),
    Column("raw_body", LargeBinary, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("1")),
    Column("state", Text, nullable=False, server_default=text("'open'")),
    Column("actor", Text),
    Column("note", Text),
    _time("first_seen_at"),
    _time("last_seen_at"),
    _time("closed_at", nullable=True),
    PrimaryKeyConstraint("suspected_duplicate_id"),
    UniqueConstraint("store_id", "dedupe_key", "occurrence"),
    ForeignKeyConstraint(["store_id", "item_id"], ["stock_level.store_id", "stock_level.item_id"]),
    CheckConstraint("occurrence > 1", name="occurrence"),
    CheckConstraint("state IN ('open', 'applied', 'dismissed')", name="state"),
    CheckConstraint("attempts > 0", name="attempts"),
)

outbox_message = Table(
    "outbox_message",
    metadata,
    Column("outbox_message_id", BigInteger, Identity(always=True)),
    _id("store_id"),
    _id("item_id"),
    Column("level_version", BigInteger, nullable=False),
    _id("inventory_system_id"),
    Column("user_id_tps", Text, nullable=False),
    Column("state", Text, nullable=False, server_default=text("'pending'")),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    _time("next_attempt_at"),
    Column("claimed_until", DateTime(timezone=True)),
    Column("words", Text),
    Column("actor", Text),
    Column("note", Text),
    _time("created_at"),
    _time("closed_at", nullable=True),
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
    _id("store_id"),
    _id("inventory_system_id"),
    Column("state", Text, nullable=False),
    Column("items", Integer, nullable=False),
    Column("units", Integer, nullable=False),
    Column("suppliers", Integer, nullable=False),
    Column("covered", Integer, nullable=False, server_default=text("0")),
    Column("words", Text, nullable=False),
    Column("actor", Text, nullable=False),
    _time("started_at"),
    _time("ended_at", nullable=True),
    PrimaryKeyConstraint("sync_run_id"),
    ForeignKeyConstraint(["store_id"], ["store.store_id"]),
    CheckConstraint("state IN ('running', 'done', 'refused', 'unknown')", name="state"),
)
Index("sync_run_latest_idx", sync_run.c.store_id, sync_run.c.inventory_system_id, sync_run.c.sync_run_id)

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
    _time("obtained_at"),
    PrimaryKeyConstraint("account"),
)
