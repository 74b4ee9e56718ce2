"""Retention: what is settled and old goes, by functions that delete just that; refusals keep the request that brought them.

Older code neither reads nor needs any of it, so it works with this schema. A body that was deleted is empty, which it cannot read.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
compatible_from = "0008"
"""The oldest revision whose code can work with this schema."""

SEARCH_PATH = "SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true)"
"""For the functions below, which keep it: temporary tables last, or a caller could slip its own under the owner's rights."""

PRUNE_OUTBOX = """
CREATE FUNCTION prune_outbox(
  p_days integer,
  p_after bigint,
  p_limit integer,
  p_is_dry boolean,
  OUT last_id bigint,
  OUT is_done boolean,
  OUT messages bigint,
  OUT stores text[],
  OUT items text[],
  OUT systems text[],
  OUT versions bigint[]
) LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
  v_before timestamptz;
  v_long_before timestamptz;
BEGIN
  IF p_days IS NULL OR p_days < 7 THEN
    RAISE EXCEPTION 'Stock updates are kept for at least 7 days.' USING ERRCODE = '22023';
  END IF;
  IF p_limit IS NULL OR p_limit NOT BETWEEN 1 AND 10000 THEN
    RAISE EXCEPTION 'At most 10000 stock updates are looked at in one call.' USING ERRCODE = '22023';
  END IF;
  v_before := now() - make_interval(days => p_days);
  v_long_before := now() - make_interval(days => 2 * p_days);
  messages := 0;
  -- Numbers rise with time, so the first one that is younger ends the walk.
  SELECT coalesce(max(seen.outbox_message_id), p_after), count(*) < p_limit OR bool_or(seen.created_at >= v_before)
  INTO last_id, is_done
  FROM (
    SELECT outbox_message_id, created_at FROM outbox_message
    WHERE outbox_message_id > p_after ORDER BY outbox_message_id LIMIT p_limit
  ) AS seen;
  -- Of each system and level, the newest row after which its messages can be cut off: all up to it were closed, long ago, before
  -- the next row came, and are in what the drift watch has kept of that system's stock. What comes after such a cut is compared
  -- as if the level had begun there, with the kept anchor. Hours of rest, since a report that was on its way for long may lack
  -- what was told meanwhile; a level that has no such rest is cut, in the end, where it rested for a minute.
  WITH aged AS MATERIALIZED (
    SELECT inventory_system_id, store_id, item_id, max(level_version) AS newest
    FROM outbox_message
    WHERE outbox_message_id > p_after AND outbox_message_id <= last_id AND created_at < v_before
      AND state IN ('sent', 'covered', 'dismissed') AND closed_at < v_before
    GROUP BY inventory_system_id, store_id, item_id
  ), refused AS MATERIALIZED (
    -- What waits for a person is a cause of drift in its place.
    SELECT store_id, item_id, inventory_system_id, min(first_seen_at) AS first_seen_at FROM refused_delivery
    WHERE state = 'open' AND reason <> 'other_pos' AND item_id = ANY (SELECT item_id FROM aged)
    GROUP BY store_id, item_id, inventory_system_id
  ), suspected AS MATERIALIZED (
    SELECT store_id, item_id, inventory_system_id, min(after_version) AS after_version FROM suspected_duplicate
    WHERE state = 'open' AND reason = 'repeated' AND item_id = ANY (SELECT item_id FROM aged)
    GROUP BY store_id, item_id, inventory_system_id
  ), line AS MATERIALIZED (
    SELECT inventory_system_id, store_id, item_id, message.level_version, message.state,
      lead(message.level_version) OVER upward AS next_version,
      max(coalesce(message.closed_at, 'infinity')) OVER upward AS closed_by,
      max(message.closed_at) FILTER (WHERE message.state = 'sent' OR message.unknown_sends > 0) OVER upward AS told_by,
      max(message.closed_at) FILTER (WHERE message.state = 'sent') OVER upward AS sent_by
    FROM aged CROSS JOIN LATERAL (
      SELECT level_version, state, closed_at, unknown_sends FROM outbox_message AS one
      WHERE one.store_id = aged.store_id AND one.item_id = aged.item_id
        AND one.inventory_system_id = aged.inventory_system_id AND one.level_version <= aged.newest
      -- Bounded, and by the index whatever the planner believes.
      ORDER BY one.level_version LIMIT 10000
    ) AS message
    WINDOW upward AS (PARTITION BY inventory_system_id, store_id, item_id ORDER BY message.level_version)
  ), cut AS (
    SELECT DISTINCT ON (inventory_system_id, store_id, item_id) inventory_system_id, store_id, item_id, place.level_version
    FROM line JOIN system_level AS known USING (inventory_system_id, store_id, item_id)
    CROSS JOIN LATERAL (
      SELECT coalesce(line.next_version, (
        SELECT min(later.level_version) FROM outbox_message AS later
        WHERE later.store_id = line.store_id AND later.item_id = line.item_id
          AND later.inventory_system_id = line.inventory_system_id AND later.level_version > line.level_version
      )) AS level_version
      -- Computed once, and not again in each place that names it.
      OFFSET 0
    ) AS later
    -- The first row after a rest, up to that of the next message; none where nothing came since.
    LEFT JOIN LATERAL (
      SELECT m.level_version, m.received_at FROM stock_movement AS m
      WHERE m.store_id = line.store_id AND m.item_id = line.item_id AND m.level_version > line.level_version
        AND m.level_version <= coalesce(later.level_version, m.level_version)
        AND m.received_at > line.closed_by
          + CASE WHEN line.closed_by < v_long_before THEN interval '1 minute' ELSE interval '3 hours' END
      ORDER BY m.level_version LIMIT 1
    ) AS next ON true
    CROSS JOIN LATERAL (
      SELECT coalesce(next.level_version - 1, CASE WHEN later.level_version IS NULL THEN (
        SELECT version FROM stock_level AS level WHERE level.store_id = line.store_id AND level.item_id = line.item_id
      ) END) AS level_version
      OFFSET 0
    ) AS place
    LEFT JOIN refused USING (inventory_system_id, store_id, item_id)
    LEFT JOIN suspected USING (inventory_system_id, store_id, item_id)
    WHERE line.state IN ('sent', 'covered', 'dismissed') AND line.closed_by < v_before
      AND known.compared_version >= place.level_version
      AND (known.anchor_kind IS NULL OR line.told_by IS NULL OR line.told_by <= coalesce(known.told_until, known.anchored_at))
      -- Sent again after the full synchronisation that held it.
      AND (
        known.synced_version IS NULL OR known.synced_version < place.level_version
        OR line.sent_by IS NULL OR line.sent_by <= known.synced_at
      )
      AND (refused.first_seen_at IS NULL OR refused.first_seen_at > next.received_at)
      AND (suspected.after_version IS NULL OR suspected.after_version > place.level_version)
    ORDER BY inventory_system_id, store_id, item_id, place.level_version DESC
  )
  SELECT array_agg(store_id), array_agg(item_id), array_agg(inventory_system_id), array_agg(level_version)
  INTO stores, items, systems, versions FROM cut;
  IF p_is_dry OR stores IS NULL THEN
    RETURN;
  END IF;
  -- In the order in which the drift watch writes them.
  PERFORM FROM system_level AS known
  JOIN unnest(stores, items, systems) AS one (store_id, item_id, inventory_system_id)
    USING (inventory_system_id, store_id, item_id)
  ORDER BY inventory_system_id, store_id, item_id FOR UPDATE OF known;
  UPDATE system_level AS known SET pruned_version = greatest(coalesce(known.pruned_version, 0), one.level_version)
  FROM unnest(stores, items, systems, versions) AS one (store_id, item_id, inventory_system_id, level_version)
  WHERE known.store_id = one.store_id AND known.item_id = one.item_id AND known.inventory_system_id = one.inventory_system_id;
  DELETE FROM outbox_message AS message
  USING unnest(stores, items, systems, versions) AS one (store_id, item_id, inventory_system_id, level_version)
  WHERE message.store_id = one.store_id AND message.item_id = one.item_id
    AND message.inventory_system_id = one.inventory_system_id AND message.level_version <= one.level_version
    AND message.state IN ('sent', 'covered', 'dismissed') AND message.closed_at < v_before;
  GET DIAGNOSTICS messages = ROW_COUNT;
  DELETE FROM outbox_trace AS trace
  USING unnest(stores, items, versions) AS one (store_id, item_id, level_version)
  WHERE trace.store_id = one.store_id AND trace.item_id = one.item_id AND trace.level_version <= one.level_version
    AND NOT EXISTS (
      SELECT FROM outbox_message AS message
      WHERE message.store_id = trace.store_id AND message.item_id = trace.item_id AND message.level_version = trace.level_version
    );
END $$
"""
PRUNE_SYNC_RUNS = """
CREATE FUNCTION prune_sync_runs(
  p_days integer,
  p_after bigint,
  p_limit integer,
  p_is_dry boolean,
  OUT last_id bigint,
  OUT is_done boolean,
  OUT runs bigint
) LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
  v_before timestamptz;
  v_ids bigint[];
BEGIN
  IF p_days IS NULL OR p_days < 1 THEN
    RAISE EXCEPTION 'Synchronisations are kept for at least a day.' USING ERRCODE = '22023';
  END IF;
  IF p_limit IS NULL OR p_limit NOT BETWEEN 1 AND 10000 THEN
    RAISE EXCEPTION 'At most 10000 synchronisations are looked at in one call.' USING ERRCODE = '22023';
  END IF;
  v_before := now() - make_interval(days => p_days);
  SELECT coalesce(max(seen.sync_run_id), p_after), count(*) < p_limit OR bool_or(seen.started_at >= v_before)
  INTO last_id, is_done
  FROM (
    SELECT sync_run_id, started_at FROM sync_run WHERE sync_run_id > p_after ORDER BY sync_run_id LIMIT p_limit
  ) AS seen;
  -- The newest of each store and system stays, and the newest that is done.
  SELECT array_agg(sync_run_id), count(*) INTO v_ids, runs FROM sync_run AS run
  WHERE sync_run_id > p_after AND sync_run_id <= last_id AND state <> 'running' AND ended_at < v_before
    AND EXISTS (
      SELECT FROM sync_run AS newer WHERE newer.store_id = run.store_id AND newer.inventory_system_id = run.inventory_system_id
        AND newer.sync_run_id > run.sync_run_id
    )
    AND (state <> 'done' OR EXISTS (
      SELECT FROM sync_run AS newer WHERE newer.store_id = run.store_id AND newer.inventory_system_id = run.inventory_system_id
        AND newer.sync_run_id > run.sync_run_id AND newer.state = 'done'
    ));
  IF NOT p_is_dry AND runs > 0 THEN
    DELETE FROM sync_run WHERE sync_run_id = ANY (v_ids);
  END IF;
END $$
"""
CLOSED_REFUSAL = "pruned_at IS NULL AND state IN ('resolved', 'replayed', 'dismissed')"
CLOSED_DUPLICATE = "pruned_at IS NULL AND state IN ('applied', 'dismissed')"


def upgrade() -> None:
    for table in ("refused_delivery", "suspected_duplicate"):
        op.add_column(table, sa.Column("request_id", sa.Text(), nullable=True))
        op.add_column(table, sa.Column("pruned_at", sa.DateTime(timezone=True), nullable=True))
    op.execute("-- squawk-ignore ban-drop-constraint\nALTER TABLE refused_delivery DROP CONSTRAINT refused_delivery_state_check")
    # Validated afterwards, by `migrate`.
    op.execute(
        "ALTER TABLE refused_delivery ADD CONSTRAINT refused_delivery_state_check"
        " CHECK (state IN ('open', 'resolved', 'replayed', 'dismissed', 'folded')) NOT VALID"
    )
    # Of tables that hold what went wrong.
    for name, columns in (
        ("refused_delivery_open_idx", "refused_delivery (reason, first_seen_at, refused_delivery_id) WHERE state = 'open'"),
        ("refused_delivery_folded_idx", "refused_delivery (reason) WHERE state = 'folded'"),
        ("refused_delivery_body_idx", f"refused_delivery (closed_at, refused_delivery_id) WHERE {CLOSED_REFUSAL}"),
        ("suspected_duplicate_open_idx", "suspected_duplicate (item_id) WHERE state = 'open'"),
        ("suspected_duplicate_body_idx", f"suspected_duplicate (closed_at, suspected_duplicate_id) WHERE {CLOSED_DUPLICATE}"),
    ):
        op.execute(f"-- squawk-ignore require-concurrent-index-creation\nCREATE INDEX {name} ON {columns}")
    op.add_column("system_level", sa.Column("pruned_version", sa.BigInteger(), nullable=True))
    op.create_table(
        "prune_state",
        sa.Column("is_only", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("messages", sa.BigInteger(), nullable=False),
        sa.Column("refusal_bodies", sa.BigInteger(), nullable=False),
        sa.Column("duplicate_bodies", sa.BigInteger(), nullable=False),
        sa.Column("sync_runs", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("is_only", name=op.f("prune_state_pkey")),
        sa.CheckConstraint("is_only", name=op.f("prune_state_is_only_check")),
    )
    op.create_table(
        "outbox_trace",
        sa.Column("store_id", sa.Text(), nullable=False),
        sa.Column("item_id", sa.Text(), nullable=False),
        sa.Column("level_version", sa.BigInteger(), nullable=False),
        sa.Column("traceparent", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("store_id", "item_id", "level_version", name=op.f("outbox_trace_pkey")),
        sa.CheckConstraint("length(traceparent) <= 64", name=op.f("outbox_trace_traceparent_check")),
    )
    op.execute(SEARCH_PATH)
    op.execute(PRUNE_OUTBOX)
    op.execute(PRUNE_SYNC_RUNS)
    for function in ("prune_outbox", "prune_sync_runs"):
        op.execute(f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC")
