import json
from decimal import Decimal
from typing import Any

import pytest

from app.catalog_body import read_catalog
from app.stock.catalog import CatalogRefused, to_document
from tests.support.postgres import SAMPLES

DOCUMENTED = json.loads((SAMPLES / "store-2.json").read_text())


def changed(**changes: Any) -> str:
    return json.dumps({**DOCUMENTED, **changes})


def with_item(**changes: Any) -> str:
    return changed(items=[DOCUMENTED["items"][0], {**DOCUMENTED["items"][1], **changes}])


def test_the_documented_body_comes_back_as_it_was() -> None:
    assert DOCUMENTED == to_document(read_catalog(json.dumps(DOCUMENTED)))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "The file cannot be read: it is empty."),
        ("{", "The file cannot be read: it is not JSON (EOF while parsing an object at line 1 column 1)."),
        ("[" * 100000, "The file cannot be read: it is nested more than 32 levels deep."),
        ("[]", "The file cannot be read: it is not a JSON object."),
        (
            '{"items":1,"items":2}',
            (
                'The file cannot be read: the key "items" occurs twice (line 1, column 20), '
                "and parsers disagree on which one counts."
            ),
        ),
        (changed(inventory_system_id=None), "The file: inventory_system_id must be a string, and is missing."),
        (changed(user_id_tps=30), "The file: user_id_tps must be a string."),
        (changed(units={}), "The file must have a list units."),
        (changed(suppliers=["x"]), "Supplier 1 must be an object."),
        (with_item(name=""), 'Item 2 ("item_abc456"): name must not be blank.'),
        (with_item(name=7), 'Item 2 ("item_abc456"): name must be a string.'),
        (with_item(external_id=None), "Item 2: external_id must be a string, and is missing."),
        (with_item(external_id="item_abc123"), 'Item "item_abc123" occurs more than once.'),
        (
            with_item(purchase_unit_external_id="pos_u9"),
            'Item 2 ("item_abc456"): purchase_unit_external_id "pos_u9" is not in the list units.',
        ),
        (
            with_item(supplier_external_id="0"),
            'Item 2 ("item_abc456"): supplier_external_id "0" is not in the list suppliers.',
        ),
        (with_item(cost=100), 'Item 2 ("item_abc456"): cost must be a string such as "12.50".'),
        (with_item(cost="-1"), 'Item 2 ("item_abc456"): cost must not be negative.'),
        (with_item(cost="1,5"), 'Item 2 ("item_abc456"): cost must be a number such as "1.25".'),
        (with_item(stock="NaN"), 'Item 2 ("item_abc456"): stock must be a number such as "1.25".'),
        (with_item(stock="1e15"), 'Item 2 ("item_abc456"): stock must be below 10^15.'),
    ],
)
def test_names_each_bad_entry(text: str, problem: str) -> None:
    with pytest.raises(CatalogRefused) as refused:
        read_catalog(text)

    assert problem in refused.value.problems


def test_names_every_problem_at_once() -> None:
    with pytest.raises(CatalogRefused) as refused:
        read_catalog(changed(user_id_tps="", items=[{}, {**DOCUMENTED["items"][0], "cost": "x", "stock": "y"}]))

    assert 1 + 7 + 2 == len(refused.value.problems)


def test_a_stock_may_be_negative() -> None:
    assert Decimal("-2.5") == read_catalog(with_item(stock="-2.5")).items[1].stock
