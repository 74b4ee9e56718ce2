"""The identity of a reported movement begins with its date, so that an index of millions is touched in one place at a time.

Its first ten bytes become those of the date, and the rest of the hash stays (`app.stock.movement`). Code from before makes
identities as they were, and would not know a movement again: so stop the service meanwhile. A check in the ledger refuses
what a replica that was forgotten would add, and there is no way back but a backup.
"""

from alembic import op

revision = "0005"
down_revision = "0004"

DATED = "substr(convert_to({date}, 'UTF8') || decode(repeat('00', 10), 'hex'), 1, 10)"
"""As `app.stock.movement` makes it: the first ten bytes of the date's UTF-8, filled up with zeros."""
SUSPECTED = """
UPDATE suspected_duplicate AS s SET dedupe_key = {dated} || substr(s.dedupe_key, 11)
FROM stock_movement AS m WHERE m.store_id = s.store_id AND m.dedupe_key = s.dedupe_key AND m.occurrence = 1
"""
"""Each has its original in the ledger, by which it is found as long as that has not changed."""
REFUSED = """
DO $$
DECLARE
  v_number bigint;
BEGIN
  -- What could be read names a store; what could not is known by the hash of its bytes, which stays.
  FOR v_number IN SELECT refused_delivery_id FROM refused_delivery WHERE store_id IS NOT NULL LOOP
    BEGIN
      UPDATE refused_delivery SET fingerprint = {dated} || substr(fingerprint, 11) WHERE refused_delivery_id = v_number;
    EXCEPTION WHEN data_exception THEN
      -- Postgres cannot read an escape in it that we can ("\\u0000" in a field that nobody asks for). It can still be replayed.
      NULL;
    END;
  END LOOP;
END $$
"""
LEDGER = """
UPDATE stock_movement SET dedupe_key = {dated} || substr(dedupe_key, 11)
WHERE source = 'inventory_system' AND substr(dedupe_key, 1, 10) <> {dated}
"""


def upgrade() -> None:
    op.execute("LOCK TABLE stock_movement IN ACCESS EXCLUSIVE MODE")
    op.execute(SUSPECTED.format(dated=DATED.format(date="m.date_text")))
    op.execute(REFUSED.format(dated=DATED.format(date="convert_from(raw_body, 'UTF8')::json ->> 'date'")))
    op.execute("ALTER TABLE stock_movement DISABLE TRIGGER stock_movement_keeps_rows")
    op.execute(LEDGER.format(dated=DATED.format(date="date_text")))
    op.execute("ALTER TABLE stock_movement ENABLE TRIGGER stock_movement_keeps_rows")
    op.create_check_constraint(
        op.f("stock_movement_dated_check"),
        "stock_movement",
        f"source <> 'inventory_system' OR substr(dedupe_key, 1, 10) = {DATED.format(date='date_text')}",
        postgresql_not_valid=True,
    )
