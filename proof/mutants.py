"""The list of mutations: which guard is taken out, where it stands, and which tests have to notice.

To anchor one anew after the code has moved: `pattern` is a regular expression that must match once (up to `most` times) in all of
`app/` and `migrations/` together, in whichever file; `replacement` is a template of `re.sub`. Nothing else names a place.
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
COPIES = ("tests/http/test_batching.py", "tests/system/test_storm.py", "-k", "copy_that_waited or two_services or copies")
BATCHING = ("tests/http/test_batching.py",)
MOVEMENTS = ("tests/unit/test_movement.py",)
APPLYING = ("tests/http/test_apply_movements.py",)

MUTANTS = (
    Mutant("the signature is not checked", r"(?m)^    return matched$", "    return secrets[0][0]", SIGNATURES),
    Mutant(
        "the signature is checked over the JSON written anew",
        r"key = verify\(body, ",
        'key = verify(__import__("json").dumps(__import__("json").loads(body), separators=(",", ":")).encode(), ',
        ("tests/http/test_answers.py", "-k", "order_of_keys"),
    ),
    Mutant(
        "of two signatures the first counts",
        re.escape("if len(signatures) == 1 else None"),
        "if signatures else None",
        ("tests/http/test_answers.py",),
    ),
    Mutant(
        "known identities are not looked at", r"WHEN known\.level_version IS NOT NULL THEN CASE", "WHEN false THEN CASE", APPLYING
    ),
    Mutant(
        "copies in one call are not looked at", r"WHEN asked\.original IS NOT NULL THEN CASE", "WHEN false THEN CASE", APPLYING
    ),
    Mutant(
        "a copy of a refused one is known",
        re.escape("WHEN first.outcome = 'applied' THEN 'known' ELSE first.outcome END"),
        "ELSE 'known' END",
        APPLYING,
    ),
    Mutant("a reused key is known", re.escape("THEN 'known' ELSE 'key_reused' END"), "THEN 'known' ELSE 'known' END", APPLYING),
    Mutant(
        "the dedupe key is not unique in the ledger",
        r'sa\.UniqueConstraint\(\s*"store_id", "dedupe_key", "occurrence", name=op\.f\("stock_movement[^)]*\)\s*\),',
        "",
        (*APPLYING, "-k", "at_once"),
    ),
    Mutant(
        "levels are read without their lock",
        r"FOR NO KEY UPDATE\n",
        "\n",
        (*APPLYING, "-k", "who_waits"),
    ),
    Mutant(
        "levels are read without their lock, and two rows may take one place in the ledger",
        r"FOR NO KEY UPDATE( SKIP LOCKED)?\n",
        "\n",
        COPIES,
        most=2,
        also=(r'sa\.PrimaryKeyConstraint\(\s*"store_id", "item_id", "level_version", name=op\.f\([^)]*\)\s*\),', ""),
    ),
    Mutant(
        "a held level is waited for, and not skipped",
        "FOR NO KEY UPDATE SKIP LOCKED\n",
        "FOR NO KEY UPDATE\n",
        (*APPLYING, "-k", "ticket"),
    ),
    Mutant(
        "a movement of a held level is decided",
        "WHEN asked\\.is_busy THEN 'busy'",
        "WHEN false THEN 'busy'",
        (*APPLYING, "-k", "ticket"),
    ),
    Mutant(
        "a ticket is split where one of its levels is held",
        re.escape("is_held OR (ticket IS NOT NULL AND is_ticket_held)"),
        "is_held",
        (*APPLYING, "-k", "ticket"),
    ),
    Mutant("a movement for another POS is applied", r"WHEN asked\.pos_id <> rule\.pos_id THEN", "WHEN false THEN", APPLYING),
    Mutant("a switched-off system is heard", r"AND NOT integration\.enabled THEN", "AND false THEN", APPLYING),
    Mutant(
        "a store that refuses goes below zero", "outcome = 'candidate' AND refuses AND delta < 0", "false AND delta < 0", APPLYING
    ),
    Mutant("the recorded rule for negative stock is not read", r"rule\.negative_stock END\)", "NULL END)", APPLYING),
    Mutant(
        "a level may grow past what can be held",
        re.escape("ELSE running END) >= 1e15 AS is_beyond"),
        "ELSE running END) >= 1e16 AS is_beyond",
        APPLYING,
    ),
    Mutant(
        "what comes after a count or a refusal does not wait for it",
        re.escape("WHEN troubles_before > 0 OR is_late_opening THEN 'deferred'"),
        "WHEN false THEN 'deferred'",
        APPLYING,
    ),
    Mutant(
        "a refusal leaves its level behind",
        re.escape("AND level.item_id = made.item_id AND level.version = 0"),
        "AND level.item_id = made.item_id AND false",
        APPLYING,
    ),
    Mutant("received_at may fall", re.escape("greatest(v_now, level_updated_at)"), "v_now", (*APPLYING, "-k", "received_at")),
    Mutant("the time of a movement is lost", re.escape("coalesce(happened_at, received_at)"), "received_at", APPLYING),
    Mutant(
        "adding removes, and removing adds",
        re.escape("WHEN asked.movement_type = '1' THEN asked.quantity"),
        "WHEN asked.movement_type = '2' THEN asked.quantity",
        APPLYING,
    ),
    Mutant(
        "a removal is rounded to 28 digits",
        re.escape("is MovementType.ADD else self.quantity.copy_negate()"),
        "is MovementType.ADD else -self.quantity",
        ("tests/unit/test_model.py",),
    ),
    Mutant(
        "a movement is told to the system that it came from",
        r"\n +AND target\.inventory_system_id IS DISTINCT FROM moved\.inventory_system_id",
        "",
        ("tests/http/test_outbox.py", "-k", "never_comes_back"),
    ),
    Mutant(
        "answered before it is written",
        r"(?m)^( +)outcomes = await self\._writer\.write\(group\)$",
        r"\1known = __import__('app.stock.outcome').stock.outcome.Known(1, __import__('decimal').Decimal(0))"
        r"\n\1for delivery in group:"
        r"\n\1    delivery.answer.done() or delivery.answer.set_result([known for _ in delivery.movements or [0]])"
        r"\n\1outcomes = await self._writer.write(group)",
        BATCHING,
    ),
    Mutant(
        "what is refused is not kept",
        r"(?m)^( +)await refused_deliveries\.record\(connection, refused\)$",
        r"\1pass",
        ("tests/http/test_refusals.py",),
    ),
    Mutant(
        "an applied movement does not close its refusal",
        re.escape("WHERE state = 'open' AND delivery_key = ANY"),
        "WHERE false AND state = 'open' AND delivery_key = ANY",
        ("tests/http/test_refusals.py",),
    ),
    Mutant(
        "a COMMIT that rolled back counts as one",
        re.escape('if status != "COMMIT":'),
        "if False:",
        ("tests/http/test_writer.py",),
    ),
    Mutant(
        "there is no response deadline",
        r"async with asyncio\.timeout_at\(deadline\):\n( +)return await delivery\.answer",
        r"if True:\n\1return await delivery.answer",
        (*BATCHING, "-k", "locked_row_is_503"),
        alternative=(r"self\._deadlines\.add\(delivery\)", "pass"),
    ),
    Mutant(
        "the waiting line has no end",
        re.escape("if self.waiting >= self._waiting_line:"),
        "if False:",
        (*BATCHING, "-k", "overloaded"),
    ),
    Mutant("the date is no part of the identity", r"(?m)^ +date_text,\n(?= +\),\n)", "", MOVEMENTS),
    Mutant(
        "the inventory system is no part of the identity", r"_identity\(\n +inventory_system_id,\n", "_identity(\n", MOVEMENTS
    ),
    Mutant("the reported stock is no part of the identity", r"(?m)^ +to_canonical\(reported_stock\),\n", "", MOVEMENTS),
    Mutant(
        "`now` is a part of the identity",
        r"to_canonical\(reported_stock\),\n",
        "to_canonical(reported_stock), sent_at_text,\n",
        MOVEMENTS,
    ),
    Mutant(
        "a JSON number goes through a float",
        re.escape("isinstance(value, jiter.LosslessFloat):\n        return parse_quantity(str(value))"),
        "isinstance(value, jiter.LosslessFloat):\n        return parse_quantity(repr(float(value)))",
        ("tests/unit/test_payload.py",),
    ),
    Mutant(
        "the ledger may be changed",
        re.escape("BEFORE UPDATE OR DELETE ON stock_movement"),
        "BEFORE DELETE ON stock_movement",
        ("tests/http/test_storage.py", "-k", "gives_nothing_back"),
    ),
    Mutant(
        "messages of one pair are sent in any order",
        re.escape("JOIN head USING (outbox_message_id)"),
        "",
        ("tests/http/test_outbox.py", "-k", "thousand or in_order"),
    ),
)
