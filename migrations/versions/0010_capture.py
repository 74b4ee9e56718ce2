"""Unverified deliveries that an operator asks to keep for a while, so that a wrong signature can be explained.

Additive: code from before this revision works with it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
compatible_from = "0008"
"""The oldest revision whose code can work with this schema."""


def upgrade() -> None:
    op.create_table(
        "capture",
        sa.Column("capture_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("max_kept", sa.SmallInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.CheckConstraint("ends_at <= started_at + interval '24 hours'", name=op.f("capture_ends_at_check")),
        sa.CheckConstraint("max_kept BETWEEN 1 AND 200", name=op.f("capture_max_kept_check")),
        sa.PrimaryKeyConstraint("capture_id", name=op.f("capture_pkey")),
    )
    op.create_table(
        "captured_delivery",
        sa.Column("captured_delivery_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("capture_id", sa.BigInteger(), nullable=False),
        sa.Column("content_hash", sa.LargeBinary(), nullable=False),
        sa.Column("raw_body", sa.LargeBinary(), nullable=False),
        sa.Column("signatures", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=True),
        sa.Column("client", sa.Text(), nullable=True),
        sa.Column("names_known_pair", sa.Boolean(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=True),
        sa.CheckConstraint("attempts > 0", name=op.f("captured_delivery_attempts_check")),
        sa.CheckConstraint("length(raw_body) <= 65536", name=op.f("captured_delivery_raw_body_check")),
        sa.ForeignKeyConstraint(
            ["capture_id"], ["capture.capture_id"], name=op.f("captured_delivery_capture_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("captured_delivery_id", name=op.f("captured_delivery_pkey")),
        sa.UniqueConstraint("capture_id", "content_hash", name=op.f("captured_delivery_capture_id_content_hash_key")),
    )
    op.execute(f"UPDATE alembic_version SET compatible_from = '{compatible_from}'")
