from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import BelowZero, BeyondRange, IntegrationDisabled, NoIntegration, Refusal, UnknownItem, UnknownStore
from app.stock.applying import AlreadyApplied, Applied, Busy, Knowledge, Level, NegativeStock, Outcome, Refused, decide
from app.stock.movement import Movement, MovementType, reported_movement
from app.stock.quantity import EXACT

KNOWN = Knowledge(
    stores={"s1": NegativeStock.ALLOW, "s2": NegativeStock.REFUSE},
    items={"a", "b"},
    integrations={("s1", "x"): True, ("s2", "x"): True, ("s1", "off"): False},
    levels={("s1", "a"): Level(Decimal(10), 1), ("s2", "a"): Level(Decimal(3), 4)},
    identities=set(),
)


def moved(  # noqa: PLR0913 - a movement has many parts
    quantity: str = "1",
    *,
    add: bool = False,
    store: str = "s1",
    item: str = "a",
    system: str = "x",
    reported: str = "0",
    date: str = "d",
) -> Movement:
    return reported_movement(
        inventory_system_id=system,
        store_id=store,
        item_id=item,
        movement_type=MovementType.ADD if add else MovementType.REMOVE,
        quantity=Decimal(quantity),
        reported_stock=Decimal(reported),
        date_text=date,
        sent_text="now",
    )


@pytest.mark.parametrize(
    ("movement", "refusal"),
    [
        (moved(store="nowhere"), UnknownStore),
        (moved(item="nothing"), UnknownItem),
        (moved(system="unheard-of"), NoIntegration),
        (moved(system="off"), IntegrationDisabled),
        (moved(store="s2", quantity="3.01"), BelowZero),
        (moved(add=True, quantity="999999999999999"), BeyondRange),
        (moved(quantity="999999999999999.99", item="a", store="s1"), None),
        (moved(store="s2", quantity="3"), None),
        (moved(store="s2", item="b", quantity="0"), None),
        (moved(quantity="11"), None),
        (moved(item="b"), None),
    ],
)
def test_refuses_by_the_business_rules_and_applies_the_rest(movement: Movement, refusal: type[Refusal] | None) -> None:
    (outcome,) = decide([movement], KNOWN).outcomes

    if refusal is None:
        assert isinstance(outcome, Applied)
    else:
        assert isinstance(outcome, Refused)
        assert isinstance(outcome.error, refusal)


def test_a_movement_that_the_ledger_holds_is_already_applied_whatever_has_changed_since() -> None:
    movement = moved(system="off", item="nothing")
    assert movement.dedupe_key is not None

    decision = decide([movement], replace(KNOWN, identities={("s1", movement.dedupe_key)}))

    assert [AlreadyApplied()] == list(decision.outcomes)
    assert not decision.entries


def test_a_copy_in_the_same_batch_is_already_applied() -> None:
    decision = decide([moved(), moved()], KNOWN)

    assert [Applied, AlreadyApplied] == [type(outcome) for outcome in decision.outcomes]
    assert {("s1", "a"): Level(Decimal(9), 2)} == decision.levels


def test_a_refused_movement_holds_no_identity() -> None:
    late = [moved(store="s2", quantity="5"), moved(store="s2", add=True, quantity="2"), moved(store="s2", quantity="5")]

    decision = decide(late, KNOWN)

    assert [Refused, Applied, Applied] == [type(outcome) for outcome in decision.outcomes]
    assert Decimal(0) == decision.levels["s2", "a"].quantity


def test_two_equal_lines_of_one_order_are_two_movements() -> None:
    decision = decide([moved("0.150", reported="9.850"), moved("0.150", reported="9.700")], KNOWN)

    assert Decimal("9.700") == decision.levels["s1", "a"].quantity


def test_an_item_never_stocked_starts_at_zero() -> None:
    decision = decide([moved(item="b", quantity="4")], KNOWN)

    assert {("s1", "b"): Level(Decimal(-4), 1)} == decision.levels


def test_29_digits_are_removed_exactly() -> None:
    decision = decide([moved("123456789012345.12345678901235")], KNOWN)

    assert Decimal("-123456789012335.12345678901235") == decision.levels["s1", "a"].quantity


def test_a_level_that_another_session_holds_is_not_decided_but_a_copy_is_known() -> None:
    held, known, free = moved(), moved(date="before"), moved(item="b")
    assert known.dedupe_key is not None

    decision = decide([held, known, free], replace(KNOWN, busy={("s1", "a")}, identities={("s1", known.dedupe_key)}))

    assert [Busy, AlreadyApplied, Applied] == [type(outcome) for outcome in decision.outcomes]


movements = st.lists(
    st.builds(
        moved,
        quantity=st.sampled_from(
            ["0", "0.001", "1", "2.5", "0.33333333333333", "600000000000000", "123456789012345.12345678901235"]
        ),
        add=st.booleans(),
        store=st.sampled_from(["s1", "s2", "nowhere"]),
        item=st.sampled_from(["a", "b", "nothing"]),
        system=st.sampled_from(["x", "off"]),
        reported=st.sampled_from(["0", "1"]),
        date=st.sampled_from(["d", "e"]),
    ),
    max_size=25,
)


def run(batches: Sequence[Sequence[Movement]]) -> tuple[list[Outcome], dict[tuple[str, str], Level]]:
    """Decide each batch on what those before it left, as storage would have it."""
    outcomes: list[Outcome] = []
    levels = dict(KNOWN.levels)
    identities: set[tuple[str, bytes]] = set()
    for batch in batches:
        decision = decide(batch, replace(KNOWN, levels=dict(levels), identities=set(identities)))
        outcomes += decision.outcomes
        levels.update(decision.levels)
        identities |= {(e.movement.store_id, e.movement.dedupe_key) for e in decision.entries if e.movement.dedupe_key}
    return outcomes, levels


@given(movements, st.data())
def test_any_split_into_batches_gives_what_one_by_one_gives(moves: list[Movement], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(moves)), max_size=6)))
    batches = [moves[start:end] for start, end in zip([0, *cuts], [*cuts, len(moves)], strict=True)]

    outcomes, levels = run(batches)
    alone_outcomes, alone_levels = run([[move] for move in moves])

    assert alone_levels == levels
    assert [repr(outcome) for outcome in alone_outcomes] == [repr(outcome) for outcome in outcomes]


@given(movements)
def test_levels_are_the_sum_of_their_entries_without_gaps(moves: list[Movement]) -> None:
    decision = decide(moves, KNOWN)

    for key, level in decision.levels.items():
        start = KNOWN.levels.get(key, Level(Decimal(0), 0))
        entries = [entry for entry in decision.entries if entry.movement.key == key]
        assert level.quantity == reduce(EXACT.add, (entry.movement.delta for entry in entries), start.quantity)
        assert list(range(start.version + 1, level.version + 1)) == [entry.level_version for entry in entries]
        assert level.quantity == entries[-1].balance_after
