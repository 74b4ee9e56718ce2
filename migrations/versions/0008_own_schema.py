"""A schema of its own: what old code calls is gone, guards work always, and a revision says with which code it works.

`app.storage.schema_move` has brought the tables of an older release here before this runs. Code from before this revision reads a
column of `apply_movements` that is gone and writes one of `refused_delivery` that is gone, and answers 503 until it is replaced:
a service role that has the name of the schema would else find both by its search path, and book or refuse for good.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
compatible_from = "0008"
"""The oldest revision whose code can work with this schema."""

RENAME_COLUMN = """
DO $$
DECLARE
  v_function record;
  v_granted record;
  v_grants text[] := '{}';
BEGIN
  SELECT oid::regprocedure::text AS name, pg_get_functiondef(oid) AS definition, proacl, proowner INTO v_function
  FROM pg_proc WHERE proname = 'apply_movements' AND pronamespace = current_schema()::regnamespace;
  FOR v_granted IN
    SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END AS role, is_grantable
    FROM aclexplode(v_function.proacl) WHERE grantee <> v_function.proowner
  LOOP
    v_grants := v_grants || format('GRANT EXECUTE ON FUNCTION apply_movements TO %s%s', v_granted.role,
      CASE WHEN v_granted.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END);
  END LOOP;
  EXECUTE format('DROP FUNCTION %s', v_function.name);
  EXECUTE regexp_replace(v_function.definition, '\\mremark\\M', 'detail', 'g');
  REVOKE EXECUTE ON FUNCTION apply_movements FROM PUBLIC;
  FOR i IN 1 .. cardinality(v_grants) LOOP
    EXECUTE v_grants[i];
  END LOOP;
END $$
"""


def upgrade() -> None:
    op.execute(RENAME_COLUMN)
    op.execute("-- squawk-ignore renaming-column\nALTER TABLE refused_delivery RENAME COLUMN http_status TO status_code")
    # Also where rows come by replication, or from a dump with --disable-triggers.
    for guard in ("stock_movement_keeps_rows", "stock_movement_keeps_all_rows"):
        op.execute(f"ALTER TABLE stock_movement ENABLE ALWAYS TRIGGER {guard}")
    op.create_table(
        "outbox_claim",
        sa.Column("never", sa.Boolean(), nullable=True),
        sa.CheckConstraint("never IS NULL", name=op.f("outbox_claim_never_check")),
    )
    op.create_table(
        "replica",
        sa.Column("replica_id", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("head", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("replica_id", name=op.f("replica_pkey")),
    )
    op.execute("ALTER TABLE alembic_version ADD COLUMN compatible_from text")
    op.execute(f"UPDATE alembic_version SET compatible_from = '{compatible_from}'")
