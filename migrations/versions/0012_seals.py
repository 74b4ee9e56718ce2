"""Seals: a digest of each ledger row, and checkpoints that are chained, so that a row that was changed later is named.

Older code neither reads nor needs any of it, so it works with this schema.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
compatible_from = "0008"
"""The oldest revision whose code can work with this schema."""


def upgrade() -> None:
    op.create_table(
        "seal_level",
        sa.Column("store_id", sa.Text(), nullable=False),
        sa.Column("item_id", sa.Text(), nullable=False),
        sa.Column("sealed_version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("store_id", "item_id", name=op.f("seal_level_pkey")),
    )
    op.create_table(
        "seal_checkpoint",
        sa.Column("store_id", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("sealed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("items", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("first_versions", sa.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("counts", sa.ARRAY(sa.Integer()), nullable=False),
        sa.Column("leaves", sa.LargeBinary(), nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("store_id", "number", name=op.f("seal_checkpoint_pkey")),
        sa.CheckConstraint("number > 0", name=op.f("seal_checkpoint_number_check")),
    )
    op.execute(
        "CREATE FUNCTION seal_checkpoint_is_immutable() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$"
        " BEGIN RAISE EXCEPTION 'Checkpoints are never changed or deleted.' USING ERRCODE = '55000'; END $$"
    )
    op.execute("REVOKE EXECUTE ON FUNCTION seal_checkpoint_is_immutable() FROM PUBLIC")
    op.execute(
        "CREATE TRIGGER seal_checkpoint_keeps_rows BEFORE UPDATE OR DELETE ON seal_checkpoint"
        " FOR EACH ROW EXECUTE FUNCTION seal_checkpoint_is_immutable()"
    )
    op.execute("ALTER TABLE seal_checkpoint ENABLE ALWAYS TRIGGER seal_checkpoint_keeps_rows")
