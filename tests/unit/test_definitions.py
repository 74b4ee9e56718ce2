"""What an import changes in the definitions of items, as a table."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from app.stock.definitions import CatalogChanges, DefinedItem, changed_units, count_changes

ITEM = DefinedItem(
    item_id="a",
    name="A",
    cost=Decimal("1.5"),
    supplier_id="s",
    supplier_name="S",
    purchase_unit_id="box",
    purchase_unit_names=("Box", "box"),
    unit_id="kg",
    unit_names=("Kilogram", "kg"),
    folded_names="kilogram\nkg",
    retired_at=None,
    copied_from=None,
)
RETIRED = datetime(2026, 5, 30, tzinfo=UTC)
RENAMED = {"unit_names": ("Tonne", "t"), "folded_names": "tonne\nt"}


@pytest.mark.parametrize(
    ("changes", "counted"),
    [
        ({}, {"kept": 1}),
        ({"cost": Decimal("1.50")}, {"kept": 1}),
        ({"copied_from": "2"}, {"kept": 1}),
        ({"name": "a"}, {"changed": 1, "name": 1}),
        ({"cost": Decimal("1.6")}, {"changed": 1, "cost": 1}),
        ({"supplier_name": "T"}, {"changed": 1, "supplier": 1}),
        ({"supplier_id": "t", "name": "B"}, {"changed": 1, "supplier": 1, "name": 1}),
        ({"purchase_unit_id": "kg"}, {"changed": 1, "unit": 1}),
        ({"purchase_unit_names": ("Carton", "box")}, {"changed": 1, "unit": 1}),
        ({"unit_names": ("KILOGRAM", "kg")}, {"changed": 1, "unit": 1}),
    ],
    ids=str,
)
def test_an_item_of_the_file_is_changed_where_a_part_of_it_is(changes: dict[str, Any], counted: dict[str, int]) -> None:
    after = {"a": replace(ITEM, **changes)}

    assert CatalogChanges(**counted) == count_changes({"a": ITEM}, after, frozenset("a"))


@pytest.mark.parametrize(
    ("before", "after", "is_in_file", "counted"),
    [
        (None, None, True, {"added": 1}),
        (RETIRED, None, True, {"brought_back": 1}),
        (None, RETIRED, False, {"retired": 1}),
        (RETIRED, RETIRED, False, {}),
        (None, None, False, {}),
    ],
)
def test_an_item_comes_goes_and_comes_back(
    before: datetime | None, after: datetime | None, counted: dict[str, int], *, is_in_file: bool
) -> None:
    old = {} if "added" in counted else {"a": replace(ITEM, retired_at=before)}
    imported = frozenset("a") if is_in_file else frozenset[str]()

    assert CatalogChanges(**counted) == count_changes(old, {"a": replace(ITEM, retired_at=after)}, imported)


@pytest.mark.parametrize(
    ("changes", "same_units", "is_changed"),
    [
        ({}, "", False),
        ({"unit_names": ("KILOGRAM", "KG")}, "", False),
        ({"purchase_unit_id": "kg", "purchase_unit_names": ("Kilogram", "kg")}, "", False),
        ({"unit_id": "g"}, "", True),
        ({"unit_id": "g"}, "g", True),
        ({"unit_id": "g"}, "kg", True),
        (RENAMED, "", True),
        (RENAMED, "kg", False),
        (RENAMED, "g", True),
    ],
    ids=str,
)
def test_a_unit_is_its_id_and_its_names_without_case(changes: dict[str, Any], same_units: str, *, is_changed: bool) -> None:
    after = {"a": replace(ITEM, **changes)}
    found = list(changed_units({"a": ITEM}, after, frozenset("a"), same_units=frozenset([same_units])))

    assert is_changed == bool(found)


@pytest.mark.parametrize(
    ("level", "accepts", "is_in_file", "is_allowed"),
    [
        ("0", False, True, True),
        ("0.00", False, False, True),
        ("1", False, True, False),
        ("-1", False, True, False),
        ("1", True, True, True),
        ("1", True, False, False),
    ],
)
def test_with_stock_a_unit_changes_only_by_a_count_in_the_file(
    level: str, *, accepts: bool, is_in_file: bool, is_allowed: bool
) -> None:
    imported = frozenset("a") if is_in_file else frozenset[str]()
    (changed,) = changed_units({"a": ITEM}, {"a": replace(ITEM, **RENAMED)}, imported)
    problem = changed.problem(Decimal(level), accepts=accepts)

    assert is_allowed == (problem is None)
    assert problem is None or f"the store has {level} in the old one." in problem
