"""The identity of a reported movement begins with its date, so that an index of millions is touched in one place at a time.

Its first ten bytes become those of the date, and the rest of the hash stays (`app.stock.movement`): every row holds what that
takes, and to do it twice changes nothing. Stop the service meanwhile: code from before makes identities as they were. So
going back to it leaves them as they are, and does not know these movements again.
"""

from alembic import op

revision = "0005"
down_revision = "0004"

DATED = r"""
CREATE OR REPLACE FUNCTION pg_temp.dated(date_text text, identity bytea) RETURNS bytea LANGUAGE sql IMMUTABLE RETURN
  substr(convert_to(date_text, 'UTF8') || '\x00000000000000000000'::bytea, 1, 10) || substr(identity, 11)
"""
"""As `app.stock.movement` makes it: the first ten bytes of the date's UTF-8, filled up with zeros."""


def upgrade() -> None:
    op.execute(DATED)
    # Each has its original in the ledger, by which it is found as long as that has not changed.
    op.execute(
        "UPDATE suspected_duplicate AS s SET dedupe_key = pg_temp.dated(m.date_text, s.dedupe_key) FROM stock_movement AS m"
        " WHERE m.store_id = s.store_id AND m.dedupe_key = s.dedupe_key AND m.occurrence = 1"
    )
    # What could be read names a store; what could not is known by the hash of its bytes, which stays.
    op.execute(
        "UPDATE refused_delivery"
        " SET fingerprint = pg_temp.dated(convert_from(raw_body, 'UTF8')::json ->> 'date', fingerprint)"
        " WHERE store_id IS NOT NULL"
    )
    op.execute("ALTER TABLE stock_movement DISABLE TRIGGER stock_movement_keeps_rows")
    op.execute("UPDATE stock_movement SET dedupe_key = pg_temp.dated(date_text, dedupe_key) WHERE source = 'inventory_system'")
    op.execute("ALTER TABLE stock_movement ENABLE TRIGGER stock_movement_keeps_rows")


def downgrade() -> None:
    pass
