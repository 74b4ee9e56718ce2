"""The operator page: its sessions, login links, failed logins, what was done and is being done; and names that can be searched.

Older code neither reads nor needs any of it, so it works with this schema.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
compatible_from = "0008"
"""The oldest revision whose code can work with this schema."""

FOLDED = r"lower(regexp_replace(normalize(name, NFKD), '[\u0300-\u036f]', '', 'g'))"


def upgrade() -> None:
    # Filled by the database, since apply_movements and older code write items too.
    # It rewrites the table of items, which is small: deliveries wait for about a fifth of a second for each 50,000 items.
    op.execute(
        "-- squawk-ignore adding-field-with-default\n"
        f"ALTER TABLE item ADD COLUMN folded_name text GENERATED ALWAYS AS ({FOLDED}) STORED NOT NULL"
    )
    op.create_index("item_folded_name_idx", "item", ["store_id", "folded_name", "item_id"])
    op.create_index(
        "refused_delivery_request_id_idx",
        "refused_delivery",
        ["request_id"],
        postgresql_where=sa.text("request_id IS NOT NULL"),
    )
    op.create_index(
        "suspected_duplicate_request_id_idx",
        "suspected_duplicate",
        ["request_id"],
        postgresql_where=sa.text("request_id IS NOT NULL"),
    )
    op.create_table(
        "page_session",
        sa.Column("session_hash", sa.LargeBinary(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("session_hash", name=op.f("page_session_pkey")),
        sa.CheckConstraint("role IN ('viewer', 'operator')", name=op.f("page_session_role_check")),
    )
    op.create_table(
        "page_link",
        sa.Column("link_hash", sa.LargeBinary(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("spent_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("link_hash", name=op.f("page_link_pkey")),
        sa.CheckConstraint("role IN ('viewer', 'operator')", name=op.f("page_link_role_check")),
    )
    op.create_table(
        "page_failure",
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("free_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("network", name=op.f("page_failure_pkey")),
    )
    op.create_table(
        "page_act",
        sa.Column("act_id", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("done_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("act_id", name=op.f("page_act_pkey")),
    )
    op.create_index("page_act_done_at_idx", "page_act", ["done_at"])
    op.create_table(
        "page_job",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("asked", postgresql.JSONB(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("done", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("results", postgresql.JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("fault", sa.Text(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("beat_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("job_id", name=op.f("page_job_pkey")),
    )
    op.create_index("page_job_started_at_idx", "page_job", ["started_at"])
