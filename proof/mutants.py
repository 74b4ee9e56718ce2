"""The list of mutations: which guard is taken out, where it stands, and which tests have to notice.

To give one a new anchor after the code has moved: `pattern` is a regular expression that must match once (up to `most` times)
in all of `app/` and `migrations/` together, in whichever file; `replacement` is a template of `re.sub`. Nothing else names a
place.
Where the same guard may be written in two ways, `alternative` is the pattern and replacement of the other.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """The code with one guard less."""

    name: str
    pattern: str
    replacement: str
    tests: tuple[str, ...]
    """Arguments of pytest that take seconds."""
    most: int = 1
    alternative: tuple[str, str] | None = None
    also: tuple[str, str] | None = None
    """A second guard (pattern and replacement) that is taken out with it, where each of the two is enough by itself."""


SIGNATURES = ("tests/unit/test_signature.py", "tests/http/test_answers.py")
ANSWERS = ("tests/http/test_answers.py", "-k")
GUARDS = ("tests/http/test_guards.py", "-k")
FUNCTION = ("tests/http/test_apply_movements.py", "-k")
BATCHING = ("tests/http/test_group_commit.py", "-k")
MOVEMENTS = ("tests/unit/test_movement.py",)
REFUSALS = ("tests/http/test_refusals.py",)
OUTBOX = ("tests/http/test_outbox.py", "-k")
POS = ("tests/http/test_pos.py", "-k")
COUNTS = ("tests/http/test_counts_in_time.py", "-k")

MUTANTS = (
    # What a signature covers.
    Mutant("the signature is not checked", r"(?m)^    return matched$", "    return secrets[0][0]", SIGNATURES),
    Mutant(
        "the signature is checked over the JSON written again",
        r"key = verify\(body, ",
        'key = verify(__import__("json").dumps(__import__("json").loads(body), separators=(",", ":")).encode(), ',
        (*ANSWERS, "order_of_keys"),
    ),
    Mutant(
        "of two signatures the first counts",
        re.escape("if len(signatures) == 1 else None"),
        "if signatures else None",
        (*ANSWERS, "401"),
    ),
    # The function: its locks.
    Mutant(
        "levels are read without their lock",
        r"FOR NO KEY UPDATE\n(?= +\) AS level)",
        "\n",
        (*GUARDS, "follow_each_other or lock"),
        most=2,
    ),
    Mutant(
        "levels are read without their lock, and two rows may take one place in the ledger",
        r"FOR NO KEY UPDATE( SKIP LOCKED)?\n",
        "\n",
        (*GUARDS, "follow_each_other"),
        most=3,
        also=(
            r'sa\.PrimaryKeyConstraint\(\s*"store_id", "item_id", "level_version", name=op\.f\("stock_movement_pkey"\)\s*\),',
            "",
        ),
    ),
    Mutant(
        "where held levels are to be skipped, they are read without their lock",
        re.escape("FOR NO KEY UPDATE SKIP LOCKED"),
        "",
        (*FUNCTION, "ticket"),
    ),
    Mutant(
        "where held levels are to be skipped, they are waited for",
        re.escape("FOR NO KEY UPDATE SKIP LOCKED"),
        "FOR NO KEY UPDATE",
        (*FUNCTION, "ticket"),
    ),
    Mutant(
        "levels are locked in the order of the call",
        r"(WITH ORDINALITY AS a \(store_id, item_id, position\)\n +)ORDER BY store_id, item_id\n",
        r"\1\n",
        (*GUARDS, "key_order"),
        most=2,
    ),
    Mutant("a held level is judged all the same", r"WHEN asked\.is_busy THEN 'busy'\n", "\n", (*FUNCTION, "ticket")),
    Mutant(
        "a ticket is split where one of its levels is held",
        re.escape("is_held OR (ticket IS NOT NULL AND is_ticket_held)"),
        "is_held",
        (*FUNCTION, "ticket"),
    ),
    Mutant(
        "known is said without the level's lock",
        r"WHEN asked\.is_locked IS NULL AND level\.version IS NOT NULL THEN 'deferred'\n",
        "\n",
        (*GUARDS, "known_is_said"),
    ),
    Mutant(
        "received_at is the transaction's beginning", r"v_now := clock_timestamp\(\)", "v_now := now()", (*GUARDS, "received_at")
    ),
    Mutant(
        "received_at may fall",
        re.escape("greatest(v_now, level.updated_at, level.counted_at"),
        "greatest(v_now, level.counted_at",
        (*FUNCTION, "never_falls"),
    ),
    # The function: what it judges.
    Mutant(
        "known identities are not looked at",
        r"WHEN known\.level_version IS NOT NULL THEN CASE",
        "WHEN false THEN CASE",
        (*ANSWERS, "already_applied"),
    ),
    Mutant(
        "copies in one call are not looked at",
        r"WHEN asked\.original IS NOT NULL THEN CASE",
        "WHEN false THEN CASE",
        (*FUNCTION, "reused or two_copies"),
    ),
    Mutant(
        "a copy of a refused one becomes known",
        r"WHEN first\.outcome = 'applied' THEN 'known' ELSE first\.outcome END",
        "ELSE 'known' END",
        (*FUNCTION, "two_copies"),
    ),
    Mutant(
        "what has no identity is a copy of what has none",
        re.escape("dedupe_key IS NOT NULL AND first < position"),
        "first < position",
        (*FUNCTION, "without_an_identity"),
    ),
    Mutant(
        "what an operator says is a movement of its own is known",
        r"known\.occurrence = asked\.occurrence",
        "true",
        (*GUARDS, "occurrence"),
    ),
    Mutant(
        "the dedupe key is not unique in the ledger",
        r'sa\.UniqueConstraint\(\s*"store_id", "dedupe_key", "occurrence", name=op\.f\("stock_movement[^)]*\)\s*\),',
        "",
        (*GUARDS, "one_key_for_two_items"),
    ),
    Mutant(
        "a key of the POS may be used again",
        r"known\.item_id = asked\.item_id AND known\.source = asked\.source\n[^)]+\)[^)]+?- asked\.quantity END\n",
        "true",
        (*FUNCTION, "reused"),
    ),
    Mutant(
        "a key of the POS may be used again in one call",
        r"p_item_id\[asked\.original\] = asked\.item_id AND [^)]*::numeric = asked\.quantity",
        "true",
        (*FUNCTION, "reused"),
    ),
    Mutant(
        "a count that is sent again is compared by its change",
        re.escape("CASE WHEN asked.is_count THEN coalesce(known.counted, known.balance_after) ELSE known.delta END"),
        "known.delta",
        (*POS, "count_that_is_sent_again"),
    ),
    Mutant(
        "the POS that was meant is not looked at",
        r"WHEN asked\.pos_id <> rule\.pos_id THEN 'other_pos'\n",
        "\n",
        (*ANSWERS, "another_pos"),
    ),
    Mutant(
        "a system without an integration may move stock",
        r"WHEN asked\.source = 'inventory_system' AND integration\.enabled IS NULL THEN 'no_integration'\n",
        "\n",
        (*ANSWERS, "cannot_apply"),
    ),
    Mutant(
        "a disabled integration may move stock",
        r"WHEN asked\.source = 'inventory_system' AND NOT integration\.enabled THEN 'integration_disabled'\n",
        "\n",
        (*ANSWERS, "integration_is_disabled"),
    ),
    Mutant("below zero is not refused", r"WHEN is_below THEN 'below_zero'\n", "\n", (*ANSWERS, "below_zero or the_setting")),
    Mutant(
        "the store's own rule on negative stock is not looked at",
        re.escape("coalesce(store.negative_stock, CASE"),
        "coalesce(CASE",
        (*ANSWERS, "below_zero"),
    ),
    Mutant(
        "the recorded rule on negative stock is not looked at",
        re.escape("THEN rule.negative_stock END"),
        "THEN NULL END",
        (*ANSWERS, "the_setting"),
    ),
    Mutant(
        "an opening stock is refused by the rule for all stores",
        re.escape("CASE WHEN asked.source <> 'opening' THEN rule.negative_stock END"),
        "rule.negative_stock",
        (*GUARDS, "opening_below_zero"),
    ),
    Mutant("beyond range is not refused", r"WHEN is_beyond THEN 'beyond_range'\n", "\n", (*GUARDS, "largest")),
    Mutant(
        "what comes after a refusal is judged at once",
        re.escape("WHEN troubles_before > 0 OR is_late THEN"),
        "WHEN is_late THEN",
        (*GUARDS, "after_a_count"),
    ),
    Mutant(
        "a level is opened twice",
        r"WHEN asked\.source = 'opening' AND coalesce\(level\.counted_at, unseen\.at\) IS NOT NULL THEN 'known'\n",
        "\n",
        (*GUARDS, "opened_once"),
    ),
    Mutant(
        "a count is judged beside what comes before it in the call",
        re.escape("FILTER (WHERE is_alone OR was_alone)"),
        "FILTER (WHERE was_alone)",
        (*FUNCTION, "any_calls_come"),
    ),
    Mutant(
        "what comes after a count is judged beside it",
        re.escape("FILTER (WHERE is_alone OR was_alone)"),
        "FILTER (WHERE is_alone)",
        (*COUNTS, "after_a_count"),
    ),
    Mutant(
        "a refusal leaves its level behind", r"AND level\.version = 0;", "AND level.version < 0;", (*FUNCTION, "leaves_no_level")
    ),
    Mutant(
        "adding removes, and removing adds",
        r"- original\.delta\n( +)WHEN asked\.movement_type = '1' THEN",
        r"- original.delta\n\1WHEN asked.movement_type = '2' THEN",
        (*GUARDS, "follow_each_other or digit"),
    ),
    Mutant(
        "a quantity goes through a float on its way",
        r"movement_type, quantity::numeric,\n",
        "movement_type, quantity::double precision::numeric,\n",
        (*GUARDS, "digit"),
    ),
    # The function: what it writes.
    Mutant(
        "the time of a movement is not kept",
        re.escape("dedupe_key, occurrence, received_at, at, p_reason"),
        "dedupe_key, occurrence, received_at, received_at, p_reason",
        (*FUNCTION, "row_says"),
    ),
    Mutant(
        "without a time of its own a movement has none",
        re.escape("WHEN told_at > received_at OR told_at IS NULL THEN received_at"),
        "WHEN told_at > received_at THEN received_at",
        (*GUARDS, "received_at"),
    ),
    Mutant(
        "a movement is told to the system that it came from",
        r"AND target\.inventory_system_id IS DISTINCT FROM moved\.inventory_system_id\n",
        "\n",
        (*OUTBOX, "never_comes_back"),
    ),
    Mutant(
        "a movement is told to nobody",
        re.escape("WHERE moved.source NOT IN ('opening', 'unit_change')"),
        "WHERE false",
        (*GUARDS, "is_not_told"),
    ),
    Mutant(
        "an opening stock is told", re.escape("NOT IN ('opening', 'unit_change')"), "<> 'unit_change'", (*GUARDS, "is_not_told")
    ),
    Mutant(
        "a switched off system is told",
        r"ON target\.store_id = moved\.store_id AND target\.enabled",
        "ON target.store_id = moved.store_id",
        (*OUTBOX, "switched_off"),
    ),
    Mutant(
        "an applied movement does not close its refusal",
        re.escape("AND outcome IN ('applied', 'known')"),
        "AND outcome = 'known'",
        (*GUARDS, "closes_its_refusal"),
    ),
    Mutant(
        "a known movement does not close its refusal",
        re.escape("AND outcome IN ('applied', 'known')"),
        "AND outcome = 'applied'",
        (*GUARDS, "left_open"),
    ),
    Mutant(
        "a refusal is kept without a second look at the ledger",
        re.escape("CASE WHEN moved.is_known THEN 'resolved' ELSE 'open' END"),
        "'open'",
        (*GUARDS, "left_open"),
    ),
    Mutant(
        "the ledger may be changed",
        re.escape("BEFORE UPDATE OR DELETE ON stock_movement"),
        "BEFORE DELETE ON stock_movement",
        ("tests/http/test_storage.py", "-k", "gives_nothing_back"),
    ),
    Mutant(
        "a caller's temporary tables come first",
        re.escape(" || ', pg_temp'"),
        "",
        ("tests/http/test_storage.py", "-k", "slip"),
        most=4,
    ),
    Mutant("SQL makes identities of its own", r"'3:pos' \|\|", "'3:sql' ||", (*POS, "sql_and_http"), most=2),
    # Group commit.
    Mutant(
        "answered before COMMIT",
        r"(?m)^( +)(applied = await apply_movements\(\n[^)]*\))$",
        r"\1\2"
        r"\n\1for delivery, outcome in zip(asked, applied, strict=True):"
        r"\n\1    delivery.answer.done() or delivery.answer.set_result([outcome])",
        (*BATCHING, "before_the_commit"),
    ),
    Mutant(
        "answered before it is written",
        r"(?m)^( +)if self\._tracing is None:\n( +outcomes = await self\._writer\.write\(group\))$",
        r"\1known = __import__('app.stock.movement').stock.movement.Known(1, __import__('decimal').Decimal(0))"
        r"\n\1for delivery in group:"
        r"\n\1    delivery.answer.done() or delivery.answer.set_result([known for _ in delivery.movements or [0]])"
        r"\n\1if self._tracing is None:\n\2",
        (*BATCHING, "before_the_commit"),
    ),
    Mutant(
        "a COMMIT that rolled back counts as one",
        re.escape('if status != "COMMIT":'),
        "if False:",
        ("tests/http/test_connection.py", "-k", "rolled_back"),
    ),
    Mutant(
        "a COMMIT need not wait for the disk",
        r"NOT IN \('on', 'remote_apply'\)",
        "IN ('never')",
        ("tests/http/test_durability.py",),
    ),
    Mutant(
        "a COMMIT that waits for more than the disk no longer does",
        r"NOT IN \('on', 'remote_apply'\)",
        "NOT IN ('on')",
        ("tests/http/test_durability.py",),
    ),
    Mutant("there is no response deadline", r"self\._deadlines\.add\(delivery\)", "pass", (*BATCHING, "locked_row_is_503")),
    Mutant(
        "the waiting line has no end",
        re.escape("if self.waiting >= self._waiting_line:"),
        "if False:",
        (*BATCHING, "overloaded"),
    ),
    Mutant(
        "one that the database refuses takes its neighbours with it",
        re.escape("if fault is Fault.BUSY else halves(group)"),
        "if fault is Fault.BUSY else [group]",
        (*BATCHING, "harm_its_neighbours"),
    ),
    Mutant(
        "a conflict is not tried again",
        re.escape("if fault is Fault.CONFLICT and attempts.may_conflict_again():"),
        "if False:",
        (*BATCHING, "came_before"),
    ),
    Mutant(
        "a level that is held for long holds up all others",
        re.escape("self._writer.skip_locked_for_a_while()"),
        "pass",
        (*BATCHING, "hold_up"),
    ),
    Mutant(
        "a session that has become read-only is kept",
        r"(that has become a standby\.\n +)self\._writer\.disconnect\(\)",
        r"\1pass",
        (*BATCHING, "read_only"),
        also=(r"if is_server_lost\(error\):\n( +)self\._writer\.abandon_server", r"if False:\n\1self._writer.abandon_server"),
    ),
    Mutant(
        "the movements of one call are no ticket",
        re.escape("if len(movements) > len(asked):"),
        "if False:",
        (*POS, "recorded_whole"),
    ),
    Mutant("what is refused is not kept", r"(?m)^( +)await refusals\.record\(connection, refused\)$", r"\1pass", REFUSALS),
    Mutant(
        "what may be a movement of its own is not kept",
        re.escape("await self._look_at_copies(known)"),
        "pass",
        ("tests/http/test_duplicates.py", "-k", "listed_and_applied"),
    ),
    # Time.
    Mutant(
        "what a count had held moves the level again",
        re.escape("CASE WHEN next_count.level_version IS NOT NULL THEN - placed.delta END AS correction"),
        "NULL::numeric AS correction",
        (*COUNTS, "offline or any_order"),
    ),
    Mutant(
        "a count is compared with the level of its recording",
        re.escape("counted - (level_quantity - coalesce(later.total, 0))"),
        "counted - level_quantity",
        (*COUNTS, "comes_late or any_order"),
    ),
    Mutant(
        "a correction stands at the newest count",
        re.escape("ORDER BY {AT.format(\"c.\")}, coalesce(c.dedupe_key, ''), c.level_version LIMIT 1"),
        "ORDER BY {AT.format(\"c.\")} DESC, coalesce(c.dedupe_key, ''), c.level_version LIMIT 1",
        (*COUNTS, "between_two_counts or any_order"),
    ),
    Mutant(
        "a reversed count still counts",
        r"\(\n +SELECT true FROM stock_movement AS r\n[^)]+\) IS NULL",
        "true",
        (*COUNTS, "as_if"),
    ),
    Mutant(
        "a row is reversed as often as somebody asks",
        r"WHEN undone_by\.level_version IS NOT NULL THEN 'known'\n",
        "\n",
        (*COUNTS, "reverse_the_same or as_if"),
    ),
    Mutant(
        "half of a transfer is enough",
        re.escape("RAISE SQLSTATE 'PS001'"),
        "NULL",
        (*COUNTS, "not_at_all"),
    ),
    Mutant("an old count is taken", r"THEN 'count_too_old'\n", "THEN 'candidate'\n", (*COUNTS, "long_ago_or")),
    Mutant(
        "an echo is applied", r"WHEN echo\.is_echo THEN 'echo'\n", "\n", ("tests/http/test_drift_against_mipos.py", "-k", "echo")
    ),
    Mutant(
        "what was dismissed is applied when it comes again",
        r"WHEN asked\.source = 'inventory_system' AND aside\.actor IS NOT NULL THEN 'put_aside'\n",
        "\n",
        (*REFUSALS, "-k", "dismissed"),
    ),
    # The identity, and numbers.
    Mutant("the date is no part of the identity", r"(?m)^ +date_text,\n(?= +\),\n)", "", MOVEMENTS),
    Mutant(
        "the inventory system is no part of the identity", r"identity_of\(\n +inventory_system_id,\n", "identity_of(\n", MOVEMENTS
    ),
    Mutant("the reported stock is no part of the identity", r"(?m)^ +to_canonical\(reported_stock\),\n", "", MOVEMENTS),
    Mutant(
        "`now` is a part of the identity",
        r"to_canonical\(reported_stock\),\n",
        "to_canonical(reported_stock), sent_at_text,\n",
        MOVEMENTS,
    ),
    Mutant(
        "a removal is rounded to 28 digits",
        re.escape("is MovementType.ADD else self.quantity.copy_negate()"),
        "is MovementType.ADD else -self.quantity",
        ("tests/unit/test_model.py",),
    ),
    Mutant(
        "a JSON number goes through a float",
        r"isinstance\(value, jiter\.LosslessFloat\):\n        return parse_quantity\(str\(value\)\)",
        "isinstance(value, jiter.LosslessFloat):\n        return parse_quantity(repr(float(value)))",
        ("tests/unit/test_body.py",),
    ),
    # The relay.
    Mutant(
        "messages of one pair are sent in any order",
        re.escape("JOIN head USING (outbox_message_id)"),
        "",
        (*OUTBOX, "thousand or in_order"),
    ),
)
