"""What mipOS would refuse of a synchronisation is named by us first: each documented rule, by the sandbox's own words."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.catalog_body import check_for_sync
from app.sandbox.platform import Account, InventorySystem, Platform
from app.stock.catalog import Catalog, CatalogRefused, Item, Supplier, Unit, to_document

GOOD = Catalog(
    "system",
    "30",
    (
        Item("i1", "Tomato", "u1", "u2", "s1", Decimal("1.15"), Decimal("22.50")),
        Item("i2", "Egg", "u1", "u1", "s1", *[Decimal(1)] * 2),
    ),
    (Unit("u1", "Box", "box"), Unit("u2", "Kilogram", "kg")),
    (Supplier("s1", "Farm"),),
)


def theirs(catalog: Catalog) -> str:
    """What the sandbox, and so the document, says to it."""
    platform = Platform(Account("id", "secret", "e", "p"))
    platform.systems["system"] = InventorySystem("30", {"1"})
    reply = platform.sync("1", to_document(catalog))
    return "" if reply.status == 200 else str(reply.body)


def with_item(**changes: Any) -> Catalog:
    return replace(GOOD, items=(GOOD.items[0], replace(GOOD.items[1], **changes)))


def with_unit(**changes: str) -> Catalog:
    return replace(GOOD, units=(*GOOD.units, replace(Unit("u3", "Bag", "bag"), **changes)))


def with_supplier(**changes: str) -> Catalog:
    return replace(GOOD, suppliers=(*GOOD.suppliers, replace(Supplier("s2", "Market"), **changes)))


CASES = [
    (with_item(name=""), "The item must have a name.", 'Item 2 ("i2"): name must not be blank.'),
    (with_item(item_id=""), "The item must have an external id.", "Item 2: external_id must not be blank."),
    (
        with_item(purchase_unit_id=""),
        "The item must have an purchase unit external id.",
        'Item 2 ("i2"): purchase_unit_external_id must not be blank.',
    ),
    (
        with_item(consumption_unit_id=""),
        "The item must have an consumption unit external id.",
        'Item 2 ("i2"): consumption_unit_external_id must not be blank.',
    ),
    (
        with_item(supplier_id=""),
        "The item must have a supplier external id.",
        'Item 2 ("i2"): supplier_external_id must not be blank.',
    ),
    (
        with_item(purchase_unit_id="u9"),
        "Item purchase unit external id (u9) not found in units array",
        'Item 2 ("i2"): purchase_unit_external_id "u9" is not in the list units.',
    ),
    (
        with_item(supplier_id="s9"),
        "Item supplier external id (s9) not found in suppliers array",
        'Item 2 ("i2"): supplier_external_id "s9" is not in the list suppliers.',
    ),
    (with_unit(name=""), "The unit must have a name.", 'Unit 3 ("u3"): name must not be blank.'),
    (with_unit(short_name=""), "The unit must have a short name.", 'Unit 3 ("u3"): short_name must not be blank.'),
    (with_unit(unit_id=""), "The unit must have an external id.", "Unit 3: external_id must not be blank."),
    (with_supplier(name=""), "The supplier must have a name.", 'Supplier 2 ("s2"): name must not be blank.'),
    (with_supplier(supplier_id=""), "The supplier must have an external id.", "Supplier 2: external_id must not be blank."),
    (replace(GOOD, items=()), "The items field is required.", "The catalogue has no items, and mipOS asks for one at least."),
    (
        replace(GOOD, items=(), units=()),
        "The units field is required.",
        "The catalogue has no units, and mipOS asks for one at least.",
    ),
    (
        replace(GOOD, items=(), suppliers=()),
        "The suppliers field is required.",
        "The catalogue has no suppliers, and mipOS asks for one at least.",
    ),
    (
        replace(GOOD, inventory_system_id=""),
        "The inventory system id field is required.",
        "The catalogue: inventory_system_id must not be blank.",
    ),
    (replace(GOOD, user_id_tps=""), "The user id tps field is required.", "The catalogue: user_id_tps must not be blank."),
]


@pytest.mark.parametrize(("catalog", "their_words", "our_words"), CASES, ids=[case[1] for case in CASES])
def test_each_documented_rule_is_checked_here_with_the_entry_named(catalog: Catalog, their_words: str, our_words: str) -> None:
    with pytest.raises(CatalogRefused) as refused:
        check_for_sync(catalog)

    assert their_words in theirs(catalog)
    assert our_words in refused.value.problems


def test_every_bad_entry_is_named_at_once() -> None:
    with pytest.raises(CatalogRefused) as refused:
        check_for_sync(replace(with_item(name=""), suppliers=(), user_id_tps=""))

    assert 5 == len(refused.value.problems)  # name, two items without their supplier, no suppliers, no user


def test_what_is_good_is_the_body_with_every_number_a_string() -> None:
    body = check_for_sync(GOOD)

    assert "" == theirs(GOOD)
    assert ("1.15", "22.50") == (body["items"][0]["cost"], body["items"][0]["stock"])


ids = st.sampled_from(["", "a", "b"])


@given(
    st.builds(
        Catalog,
        st.sampled_from(["", "system"]),
        st.sampled_from(["", "30"]),
        st.lists(st.builds(Item, ids, ids, ids, ids, ids, st.just(Decimal(1)), st.just(Decimal(-1))), max_size=2).map(tuple),
        st.lists(st.builds(Unit, ids, ids, ids), max_size=2).map(tuple),
        st.lists(st.builds(Supplier, ids, ids), max_size=2).map(tuple),
    )
)
def test_what_passes_here_passes_there(catalog: Catalog) -> None:
    try:
        check_for_sync(catalog)
    except CatalogRefused:
        return
    assert "" == theirs(catalog)
