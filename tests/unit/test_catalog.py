import json
from decimal import Decimal
from typing import Any

import pytest

from app.catalog_body import read_catalog
from app.stock.catalog import CatalogRefused, look_alikes, to_document
from app.stock.quantity import to_plain
from tests.support.postgres import SAMPLES

DOCUMENTED = json.loads((SAMPLES / "store-2.json").read_text())


def changed(**changes: Any) -> str:
    return json.dumps({**DOCUMENTED, **changes})


def with_item(**changes: Any) -> str:
    """The documented body with a changed second item."""
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
        (changed(user_id_tps=3.5), "The file: user_id_tps must be text or a whole number."),
        (changed(user_id_tps="30 "), 'The file: user_id_tps "30 " has a blank at its end (U+0020).'),
        (changed(inventory_system_id="s\u00a0"), 'The file: inventory_system_id "s<U+00A0>" has a blank at its end (U+00A0).'),
        (changed(units={}), "The file must have a list units."),
        (changed(suppliers=["x"]), "Supplier 1 must be an object."),
        (with_item(name=""), 'Item 2 ("item_abc456"): name must not be blank.'),
        (with_item(name=7), 'Item 2 ("item_abc456"): name must be a string.'),
        (with_item(external_id=None), "Item 2: external_id must be a string, and is missing."),
        (
            with_item(external_id="item_abc123"),
            'Item 2 ("item_abc123"): external_id occurs more than once, first in item 1.',
        ),
        (
            changed(suppliers=[*DOCUMENTED["suppliers"], {"external_id": 7, "name": "A"}, {"external_id": "7", "name": "B"}]),
            'Supplier 3 ("7"): external_id occurs more than once, first in supplier 2.',
        ),
        (
            with_item(name="Caf\ufffd"),
            (
                'Item 2 ("item_abc456"): name holds U+FFFD, which stands for a character that was lost in a wrong encoding: '
                "take the text from its source again."
            ),
        ),
        (with_item(name="Two\nLines"), 'Item 2 ("item_abc456"): name holds the control character U+000A.'),
        (
            with_item(purchase_unit_external_id="pos_u9"),
            'Item 2 ("item_abc456"): purchase_unit_external_id "pos_u9" is not in the list units.',
        ),
        (
            with_item(supplier_external_id="0"),
            'Item 2 ("item_abc456"): supplier_external_id "0" is not in the list suppliers.',
        ),
        (
            with_item(supplier_external_id=None),
            'Item 2 ("item_abc456"): supplier_external_id must be a string, and is missing: mipOS takes no item without it.',
        ),
        (
            with_item(supplier_external_id="7.70205E+12"),
            (
                'Item 2 ("item_abc456"): supplier_external_id "7.70205E+12" is in scientific notation: a spreadsheet has made '
                "a number of the id, and may have lost digits of it. Format the column as text, fill it again, and export again."
            ),
        ),
        (with_item(cost=None), 'Item 2 ("item_abc456"): cost must be a number such as "12.50", and is missing.'),
        (with_item(cost=True), 'Item 2 ("item_abc456"): cost must be a number such as "1.25".'),
        (with_item(cost=-1), 'Item 2 ("item_abc456"): cost must not be negative.'),
        (with_item(stock=1e15), 'Item 2 ("item_abc456"): stock must be below 10^15.'),
        (with_item(cost="-1"), 'Item 2 ("item_abc456"): cost must not be negative.'),
        (with_item(cost="1,5"), 'Item 2 ("item_abc456"): cost is "1,5", with a decimal comma. Write 1.5.'),
        (with_item(cost="$1.5"), 'Item 2 ("item_abc456"): cost is "$1.5", with a currency sign. Write 1.5.'),
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


@pytest.mark.parametrize(
    ("external_id", "problem"),
    [
        (1.5, "external_id must be text or a whole number."),
        (1e3, "external_id must be text or a whole number."),
        (True, "external_id must be text or a whole number."),
        ([], "external_id must be text or a whole number."),
        ("7.70205E+12", "external_id is in scientific notation"),
        ('="00123"', "external_id is a formula"),
        ("'00124", "external_id begins with the apostrophe"),
        ("#N/A", "external_id is the error of a formula"),
        ("NULL", "external_id stands for a value that is missing"),
        ("SKU\u200b7", "external_id holds the invisible character U+200B"),
        ("🍅" * 129, "external_id is longer than 512 bytes"),
    ],
    ids=ascii,
)
def test_what_is_no_id_of_an_item_is_refused(external_id: Any, problem: str) -> None:
    with pytest.raises(CatalogRefused) as refused:
        read_catalog(with_item(external_id=external_id))

    assert problem in refused.value.problems[0]


def test_a_shop_that_numbers_its_items_is_imported_with_the_numbers_as_text() -> None:
    units = [{**unit, "external_id": number} for number, unit in enumerate(DOCUMENTED["units"], 1)]
    item = {
        **DOCUMENTED["items"][0],
        "external_id": 12345,
        "purchase_unit_external_id": "1",
        "consumption_unit_external_id": 2,
        "cost": 12.5,
        "stock": 3,
    }
    catalog = read_catalog(changed(items=[item], units=units, user_id_tps=30))

    assert ("12345", "1", "2") == (
        catalog.items[0].item_id,
        catalog.items[0].purchase_unit_id,
        catalog.items[0].consumption_unit_id,
    )
    assert ("12.5", "3", "30") == (str(catalog.items[0].cost), str(catalog.items[0].stock), catalog.user_id_tps)
    assert ["1", "2"] == [unit.unit_id for unit in catalog.units]


@pytest.mark.parametrize(
    ("literal", "expected"),
    [
        ("1234567890123.12345678901234", "1234567890123.12345678901234"),
        ("12.50", "12.50"),
        ("1e3", "1000"),
        ("-0", "0"),
        ("12.139999999999999", "12.14"),
        ('"12.139999999999999"', "12.14"),
        ('".5"', "0.5"),
    ],
)
def test_a_number_of_the_stock_keeps_its_digits_and_loses_the_noise_of_floats(literal: str, expected: str) -> None:
    item = read_catalog(with_item(stock="@").replace('"@"', literal)).items[1]

    assert expected == to_plain(item.stock)


@pytest.mark.parametrize("document", [changed(), with_item(stock=-0.5)], ids=["documented", "changed"])
def test_a_file_of_windows_is_read_with_its_byte_order_mark(document: str) -> None:
    assert read_catalog(document) == read_catalog(document.encode("utf-8-sig")) == read_catalog(f"\ufeff{document}")


@pytest.mark.parametrize(
    ("encoding", "problem"),
    [
        ("utf-16", "it is not UTF-8 (it looks like UTF-16). Save it as UTF-8: "),
        ("utf-16-le", "it is not UTF-8 (it looks like UTF-16). Save it as UTF-8: "),
        ("utf-16-be", "it is not UTF-8 (it looks like UTF-16). Save it as UTF-8: "),
        ("utf-32", "it is not UTF-8 (it looks like UTF-32). Save it as UTF-8: "),
        ("cp1252", "it is not UTF-8 (it looks like Latin-1/Windows-1252) in line 1. Save it as UTF-8: "),
    ],
)
def test_a_file_in_another_encoding_is_refused_with_the_encoding_and_the_way_out(encoding: str, problem: str) -> None:
    document = json.dumps({**DOCUMENTED, "extra": "Café"}, ensure_ascii=False)

    with pytest.raises(CatalogRefused) as refused:
        read_catalog(document.encode(encoding))

    (found,) = refused.value.problems
    assert found.startswith(f"The file cannot be read: {problem}")


@pytest.mark.parametrize(
    ("key", "document"),
    [
        ("items", changed()[:-1] + ', "items": []}'),
        ("stock", with_item().replace('"stock"', '"stock": "99", "stock"', 1)),
        ("name", changed().replace('"short_name"', '"n\\u0061me": "x", "short_name"', 1)),
        ("deep", changed(extra=[{"a": {"b": "@"}}]).replace('"@"', '{"deep": 1, "x": {}, "deep": 1}')),
    ],
)
def test_a_key_that_stands_twice_at_any_depth_is_named_with_its_place(key: str, document: str) -> None:
    with pytest.raises(CatalogRefused) as refused:
        read_catalog(document)

    (found,) = refused.value.problems
    assert f'the key "{key}" occurs twice (line 1, column ' in found


def test_ids_that_look_alike_are_imported_and_said() -> None:
    twins = ["Ab1", "aB1", "caf\u00e9", "cafe\u0301", "STRASSE", "straße", "Ab1 b", "12345"]
    items = [{**DOCUMENTED["items"][0], "external_id": one} for one in twins]
    suppliers = [*DOCUMENTED["suppliers"], *({"external_id": one, "name": one} for one in ("S-1", "s-1", "S-2"))]

    catalog = read_catalog(changed(items=items, suppliers=suppliers))

    assert twins == [item.item_id for item in catalog.items]
    assert [
        'The items "Ab1" and "aB1" look alike, and are 2 items.',
        'The items "caf\u00e9" and "cafe\u0301" look alike, and are 2 items.',
        'The items "STRASSE" and "straße" look alike, and are 2 items.',
        'The suppliers "S-1" and "s-1" look alike, and are 2 suppliers.',
    ] == look_alikes(catalog)
    assert [] == look_alikes(read_catalog(changed()))


def test_a_stock_may_be_negative() -> None:
    assert Decimal("-2.5") == read_catalog(with_item(stock="-2.5")).items[1].stock
