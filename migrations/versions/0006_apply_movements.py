"""One function applies movements: it locks, judges, and writes the ledger, the levels and the outbox in one statement.

Every door calls `apply_movements`, so a rule of the ledger has one place. The trigger that queued outbox messages goes. The rules
that decide an outcome (POS_ID, NEGATIVE_STOCK) are read from the table `service_rule`, so that all doors follow the same.

Code from before this revision must not write: it would judge by its own rules, and queue no messages. So two columns that its
statements name get other names, and it answers 503 until it is replaced.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

SEARCH_PATH = "SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true)"
"""For the functions below, which keep it. Temporary tables come last, or a caller could slip its own under the owner's rights."""
PLANNER = """
DO $$ BEGIN
  -- Not under Citus: its router fails on forced generic plans.
  IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') THEN
    ALTER FUNCTION apply_movements SET plan_cache_mode = force_generic_plan SET jit = off
      SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_sort = off;
  END IF;
END $$
"""
"""Each statement of the function is planned once in a session, and with one index probe a row: a plan that was made while the
tables were small would otherwise read large ones whole, or all rows of a store and sort them. On the function, so that every way in has it, behind a pooler too."""
APPLY = """
CREATE FUNCTION apply_movements(
  p_skip_locked boolean,
  p_store_id text[],
  p_item_id text[],
  p_source text[],
  p_inventory_system_id text[],
  p_movement_type text[],
  p_quantity text[],
  p_reported_stock text[],
  p_date_text text[],
  p_sent_at_text text[],
  p_dedupe_key bytea[],
  p_occurrence smallint[],
  p_pos_id text[],
  p_happened_at timestamptz[],
  p_ticket integer[],
  p_reason text[],
  p_reference text[],
  p_actor text[],
  p_note text[],
  OUT movement integer[],
  OUT outcome text[],
  OUT level_version bigint[],
  OUT balance text[]
) LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
  v_now timestamptz;
  v_is_locked boolean[];
  v_is_busy boolean[];
  v_original integer[];
  v_left integer[];
  v_made text[];
  v_made_items text[];
  v_movement integer[];
  v_outcome text[];
  v_version bigint[];
  v_balance text[];
BEGIN
  IF cardinality(p_store_id) > 1 THEN
    -- Of each copy in this call, the first one. Without an identity nothing is a copy, nor of what is meant for another POS.
    SELECT array_agg(CASE WHEN dedupe_key IS NOT NULL AND first < position THEN first END ORDER BY position) INTO v_original
    FROM (
      SELECT position, dedupe_key, min(position) OVER (
        PARTITION BY store_id, dedupe_key, coalesce(occurrence, 1), (a.pos_id <> rule.pos_id) IS TRUE
      ) AS first
      FROM unnest(p_store_id, p_dedupe_key, p_occurrence, p_pos_id) WITH ORDINALITY
        AS a (store_id, dedupe_key, occurrence, pos_id, position)
      LEFT JOIN service_rule AS rule ON true
    ) AS asked;
  END IF;
  LOOP
    -- 1. Lock the levels in key order, so that two calls cannot deadlock.
    IF p_skip_locked THEN
      SELECT array_agg(level.is_locked ORDER BY asked.position) INTO v_is_locked
      FROM (
        SELECT position, store_id, item_id FROM unnest(p_store_id, p_item_id) WITH ORDINALITY AS a (store_id, item_id, position)
        ORDER BY store_id, item_id
      ) AS asked
      LEFT JOIN LATERAL (
        SELECT true AS is_locked FROM stock_level
        WHERE store_id = asked.store_id AND item_id = asked.item_id FOR NO KEY UPDATE SKIP LOCKED
      ) AS level ON true;
      -- A ticket is one unit: where another session holds one of its levels, nothing of it is decided.
      SELECT array_agg(is_held OR (ticket IS NOT NULL AND is_ticket_held) ORDER BY position) INTO v_is_busy
      FROM (
        SELECT position, ticket, is_held, bool_or(is_held) OVER (PARTITION BY ticket) AS is_ticket_held
        FROM (
          SELECT position, ticket, is_locked IS NULL AND EXISTS (
            SELECT FROM stock_level AS level WHERE level.store_id = asked.store_id AND level.item_id = asked.item_id
          ) AS is_held
          FROM unnest(p_store_id, p_item_id, p_ticket, v_is_locked) WITH ORDINALITY
            AS asked (store_id, item_id, ticket, is_locked, position)
        ) AS held
      ) AS held;
    ELSE
      SELECT array_agg(level.is_locked ORDER BY asked.position) INTO v_is_locked
      FROM (
        SELECT position, store_id, item_id FROM unnest(p_store_id, p_item_id) WITH ORDINALITY AS a (store_id, item_id, position)
        ORDER BY store_id, item_id
      ) AS asked
      LEFT JOIN LATERAL (
        SELECT true AS is_locked FROM stock_level
        WHERE store_id = asked.store_id AND item_id = asked.item_id FOR NO KEY UPDATE
      ) AS level ON true;
    END IF;
    -- Read under the locks, so it rises with the versions of a level, whatever the clocks of the replicas say.
    v_now := clock_timestamp();

    -- 2. Judge and write. This statement has a fresh snapshot, so it sees all that the last holder of a lock wrote.
    WITH decided AS MATERIALIZED (
      SELECT position, store_id, item_id, source, inventory_system_id, reported_stock, date_text, sent_at_text, dedupe_key,
        occurrence, happened_at, reason, reference, actor, note,
        CASE
          WHEN outcome <> 'candidate' THEN outcome
          WHEN troubles_before > 0 OR is_late_opening THEN 'deferred'
          WHEN is_beyond THEN 'beyond_range'
          WHEN is_below THEN 'below_zero'
          ELSE 'applied'
        END AS outcome,
        CASE WHEN is_count THEN quantity - running ELSE delta END AS delta,
        CASE WHEN is_count AND quantity < running THEN 2 ELSE movement_type::smallint END AS movement_type,
        CASE WHEN outcome = 'candidate' THEN version ELSE known_version END AS level_version,
        CASE
          WHEN outcome <> 'candidate' THEN known_balance
          WHEN is_count THEN running + (quantity - running)
          WHEN is_below THEN trim_scale(running - delta)
          ELSE running
        END AS balance,
        greatest(v_now, level_updated_at) AS received_at
      FROM (
        SELECT *,
          -- What comes after a count or a refusal depends on it: it is judged in the next round, one round for each of them.
          count(*) FILTER (WHERE is_count OR is_beyond OR is_below OR is_late_opening) OVER (
            PARTITION BY store_id, item_id ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
          ) AS troubles_before
        FROM (
          SELECT *,
            outcome = 'candidate' AND abs(CASE WHEN is_count THEN quantity - running ELSE running END) >= 1e15 AS is_beyond,
            outcome = 'candidate' AND refuses AND delta < 0 AND running < 0 AS is_below,
            outcome = 'candidate' AND source = 'opening' AND version > level_version + 1 AS is_late_opening
          FROM (
            SELECT *,
              level_version + count(*) FILTER (WHERE outcome = 'candidate') OVER line AS version,
              level_quantity + coalesce(sum(delta) FILTER (WHERE outcome = 'candidate') OVER line, 0) AS running
            FROM (
              SELECT asked.*,
                CASE WHEN asked.is_count THEN NULL WHEN asked.movement_type = '1' THEN asked.quantity ELSE - asked.quantity END
                  AS delta,
                coalesce(level.quantity, 0) AS level_quantity,
                coalesce(level.version, 0) AS level_version,
                level.updated_at AS level_updated_at,
                -- An opening stock says what is there: only the store's own rule refuses it.
                coalesce(store.negative_stock, CASE WHEN asked.source <> 'opening' THEN rule.negative_stock END) = 'refuse'
                  AS refuses,
                known.level_version AS known_version,
                known.balance_after AS known_balance,
                CASE
                  WHEN asked.is_busy THEN 'busy'
                  WHEN asked.pos_id <> rule.pos_id THEN 'other_pos'
                  -- A level that was made since the locks were taken. So a movement is called known only under its level's lock:
                  -- then this call has written WAL, and its commit waits for the standby as the first one's did.
                  WHEN asked.is_locked IS NULL AND level.version IS NOT NULL THEN 'deferred'
                  WHEN known.level_version IS NOT NULL THEN CASE
                    WHEN NOT asked.is_pos OR (
                      known.item_id = asked.item_id AND known.source = asked.source
                      AND CASE WHEN asked.is_count THEN known.balance_after ELSE known.quantity END = asked.quantity
                    ) THEN 'known' ELSE 'key_reused' END
                  WHEN asked.original IS NOT NULL THEN CASE
                    WHEN NOT asked.is_pos OR (
                      p_item_id[asked.original] = asked.item_id AND p_source[asked.original] = asked.source
                      AND p_quantity[asked.original]::numeric = asked.quantity
                    ) THEN 'copy' ELSE 'key_reused' END
                  WHEN store.store_id IS NULL THEN 'unknown_store'
                  WHEN asked.source = 'inventory_system' AND integration.enabled IS NULL THEN 'no_integration'
                  WHEN asked.source = 'inventory_system' AND NOT integration.enabled THEN 'integration_disabled'
                  WHEN asked.is_locked IS NULL THEN
                    CASE WHEN (SELECT true FROM item WHERE item_id = asked.item_id LIMIT 1) THEN 'deferred' ELSE 'unknown_item' END
                  WHEN asked.source = 'opening' AND level.version > 0 THEN 'known'
                  ELSE 'candidate'
                END AS outcome
              FROM (
                SELECT position::integer, store_id, item_id, source, source = 'pos_count' AS is_count,
                  source LIKE 'pos\\_%' AS is_pos, inventory_system_id, movement_type, quantity::numeric,
                  reported_stock::numeric, date_text, sent_at_text, dedupe_key, coalesce(occurrence, 1::smallint) AS occurrence,
                  pos_id, happened_at, reason, reference, actor, note, is_locked, is_busy, original
                FROM unnest(
                  p_store_id, p_item_id, p_source, p_inventory_system_id, p_movement_type, p_quantity, p_reported_stock,
                  p_date_text, p_sent_at_text, p_dedupe_key, p_occurrence, p_pos_id, p_happened_at, p_reason, p_reference,
                  p_actor, p_note, v_is_locked, v_is_busy, v_original
                ) WITH ORDINALITY AS a (
                  store_id, item_id, source, inventory_system_id, movement_type, quantity, reported_stock,
                  date_text, sent_at_text, dedupe_key, occurrence, pos_id, happened_at, reason, reference,
                  actor, note, is_locked, is_busy, original, position
                )
                WHERE v_left IS NULL OR position = ANY (v_left)
              ) AS asked
              -- LATERAL with LIMIT is one index probe a row. Joined in bulk, a plan that was made while a table was empty reads
              -- all of it for each row. Ordered by the occurrence, no other index of the ledger looks as cheap.
              LEFT JOIN service_rule AS rule ON true
              LEFT JOIN LATERAL (
                SELECT store_id, negative_stock FROM store WHERE store_id = asked.store_id LIMIT 1
              ) AS store ON true
              LEFT JOIN LATERAL (
                SELECT enabled FROM integration
                WHERE store_id = asked.store_id AND inventory_system_id = asked.inventory_system_id LIMIT 1
              ) AS integration ON true
              LEFT JOIN LATERAL (
                SELECT quantity, version, updated_at FROM stock_level
                WHERE store_id = asked.store_id AND item_id = asked.item_id LIMIT 1
              ) AS level ON true
              LEFT JOIN LATERAL (
                SELECT level_version, balance_after, item_id, source, quantity, occurrence FROM stock_movement
                WHERE store_id = asked.store_id AND dedupe_key = asked.dedupe_key AND occurrence >= asked.occurrence
                ORDER BY occurrence LIMIT 1
              ) AS known ON known.occurrence = asked.occurrence
              -- So that the outcome is computed once, and not again in each place that names it.
              OFFSET 0
            ) AS judged
            WINDOW line AS (PARTITION BY store_id, item_id ORDER BY position ROWS UNBOUNDED PRECEDING)
          ) AS summed
        ) AS troubled
      ) AS counted
    ), level AS (
      INSERT INTO stock_level (store_id, item_id, quantity, version, updated_at)
      SELECT DISTINCT ON (store_id, item_id) store_id, item_id, balance, level_version, received_at
      FROM decided WHERE outcome = 'applied' ORDER BY store_id, item_id, level_version DESC
      ON CONFLICT (store_id, item_id) DO UPDATE
      SET quantity = excluded.quantity, version = excluded.version, updated_at = excluded.updated_at
    ), ledger AS (
      INSERT INTO stock_movement (
        store_id, item_id, level_version, source, inventory_system_id, movement_type, quantity, balance_after, reported_stock,
        date_text, sent_at_text, dedupe_key, occurrence, received_at, happened_at, reason, reference, actor, note
      )
      SELECT store_id, item_id, level_version, source, inventory_system_id, movement_type, abs(delta), balance, reported_stock,
        date_text, sent_at_text, dedupe_key, occurrence, received_at, coalesce(happened_at, received_at), reason, reference,
        actor, note
      FROM decided WHERE outcome = 'applied'
    ), told AS (
      -- Never back to the system that it came from. An opening stock is what a full synchronisation tells.
      INSERT INTO outbox_message (store_id, item_id, level_version, inventory_system_id, user_id_tps)
      SELECT moved.store_id, moved.item_id, moved.level_version, target.inventory_system_id, target.user_id_tps
      FROM decided AS moved CROSS JOIN LATERAL (
        SELECT inventory_system_id, user_id_tps FROM integration WHERE store_id = moved.store_id AND enabled OFFSET 0
      ) AS target
      WHERE moved.outcome = 'applied' AND moved.source <> 'opening'
        AND target.inventory_system_id IS DISTINCT FROM moved.inventory_system_id
      ORDER BY moved.store_id, moved.item_id, moved.level_version
    ), closed AS (
      UPDATE refused_delivery SET state = 'resolved', closed_at = v_now
      WHERE state = 'open' AND delivery_key = ANY (
        ARRAY(SELECT dedupe_key FROM decided WHERE source = 'inventory_system' AND outcome IN ('applied', 'known'))
      )
    )
    SELECT array_agg(position), array_agg(outcome), array_agg(level_version), array_agg(balance::text)
    INTO v_movement, v_outcome, v_version, v_balance
    FROM decided;

    IF 'copy' = ANY (v_outcome) THEN
      -- A copy in the same call has the outcome of the first of them: known, if that was applied.
      SELECT array_agg(one.movement), array_agg(
        CASE WHEN one.outcome <> 'copy' THEN one.outcome WHEN first.outcome = 'applied' THEN 'known' ELSE first.outcome END
      ), array_agg(coalesce(first.version, one.version)), array_agg(coalesce(first.balance, one.balance))
      INTO v_movement, v_outcome, v_version, v_balance
      FROM unnest(v_movement, v_outcome, v_version, v_balance) AS one (movement, outcome, version, balance)
      LEFT JOIN unnest(v_movement, v_outcome, v_version, v_balance) AS first (movement, outcome, version, balance)
        ON one.outcome = 'copy' AND first.movement = v_original[one.movement];
    END IF;
    EXIT WHEN NOT 'deferred' = ANY (v_outcome);
    SELECT movement || array_agg(m) FILTER (WHERE o <> 'deferred'), outcome || array_agg(o) FILTER (WHERE o <> 'deferred'),
      level_version || array_agg(v) FILTER (WHERE o <> 'deferred'), balance || array_agg(b) FILTER (WHERE o <> 'deferred'),
      array_agg(m) FILTER (WHERE o = 'deferred')
    INTO movement, outcome, level_version, balance, v_left
    FROM unnest(v_movement, v_outcome, v_version, v_balance) AS kept (m, o, v, b);
    -- A level that does not exist cannot be locked. So it is made, and taken away again below if nothing is applied to it.
    WITH made AS (
      INSERT INTO stock_level (store_id, item_id, quantity, version)
      SELECT DISTINCT p_store_id[position], p_item_id[position], 0, 0 FROM unnest(v_left) AS position ORDER BY 1, 2
      ON CONFLICT (store_id, item_id) DO NOTHING
      RETURNING store_id, item_id
    )
    SELECT v_made || array_agg(store_id), v_made_items || array_agg(item_id) INTO v_made, v_made_items FROM made;
  END LOOP;
  movement := movement || v_movement;
  outcome := outcome || v_outcome;
  level_version := level_version || v_version;
  balance := balance || v_balance;
  IF v_made IS NOT NULL THEN
    -- A refusal leaves no level behind.
    DELETE FROM stock_level AS level USING unnest(v_made, v_made_items) AS made (store_id, item_id)
    WHERE level.store_id = made.store_id AND level.item_id = made.item_id AND level.version = 0;
  END IF;
END $$
"""
RECORD = """
CREATE OR REPLACE FUNCTION record_pos_movement(
  p_store_id text,
  p_item_id text,
  p_kind text,
  p_quantity numeric,
  p_idempotency_key text,
  p_happened_at timestamptz DEFAULT NULL
) RETURNS numeric LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
  v_outcome text;
  v_balance text;
BEGIN
  -- Computed numbers carry zeros at their end: 3.0 / 2 has sixteen decimals.
  p_quantity := trim_scale(p_quantity);
  IF p_kind IS NULL OR p_kind NOT IN ('sale', 'count', 'receipt') THEN
    RAISE EXCEPTION 'The kind of a movement must be sale, count or receipt.' USING ERRCODE = '22023';
  END IF;
  IF p_quantity IS NULL OR p_quantity < 0 OR p_quantity >= 1e15 OR scale(p_quantity) > 14 THEN
    RAISE EXCEPTION 'The quantity must be 0 or more, below 10^15, with at most 14 decimals.' USING ERRCODE = '22003';
  END IF;
  IF p_happened_at < '1970-01-02' OR p_happened_at >= '9999-01-01' THEN
    RAISE EXCEPTION 'The time must be after 1970 and before 9999.' USING ERRCODE = '22008';
  END IF;
  IF p_idempotency_key IS NULL OR p_idempotency_key !~ '^[!-~]([ -~]{0,253}[!-~])?$' THEN
    RAISE EXCEPTION 'The idempotency key must have 1 to 255 visible ASCII characters.' USING ERRCODE = '22023';
  END IF;
  SELECT outcome[1], balance[1] INTO v_outcome, v_balance FROM apply_movements(
    false, ARRAY[p_store_id], ARRAY[p_item_id], ARRAY['pos_' || p_kind], NULL, ARRAY[CASE p_kind WHEN 'sale' THEN '2' ELSE '1' END],
    ARRAY[p_quantity::text], NULL, ARRAY[to_char(coalesce(p_happened_at, now()) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')], NULL,
    -- The same identity as over HTTP (app.stock.movement): a sale that is recorded both ways is one.
    ARRAY[sha256(convert_to(
      '1:1' || '3:pos' || octet_length(convert_to(p_store_id, 'UTF8')) || ':' || p_store_id
      || octet_length(p_idempotency_key) || ':' || p_idempotency_key || '1:0', 'UTF8'))],
    NULL, NULL, ARRAY[p_happened_at], NULL, NULL, NULL, NULL, NULL
  );
  CASE v_outcome
    WHEN 'applied' THEN
      -- A hint to the relay, only from here: a NOTIFY makes commits wait for each other, which deliveries must not.
      PERFORM pg_notify(left('pos_sync_outbox:' || current_schema(), 63), '');
    WHEN 'known' THEN NULL;
    WHEN 'key_reused' THEN
      RAISE EXCEPTION 'The idempotency key "%" was used for another movement.', p_idempotency_key USING ERRCODE = '23505';
    WHEN 'unknown_store' THEN
      RAISE EXCEPTION 'The POS has no store "%".', p_store_id USING ERRCODE = '23503';
    WHEN 'unknown_item' THEN
      RAISE EXCEPTION 'The POS has no item "%".', p_item_id USING ERRCODE = '23503';
    WHEN 'below_zero' THEN
      RAISE EXCEPTION 'Removing % would take item "%" in store "%" below zero: the POS has %.',
        p_quantity, p_item_id, p_store_id, v_balance USING ERRCODE = '23514';
    WHEN 'beyond_range' THEN
      RAISE EXCEPTION 'The movement would take item "%" in store "%" past the largest stock that the POS can hold.',
        p_item_id, p_store_id USING ERRCODE = '22003';
  END CASE;
  RETURN v_balance::numeric;
END $$
"""
GRANT = """
DO $$
DECLARE
  v_role text;
BEGIN
  REVOKE EXECUTE ON FUNCTION apply_movements FROM PUBLIC;
  -- A role that could write the ledger may apply movements, so an existing installation needs no new grant.
  FOR v_role IN
    SELECT DISTINCT quote_ident(pg_get_userbyid(granted.grantee))
    FROM pg_class AS ledger, aclexplode(ledger.relacl) AS granted
    WHERE ledger.oid = 'stock_movement'::regclass AND granted.privilege_type = 'INSERT' AND granted.grantee <> 0
      AND granted.grantee <> ledger.relowner
  LOOP
    EXECUTE format('GRANT EXECUTE ON FUNCTION apply_movements TO %s', v_role);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE ON service_rule TO %s', v_role);
  END LOOP;
END $$
"""


def upgrade() -> None:
    op.create_table(
        "service_rule",
        sa.Column("is_only", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("pos_id", sa.Text(), nullable=True),
        sa.Column("negative_stock", sa.Text(), nullable=False),
        sa.Column("reported_stock", sa.Text(), nullable=False),
        sa.Column("timezone", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("is_only", name=op.f("service_rule_is_only_check")),
        sa.CheckConstraint("negative_stock IN ('allow', 'refuse')", name=op.f("service_rule_negative_stock_check")),
        sa.CheckConstraint("reported_stock IN ('after', 'before')", name=op.f("service_rule_reported_stock_check")),
        sa.PrimaryKeyConstraint("is_only", name=op.f("service_rule_pkey")),
    )
    op.add_column("stock_movement", sa.Column("happened_at", sa.DateTime(timezone=True), nullable=True), if_not_exists=True)
    op.add_column("stock_movement", sa.Column("reason", sa.Text(), nullable=True), if_not_exists=True)
    op.add_column("stock_movement", sa.Column("reference", sa.Text(), nullable=True), if_not_exists=True)
    # On purpose: code from before this revision must fail on them, and answer 503.
    op.execute("-- squawk-ignore renaming-column\nALTER TABLE stock_movement RENAME COLUMN sent_text TO sent_at_text")
    op.execute("-- squawk-ignore renaming-column\nALTER TABLE refused_delivery RENAME COLUMN fingerprint TO delivery_key")
    op.execute(
        "-- squawk-ignore renaming-object\nALTER TABLE refused_delivery RENAME CONSTRAINT refused_delivery_fingerprint_reason_key TO refused_delivery_delivery_key_reason_key"
    )
    op.execute(
        "-- squawk-ignore renaming-object\nALTER INDEX refused_delivery_open_fingerprint_idx RENAME TO refused_delivery_open_delivery_key_idx"
    )
    op.execute("-- squawk-ignore renaming-column\nALTER TABLE suspected_duplicate RENAME COLUMN sent_text TO sent_at_text")
    op.execute("DROP TRIGGER stock_movement_queues_messages ON stock_movement")
    op.execute("-- squawk-ignore ban-drop-function\nDROP FUNCTION queue_outbox_messages()")
    op.execute(SEARCH_PATH)
    op.execute(APPLY)
    op.execute(PLANNER)
    op.execute(RECORD)
    op.execute(GRANT)
