"""Numbers that are true: counts in time, more kinds of movements, a catalog for each store, and what is known of drift.

`apply_movements` places each row in time, so that a late count does not erase what happened since, and what a count already held
does not move the level again. Nothing in the ledger is rewritten: rows from before keep `happened_at` null, which is read as
`received_at`. Items, units and suppliers get the store into their keys.

Code from before this revision calls a signature that is gone, and answers 503 until it is replaced. The indexes of the ledger are
built afterwards, without a lock that writers wait for (`app.storage.migrations`).
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0007"
down_revision = "0006"

SEARCH_PATH = "SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true)"
"""For the functions below, which keep it. Temporary tables come last, or a caller could slip its own under the owner's rights."""
IS_COUNT = (
    "({0}source IN ('pos_count', 'opening', 'unit_change') OR ({0}source = 'reconcile' AND {0}inventory_system_id IS NULL))"
)
"""SQL: whether a ledger row says what there was. An adopted number names its system, and is a change."""
AT = "coalesce({0}happened_at, {0}received_at)"
"""SQL: when a ledger row happened."""

ROUNDING = """
CREATE FUNCTION round_half_even(p_number numeric) RETURNS numeric LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
  -- As app.stock.quantity rounds. Postgres's own round() goes away from zero.
  SELECT trim_scale(CASE
    WHEN scale(p_number) <= 14 THEN p_number
    WHEN abs(p_number - trunc(p_number, 14)) * 2 < 1e-14 THEN trunc(p_number, 14)
    WHEN abs(p_number - trunc(p_number, 14)) * 2 > 1e-14 OR mod(trunc(p_number * 1e14), 2) <> 0
      THEN trunc(p_number, 14) + sign(p_number) * 1e-14
    ELSE trunc(p_number, 14)
  END)
$$
"""
BEFORE = """coalesce((
        SELECT max(s.level_version) FROM generate_series(0, 62) AS n CROSS JOIN LATERAL (
          SELECT level_version FROM stock_movement
          WHERE store_id = {store_id} AND item_id = {item_id} AND level_version = {version} - (1::bigint << n)
            AND received_at < {time} - interval '1 hour' LIMIT 1
        ) AS s WHERE {version} > 1::bigint << n
      ), 0)"""
"""SQL: a version of a level up to which all rows were received, and so happened, before a time; 0 where none is known.

Versions have no gap and received_at rises with them, so the search goes back from the newest row in steps that double: it probes a few
rows, and what follows it reads at most twice as many rows as it has to. Rows from before revision 0006 carry the time at which their
transaction began; an hour is more than any of them waited for its lock. No function: Citus takes none that reads tables in a query."""
UNIT = """(
          SELECT used_item.consumption_unit_id || E'\\n' || lower(used.name) || E'\\n' || lower(used.short_name)
          FROM item AS used_item
          JOIN unit AS used ON used.store_id = used_item.store_id AND used.unit_id = used_item.consumption_unit_id
          WHERE used_item.store_id = {0} AND used_item.item_id = {1}
        )"""
"""SQL: what a quantity of an item means in a store: its consumption unit, with the names that people read."""
IS_COPYABLE = f"""(
    SELECT count(DISTINCT {UNIT.format("i.store_id", "i.item_id")}) = 1 AND bool_and(NOT EXISTS (
      SELECT FROM unit AS theirs JOIN unit AS ours ON ours.store_id = {{0}} AND ours.unit_id = theirs.unit_id
      WHERE theirs.store_id = i.store_id AND theirs.unit_id IN (i.purchase_unit_id, i.consumption_unit_id)
        AND (lower(ours.name), lower(ours.short_name)) <> (lower(theirs.name), lower(theirs.short_name))
    ))
    FROM item AS i WHERE i.item_id = {{1}} HAVING count(*) > 0
  )"""
"""SQL: whether an item of other stores can be copied into a store. Null: no other store has it. False: they do not agree on its unit,
or one of its units is something else here."""
LEVEL_AT = f"""
CREATE FUNCTION level_at(p_store_id text, p_item_id text, p_time timestamptz) RETURNS numeric
LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
  -- What there was at a time, with all that happened then: the level, less what happened later.
  SELECT trim_scale(level.quantity - coalesce((
    SELECT sum(m.delta) FROM stock_movement AS m
    WHERE m.store_id = level.store_id AND m.item_id = level.item_id
      AND m.level_version > {BEFORE.format(store_id="level.store_id", item_id="level.item_id", version="level.version", time="p_time")}
      AND {AT.format("m.")} > p_time
  ), 0))
  FROM stock_level AS level WHERE level.store_id = p_store_id AND level.item_id = p_item_id
$$
"""
UNIT_OF = f"""
CREATE FUNCTION unit_of(p_store_id text, p_item_id text) RETURNS text LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
  SELECT {UNIT.format("p_store_id", "p_item_id")}
$$
"""
COPYABLE = f"""
CREATE FUNCTION item_can_be_copied(p_store_id text, p_item_id text) RETURNS boolean LANGUAGE sql STABLE
SET search_path FROM CURRENT AS $$
  SELECT {IS_COPYABLE.format("p_store_id", "p_item_id")}
$$
"""
COPY = """
CREATE FUNCTION copy_item(p_store_id text, p_item_id text, OUT unit_ids text[], OUT supplier_ids text[])
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
-- Returns what the store did not have either.
#variable_conflict use_column
DECLARE
  v_item item;
BEGIN
  SELECT * INTO v_item FROM item WHERE item_id = p_item_id AND store_id <> p_store_id ORDER BY store_id LIMIT 1;
  IF NOT FOUND OR EXISTS (SELECT FROM item WHERE store_id = p_store_id AND item_id = p_item_id) THEN
    RETURN;
  END IF;
  WITH copied AS (
    INSERT INTO unit (store_id, unit_id, name, short_name)
    SELECT p_store_id, unit_id, name, short_name FROM unit
    WHERE store_id = v_item.store_id AND unit_id IN (v_item.purchase_unit_id, v_item.consumption_unit_id)
    ORDER BY unit_id ON CONFLICT DO NOTHING RETURNING unit_id
  )
  SELECT array_agg(unit_id) INTO unit_ids FROM copied;
  WITH copied AS (
    INSERT INTO supplier (store_id, supplier_id, name)
    SELECT p_store_id, supplier_id, name FROM supplier WHERE store_id = v_item.store_id AND supplier_id = v_item.supplier_id
    ON CONFLICT DO NOTHING RETURNING supplier_id
  )
  SELECT array_agg(supplier_id) INTO supplier_ids FROM copied;
  INSERT INTO item (store_id, item_id, name, purchase_unit_id, consumption_unit_id, supplier_id, cost, copied_from)
  VALUES (p_store_id, v_item.item_id, v_item.name, v_item.purchase_unit_id, v_item.consumption_unit_id, v_item.supplier_id,
    v_item.cost, v_item.store_id)
  ON CONFLICT DO NOTHING;
END $$
"""
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

ARRAYS = (
    ("store_id", "text"),
    ("item_id", "text"),
    ("source", "text"),
    ("inventory_system_id", "text"),
    ("movement_type", "text"),
    ("quantity", "text"),
    ("reported_stock", "text"),
    ("date_text", "text"),
    ("sent_at_text", "text"),
    ("dedupe_key", "bytea"),
    ("occurrence", "smallint"),
    ("pos_id", "text"),
    ("happened_at", "timestamptz"),
    ("local_at", "timestamp"),
    ("ticket", "integer"),
    ("unit", "integer"),
    ("other_store_id", "text"),
    ("refers_to", "bigint"),
    ("reason", "text"),
    ("reference", "text"),
    ("actor", "text"),
    ("note", "text"),
)
"""What each movement of a call brings, an array for each. `local_at` is a time without a zone, of the store. Movements of one `unit`
are applied together or not at all; a `ticket` is decided in one call."""
PARAMETERS = ",\n  ".join(f"p_{name} {type_}[]" for name, type_ in ARRAYS)
NAMES = ", ".join(name for name, _ in ARRAYS)
ONLY_KEPT = ("date_text", "sent_at_text", "ticket", "unit", "reason", "reference", "actor", "note")
JUDGED = [name for name, _ in ARRAYS if name not in ONLY_KEPT]
JUDGED_ASKED = ", ".join(f"p_{name}" for name in JUDGED)
JUDGED_NAMES = ", ".join(JUDGED)
"""What decides an outcome. The rest is read where a row is written: carried along, it would take time in each step."""
SLICES = ", ".join(f"array_agg(p_{name}[n] ORDER BY n)" for name, _ in ARRAYS)
PARTS = ", ".join("NULL" if name == "unit" else f"part.{name}" for name, _ in ARRAYS)
ALONE = "'pos_count', 'opening', 'reconcile', 'reversal', 'unit_change'"
"""Sources that need the whole statement, and, but for adopted numbers, a turn of their own."""
NOT_REVERSED = """(
      SELECT true FROM stock_movement AS r
      WHERE r.store_id = c.store_id AND r.item_id = c.item_id AND r.refers_to = c.level_version AND r.source = 'reversal' LIMIT 1
    ) IS NULL"""
"""SQL: whether the count `c` stands. Not as a join, which would read all that refers to any row of the level for each count."""
RARE_JOINS = {
    "known_correction": """LEFT JOIN LATERAL (
  SELECT delta, balance_after, happened_at AS at FROM stock_movement
  WHERE known.level_version IS NOT NULL AND store_id = asked.store_id AND item_id = known.item_id
    AND level_version = known.level_version + 1 AND source = 'correction' LIMIT 1
) AS known_correction ON true""",
    "unseen": f"""LEFT JOIN LATERAL (
  -- A level that was last written before there was a `newest_at`.
  SELECT {AT.format("m.")} AS at FROM stock_movement AS m
  WHERE level.newest_at IS NULL AND level.version > 0
    AND m.store_id = asked.store_id AND m.item_id = asked.item_id AND {IS_COUNT.format("m.")}
  ORDER BY {AT.format("m.")} DESC LIMIT 1
) AS unseen ON true""",
    "original": f"""LEFT JOIN LATERAL (
  SELECT source, delta, {AT.format("")} AS at, {IS_COUNT.format("")} AS is_count, inventory_system_id,
    other_store_id
  FROM stock_movement
  WHERE asked.source = 'reversal' AND store_id = asked.store_id AND item_id = asked.item_id
    AND level_version = asked.refers_to LIMIT 1
) AS original ON true""",
    "undone_by": """LEFT JOIN LATERAL (
  SELECT level_version, balance_after FROM stock_movement
  WHERE asked.source = 'reversal' AND store_id = asked.store_id AND item_id = asked.item_id
    AND refers_to = asked.refers_to AND source = 'reversal' LIMIT 1
) AS undone_by ON true""",
    "later": f"""LEFT JOIN LATERAL (
  -- What happened after a count that comes late: it stays.
  SELECT sum(m.delta) AS total FROM stock_movement AS m
  WHERE timed.is_count AND timed.outcome = 'candidate'
    AND (timed.at < timed.level_newest_at OR timed.at <= timed.level_counted_at)
    AND m.store_id = timed.store_id AND m.item_id = timed.item_id
    AND m.level_version > {
        BEFORE.format(store_id="timed.store_id", item_id="timed.item_id", version="timed.level_version", time="timed.at")
    }
    AND ({AT.format("m.")} > timed.at OR ({AT.format("m.")} = timed.at AND CASE
      WHEN {IS_COUNT.format("m.")} THEN coalesce(m.dedupe_key, '')
      WHEN m.refers_to IS NOT NULL THEN (
        SELECT coalesce(c.dedupe_key, '') FROM stock_movement AS c
        WHERE c.store_id = m.store_id AND c.item_id = m.item_id AND c.level_version = m.refers_to
          AND {IS_COUNT.format("c.")}
      ) END > coalesce(timed.dedupe_key, '')))
) AS later ON true""",
    "undone": """LEFT JOIN LATERAL (
  -- A count that is reversed takes along what was corrected at it.
  SELECT sum(m.delta) AS total FROM stock_movement AS m
  WHERE timed.undoes_count AND timed.outcome = 'candidate'
    AND m.store_id = timed.store_id AND m.item_id = timed.item_id AND m.level_version >= timed.refers_to
    AND (m.level_version = timed.refers_to OR (m.refers_to = timed.refers_to AND m.source = 'correction'))
) AS undone ON true""",
    "next_count": f"""LEFT JOIN LATERAL (
  SELECT c.level_version, {AT.format("c.")} AS at FROM stock_movement AS c
  WHERE placed.outcome = 'candidate' AND placed.source <> 'inventory_system'
    AND placed.at <= placed.level_counted_at AND placed.delta <> 0
    AND c.store_id = placed.store_id AND c.item_id = placed.item_id AND {IS_COUNT.format("c.")}
    AND {AT.format("c.")} >= placed.at
    AND CASE
      WHEN placed.is_count
        THEN ({AT.format("c.")}, coalesce(c.dedupe_key, '')) > (placed.at, coalesce(placed.dedupe_key, ''))
      WHEN placed.undoes_count THEN c.level_version <> placed.refers_to AND (
        {AT.format("c.")}, coalesce(c.dedupe_key, ''), c.level_version
      ) > (placed.at, (
        SELECT coalesce(u.dedupe_key, '') FROM stock_movement AS u
        WHERE u.store_id = placed.store_id AND u.item_id = placed.item_id AND u.level_version = placed.refers_to
      ), placed.refers_to)
      ELSE true END
    AND {NOT_REVERSED}
  ORDER BY {AT.format("c.")}, coalesce(c.dedupe_key, ''), c.level_version LIMIT 1
) AS next_count ON true""",
    "left_counts": f"""LEFT JOIN LATERAL (
  SELECT max({AT.format("c.")}) AS left_counted_at FROM stock_movement AS c
  WHERE placed.undoes_count AND placed.outcome = 'candidate'
    AND c.store_id = placed.store_id AND c.item_id = placed.item_id AND {IS_COUNT.format("c.")}
    AND c.level_version <> placed.refers_to AND {NOT_REVERSED}
) AS left_counts ON true""",
}
"""What only counts, reversals, late movements and old levels need."""
NOTHING = {
    "known_correction": """CROSS JOIN (SELECT NULL::numeric AS delta, NULL::numeric AS balance_after, NULL::timestamptz AS at) AS known_correction""",
    "unseen": """CROSS JOIN (SELECT NULL::timestamptz AS at) AS unseen""",
    "original": """CROSS JOIN (SELECT NULL::text AS source, NULL::numeric AS delta, NULL::timestamptz AS at, false AS is_count,
  NULL::text AS inventory_system_id, NULL::text AS other_store_id) AS original""",
    "undone_by": """CROSS JOIN (SELECT NULL::bigint AS level_version, NULL::numeric AS balance_after) AS undone_by""",
    "later": """CROSS JOIN (SELECT NULL::numeric AS total) AS later""",
    "undone": """CROSS JOIN (SELECT NULL::numeric AS total) AS undone""",
    "next_count": """CROSS JOIN (SELECT NULL::bigint AS level_version, NULL::timestamptz AS at) AS next_count""",
    "left_counts": """CROSS JOIN (SELECT NULL::timestamptz AS left_counted_at) AS left_counts""",
}
"""In their places, for all other movements: to begin such a join takes time, also where it finds nothing."""
LEDGER_COLUMNS = ("inventory_system_id", "movement_type", "delta", "own_balance", "received_at", "at")
WRITTEN = ("new_newest_at", "new_counted_at")
"""What is decided of a movement and written, beside what the call brings and what it returns: to the ledger, and to the level"""
RARE_LEDGER_COLUMNS = ("other_store_id", "own_count")
RARELY_WRITTEN = ("last_version", "count_version")
"""What is null, or equal to another, where no count, reversal or transfer is among the movements"""
CORRECTIONS = """
      UNION ALL
      SELECT p_store_id[position], p_item_id[position], last_version, 'correction', inventory_system_id,
        CASE WHEN correction LIKE '-%' THEN 2 ELSE 1 END, abs(correction::numeric), balance::numeric, NULL, NULL, NULL, NULL,
        1::smallint, received_at, count_at, NULL, NULL, NULL, NULL, NULL, NULL, count_version
      FROM unnest(v_movement, v_outcome, v_correction, v_balance, v_inventory_system_id, v_received_at, v_last_version,
        v_counted_at, v_count_version) AS decided (position, outcome, correction, balance, inventory_system_id, received_at,
        last_version, count_at, count_version)
      WHERE outcome = 'applied' AND correction IS NOT NULL"""
TOLD_CORRECTIONS = """
        UNION ALL
        SELECT p_store_id[position], p_item_id[position], last_version, 'correction', inventory_system_id
        FROM unnest(v_movement, v_outcome, v_correction, v_last_version, v_inventory_system_id)
          AS decided (position, outcome, correction, last_version, inventory_system_id)
        WHERE outcome = 'applied' AND correction IS NOT NULL"""
PLAIN_DEFERRALS = """WHEN level.newest_at IS NULL AND level.version > 0 THEN 'deferred'
WHEN asked.is_pos AND known.level_version IS NOT NULL THEN 'deferred'
"""
WITHOUT_LEVEL = f"""CASE
  WHEN (SELECT true FROM item WHERE store_id = asked.store_id AND item_id = asked.item_id LIMIT 1) THEN 'deferred'
  ELSE CASE {IS_COPYABLE.format("asked.store_id", "asked.item_id")}
    WHEN true THEN 'deferred' WHEN false THEN 'unit_unclear' ELSE 'unknown_item' END
END"""
TRANSFERS = f"""WHEN asked.source = 'pos_transfer'
  AND {UNIT.format("asked.store_id", "asked.item_id")} <> {UNIT.format("asked.other_store_id", "asked.item_id")} THEN 'unit_differs'
"""
UNITS = """WHEN outcome = 'unit_differs' THEN (
          SELECT string_agg(format('%s (%s)', u.unit_id, u.name), ' and ' ORDER BY i.store_id = counted.store_id DESC)
          FROM item AS i JOIN unit AS u ON u.store_id = i.store_id AND u.unit_id = i.consumption_unit_id
          WHERE i.store_id IN (counted.store_id, counted.peer_id) AND i.item_id = counted.item_id
        )
        """


def judge_and_write(*, is_plain: bool) -> str:
    """The one statement that judges and writes. The plain one defers to the whole one what needs the rare joins."""
    joins = NOTHING if is_plain else RARE_JOINS
    corrections, told_corrections = ("", "") if is_plain else (CORRECTIONS, TOLD_CORRECTIONS)
    ledger_columns = LEDGER_COLUMNS if is_plain else (*LEDGER_COLUMNS, *RARE_LEDGER_COLUMNS)
    written = (*ledger_columns, *WRITTEN) if is_plain else (*ledger_columns, *WRITTEN, *RARELY_WRITTEN)
    own_count, other_store_id = ("NULL", "NULL") if is_plain else ("own_count", "other_store_id")
    last_versions = "v_version" if is_plain else "v_last_version"
    plain_deferrals = PLAIN_DEFERRALS if is_plain else ""
    without_level = "'deferred'" if is_plain else WITHOUT_LEVEL
    transfers = "" if is_plain else TRANSFERS
    units = "" if is_plain else UNITS
    is_late = (
        "placed.outcome = 'candidate' AND placed.source <> 'inventory_system' AND placed.at <= placed.level_counted_at"
        if is_plain
        else "false"
    )
    return f"""
    SELECT array_agg(position), array_agg(outcome), array_agg(level_version), array_agg(balance::text),
      array_agg(correction::text), array_agg(count_at), array_agg(remark),
      array_agg(dedupe_key) FILTER (WHERE is_refused AND outcome IN ('applied', 'known')),
      {", ".join(f"array_agg({name})" for name in written)}
    INTO v_movement, v_outcome, v_version, v_balance, v_correction, v_counted_at, v_remark, v_refused,
      {", ".join(f"v_{name}" for name in written)}
    FROM (
      SELECT position, system_id AS inventory_system_id, dedupe_key, at, peer_id AS other_store_id,
        CASE WHEN is_count THEN counted END AS own_count, received_at, new_newest_at, count_version, is_refused,
        CASE WHEN outcome = 'candidate' THEN count_at ELSE known_count_at END AS count_at,
        CASE
          WHEN outcome <> 'candidate' THEN outcome
          WHEN troubles_before > 0 OR is_late THEN 'deferred'
          WHEN is_beyond THEN 'beyond_range'
          WHEN is_below THEN 'below_zero'
          ELSE 'applied'
        END AS outcome,
        delta,
        CASE WHEN outcome = 'candidate' THEN correction ELSE known_correction END AS correction,
        CASE WHEN is_count OR source = 'reversal' THEN CASE WHEN delta < 0 THEN 2 ELSE 1 END ELSE movement_type::smallint END
          AS movement_type,
        CASE WHEN outcome = 'candidate' THEN version - (correction IS NOT NULL)::integer ELSE known_version END AS level_version,
        version AS last_version,
        CASE
          WHEN outcome <> 'candidate' THEN known_balance
          WHEN is_below THEN trim_scale(running - delta)
          ELSE running
        END AS balance,
        running + coalesce(- correction, 0) AS own_balance,
        CASE
          WHEN is_count THEN greatest(level_counted_at, at)
          WHEN undoes_count THEN left_counted_at
          ELSE level_counted_at
        END AS new_counted_at,
        CASE WHEN outcome = 'put_aside' THEN aside_actor {units}WHEN is_before_count THEN 'before_count' END AS remark
      FROM (
        SELECT *,
          -- What comes after a refusal depends on it: it is judged in the next round.
          count(*) FILTER (WHERE outcome = 'candidate' AND (is_late OR is_beyond OR is_below)) OVER before AS troubles_before
        FROM (
          SELECT *,
            greatest(abs(running), abs(running - coalesce(correction, 0)), abs(delta)) >= 1e15 AS is_beyond,
            refuses AND running < 0 AND source <> 'pos_count'
              AND correction IS NULL AND CASE WHEN is_count THEN counted < 0 ELSE delta < 0 END AS is_below
          FROM (
            SELECT *,
              level_version + sum(1 + (correction IS NOT NULL)::integer) FILTER (WHERE outcome = 'candidate') OVER line AS version,
              level_quantity + coalesce(sum(CASE WHEN correction IS NULL THEN delta ELSE 0 END) FILTER (WHERE outcome = 'candidate') OVER line, 0)
                AS running,
              greatest(level_newest_at, max(at) FILTER (WHERE outcome = 'candidate') OVER line) AS new_newest_at
            FROM (
              SELECT placed.*, left_counts.left_counted_at,
                -- What happened before a count was in it. So the level does not move: the count's row says so.
                CASE WHEN next_count.level_version IS NOT NULL THEN - placed.delta END AS correction,
                next_count.level_version AS count_version, next_count.at AS count_at, {is_late} AS is_late
              FROM (
                SELECT timed.*,
                  CASE
                    WHEN is_count THEN counted - (level_quantity - coalesce(later.total, 0))
                    WHEN undoes_count THEN - undone.total
                    ELSE change
                  END AS delta
                FROM (
                  SELECT judged.*,
                    CASE
                      -- A time up to some minutes ahead is a clock's. A reported date that cannot count is only kept as text.
                      WHEN original_at IS NOT NULL THEN original_at
                      WHEN told_at > received_at OR told_at IS NULL THEN received_at
                      WHEN source = 'inventory_system' AND told_at <= level_counted_at THEN received_at
                      ELSE told_at
                    END AS at
                  FROM (
                    -- A date to the second may mean any moment of it.
                    SELECT *, outcome = 'candidate' AND source = 'inventory_system'
                      AND told_at + interval '999999 microseconds' <= level_counted_at AS is_before_count
                    FROM (
                    SELECT asked.*,
                      CASE WHEN asked.movement_type = '1' THEN asked.quantity ELSE - asked.quantity END AS counted,
                      CASE
                        WHEN asked.source = 'reversal' THEN - original.delta
                        WHEN asked.movement_type = '1' THEN asked.quantity ELSE - asked.quantity
                      END AS change,
                      original.at AS original_at,
                      -- The system that made a movement knows it, and is not told of its reversal.
                      coalesce(asked.inventory_system_id, original.inventory_system_id) AS system_id,
                      coalesce(asked.other_store_id, original.other_store_id) AS peer_id,
                      coalesce(original.is_count, false) AS undoes_count,
                      coalesce(
                        asked.happened_at, asked.local_at AT TIME ZONE coalesce(store.timezone, rule.timezone)
                      ) AS told_at,
                      -- Without a time of its own, a movement after a count in the same microsecond is not in it.
                      greatest(v_now, level.updated_at, level.counted_at + interval '1 microsecond') AS received_at,
                      coalesce(level.quantity, 0) AS level_quantity,
                      coalesce(level.version, 0) AS level_version,
                      level.updated_at AS level_updated_at,
                      coalesce(level.newest_at, CASE WHEN level.version > 0 THEN level.updated_at END) AS level_newest_at,
                      coalesce(level.counted_at, unseen.at) AS level_counted_at,
                      -- An opening stock says what is there: only the store's own rule refuses it.
                      coalesce(store.negative_stock, CASE WHEN asked.source <> 'opening' THEN rule.negative_stock END) = 'refuse'
                        AS refuses,
                      coalesce(
                        known.level_version, undone_by.level_version, CASE WHEN echo.is_echo THEN level.version END
                      ) AS known_version,
                      CASE WHEN known.level_version IS NOT NULL THEN coalesce(known_correction.balance_after, known.balance_after)
                        ELSE undone_by.balance_after END AS known_balance,
                      known_correction.delta AS known_correction, known_correction.at AS known_count_at,
                      aside.actor AS aside_actor, aside.is_refused,
                      CASE
                        WHEN asked.is_busy THEN 'busy'
                        WHEN asked.pos_id <> rule.pos_id THEN 'other_pos'
                        {plain_deferrals}-- A level that was made since the locks were taken. So a movement is called known only under its level's
                        -- lock: then this call has written WAL, and its commit waits for the standby as the first one's did.
                        WHEN asked.is_locked IS NULL AND level.version IS NOT NULL THEN 'deferred'
                        WHEN known.level_version IS NOT NULL THEN CASE
                          WHEN NOT asked.is_pos OR (
                            known.item_id = asked.item_id AND known.source = asked.source
                            AND known.other_store_id IS NOT DISTINCT FROM asked.other_store_id
                            AND CASE WHEN asked.is_count THEN coalesce(known.counted, known.balance_after) ELSE known.delta END
                              = CASE WHEN asked.movement_type = '1' THEN asked.quantity ELSE - asked.quantity END
                          ) THEN 'known' ELSE 'key_reused' END
                        WHEN asked.original IS NOT NULL THEN CASE
                          WHEN NOT asked.is_pos OR (
                            p_item_id[asked.original] = asked.item_id AND p_source[asked.original] = asked.source
                            AND p_movement_type[asked.original] = asked.movement_type
                            AND p_quantity[asked.original]::numeric = asked.quantity
                            AND p_other_store_id[asked.original] IS NOT DISTINCT FROM asked.other_store_id
                          ) THEN 'copy' ELSE 'key_reused' END
                        WHEN store.store_id IS NULL THEN 'unknown_store'
                        WHEN asked.source = 'inventory_system' AND aside.actor IS NOT NULL THEN 'put_aside'
                        WHEN asked.source = 'inventory_system' AND integration.enabled IS NULL THEN 'no_integration'
                        WHEN asked.source = 'inventory_system' AND NOT integration.enabled THEN 'integration_disabled'
                        WHEN echo.is_echo THEN 'echo'
                        WHEN asked.source = 'reversal' AND (asked.is_locked IS NULL OR original.source IS NULL) THEN 'unknown_row'
                        WHEN original.source IN ('correction', 'reversal', 'unit_change') THEN 'not_reversible'
                        WHEN undone_by.level_version IS NOT NULL THEN 'known'
                        WHEN asked.is_locked IS NULL THEN {without_level}
                        WHEN asked.is_count AND asked.happened_at > v_now + interval '5 minutes' THEN 'count_in_future'
                        WHEN asked.source = 'pos_count'
                          AND asked.happened_at < v_now - make_interval(days => coalesce(rule.max_count_age_days, 7))
                          THEN 'count_too_old'
                        WHEN asked.source = 'opening' AND coalesce(level.counted_at, unseen.at) IS NOT NULL THEN 'known'
                        {transfers}ELSE 'candidate'
                      END AS outcome
                    FROM (
                      SELECT position::integer, store_id, item_id, source,
                        {IS_COUNT.format("")} AS is_count,
                        source LIKE 'pos\\_%' AS is_pos, inventory_system_id, movement_type, quantity::numeric,
                        reported_stock::numeric, dedupe_key,
                        coalesce(occurrence, 1::smallint) AS occurrence, pos_id, happened_at, local_at, other_store_id, refers_to,
                        is_locked, is_busy, original
                      FROM unnest({JUDGED_ASKED}, v_is_locked, v_is_busy, v_original)
                        WITH ORDINALITY AS a ({JUDGED_NAMES}, is_locked, is_busy, original, position)
                      WHERE v_left IS NULL OR position = ANY (v_left)
                    ) AS asked
                    -- LATERAL with LIMIT is one index probe a row. Joined in bulk, a plan that was made while a table was empty
                    -- reads all of it for each row. Ordered by the occurrence, no other index of the ledger looks as cheap.
                    LEFT JOIN service_rule AS rule ON true
                    LEFT JOIN LATERAL (
                      SELECT store_id, negative_stock, timezone FROM store WHERE store_id = asked.store_id LIMIT 1
                    ) AS store ON true
                    LEFT JOIN LATERAL (
                      SELECT enabled FROM integration
                      WHERE store_id = asked.store_id AND inventory_system_id = asked.inventory_system_id LIMIT 1
                    ) AS integration ON true
                    LEFT JOIN LATERAL (
                      SELECT quantity, version, updated_at, newest_at, counted_at FROM stock_level
                      WHERE store_id = asked.store_id AND item_id = asked.item_id LIMIT 1
                    ) AS level ON true
                    LEFT JOIN LATERAL (
                      SELECT level_version, balance_after, item_id, source, delta, counted, other_store_id, occurrence
                      FROM stock_movement
                      WHERE store_id = asked.store_id AND dedupe_key = asked.dedupe_key AND occurrence >= asked.occurrence
                      ORDER BY occurrence LIMIT 1
                    ) AS known ON known.occurrence = asked.occurrence
                    -- The rest is for the few: each begins with a test that costs nothing where it does not hold.
                    {joins["known_correction"]}
                    {joins["unseen"]}
                    LEFT JOIN LATERAL (
                      SELECT min(coalesce(actor, 'somebody')) FILTER (WHERE state = 'dismissed') AS actor, bool_or(state = 'open') AS is_refused
                      FROM refused_delivery
                      WHERE asked.source = 'inventory_system' AND delivery_key = asked.dedupe_key AND state IN ('open', 'dismissed')
                    ) AS aside ON true
                    LEFT JOIN LATERAL (
                      SELECT true AS is_echo FROM echo_identity
                      WHERE asked.source = 'inventory_system' AND NOT p_is_by_operator
                        AND store_id = asked.store_id AND dedupe_key = asked.dedupe_key LIMIT 1
                    ) AS echo ON true
                    {joins["original"]}
                    {joins["undone_by"]}
                    -- So that the outcome is computed once, and not again in each place that names it.
                    OFFSET 0
                    ) AS judged
                  ) AS judged
                ) AS timed
                {joins["later"]}
                {joins["undone"]}
              ) AS placed
              {joins["next_count"]}
              {joins["left_counts"]}
            ) AS judged
            WINDOW line AS (PARTITION BY store_id, item_id ORDER BY position ROWS UNBOUNDED PRECEDING)
          ) AS summed
        ) AS troubled
        WINDOW before AS (PARTITION BY store_id, item_id ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
      ) AS counted
    ) AS decided;
    -- Statements of their own, since Citus refuses to write in a WITH. All under the locks, so nobody sees one without the others.
    IF 'applied' = ANY (v_outcome) THEN
      INSERT INTO stock_level (store_id, item_id, quantity, version, updated_at, newest_at, counted_at)
      SELECT DISTINCT ON (1, 2) p_store_id[position], p_item_id[position], balance::numeric, last_version, received_at,
        new_newest_at, new_counted_at
      FROM unnest(v_movement, v_outcome, v_balance, {last_versions}, v_received_at, v_new_newest_at, v_new_counted_at)
        AS decided (position, outcome, balance, last_version, received_at, new_newest_at, new_counted_at)
      WHERE outcome = 'applied' ORDER BY 1, 2, last_version DESC
      ON CONFLICT (store_id, item_id) DO UPDATE
      SET quantity = excluded.quantity, version = excluded.version, updated_at = excluded.updated_at,
        newest_at = excluded.newest_at, counted_at = excluded.counted_at;
      INSERT INTO stock_movement (
        store_id, item_id, level_version, source, inventory_system_id, movement_type, quantity, balance_after, reported_stock,
        date_text, sent_at_text, dedupe_key, occurrence, received_at, happened_at, reason, reference, actor, note, counted,
        other_store_id, refers_to
      )
      SELECT store_id, item_id, level_version, source, inventory_system_id, movement_type, abs(delta), own_balance,
        p_reported_stock[position]::numeric, p_date_text[position], p_sent_at_text[position],
        dedupe_key, occurrence, received_at, at, p_reason[position],
        p_reference[position], p_actor[position], p_note[position], {own_count}, {other_store_id}, p_refers_to[position]
      FROM (
        SELECT *, p_store_id[position] AS store_id, p_item_id[position] AS item_id, p_source[position] AS source,
          p_dedupe_key[position] AS dedupe_key, coalesce(p_occurrence[position], 1::smallint) AS occurrence
        FROM unnest(v_movement, v_outcome, v_version, {", ".join(f"v_{name}" for name in ledger_columns)})
          AS a (position, outcome, level_version, {", ".join(ledger_columns)})
      ) AS decided WHERE outcome = 'applied'{corrections};
      -- Never back to the system that it came from. What a full synchronisation tells: an opening, a count in a new unit.
      INSERT INTO outbox_message (store_id, item_id, level_version, inventory_system_id)
      SELECT moved.store_id, moved.item_id, moved.level_version, target.inventory_system_id
      FROM (
        SELECT p_store_id[position] AS store_id, p_item_id[position] AS item_id, level_version, p_source[position] AS source,
          inventory_system_id
        FROM unnest(v_movement, v_outcome, v_version, v_inventory_system_id)
          AS decided (position, outcome, level_version, inventory_system_id)
        WHERE outcome = 'applied'{told_corrections}
      ) AS moved JOIN integration AS target ON target.store_id = moved.store_id AND target.enabled
      WHERE moved.source NOT IN ('opening', 'unit_change') AND target.inventory_system_id IS DISTINCT FROM moved.inventory_system_id
      ORDER BY moved.store_id, moved.item_id, moved.level_version;
    END IF;
"""


APPLY = f"""
CREATE FUNCTION apply_movements(
  p_skip_locked boolean,
  p_is_by_operator boolean,
  {PARAMETERS},
  OUT movement integer[],
  OUT outcome text[],
  OUT level_version bigint[],
  OUT balance text[],
  OUT correction text[],
  OUT counted_at timestamptz[],
  OUT remark text[]
) LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
  v_now timestamptz;
  v_is_locked boolean[];
  v_is_busy boolean[];
  v_original integer[];
  v_left integer[];
  v_turn integer[] := p_unit;
  v_round integer := 0;
  v_part integer[];
  v_found record;
  v_is_plain boolean := NOT p_source && ARRAY[{ALONE}, 'pos_transfer'];
  v_new text[];
  v_new_items text[];
  v_made text[];
  v_made_items text[];
  v_copied jsonb := '[]';
  v_movement integer[];
  v_outcome text[];
  v_version bigint[];
  v_balance text[];
  v_correction text[];
  v_counted_at timestamptz[];
  v_remark text[];
  v_refused bytea[];
  v_inventory_system_id text[];
  v_other_store_id text[];
  v_movement_type integer[];
  v_delta numeric[];
  v_own_balance numeric[];
  v_own_count numeric[];
  v_received_at timestamptz[];
  v_at timestamptz[];
  v_last_version bigint[];
  v_new_newest_at timestamptz[];
  v_new_counted_at timestamptz[];
  v_count_version bigint[];
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
  IF cardinality(p_store_id) > 1 AND p_unit IS NULL AND p_source && ARRAY[{ALONE}] THEN
    -- A count or a reversal is the only movement of its level in a turn: what comes after it depends on it.
    SELECT array_agg(turn ORDER BY position) INTO v_turn
    FROM (
      SELECT position, (turn - first_value(turn) OVER (PARTITION BY store_id, item_id ORDER BY position))::integer AS turn
      FROM (
        SELECT position, store_id, item_id,
          count(*) FILTER (WHERE is_alone OR was_alone) OVER (PARTITION BY store_id, item_id ORDER BY position) AS turn
        FROM (
          SELECT position, store_id, item_id, is_alone,
            lag(is_alone) OVER (PARTITION BY store_id, item_id ORDER BY position) AS was_alone
          FROM (
            SELECT position, store_id, item_id, {IS_COUNT.format("")} OR source = 'reversal' AS is_alone
            FROM unnest(p_store_id, p_item_id, p_source, p_inventory_system_id) WITH ORDINALITY
              AS a (store_id, item_id, source, inventory_system_id, position)
          ) AS asked
        ) AS asked
      ) AS counted
    ) AS numbered;
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

    v_round := v_round + 1;
    IF v_round = 3 THEN
      -- Each round ends at the first refusal of a level. So that many refusals do not take as many rounds with all that is left,
      -- each movement of a level is now a turn of its own.
      SELECT array_agg(turn ORDER BY position) INTO v_turn
      FROM (
        SELECT position, (row_number() OVER (PARTITION BY store_id, item_id ORDER BY position))::integer AS turn
        FROM unnest(p_store_id, p_item_id) WITH ORDINALITY AS a (store_id, item_id, position)
      ) AS numbered;
    END IF;
    IF v_turn IS NOT NULL AND p_unit IS NULL THEN
      -- A copy is never applied, so it goes with the first of them. What is one turn needs no other call.
      SELECT CASE WHEN count(DISTINCT turn) FILTER (WHERE v_left IS NULL OR position = ANY (v_left)) > 1
        THEN array_agg(turn ORDER BY position) END INTO v_turn
      FROM (
        SELECT coalesce(v_turn[original], turn) AS turn, position
        FROM unnest(v_turn, v_original) WITH ORDINALITY AS a (turn, original, position)
      ) AS merged;
    END IF;
    IF v_turn IS NOT NULL THEN
      -- The movements that stand alone first, then each unit by itself, or each turn: only with what belongs to it.
      FOR v_part IN
        SELECT array_agg(position::integer ORDER BY position) FROM unnest(v_turn) WITH ORDINALITY AS a (turn, position)
        WHERE (v_left IS NULL OR position = ANY (v_left)) AND v_is_busy[position] IS NOT TRUE
        GROUP BY turn ORDER BY turn IS NOT NULL, CASE WHEN p_unit IS NULL THEN turn END, min(position)
      LOOP
        BEGIN
          SELECT found.* INTO v_found
          FROM (SELECT {SLICES} FROM unnest(v_part) AS n) AS part ({NAMES})
          CROSS JOIN LATERAL apply_movements(p_skip_locked, p_is_by_operator, {PARTS}) AS found;
          IF p_unit[v_part[1]] IS NOT NULL AND NOT v_found.outcome <@ ARRAY['applied', 'known'] THEN
            RAISE SQLSTATE 'PS001';
          END IF;
        EXCEPTION WHEN SQLSTATE 'PS001' THEN
          -- All that the unit wrote is taken back.
          SELECT array_agg(CASE WHEN o IN ('applied', 'known') THEN 'not_recorded' ELSE o END ORDER BY n)
          INTO v_found.outcome FROM unnest(v_found.outcome) WITH ORDINALITY AS found (o, n);
        END;
        SELECT movement || array_agg(v_part[m] ORDER BY n) INTO movement FROM unnest(v_found.movement) WITH ORDINALITY AS a (m, n);
        outcome := outcome || v_found.outcome;
        level_version := level_version || v_found.level_version;
        balance := balance || v_found.balance;
        correction := correction || v_found.correction;
        counted_at := counted_at || v_found.counted_at;
        remark := remark || v_found.remark;
      END LOOP;
      SELECT array_agg(position::integer), array_agg('busy'::text), array_agg(NULL::bigint), array_agg(NULL::text), array_agg(NULL::text),
        array_agg(NULL::timestamptz), array_agg(NULL::text)
      INTO v_movement, v_outcome, v_version, v_balance, v_correction, v_counted_at, v_remark
      FROM unnest(v_is_busy) WITH ORDINALITY AS a (is_busy, position)
      WHERE is_busy AND (v_left IS NULL OR position = ANY (v_left));
      EXIT;
    END IF;

    -- 2. Judge and write. This statement has a fresh snapshot, so it sees all that the last holder of a lock wrote.
    IF v_is_plain THEN
{judge_and_write(is_plain=True)}
    ELSE
{judge_and_write(is_plain=False)}
    END IF;
    IF v_refused IS NOT NULL THEN
      UPDATE refused_delivery SET state = 'resolved', closed_at = v_now WHERE state = 'open' AND delivery_key = ANY (v_refused);
    END IF;
    -- What was deferred may need all of it.
    v_is_plain := false;

    IF 'copy' = ANY (v_outcome) THEN
      -- A copy in the same call has the outcome of the first of them: known, if that was applied.
      SELECT array_agg(one.movement), array_agg(
        CASE WHEN one.outcome <> 'copy' THEN one.outcome WHEN first.outcome = 'applied' THEN 'known' ELSE first.outcome END
      ), array_agg(coalesce(first.version, one.version)), array_agg(coalesce(first.balance, one.balance)),
        array_agg(coalesce(first.correction, one.correction)), array_agg(coalesce(first.counted_at, one.counted_at)),
        array_agg(CASE WHEN one.outcome = 'copy' AND first.outcome = 'applied' THEN NULL ELSE coalesce(first.remark, one.remark) END)
      INTO v_movement, v_outcome, v_version, v_balance, v_correction, v_counted_at, v_remark
      FROM unnest(v_movement, v_outcome, v_version, v_balance, v_correction, v_counted_at, v_remark)
        AS one (movement, outcome, version, balance, correction, counted_at, remark)
      LEFT JOIN unnest(v_movement, v_outcome, v_version, v_balance, v_correction, v_counted_at, v_remark)
        AS first (movement, outcome, version, balance, correction, counted_at, remark)
        ON one.outcome = 'copy' AND first.movement = v_original[one.movement];
    END IF;
    EXIT WHEN NOT 'deferred' = ANY (v_outcome);
    SELECT movement || array_agg(m) FILTER (WHERE o <> 'deferred'), outcome || array_agg(o) FILTER (WHERE o <> 'deferred'),
      level_version || array_agg(v) FILTER (WHERE o <> 'deferred'), balance || array_agg(b) FILTER (WHERE o <> 'deferred'),
      correction || array_agg(c) FILTER (WHERE o <> 'deferred'), counted_at || array_agg(t) FILTER (WHERE o <> 'deferred'),
      remark || array_agg(r) FILTER (WHERE o <> 'deferred'), array_agg(m) FILTER (WHERE o = 'deferred')
    INTO movement, outcome, level_version, balance, correction, counted_at, remark, v_left
    FROM unnest(v_movement, v_outcome, v_version, v_balance, v_correction, v_counted_at, v_remark) AS kept (m, o, v, b, c, t, r);
    -- What only other stores have is copied, and a level that does not exist cannot be locked. So both are made, and taken away
    -- again below if nothing is applied.
    FOR v_found IN
      SELECT store_id, item_id FROM (
        SELECT DISTINCT p_store_id[position] AS store_id, p_item_id[position] AS item_id FROM unnest(v_left) AS position ORDER BY 1, 2
      ) AS asked
      WHERE NOT EXISTS (SELECT FROM item WHERE item.store_id = asked.store_id AND item.item_id = asked.item_id)
    LOOP
      -- A copy before this one may have brought a unit of the same id.
      IF item_can_be_copied(v_found.store_id, v_found.item_id) THEN
        SELECT v_copied || to_jsonb(one) INTO v_copied
        FROM (SELECT v_found.store_id, v_found.item_id, made.* FROM copy_item(v_found.store_id, v_found.item_id) AS made) AS one;
      END IF;
    END LOOP;
    SELECT array_agg(asked.store_id ORDER BY asked.store_id, asked.item_id),
      array_agg(asked.item_id ORDER BY asked.store_id, asked.item_id) INTO v_new, v_new_items
    FROM (SELECT DISTINCT p_store_id[position] AS store_id, p_item_id[position] AS item_id FROM unnest(v_left) AS position) AS asked
    WHERE EXISTS (SELECT FROM item WHERE item.store_id = asked.store_id AND item.item_id = asked.item_id);
    WITH made AS (
      INSERT INTO stock_level (store_id, item_id, quantity, version)
      SELECT store_id, item_id, 0, 0 FROM unnest(v_new, v_new_items) AS asked (store_id, item_id) ORDER BY 1, 2
      ON CONFLICT (store_id, item_id) DO NOTHING
      RETURNING store_id, item_id
    )
    SELECT v_made || array_agg(store_id), v_made_items || array_agg(item_id) INTO v_made, v_made_items FROM made;
  END LOOP;
  movement := movement || v_movement;
  outcome := outcome || v_outcome;
  level_version := level_version || v_version;
  balance := balance || v_balance;
  correction := correction || v_correction;
  counted_at := counted_at || v_counted_at;
  remark := remark || v_remark;
  IF v_made IS NOT NULL THEN
    -- A refusal leaves no level behind, and nothing that was copied.
    DELETE FROM stock_level AS level USING unnest(v_made, v_made_items) AS made (store_id, item_id)
    WHERE level.store_id = made.store_id AND level.item_id = made.item_id AND level.version = 0;
    DELETE FROM item USING jsonb_to_recordset(v_copied) AS copied (store_id text, item_id text)
    WHERE item.store_id = copied.store_id AND item.item_id = copied.item_id
      AND NOT EXISTS (SELECT FROM stock_level AS l WHERE l.store_id = item.store_id AND l.item_id = item.item_id);
    DELETE FROM unit USING jsonb_to_recordset(v_copied) AS copied (store_id text, unit_ids text[])
    WHERE unit.store_id = copied.store_id AND unit.unit_id = ANY (copied.unit_ids)
      AND NOT EXISTS (SELECT FROM item AS i WHERE i.store_id = unit.store_id AND unit.unit_id IN (i.purchase_unit_id, i.consumption_unit_id));
    DELETE FROM supplier USING jsonb_to_recordset(v_copied) AS copied (store_id text, supplier_ids text[])
    WHERE supplier.store_id = copied.store_id AND supplier.supplier_id = ANY (copied.supplier_ids)
      AND NOT EXISTS (SELECT FROM item AS i WHERE i.store_id = supplier.store_id AND i.supplier_id = supplier.supplier_id);
  END IF;
END $$
"""
RECORD = """
CREATE FUNCTION record_movement(
  p_store_id text,
  p_item_id text,
  p_kind text,
  p_quantity numeric,
  p_idempotency_key text,
  p_happened_at timestamptz DEFAULT NULL,
  p_reason text DEFAULT NULL,
  p_reference text DEFAULT NULL,
  p_to_store_id text DEFAULT NULL
) RETURNS numeric LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
  v_rows integer := CASE p_kind WHEN 'transfer' THEN 2 ELSE 1 END;
  v_key bytea;
  v_found record;
  v_outcome text;
  v_row integer;
BEGIN
  p_quantity := round_half_even(p_quantity);
  IF p_kind IS NULL OR p_kind NOT IN ('sale', 'count', 'receipt', 'return', 'waste', 'adjustment', 'transfer') THEN
    RAISE EXCEPTION 'The kind of a movement must be sale, receipt, count, return, waste, adjustment or transfer.'
      USING ERRCODE = '22023';
  END IF;
  IF p_quantity IS NULL OR abs(p_quantity) >= 1e15 OR (p_quantity < 0 AND p_kind <> 'adjustment') THEN
    RAISE EXCEPTION 'The quantity must be 0 or more (only an adjustment has a sign) and below 10^15.' USING ERRCODE = '22003';
  END IF;
  IF p_happened_at < '1970-01-02' OR p_happened_at >= '9999-01-01' THEN
    RAISE EXCEPTION 'The time must be after 1970 and before 9999.' USING ERRCODE = '22008';
  END IF;
  IF p_idempotency_key IS NULL OR p_idempotency_key !~ '^[!-~]([ -~]{0,253}[!-~])?$' THEN
    RAISE EXCEPTION 'The idempotency key must have 1 to 255 visible ASCII characters.' USING ERRCODE = '22023';
  END IF;
  IF p_kind = 'adjustment' AND coalesce(btrim(p_reason), '') = '' THEN
    RAISE EXCEPTION 'An adjustment needs a reason.' USING ERRCODE = '22023';
  END IF;
  IF length(p_reason) > 255 OR length(p_reference) > 255 THEN
    RAISE EXCEPTION 'The reason and the reference must have at most 255 characters.' USING ERRCODE = '22023';
  END IF;
  -- As over HTTP (app.stock.text).
  IF concat(p_reason, p_reference) ~ E'[\\u0001-\\u001f\\u007f-\\u009f\\u2028\\u2029\\ufffd]' THEN
    RAISE EXCEPTION 'The reason and the reference must hold no control characters.' USING ERRCODE = '22023';
  END IF;
  IF (p_kind = 'transfer') <> (p_to_store_id IS NOT NULL) OR p_to_store_id = p_store_id THEN
    RAISE EXCEPTION 'A transfer names another store in p_to_store_id, and no other kind does.' USING ERRCODE = '22023';
  END IF;
  -- The same identity as over HTTP (app.stock.movement): a sale that is recorded both ways is one.
  v_key := sha256(convert_to(
    '1:1' || '3:pos' || octet_length(convert_to(p_store_id, 'UTF8')) || ':' || p_store_id
    || octet_length(p_idempotency_key) || ':' || p_idempotency_key || '1:0', 'UTF8'));
  SELECT * INTO v_found FROM apply_movements(
    false, false,
    p_store_id => CASE v_rows WHEN 2 THEN ARRAY[p_store_id, p_to_store_id] ELSE ARRAY[p_store_id] END,
    p_item_id => array_fill(p_item_id, ARRAY[v_rows]),
    p_source => array_fill('pos_' || p_kind, ARRAY[v_rows]),
    p_inventory_system_id => NULL,
    p_movement_type => CASE
      WHEN v_rows = 2 THEN ARRAY['2', '1']
      WHEN p_kind IN ('sale', 'waste') OR p_quantity < 0 THEN ARRAY['2'] ELSE ARRAY['1'] END,
    p_quantity => array_fill(abs(p_quantity)::text, ARRAY[v_rows]),
    p_reported_stock => NULL,
    p_date_text => array_fill(
      to_char(coalesce(p_happened_at, now()) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), ARRAY[v_rows]),
    p_sent_at_text => NULL,
    p_dedupe_key => array_fill(v_key, ARRAY[v_rows]),
    p_occurrence => NULL, p_pos_id => NULL,
    p_happened_at => array_fill(p_happened_at, ARRAY[v_rows]),
    p_local_at => NULL,
    p_ticket => array_fill(1, ARRAY[v_rows]),
    p_unit => CASE v_rows WHEN 2 THEN ARRAY[1, 1] END,
    p_other_store_id => CASE v_rows WHEN 2 THEN ARRAY[p_to_store_id, p_store_id] END,
    p_refers_to => NULL,
    p_reason => array_fill(p_reason, ARRAY[v_rows]),
    p_reference => array_fill(p_reference, ARRAY[v_rows]),
    p_actor => NULL, p_note => NULL
  );
  -- Of a transfer, the row of the store that gives, or the one that was refused.
  SELECT n INTO v_row FROM unnest(v_found.movement, v_found.outcome) WITH ORDINALITY AS a (movement, outcome, n)
  ORDER BY outcome IN ('applied', 'known', 'not_recorded'), movement LIMIT 1;
  v_outcome := v_found.outcome[v_row];
  IF v_found.movement[v_row] = 2 THEN
    p_store_id := p_to_store_id;
  END IF;
  CASE v_outcome
    WHEN 'applied' THEN
      -- A hint to the relay, only from here: a NOTIFY makes commits wait for each other, which deliveries must not.
      PERFORM pg_notify(left('pos_sync_outbox:' || current_schema(), 63), '');
      IF v_found.correction[v_row] IS NOT NULL THEN
        RAISE NOTICE 'The count of % held this movement already: corrected by %, the stock stays.',
          v_found.counted_at[v_row], v_found.correction[v_row];
      END IF;
    WHEN 'known' THEN NULL;
    WHEN 'key_reused' THEN
      RAISE EXCEPTION 'The idempotency key "%" was used for another movement.', p_idempotency_key USING ERRCODE = '23505';
    WHEN 'unknown_store' THEN
      RAISE EXCEPTION 'The POS has no store "%".', p_store_id USING ERRCODE = '23503';
    WHEN 'unknown_item' THEN
      RAISE EXCEPTION 'The POS has no item "%".', p_item_id USING ERRCODE = '23503';
    WHEN 'unit_unclear' THEN
      RAISE EXCEPTION 'Store "%" does not have item "%", and the other stores do not agree on its unit. Import it first.',
        p_store_id, p_item_id USING ERRCODE = '23503';
    WHEN 'unit_differs' THEN
      RAISE EXCEPTION 'The two stores hold item "%" in different units.', p_item_id USING ERRCODE = '23514';
    WHEN 'count_in_future' THEN
      RAISE EXCEPTION 'The count of % lies in the future. Check the clock of the till.', p_happened_at USING ERRCODE = '22008';
    WHEN 'count_too_old' THEN
      RAISE EXCEPTION 'The count of % is too old. Count again, or raise MAX_COUNT_AGE_DAYS.', p_happened_at
        USING ERRCODE = '22008';
    WHEN 'below_zero' THEN
      RAISE EXCEPTION 'Removing % would take item "%" in store "%" below zero: the POS has %.',
        abs(p_quantity), p_item_id, p_store_id, v_found.balance[v_row] USING ERRCODE = '23514';
    WHEN 'beyond_range' THEN
      RAISE EXCEPTION 'The movement would take item "%" in store "%" past the largest stock that the POS can hold.',
        p_item_id, p_store_id USING ERRCODE = '22003';
  END CASE;
  RETURN v_found.balance[v_row]::numeric;
END $$
"""
WRAPPER = """
CREATE OR REPLACE FUNCTION record_pos_movement(
  p_store_id text,
  p_item_id text,
  p_kind text,
  p_quantity numeric,
  p_idempotency_key text,
  p_happened_at timestamptz DEFAULT NULL
) RETURNS numeric LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
  -- The old name of record_movement, for the tills that call it.
  RETURN record_movement(p_store_id, p_item_id, p_kind, p_quantity, p_idempotency_key, p_happened_at);
END $$
"""
COPY_GRANTS = """
DO $$
DECLARE
  v_granted record;
BEGIN
  FOR v_granted IN
    SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END AS role,
      CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END AS option
    FROM pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner)))
    WHERE pg_proc.oid = '{old}'::regprocedure AND grantee <> proowner
  LOOP
    EXECUTE format('GRANT EXECUTE ON FUNCTION {new} TO %s%s', v_granted.role, v_granted.option);
  END LOOP;
END $$
"""
"""Roles that could call the old function may call the new one."""
OLD_APPLY = (
    "apply_movements(boolean, text[], text[], text[], text[], text[], text[], text[], text[], text[], bytea[], smallint[], text[],"
    " timestamptz[], integer[], text[], text[], text[], text[])"
)

PER_STORE = """
LOCK TABLE unit, supplier, item IN SHARE MODE;
--
DO $$ BEGIN
  IF EXISTS (SELECT FROM item) AND NOT EXISTS (SELECT FROM store) THEN
    RAISE EXCEPTION 'There are items and no store. Items belong to stores now: make a store, or delete the items.';
  END IF;
END $$;
--
INSERT INTO new_unit (store_id, unit_id, name, short_name)
SELECT store.store_id, unit.unit_id, unit.name, unit.short_name FROM store CROSS JOIN unit
WHERE EXISTS (
  SELECT FROM item JOIN stock_level AS level USING (item_id)
  WHERE level.store_id = store.store_id AND unit.unit_id IN (item.purchase_unit_id, item.consumption_unit_id)
) OR NOT EXISTS (
  SELECT FROM item JOIN stock_level AS level USING (item_id)
  WHERE unit.unit_id IN (item.purchase_unit_id, item.consumption_unit_id)
) OR EXISTS (
  SELECT FROM item WHERE unit.unit_id IN (item.purchase_unit_id, item.consumption_unit_id)
    AND NOT EXISTS (SELECT FROM stock_level AS level WHERE level.item_id = item.item_id)
);
--
INSERT INTO new_supplier (store_id, supplier_id, name)
SELECT store.store_id, supplier.supplier_id, supplier.name FROM store CROSS JOIN supplier
WHERE EXISTS (
  SELECT FROM item JOIN stock_level AS level USING (item_id)
  WHERE level.store_id = store.store_id AND item.supplier_id = supplier.supplier_id
) OR NOT EXISTS (
  SELECT FROM item JOIN stock_level AS level USING (item_id) WHERE item.supplier_id = supplier.supplier_id
) OR EXISTS (
  SELECT FROM item WHERE item.supplier_id = supplier.supplier_id
    AND NOT EXISTS (SELECT FROM stock_level AS level WHERE level.item_id = item.item_id)
);
--
INSERT INTO new_item (store_id, item_id, name, purchase_unit_id, consumption_unit_id, supplier_id, cost)
SELECT held.store_id, item.item_id, item.name, item.purchase_unit_id, item.consumption_unit_id, item.supplier_id, item.cost
FROM item CROSS JOIN LATERAL (
  SELECT level.store_id FROM stock_level AS level WHERE level.item_id = item.item_id
  UNION ALL
  SELECT store.store_id FROM store
  WHERE NOT EXISTS (SELECT FROM stock_level AS level WHERE level.item_id = item.item_id)
) AS held
ORDER BY 1, 2
"""
"""An item goes to the stores that stock it, and to every store where none does; units and suppliers go with their items."""
RENAME = """
DO $$
DECLARE
  v_table text;
  v_name text;
  v_granted record;
BEGIN
  -- squawk-ignore-file
  ALTER TABLE stock_level DROP CONSTRAINT stock_level_item_id_fkey;
  FOREACH v_table IN ARRAY ARRAY['unit', 'supplier', 'item'] LOOP
    FOR v_granted IN
      SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END AS role, privilege_type
      FROM pg_class, aclexplode(relacl) WHERE pg_class.oid = v_table::regclass AND grantee <> relowner
    LOOP
      EXECUTE format('GRANT %s ON new_%s TO %s', v_granted.privilege_type, v_table, v_granted.role);
    END LOOP;
  END LOOP;
  DROP TABLE item, unit, supplier;
  FOREACH v_table IN ARRAY ARRAY['unit', 'supplier', 'item'] LOOP
    EXECUTE format('ALTER TABLE new_%1$s RENAME TO %1$s', v_table);
    FOR v_name IN
      SELECT conname FROM pg_constraint WHERE conrelid = v_table::regclass AND conname LIKE 'new\\_%'
    LOOP
      EXECUTE format('ALTER TABLE %s RENAME CONSTRAINT %s TO %s', v_table, v_name, substr(v_name, 5));
    END LOOP;
  END LOOP;
END $$
"""
ZONES = """
DO $$
DECLARE
  v_store record;
BEGIN
  -- UTC was the default, so it cannot be told from a choice. A name that Postgres does not know cannot date a movement.
  UPDATE store SET timezone = NULL WHERE timezone = 'UTC';
  FOR v_store IN SELECT store_id, timezone FROM store WHERE timezone IS NOT NULL LOOP
    BEGIN
      PERFORM now() AT TIME ZONE v_store.timezone;
    EXCEPTION WHEN invalid_parameter_value THEN
      UPDATE store SET timezone = NULL WHERE store_id = v_store.store_id;
    END;
  END LOOP;
  UPDATE service_rule SET timezone = 'UTC'
  WHERE NOT EXISTS (SELECT FROM pg_timezone_names WHERE name = service_rule.timezone);
END $$
"""
ZONE_IS_KNOWN = "timezone IS NULL OR (timestamp '2000-01-01 00:00:00' AT TIME ZONE timezone) IS NOT NULL"
SOURCES = (
    "source IN ('inventory_system', 'opening', 'unit_change', 'reconcile', 'correction', 'reversal', 'pos_sale', 'pos_count',"
    " 'pos_receipt', 'pos_return', 'pos_waste', 'pos_adjustment', 'pos_transfer')"
)


def upgrade() -> None:
    op.execute(SEARCH_PATH)
    _put_catalog_per_store()
    _widen_tables()
    _create_tables()
    # Another signature is another function: roles that could call the old one may call it, and old code fails.
    op.execute(f"-- squawk-ignore renaming-object\nALTER FUNCTION {OLD_APPLY} RENAME TO old_apply_movements")
    op.execute(APPLY)
    op.execute("REVOKE EXECUTE ON FUNCTION apply_movements FROM PUBLIC")
    op.execute(COPY_GRANTS.format(old=OLD_APPLY.replace("apply", "old_apply", 1), new="apply_movements"))
    op.execute("-- squawk-ignore ban-drop-function\nDROP FUNCTION old_apply_movements")
    for function in (ROUNDING, LEVEL_AT, UNIT_OF, COPYABLE, COPY, PLANNER, RECORD, WRAPPER):
        op.execute(function)
    for function in ("record_movement", "copy_item"):
        op.execute(f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC")
    op.execute(COPY_GRANTS.format(old="record_pos_movement(text, text, text, numeric, text, timestamptz)", new="record_movement"))


def _put_catalog_per_store() -> None:
    op.create_table(
        "new_unit",
        sa.Column("store_id", sa.Text(), nullable=False),
        sa.Column("unit_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("short_name", sa.Text(), nullable=False),
        sa.CheckConstraint("name <> ''", name=op.f("new_unit_name_check")),
        sa.CheckConstraint("short_name <> ''", name=op.f("new_unit_short_name_check")),
        sa.CheckConstraint("unit_id <> '' AND length(unit_id) <= 255", name=op.f("new_unit_unit_id_check")),
        sa.ForeignKeyConstraint(["store_id"], ["store.store_id"], name=op.f("new_unit_store_id_fkey")),
        sa.PrimaryKeyConstraint("store_id", "unit_id", name=op.f("new_unit_pkey")),
    )
    op.create_table(
        "new_supplier",
        sa.Column("store_id", sa.Text(), nullable=False),
        sa.Column("supplier_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.CheckConstraint("name <> ''", name=op.f("new_supplier_name_check")),
        sa.CheckConstraint("supplier_id <> '' AND length(supplier_id) <= 255", name=op.f("new_supplier_supplier_id_check")),
        sa.ForeignKeyConstraint(["store_id"], ["store.store_id"], name=op.f("new_supplier_store_id_fkey")),
        sa.PrimaryKeyConstraint("store_id", "supplier_id", name=op.f("new_supplier_pkey")),
    )
    op.create_table(
        "new_item",
        sa.Column("store_id", sa.Text(), nullable=False),
        sa.Column("item_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("purchase_unit_id", sa.Text(), nullable=False),
        sa.Column("consumption_unit_id", sa.Text(), nullable=False),
        sa.Column("supplier_id", sa.Text(), nullable=False),
        sa.Column("cost", sa.Numeric(), nullable=False),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("copied_from", sa.Text(), nullable=True),
        sa.CheckConstraint("item_id <> '' AND length(item_id) <= 255", name=op.f("new_item_item_id_check")),
        sa.CheckConstraint("name <> ''", name=op.f("new_item_name_check")),
        sa.CheckConstraint("cost >= 0 AND cost < 1e15 AND scale(cost) <= 14", name=op.f("new_item_cost_check")),
        sa.ForeignKeyConstraint(["store_id"], ["store.store_id"], name=op.f("new_item_store_id_fkey")),
        sa.ForeignKeyConstraint(
            ["store_id", "purchase_unit_id"],
            ["new_unit.store_id", "new_unit.unit_id"],
            name=op.f("new_item_store_id_purchase_unit_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["store_id", "consumption_unit_id"],
            ["new_unit.store_id", "new_unit.unit_id"],
            name=op.f("new_item_store_id_consumption_unit_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["store_id", "supplier_id"],
            ["new_supplier.store_id", "new_supplier.supplier_id"],
            name=op.f("new_item_store_id_supplier_id_fkey"),
        ),
        sa.PrimaryKeyConstraint("store_id", "item_id", name=op.f("new_item_pkey")),
    )
    for statement in PER_STORE.split(";\n--\n"):
        op.execute(statement)
    # Which stores have an item, and what they call it.
    op.create_index("item_item_id_idx", "new_item", ["item_id"])


def _widen_tables() -> None:
    """Only what takes a moment: these statements lock what deliveries use, until the end of the transaction."""
    op.execute("-- squawk-ignore ban-drop-not-null\nALTER TABLE store ALTER COLUMN timezone DROP NOT NULL")
    op.execute(ZONES)
    op.create_check_constraint(op.f("store_timezone_check"), "store", ZONE_IS_KNOWN)
    op.create_check_constraint(op.f("service_rule_timezone_check"), "service_rule", ZONE_IS_KNOWN)
    op.add_column("service_rule", sa.Column("max_count_age_days", sa.Integer(), server_default=sa.text("7"), nullable=False))
    op.create_check_constraint(op.f("service_rule_max_count_age_days_check"), "service_rule", "max_count_age_days > 0")
    op.add_column("integration", sa.Column("repeated_dates", sa.Text(), server_default=sa.text("'suspect'"), nullable=False))
    op.create_check_constraint(op.f("integration_repeated_dates_check"), "integration", "repeated_dates IN ('suspect', 'apply')")
    op.add_column("suspected_duplicate", sa.Column("reason", sa.Text(), server_default=sa.text("'repeated'"), nullable=False))
    op.add_column("suspected_duplicate", sa.Column("reported_stock", sa.Numeric(), nullable=True))
    op.add_column("suspected_duplicate", sa.Column("delta", sa.Numeric(), nullable=True))
    op.add_column("suspected_duplicate", sa.Column("follows_id", sa.BigInteger(), nullable=True))
    op.create_check_constraint(
        op.f("suspected_duplicate_reason_check"), "suspected_duplicate", "reason IN ('repeated', 'echo', 'before_count')"
    )
    # On purpose: what replaces each follows at once.
    op.execute(
        "-- squawk-ignore ban-drop-constraint\n"
        "ALTER TABLE suspected_duplicate DROP CONSTRAINT suspected_duplicate_occurrence_check"
    )
    op.create_check_constraint(op.f("suspected_duplicate_occurrence_check"), "suspected_duplicate", "occurrence > 0")
    op.execute("-- squawk-ignore require-concurrent-index-deletion\nDROP INDEX refused_delivery_open_delivery_key_idx")
    op.create_index(
        "refused_delivery_unsettled_delivery_key_idx",
        "refused_delivery",
        ["delivery_key"],
        postgresql_where=sa.text("state IN ('open', 'dismissed')"),
    )
    op.add_column("outbox_message", sa.Column("unknown_sends", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("outbox_message", sa.Column("unknown_until", sa.DateTime(timezone=True), nullable=True))
    op.add_column("outbox_message", sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True))
    op.execute("-- squawk-ignore ban-drop-column\nALTER TABLE outbox_message DROP COLUMN user_id_tps")
    op.execute(RENAME)
    op.create_foreign_key(
        op.f("stock_level_store_id_item_id_fkey"),
        "stock_level",
        "item",
        ["store_id", "item_id"],
        ["store_id", "item_id"],
        postgresql_not_valid=True,
    )
    op.add_column("stock_level", sa.Column("newest_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("stock_level", sa.Column("counted_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("stock_movement", sa.Column("counted", sa.Numeric(), nullable=True))
    op.add_column("stock_movement", sa.Column("other_store_id", sa.Text(), nullable=True))
    op.add_column("stock_movement", sa.Column("refers_to", sa.BigInteger(), nullable=True))
    for name in ("source", "reconcile"):
        op.execute(
            f"-- squawk-ignore ban-drop-constraint\nALTER TABLE stock_movement DROP CONSTRAINT stock_movement_{name}_check"
        )
    for name, condition in (
        ("source", SOURCES),
        ("reconcile", "source NOT IN ('reconcile', 'unit_change') OR (actor IS NOT NULL AND note IS NOT NULL)"),
        ("refers_to", "source NOT IN ('correction', 'reversal') OR refers_to IS NOT NULL"),
        ("other_store_id", "source <> 'pos_transfer' OR other_store_id IS NOT NULL"),
        ("counted", "counted > -1e15 AND counted < 1e15 AND scale(counted) <= 14"),
    ):
        op.create_check_constraint(op.f(f"stock_movement_{name}_check"), "stock_movement", condition, postgresql_not_valid=True)


def _create_tables() -> None:
    op.create_table(
        "system_level",
        sa.Column("store_id", sa.Text(), nullable=False),
        sa.Column("item_id", sa.Text(), nullable=False),
        sa.Column("inventory_system_id", sa.Text(), nullable=False),
        sa.Column("is_held", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("synced_stock", sa.Numeric(), nullable=True),
        sa.Column("synced_version", sa.BigInteger(), nullable=True),
        sa.Column("synced_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("anchor_kind", sa.Text(), nullable=True),
        sa.Column("anchor_stock", sa.Numeric(), nullable=True),
        sa.Column("anchor_version", sa.BigInteger(), nullable=True),
        sa.Column("anchor_date", sa.Text(), nullable=True),
        sa.Column("anchored_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("told_since", sa.Numeric(), nullable=True),
        sa.Column("told_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("anchor_uncertain", sa.Numeric(), nullable=True),
        sa.Column("drift", sa.Numeric(), nullable=True),
        sa.Column("uncertain", sa.Numeric(), nullable=True),
        sa.Column("causes", JSONB(), nullable=True),
        sa.Column("is_unsettled", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("compared_version", sa.BigInteger(), nullable=True),
        sa.Column("compared_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("anchor_kind IN ('report', 'sync', 'echo', 'adopted')", name=op.f("system_level_anchor_kind_check")),
        sa.PrimaryKeyConstraint("store_id", "item_id", "inventory_system_id", name=op.f("system_level_pkey")),
    )
    op.create_table(
        "echo_identity",
        sa.Column("store_id", sa.Text(), nullable=False),
        sa.Column("dedupe_key", sa.LargeBinary(), nullable=False),
        sa.Column("outbox_message_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("store_id", "dedupe_key", name=op.f("echo_identity_pkey")),
    )
    op.create_table(
        "change_feed",
        sa.Column("store_id", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("item_id", sa.Text(), nullable=False),
        sa.Column("level_version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("store_id", "position", name=op.f("change_feed_pkey")),
    )
    op.create_table(
        "change_feed_level",
        sa.Column("store_id", sa.Text(), nullable=False),
        sa.Column("item_id", sa.Text(), nullable=False),
        sa.Column("level_version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("store_id", "item_id", name=op.f("change_feed_level_pkey")),
    )
    op.create_table(
        "change_feed_state",
        sa.Column("is_only", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("position", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("numbered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("swept_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("is_only", name=op.f("change_feed_state_is_only_check")),
        sa.PrimaryKeyConstraint("is_only", name=op.f("change_feed_state_pkey")),
    )
