"""What operators are told: deliveries counted by hour, problems, alert messages, pings; low stock and closed stores.

Older code neither reads nor needs any of it, so it works with this schema.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
compatible_from = "0008"
"""The oldest revision whose code can work with this schema."""


def upgrade() -> None:
    op.create_table(
        "delivery_count",
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("store_id", sa.Text(), nullable=False),
        sa.Column("inventory_system_id", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("deliveries", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("at", "store_id", "inventory_system_id", "outcome", name=op.f("delivery_count_pkey")),
        sa.CheckConstraint("deliveries > 0", name=op.f("delivery_count_deliveries_check")),
    )
    op.create_table(
        "pair_delivery",
        sa.Column("store_id", sa.Text(), nullable=False),
        sa.Column("inventory_system_id", sa.Text(), nullable=False),
        sa.Column("first_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("unsigned", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("unsigned_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("store_id", "inventory_system_id", name=op.f("pair_delivery_pkey")),
    )
    op.create_table(
        "problem",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("looked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cleared_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("told_severity", sa.Text(), nullable=True),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("acknowledged_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("acknowledged_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("name", "subject", name=op.f("problem_pkey")),
        sa.CheckConstraint("severity IN ('info', 'warning', 'critical')", name=op.f("problem_severity_check")),
    )
    op.create_table(
        "alert_state",
        sa.Column("is_only", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("looked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outage", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("is_only", name=op.f("alert_state_pkey")),
        sa.CheckConstraint("is_only", name=op.f("alert_state_is_only_check")),
    )
    op.create_table(
        "alert_message",
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("words", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("message_id", name=op.f("alert_message_pkey")),
    )
    op.create_table(
        "ping",
        sa.Column("nonce", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'sent'"), nullable=False),
        sa.Column("words", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("nonce", name=op.f("ping_pkey")),
        sa.CheckConstraint("state IN ('sent', 'returned', 'refused', 'lost')", name=op.f("ping_state_check")),
    )
    op.add_column("item", sa.Column("low_stock", sa.Numeric(), nullable=True))
    # Validated afterwards, by `migrate`.
    op.execute(
        "ALTER TABLE item ADD CONSTRAINT item_low_stock_check"
        " CHECK (low_stock >= 0 AND low_stock < 1e15 AND scale(low_stock) <= 14) NOT VALID"
    )
    op.execute(
        "-- squawk-ignore require-concurrent-index-creation\n"
        "CREATE INDEX item_low_stock_idx ON item (store_id, item_id) WHERE low_stock IS NOT NULL"
    )
    op.execute(
        "-- squawk-ignore require-concurrent-index-creation\n"
        "CREATE INDEX system_level_drift_idx ON system_level (store_id) WHERE drift <> 0"
    )
    op.add_column("store", sa.Column("closed_until", sa.DateTime(timezone=True), nullable=True))
    op.add_column("webhook_registration", sa.Column("renewals", sa.Integer(), server_default=sa.text("0"), nullable=False))
