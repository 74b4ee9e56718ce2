"""The model of the ledger, held against what the rules say in words."""

from collections.abc import Sequence
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import BelowZero, BeyondRange, IntegrationDisabled, NoIntegration, OtherPos, Refusal, UnknownItem, UnknownStore
from app.stock.movement import Applied, KeyReused, Known, Movement, MovementType, Outcome, Refused, reported_movement
from app.stock.quantity import EXACT
from app.stock.rules import NegativeStock
from tests.support.ledger import by_pos
from tests.support.model import Level, Model


def new_model() -> Model:
    return Model(
        stores={"s1": None, "s2": NegativeStock.REFUSE},
        items={"a", "b"},
        integrations={("s1", "x"): True, ("s2", "x"): True, ("s1", "off"): False},
        levels={("s1", "a"): Level(Decimal(10), 1), ("s2", "a"): Level(Decimal(3), 4)},
        pos_id="8",
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
    pos_id: str = "8",
) -> Movement:
    return reported_movement(
        inventory_system_id=system,
        store_id=store,
        item_id=item,
        movement_type=MovementType.ADD if add else MovementType.REMOVE,
        quantity=Decimal(quantity),
        reported_stock=Decimal(reported),
        date_text=date,
        sent_at_text="now",
        pos_id=pos_id,
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
        (moved(pos_id="9"), OtherPos),
        (moved(quantity="999999999999999.99", item="a", store="s1"), None),
        (moved(store="s2", quantity="3"), None),
        (moved(store="s2", item="b", quantity="0"), None),
        (moved(quantity="11"), None),
        (moved(item="b"), None),
    ],
)
def test_refuses_by_the_business_rules_and_applies_the_rest(movement: Movement, refusal: type[Refusal] | None) -> None:
    (outcome,) = new_model().apply([movement])

    if refusal is None:
        assert isinstance(outcome, Applied)
    else:
        assert isinstance(outcome, Refused)
        assert isinstance(outcome.error, refusal)


def test_a_copy_in_the_same_call_is_known() -> None:
    model = new_model()

    assert [Applied(2, Decimal(9)), Known(2, Decimal(9))] == model.apply([moved(), moved()])
    assert Level(Decimal(9), 2) == model.levels["s1", "a"]


def test_copies_of_a_refused_one_are_refused_as_it_is_and_tried_again_in_the_next_call() -> None:
    model = new_model()
    late = [moved(store="s2", quantity="5"), moved(store="s2", add=True, quantity="2"), moved(store="s2", quantity="5")]

    assert [Refused, Applied, Refused] == [type(outcome) for outcome in model.apply(late)]
    assert [Applied(6, Decimal(0))] == model.apply(late[2:])


def test_a_known_key_is_judged_by_the_ledger_whatever_came_first_in_the_call() -> None:
    model = new_model()
    sale, other = by_pos(quantity="1", store_id="s1", item_id="a"), by_pos(quantity="2", store_id="s1", item_id="a")
    model.apply([sale])

    assert [KeyReused(), Known(2, Decimal(9))] == model.apply([other, sale])


def test_two_equal_lines_of_one_order_are_two_movements() -> None:
    model = new_model()

    model.apply([moved("0.150", reported="9.850"), moved("0.150", reported="9.700")])

    assert Decimal("9.700") == model.levels["s1", "a"].quantity


def test_29_digits_are_removed_exactly() -> None:
    model = new_model()

    model.apply([moved("123456789012345.12345678901235")])

    assert Decimal("-123456789012335.12345678901235") == model.levels["s1", "a"].quantity


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
        date=st.text(min_size=1, max_size=8, alphabet="0123456789"),
    ),
    max_size=25,
    unique_by=lambda movement: movement.dedupe_key,
)


@given(movements, st.data())
def test_any_split_into_calls_gives_what_one_by_one_gives(moves: list[Movement], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(moves)), max_size=6)))
    calls = [moves[start:end] for start, end in zip([0, *cuts], [*cuts, len(moves)], strict=True)]
    split, alone = new_model(), new_model()

    assert in_words(alone, [[move] for move in moves]) == in_words(split, calls)
    assert alone.levels == split.levels


def in_words(model: Model, calls: Sequence[Sequence[Movement]]) -> list[str]:
    outcomes: list[Outcome] = []
    for call in calls:
        outcomes += model.apply(call)
    return [repr(outcome) for outcome in outcomes]


@given(movements)
def test_levels_are_the_sum_of_their_entries_without_gaps(moves: list[Movement]) -> None:
    model = new_model()
    start = model.copy()

    model.apply(moves)

    for key, level in model.levels.items():
        before = start.levels.get(key, Level())
        entries = [entry for entry in model.entries if entry.movement.key == key]
        total = before.quantity
        for entry in entries:
            total = EXACT.add(total, entry.delta)
            assert total == entry.balance_after
        assert (total, before.version + len(entries)) == (level.quantity, level.version)
