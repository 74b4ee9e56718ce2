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
LONE = ("tests/http/test_lone.py",)
MOVEMENTS = ("tests/unit/test_movement.py",)
APPLYING = ("tests/unit/test_applying.py",)

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
        "known identities are not looked at",
        re.escape("(identity in seen or identity in knowledge.identities)"),
        "identity in seen",
        (*APPLYING, "tests/http/test_answers.py"),
    ),
    Mutant(
        "copies within one batch are not looked at",
        re.escape("(identity in seen or identity in knowledge.identities)"),
        "identity in knowledge.identities",
        (*APPLYING, *BATCHING),
    ),
    Mutant(
        "the dedupe key is not unique in the ledger",
        r'sa\.UniqueConstraint\(\s*"store_id", "dedupe_key", "occurrence", name=op\.f\("stock_movement[^)]*\)\s*\),',
        "",
        COPIES,
    ),
    Mutant(
        "levels are read without their lock",
        re.escape('_read_under("FOR NO KEY UPDATE OF level")'),
        '_read_under("")',
        (*BATCHING, "-k", "contend"),
    ),
    Mutant(
        "levels are read without their lock, and two rows may take one place in the ledger",
        r"FOR NO KEY UPDATE OF level( SKIP LOCKED)?",
        "",
        COPIES,
        most=2,
        also=(r'sa\.PrimaryKeyConstraint\(\s*"store_id", "item_id", "level_version", name=op\.f\([^)]*\)\s*\),', ""),
    ),
    Mutant(
        "one alone is applied without a look at the identities",
        re.escape("AND NOT EXISTS (SELECT FROM stock_movement AS known WHERE known.store_id = $1 AND known.dedupe_key = $4)"),
        "",
        LONE,
    ),
    Mutant(
        "one alone is applied without a look at what was refused",
        r"AND NOT EXISTS \(SELECT FROM refused_delivery AS refused [^)]*\)",
        "",
        LONE,
    ),
    Mutant("one alone is applied whether its system is enabled or not", re.escape(" AND i.enabled"), "", LONE),
    Mutant(
        "one alone is applied below zero, whatever the store says",
        re.escape(" AND coalesce(store.negative_stock, $6) = "),
        " AND $6::text <> '' AND 'allow' = ",
        LONE,
    ),
    Mutant(
        "written at once, and answered before it",
        r"(?m)^( +)await movements\.write\(connection, decision\.entries, decision\.levels\)"
        r"\n +return list\(decision\.outcomes\)$",
        r"\1for delivery, outcome in zip(group, decision.outcomes, strict=True):"
        r"\n\1    delivery.answer.done() or delivery.answer.set_result(outcome)"
        r"\n\1await movements.write(connection, decision.entries, decision.levels)"
        r"\n\1return list(decision.outcomes)",
        BATCHING,
    ),
    Mutant(
        "answered before COMMIT",
        r"(?m)^( +)await self\._writer\.commit\(\)$",
        r"\1for delivery, outcome in zip(group, outcomes, strict=True):"
        r"\n\1    delivery.answer.done() or delivery.answer.set_result(outcome)"
        r"\n\1await self._writer.commit()",
        BATCHING,
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
    Mutant(
        "what is refused is not kept",
        r"(?m)^( +)await refusals\.record\(connection, refused\)$",
        r"\1pass",
        ("tests/http/test_refusals.py",),
    ),
    Mutant(
        "an applied movement does not close its refusal",
        r"delivery_key = ANY \(\$1::bytea\[\]\)",
        "delivery_key = ANY ($1::bytea[]) AND false",
        ("tests/http/test_refusals.py",),
    ),
    Mutant(
        "a refusal is decided without a second look",
        r"if any\(isinstance\(outcome, Refused\) for outcome in decision\.outcomes\):",
        "if False:",
        (*BATCHING, "-k", "copy_that_waited"),
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
        "adding removes, and removing adds",
        re.escape("self.quantity if self.movement_type is MovementType.ADD"),
        "self.quantity if self.movement_type is not MovementType.ADD",
        APPLYING,
    ),
    Mutant(
        "a removal is rounded to 28 digits",
        re.escape("is MovementType.ADD else self.quantity.copy_negate()"),
        "is MovementType.ADD else -self.quantity",
        APPLYING,
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
        "a movement is told to the system that it came from",
        r" AND integration\.inventory_system_id IS DISTINCT FROM moved\.inventory_system_id",
        "",
        ("tests/http/test_outbox.py", "-k", "never_comes_back"),
    ),
    Mutant(
        "messages of one pair are sent in any order",
        re.escape("JOIN head USING (outbox_message_id)"),
        "",
        ("tests/http/test_outbox.py", "-k", "thousand or in_order"),
    ),
)
