"""The catalogue, the stock levels, their ledger, and the refused deliveries."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

REFUSE_CHANGE = """
CREATE FUNCTION stock_movement_is_immutable() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'stock_movement is an immutable ledger: correct a mistake with a reversal row'
    USING ERRCODE = 'restrict_violation';
END
$$
"""


def upgrade() -> None:
    op.create_table(
        "store",
        sa.Column("store_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("mipos_store_id", sa.Text(), nullable=True),
        sa.Column("timezone", sa.Text(), nullable=False),
        sa.Column("negative_stock", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("negative_stock IN ('allow', 'refuse')", name=op.f("store_negative_stock_check")),
        sa.CheckConstraint("store_id <> '' AND length(store_id) <= 255", name=op.f("store_store_id_check")),
        sa.PrimaryKeyConstraint("store_id", name=op.f("store_pkey")),
        sa.UniqueConstraint("mipos_store_id", name=op.f("store_mipos_store_id_key")),
    )
    op.create_table(
        "supplier",
        sa.Column("supplier_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.CheckConstraint("name <> ''", name=op.f("supplier_name_check")),
        sa.CheckConstraint("supplier_id <> '' AND length(supplier_id) <= 255", name=op.f("supplier_supplier_id_check")),
        sa.PrimaryKeyConstraint("supplier_id", name=op.f("supplier_pkey")),
    )
    op.create_table(
        "unit",
        sa.Column("unit_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("short_name", sa.Text(), nullable=False),
        sa.CheckConstraint("name <> ''", name=op.f("unit_name_check")),
        sa.CheckConstraint("short_name <> ''", name=op.f("unit_short_name_check")),
        sa.CheckConstraint("unit_id <> '' AND length(unit_id) <= 255", name=op.f("unit_unit_id_check")),
        sa.PrimaryKeyConstraint("unit_id", name=op.f("unit_pkey")),
    )
    op.create_table(
        "integration",
        sa.Column("store_id", sa.Text(), nullable=False),
        sa.Column("inventory_system_id", sa.Text(), nullable=False),
        sa.Column("user_id_tps", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "inventory_system_id <> '' AND length(inventory_system_id) <= 255", name=op.f("integration_inventory_system_id_check")
        ),
        sa.ForeignKeyConstraint(["store_id"], ["store.store_id"], name=op.f("integration_store_id_fkey")),
        sa.PrimaryKeyConstraint("store_id", "inventory_system_id", name=op.f("integration_pkey")),
    )
    op.create_table(
        "item",
        sa.Column("item_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("purchase_unit_id", sa.Text(), nullable=False),
        sa.Column("consumption_unit_id", sa.Text(), nullable=False),
        sa.Column("supplier_id", sa.Text(), nullable=False),
        sa.Column("cost", sa.Numeric(), nullable=False),
        sa.CheckConstraint("item_id <> '' AND length(item_id) <= 255", name=op.f("item_item_id_check")),
        sa.CheckConstraint("name <> ''", name=op.f("item_name_check")),
        sa.CheckConstraint("cost >= 0 AND cost < 1e15 AND scale(cost) <= 14", name=op.f("item_cost_check")),
        sa.ForeignKeyConstraint(["consumption_unit_id"], ["unit.unit_id"], name=op.f("item_consumption_unit_id_fkey")),
        sa.ForeignKeyConstraint(["purchase_unit_id"], ["unit.unit_id"], name=op.f("item_purchase_unit_id_fkey")),
        sa.ForeignKeyConstraint(["supplier_id"], ["supplier.supplier_id"], name=op.f("item_supplier_id_fkey")),
        sa.PrimaryKeyConstraint("item_id", name=op.f("item_pkey")),
    )
    op.create_table(
        "stock_level",
        sa.Column("store_id", sa.Text(), nullable=False),
        sa.Column("item_id", sa.Text(), nullable=False),
        sa.Column("quantity", sa.Numeric(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "quantity > -1e15 AND quantity < 1e15 AND scale(quantity) <= 14", name=op.f("stock_level_quantity_check")
        ),
        sa.CheckConstraint("version >= 0", name=op.f("stock_level_version_check")),
        sa.ForeignKeyConstraint(["item_id"], ["item.item_id"], name=op.f("stock_level_item_id_fkey")),
        sa.ForeignKeyConstraint(["store_id"], ["store.store_id"], name=op.f("stock_level_store_id_fkey")),
        sa.PrimaryKeyConstraint("store_id", "item_id", name=op.f("stock_level_pkey")),
        postgresql_with={"fillfactor": 80},
    )
    op.create_table(
        "stock_movement",
        sa.Column("store_id", sa.Text(), nullable=False),
        sa.Column("item_id", sa.Text(), nullable=False),
        sa.Column("level_version", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("inventory_system_id", sa.Text(), nullable=True),
        sa.Column("movement_type", sa.SmallInteger(), nullable=False),
        sa.Column("quantity", sa.Numeric(), nullable=False),
        sa.Column(
            "delta",
            sa.Numeric(),
            sa.Computed("CASE WHEN movement_type = 1 THEN quantity ELSE - quantity END", persisted=True),
            nullable=False,
        ),
        sa.Column("balance_after", sa.Numeric(), nullable=False),
        sa.Column("reported_stock", sa.Numeric(), nullable=True),
        sa.Column("date_text", sa.Text(), nullable=True),
        sa.Column("sent_text", sa.Text(), nullable=True),
        sa.Column("dedupe_key", sa.LargeBinary(), nullable=True),
        sa.Column("occurrence", sa.SmallInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "source <> 'inventory_system' OR (inventory_system_id IS NOT NULL AND dedupe_key IS NOT NULL AND reported_stock IS NOT NULL AND date_text IS NOT NULL AND sent_text IS NOT NULL)",
            name=op.f("stock_movement_reported_check"),
        ),
        sa.CheckConstraint("source IN ('inventory_system', 'opening')", name=op.f("stock_movement_source_check")),
        sa.CheckConstraint(
            "balance_after > -1e15 AND balance_after < 1e15 AND scale(balance_after) <= 14",
            name=op.f("stock_movement_balance_after_check"),
        ),
        sa.CheckConstraint("length(dedupe_key) = 32", name=op.f("stock_movement_dedupe_key_check")),
        sa.CheckConstraint("level_version > 0", name=op.f("stock_movement_level_version_check")),
        sa.CheckConstraint("movement_type IN (1, 2)", name=op.f("stock_movement_movement_type_check")),
        sa.CheckConstraint("occurrence > 0", name=op.f("stock_movement_occurrence_check")),
        sa.CheckConstraint(
            "quantity >= 0 AND quantity < 1e15 AND scale(quantity) <= 14", name=op.f("stock_movement_quantity_check")
        ),
        sa.CheckConstraint(
            "reported_stock > -1e15 AND reported_stock < 1e15 AND scale(reported_stock) <= 14",
            name=op.f("stock_movement_reported_stock_check"),
        ),
        sa.ForeignKeyConstraint(
            ["store_id", "item_id"],
            ["stock_level.store_id", "stock_level.item_id"],
            name=op.f("stock_movement_store_id_item_id_fkey"),
        ),
        sa.PrimaryKeyConstraint("store_id", "item_id", "level_version", name=op.f("stock_movement_pkey")),
        sa.UniqueConstraint(
            "store_id", "dedupe_key", "occurrence", name=op.f("stock_movement_store_id_dedupe_key_occurrence_key")
        ),
    )
    op.create_table(
        "refused_delivery",
        sa.Column("refused_delivery_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("http_status", sa.SmallInteger(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("raw_body", sa.LargeBinary(), nullable=False),
        sa.Column("store_id", sa.Text(), nullable=True),
        sa.Column("item_id", sa.Text(), nullable=True),
        sa.Column("inventory_system_id", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'open'"), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('open', 'resolved', 'replayed', 'dismissed')", name=op.f("refused_delivery_state_check")),
        sa.CheckConstraint("attempts > 0", name=op.f("refused_delivery_attempts_check")),
        sa.PrimaryKeyConstraint("refused_delivery_id", name=op.f("refused_delivery_pkey")),
        sa.UniqueConstraint("fingerprint", "reason", name=op.f("refused_delivery_fingerprint_reason_key")),
    )
    op.create_index(
        "refused_delivery_open_fingerprint_idx",
        "refused_delivery",
        ["fingerprint"],
        unique=False,
        postgresql_where=sa.text("state = 'open'"),
    )
    op.execute(REFUSE_CHANGE)
    op.execute(
        "CREATE TRIGGER stock_movement_keeps_rows BEFORE UPDATE OR DELETE ON stock_movement"
        " FOR EACH ROW EXECUTE FUNCTION stock_movement_is_immutable()"
    )
    op.execute(
        "CREATE TRIGGER stock_movement_keeps_all_rows BEFORE TRUNCATE ON stock_movement"
        " FOR EACH STATEMENT EXECUTE FUNCTION stock_movement_is_immutable()"
    )
