"""What an operator corrects: more sources of ledger rows, who did it and why, and suspected duplicates.

Additive, and safe beside a running service: nothing is rewritten, and each new check is added NOT VALID, which does not read
the ledger; `app.storage.migrations` validates them afterwards, without a lock that stops writes.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

SOURCES = "source IN ('inventory_system', 'opening', 'reconcile', 'reversal', 'pos_sale', 'pos_count', 'pos_receipt')"


def upgrade() -> None:
    op.add_column("stock_movement", sa.Column("actor", sa.Text(), nullable=True), if_not_exists=True)
    op.add_column("stock_movement", sa.Column("note", sa.Text(), nullable=True), if_not_exists=True)
    # Replaced in the same transaction by one that lets all the same rows pass, and more.
    op.execute("-- squawk-ignore ban-drop-constraint\nALTER TABLE stock_movement DROP CONSTRAINT stock_movement_source_check")
    _add_check("stock_movement", "stock_movement_source_check", SOURCES)
    _add_check(
        "stock_movement",
        "stock_movement_reconcile_check",
        "source <> 'reconcile' OR (actor IS NOT NULL AND note IS NOT NULL)",
    )
    op.add_column("refused_delivery", sa.Column("replay_message", sa.Text(), nullable=True))
    op.add_column("refused_delivery", sa.Column("replayed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("refused_delivery", sa.Column("actor", sa.Text(), nullable=True))
    op.add_column("refused_delivery", sa.Column("note", sa.Text(), nullable=True))
    op.create_table(
        "suspected_duplicate",
        sa.Column("suspected_duplicate_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("store_id", sa.Text(), nullable=False),
        sa.Column("dedupe_key", sa.LargeBinary(), nullable=False),
        sa.Column("occurrence", sa.SmallInteger(), nullable=False),
        sa.Column("item_id", sa.Text(), nullable=False),
        sa.Column("inventory_system_id", sa.Text(), nullable=False),
        sa.Column("after_version", sa.BigInteger(), nullable=False),
        sa.Column("sent_text", sa.Text(), nullable=False),
        sa.Column("raw_body", sa.LargeBinary(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'open'"), nullable=False),
        sa.Column("actor", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("attempts > 0", name=op.f("suspected_duplicate_attempts_check")),
        sa.CheckConstraint("occurrence > 1", name=op.f("suspected_duplicate_occurrence_check")),
        sa.CheckConstraint("state IN ('open', 'applied', 'dismissed')", name=op.f("suspected_duplicate_state_check")),
        sa.ForeignKeyConstraint(
            ["store_id", "item_id"],
            ["stock_level.store_id", "stock_level.item_id"],
            name=op.f("suspected_duplicate_store_id_item_id_fkey"),
        ),
        sa.PrimaryKeyConstraint("suspected_duplicate_id", name=op.f("suspected_duplicate_pkey")),
        sa.UniqueConstraint(
            "store_id", "dedupe_key", "occurrence", name=op.f("suspected_duplicate_store_id_dedupe_key_occurrence_key")
        ),
    )


def _add_check(table: str, name: str, condition: str) -> None:
    op.create_check_constraint(op.f(name), table, condition, postgresql_not_valid=True)
