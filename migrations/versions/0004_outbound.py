"""What goes out: messages to inventory systems, full synchronisations, and movements that the POS itself records.

A trigger queues the messages in the transaction of the ledger row, for every writer: a delivery, an operator, the POS by HTTP or
by SQL. So the rule which systems are told of a movement has one place.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

QUEUE = """
CREATE FUNCTION queue_outbox_messages() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  -- Never back to the system that it came from; an opening stock is what a full synchronisation tells.
  INSERT INTO outbox_message (store_id, item_id, level_version, inventory_system_id, user_id_tps)
  SELECT moved.store_id, moved.item_id, moved.level_version, integration.inventory_system_id, integration.user_id_tps
  FROM moved JOIN integration ON integration.store_id = moved.store_id AND integration.enabled
  WHERE moved.source <> 'opening' AND integration.inventory_system_id IS DISTINCT FROM moved.inventory_system_id
  ORDER BY moved.store_id, moved.item_id, moved.level_version;
  RETURN NULL;
END $$
"""
SEARCH_PATH = "SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true)"
"""For the functions below, which keep it: temporary tables last, or a caller could slip its own under the owner's rights."""
RECORD = """
CREATE FUNCTION record_pos_movement(
  p_store_id text,
  p_item_id text,
  p_kind text,
  p_quantity numeric,
  p_idempotency_key text,
  p_happened_at timestamptz DEFAULT now()
) RETURNS numeric LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
  v_source CONSTANT text := 'pos_' || p_kind;
  v_identity bytea;
  v_policy text;
  v_level stock_level;
  v_known stock_movement;
  v_change numeric;
BEGIN
  -- Computed numbers carry zeros at their end: 3.0 / 2 has sixteen decimals.
  p_quantity := trim_scale(p_quantity);
  IF p_kind IS NULL OR p_kind NOT IN ('sale', 'count', 'receipt') THEN
    RAISE EXCEPTION 'The kind of a movement must be sale, count or receipt.' USING ERRCODE = '22023';
  END IF;
  IF p_quantity IS NULL OR p_quantity < 0 OR p_quantity >= 1e15 OR scale(p_quantity) > 14 THEN
    RAISE EXCEPTION 'The quantity must be 0 or more, below 10^15, with at most 14 decimals.' USING ERRCODE = '22003';
  END IF;
  IF p_happened_at IS NULL OR p_happened_at < '1970-01-02' OR p_happened_at >= '9999-01-01' THEN
    RAISE EXCEPTION 'The time must be after 1970 and before 9999.' USING ERRCODE = '22008';
  END IF;
  IF coalesce(btrim(p_idempotency_key), '') = '' OR length(p_idempotency_key) > 255 THEN
    RAISE EXCEPTION 'The idempotency key must have 1 to 255 characters.' USING ERRCODE = '22023';
  END IF;
  SELECT negative_stock INTO v_policy FROM store WHERE store_id = p_store_id;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'The POS has no store "%".', p_store_id USING ERRCODE = '23503';
  END IF;
  PERFORM FROM item WHERE item_id = p_item_id;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'The POS has no item "%".', p_item_id USING ERRCODE = '23503';
  END IF;
  INSERT INTO stock_level (store_id, item_id, quantity, version) VALUES (p_store_id, p_item_id, 0, 0) ON CONFLICT DO NOTHING;
  SELECT * INTO v_level FROM stock_level WHERE store_id = p_store_id AND item_id = p_item_id FOR NO KEY UPDATE;
  -- The same identity as over HTTP (app.stock.movement): a sale that is recorded both ways is one.
  v_identity := sha256(convert_to(
    '1:1' || '3:pos' || octet_length(convert_to(p_store_id, 'UTF8')) || ':' || p_store_id
    || octet_length(convert_to(p_idempotency_key, 'UTF8')) || ':' || p_idempotency_key || '1:0', 'UTF8'));
  SELECT * INTO v_known FROM stock_movement WHERE store_id = p_store_id AND dedupe_key = v_identity AND occurrence = 1;
  IF FOUND THEN
    IF v_known.item_id <> p_item_id OR v_known.source <> v_source
      OR p_quantity <> (CASE WHEN p_kind = 'count' THEN v_known.balance_after ELSE v_known.quantity END)
    THEN
      RAISE EXCEPTION 'The idempotency key "%" was used for another movement.', p_idempotency_key USING ERRCODE = '23505';
    END IF;
    RETURN v_known.balance_after;
  END IF;
  v_change := CASE p_kind
    WHEN 'sale' THEN - p_quantity WHEN 'receipt' THEN p_quantity ELSE p_quantity - v_level.quantity END;
  IF v_policy = 'refuse' AND v_change < 0 AND v_level.quantity + v_change < 0 THEN
    RAISE EXCEPTION 'Removing % would take item "%" in store "%" below zero: the POS has %.',
      p_quantity, p_item_id, p_store_id, v_level.quantity USING ERRCODE = '23514';
  END IF;
  UPDATE stock_level SET quantity = v_level.quantity + v_change, version = v_level.version + 1, updated_at = now()
  WHERE store_id = p_store_id AND item_id = p_item_id;
  INSERT INTO stock_movement (
    store_id, item_id, level_version, source, movement_type, quantity, balance_after, date_text, dedupe_key
  ) VALUES (
    p_store_id, p_item_id, v_level.version + 1, v_source,
    CASE WHEN p_kind = 'sale' OR v_change < 0 THEN 2 ELSE 1 END, abs(v_change), v_level.quantity + v_change,
    to_char(p_happened_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), v_identity
  );
  -- A hint to the relay, only from here: a NOTIFY makes commits wait for each other, which deliveries must not.
  PERFORM pg_notify('pos_sync_outbox', '');
  RETURN v_level.quantity + v_change;
END $$
"""


def upgrade() -> None:
    op.create_table(
        "outbox_message",
        sa.Column("outbox_message_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("store_id", sa.Text(), nullable=False),
        sa.Column("item_id", sa.Text(), nullable=False),
        sa.Column("level_version", sa.BigInteger(), nullable=False),
        sa.Column("inventory_system_id", sa.Text(), nullable=False),
        sa.Column("user_id_tps", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'pending'"), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("claimed_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("words", sa.Text(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("attempts >= 0", name=op.f("outbox_message_attempts_check")),
        sa.CheckConstraint(
            "state IN ('pending', 'sent', 'dead', 'covered', 'dismissed')", name=op.f("outbox_message_state_check")
        ),
        sa.PrimaryKeyConstraint("outbox_message_id", name=op.f("outbox_message_pkey")),
        sa.UniqueConstraint(
            "store_id",
            "item_id",
            "level_version",
            "inventory_system_id",
            name=op.f("outbox_message_movement_key"),
        ),
    )
    op.create_index(
        "outbox_message_pending_idx",
        "outbox_message",
        ["inventory_system_id", "store_id", "item_id", "level_version"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "outbox_message_dead_idx",
        "outbox_message",
        ["outbox_message_id"],
        unique=False,
        postgresql_where=sa.text("state = 'dead'"),
    )
    op.create_table(
        "sync_run",
        sa.Column("sync_run_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("store_id", sa.Text(), nullable=False),
        sa.Column("inventory_system_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("items", sa.Integer(), nullable=False),
        sa.Column("units", sa.Integer(), nullable=False),
        sa.Column("suppliers", sa.Integer(), nullable=False),
        sa.Column("covered", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('running', 'done', 'refused', 'unknown')", name=op.f("sync_run_state_check")),
        sa.ForeignKeyConstraint(["store_id"], ["store.store_id"], name=op.f("sync_run_store_id_fkey")),
        sa.PrimaryKeyConstraint("sync_run_id", name=op.f("sync_run_pkey")),
    )
    op.create_index("sync_run_latest_idx", "sync_run", ["store_id", "inventory_system_id", "sync_run_id"], unique=False)
    # A level is written in the statement of its ledger row, and neither can be deleted by the service: looking at the level
    # once more for each row was a sixth of Postgres's work. `pos-sync doctor` looks at all of them.
    op.execute(
        "-- squawk-ignore ban-drop-constraint\n"
        "ALTER TABLE stock_movement DROP CONSTRAINT IF EXISTS stock_movement_store_id_item_id_fkey"
    )
    op.execute(SEARCH_PATH)
    op.execute(QUEUE)
    op.execute(RECORD)
    # It writes with its owner's rights: who may call it is for the owner to say.
    op.execute("REVOKE EXECUTE ON FUNCTION record_pos_movement FROM PUBLIC")
    op.execute(
        "CREATE TRIGGER stock_movement_queues_messages AFTER INSERT ON stock_movement"
        " REFERENCING NEW TABLE AS moved FOR EACH STATEMENT EXECUTE FUNCTION queue_outbox_messages()"
    )
