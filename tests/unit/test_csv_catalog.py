import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.catalog_body import check_for_sync, read_catalog, read_tables
from app.stock.catalog import Catalog, CatalogRefused, Item, Supplier, Unit, to_document
from app.stock.csv_catalog import CsvCatalog, to_tables
from app.stock.damage import damage_in
from app.stock.text import fault_in, fault_in_id
from tests.support.postgres import SAMPLES

ITEMS = "external_id,name,purchase_unit_external_id,consumption_unit_external_id,supplier_external_id,cost,stock"
UNITS = "external_id,name,short_name\nu1,Kilogram,kg\n"
SUPPLIERS = "external_id,name\ns1,Farm\n"
GOOD = f"{ITEMS}\ni1,Tomato,u1,u1,s1,1.15,22.5\n"


def read(
    items: str | bytes = GOOD, units: str | bytes = UNITS, suppliers: str | bytes = SUPPLIERS, *, decimal_comma: bool = False
) -> CsvCatalog:
    texts = {"items": items, "units": units, "suppliers": suppliers}
    files = {name: text.encode() if isinstance(text, str) else text for name, text in texts.items()}
    return read_tables(files, inventory_system_id="system", user_id_tps="30", decimal_comma=decimal_comma)


def with_id(external_id: str) -> str:
    """The good items with another id, quoted as CSV wants it."""
    quoted = external_id.replace('"', '""')
    return GOOD.replace("i1", f'"{quoted}"')


def problems_of(**files: Any) -> list[str]:
    with pytest.raises(CatalogRefused) as refused:
        read(**files)
    return list(refused.value.problems)


def test_three_tables_are_one_catalogue() -> None:
    expected = Catalog(
        "system",
        "30",
        (Item("i1", "Tomato", "u1", "u1", "s1", Decimal("1.15"), Decimal("22.5")),),
        (Unit("u1", "Kilogram", "kg"),),
        (Supplier("s1", "Farm"),),
    )

    assert CsvCatalog(expected, []) == read()


@pytest.mark.parametrize(
    "items",
    [
        "\ufeff" + GOOD,
        GOOD.replace(",", ";"),
        GOOD.replace(",", "\t"),
        GOOD.replace(",", "\t").replace("Tomato", '"Tomato"'),
        f"sep=,\n{GOOD}",
        "\ufeffsep=;\r\n" + GOOD.replace(",", ";").replace("\n", "\r\n"),
        "SEP=\t\n" + GOOD.replace(",", "\t"),
        '"sep=;",,,\r' + GOOD.replace(",", ";").replace("\n", "\r"),
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("\n", "\r"),
        GOOD.rstrip("\n"),
        GOOD + "\n\n,,,,,,\n",
        GOOD.replace("Tomato", '"Tomato"').replace("1.15", " 1.15 "),
        GOOD.replace(",", '","').replace("\n", '"\n"').rstrip('"').join(['"', ""]),
        GOOD.replace(ITEMS, ITEMS.upper()),
        GOOD.replace(ITEMS, ITEMS.replace("external_id", "External_ID").replace("name", "\u00a0Name ")),
        GOOD.replace("22.5", "22.5,"),
        GOOD.replace("stock\n", "stock,,,\n"),
        GOOD.replace("stock\n", "stock,, \n").replace("22.5\n", "22.5, ,\n"),
        GOOD.replace("name,", "name,,").replace("Tomato,", "Tomato,,"),
    ],
    ids=[
        "mark",
        "semicolon",
        "tab",
        "tab and quotes",
        "separator named",
        "separator named after a mark",
        "tab named",
        "separator named in a quoted row",
        "CRLF",
        "CR",
        "no last line end",
        "blank rows",
        "quotes and spaces",
        "all quoted",
        "header in capitals",
        "header with capitals and blanks",
        "delimiter at the end of a row",
        "delimiters at the end of the header",
        "delimiters at every end",
        "an empty column between others",
    ],
)
def test_what_spreadsheets_make_of_it_is_read_alike(items: str) -> None:
    assert read() == read(items=items)


def test_the_order_of_columns_is_free_and_others_are_ignored() -> None:
    suppliers = "phone, name ,external_id,\n555,Farm,s1,\n"

    found = read(suppliers=suppliers)

    assert (Supplier("s1", "Farm"),) == found.catalog.suppliers
    assert ["suppliers.csv: phone"] == found.ignored


def test_a_price_list_of_latin_america_is_imported_with_its_decimal_commas() -> None:
    items = GOOD.replace(",", ";").replace("1.15", "1250,50").replace("22.5", "11,22")

    (item,) = read(items=items, decimal_comma=True).catalog.items

    assert ("1250.50", "11.22") == (str(item.cost), str(item.stock))


@pytest.mark.parametrize(
    ("stock", "expected"), [("1,250", "1.250"), ("-0,5", "-0.5"), (",5", "0.5"), ("7", "7"), ("1,5E+3", "1500")]
)
def test_with_decimal_commas_every_comma_is_one(stock: str, expected: str) -> None:
    (item,) = read(items=GOOD.replace("1.15,22.5", f'1,"{stock}"'), decimal_comma=True).catalog.items

    assert expected == str(item.stock)


def test_a_quoted_text_may_hold_the_separator_and_quotes() -> None:
    assert 'Farm, "old"; Sons' == read(suppliers='external_id,name\ns1,"Farm, ""old""; Sons"\n').catalog.suppliers[0].name


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        (
            {"items": b"external_id\n\xff"},
            'items.csv, line 2: is not UTF-8 (it looks like Latin-1/Windows-1252). Save it as "CSV UTF-8".',
        ),
        (
            {"items": GOOD.replace("Tomato", "Café").encode("cp1252")},
            'items.csv, line 2: is not UTF-8 (it looks like Latin-1/Windows-1252). Save it as "CSV UTF-8".',
        ),
        ({"items": GOOD.encode("utf-16")}, 'items.csv: is not UTF-8 (it looks like UTF-16). Save it as "CSV UTF-8".'),
        ({"items": GOOD.encode("utf-16-be")}, 'items.csv: is not UTF-8 (it looks like UTF-16). Save it as "CSV UTF-8".'),
        ({"units": UNITS.encode("utf-32")}, 'units.csv: is not UTF-8 (it looks like UTF-32). Save it as "CSV UTF-8".'),
        (
            {"units": "external_id,name,short_name\nu1,Kilogram,ké".encode()[:-1]},
            'units.csv, line 2: is not UTF-8 (it ends within a character). Save it as "CSV UTF-8".',
        ),
        (
            {"items": "sep=|\n" + GOOD.replace(",", "|")},
            'items.csv, line 1: names the separator "|". Save it with commas, semicolons or tabs.',
        ),
        (
            {"items": GOOD.replace("stock\n", "stock,\n").replace("22.5", "22.5,7")},
            'items.csv, line 2: has "7" in column 8, which has no name in the header. Name the column, or empty it.',
        ),
        (
            {"items": GOOD.replace("name,", "name,,").replace("Tomato,", "Tomato,red,")},
            'items.csv, line 2: has "red" in column 3, which has no name in the header. Name the column, or empty it.',
        ),
        (
            {"units": "External_ID,name,EXTERNAL_ID,short_name\n"},
            "units.csv, line 1: the column external_id is there more than once.",
        ),
        ({"units": ""}, "units.csv: is empty. Its first line must name the columns: external_id,name,short_name."),
        ({"units": "external_id,name\nu1,Kilogram\n"}, "units.csv, line 1: the column short_name is missing."),
        ({"suppliers": "external_id,name,name\n"}, "suppliers.csv, line 1: the column name is there more than once."),
        (
            {"items": GOOD.replace("Tomato", "Tomato, red")},
            "items.csv, line 2: has 8 cells, and the header has 7. A text that holds the separator must be in quotes.",
        ),
        (
            {"items": GOOD.replace("Tomato", '"Tomato')},
            "items.csv, line 2: cannot be read as CSV (unexpected end of data). Nothing after it was looked at.",
        ),
        ({"items": GOOD.replace("Tomato", "")}, 'items.csv, line 2 ("i1"): column name must not be blank.'),
        ({"items": GOOD.replace("i1", "")}, "items.csv, line 2: is a row without its external_id, perhaps a total."),
        (
            {"items": GOOD.replace("i1,Tomato,u1,u1,s1", "Total,,,,")},
            (
                'items.csv, line 2 ("Total"): is a row without its purchase_unit_external_id, consumption_unit_external_id, '
                "supplier_external_id, perhaps a total. Fill it in, or delete the row."
            ),
        ),
        (
            {"items": GOOD.replace("i1,Tomato,u1,u1,s1", "\u00a0,Total,,,")},
            (
                "items.csv, line 2: is a row without its external_id, purchase_unit_external_id, consumption_unit_external_id, "
                "supplier_external_id, perhaps a total."
            ),
        ),
        ({"suppliers": SUPPLIERS + ",1 supplier\n"}, "suppliers.csv, line 3: is a row without its external_id, perhaps a total."),
        (
            {"items": GOOD.replace("u1,s1", ",s1")},
            'items.csv, line 2 ("i1"): column consumption_unit_external_id must not be blank.',
        ),
        ({"items": GOOD.replace("1.15", "-1")}, 'items.csv, line 2 ("i1"): column cost must not be negative.'),
        ({"items": GOOD.replace("22.5", "much")}, 'items.csv, line 2 ("i1"): column stock must be a number such as "1.25".'),
        (
            {"items": GOOD.replace("22.5", '"22,5"')},
            'items.csv, line 2 ("i1"): column stock is "22,5", with a decimal comma. Write 22.5, or import with --decimal-comma.',
        ),
        (
            {"items": GOOD.replace("1.15", '"1,250"')},
            'column cost is "1,250", which can mean 1250 or 1.250. Write the one that is meant, or import with --decimal-comma.',
        ),
        ({"items": GOOD.replace("1.15", "$12.50")}, 'column cost is "$12.50", with a currency sign. Write 12.50.'),
        ({"items": GOOD.replace("1.15", '"1,250.00"')}, 'column cost is "1,250.00", with a thousands separator. Write 1250.00.'),
        (
            {"items": GOOD.replace("1.15,22.5", '"1.250,00",1'), "decimal_comma": True},
            'column cost is "1.250,00", with a thousands separator. Write 1250,00.',
        ),
        (
            {"items": GOOD.replace("1.15,", '"1,15",'), "decimal_comma": True},
            'column stock is "22.5", with a decimal point, and --decimal-comma was given. Write 22,5.',
        ),
        (
            {"items": GOOD.replace("1.15,22.5", "1,1.250"), "decimal_comma": True},
            'column stock is "1.250", which can mean 1250 or 1,250. Write the one that is meant.',
        ),
        (
            {"items": GOOD.replace("1.15,22.5", "1,x"), "decimal_comma": True},
            'column stock must be a number such as "1,25".',
        ),
        ({"items": GOOD.replace("s1", "s9")}, 'column supplier_external_id "s9" is not in the list suppliers.'),
        (
            {"items": GOOD + GOOD.splitlines()[1]},
            'items.csv, line 3 ("i1"): column external_id occurs more than once, first in line 2.',
        ),
        ({"items": GOOD.replace("s1", "s1 ")}, 'column supplier_external_id "s1 " has a blank at its end (U+0020).'),
        (
            {"items": GOOD.replace("Tomato", '"Tom\nato"')},
            'items.csv, line 2 ("i1"): column name holds the control character U+000A.',
        ),
        (
            {"items": GOOD.replace("Tomato", '"Tom\tato"')},
            'items.csv, line 2 ("i1"): column name holds the control character U+0009.',
        ),
        ({"items": GOOD.replace("Tomato", "Caf\ufffd")}, 'items.csv, line 2 ("i1"): column name holds U+FFFD'),
        (
            {"units": UNITS.replace("kg", "k\x00g")},
            'units.csv, line 2 ("u1"): column short_name holds the control character U+0000.',
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_named_by_file_line_and_column(files: dict[str, Any], problem: str) -> None:
    (found,) = problems_of(**files)

    assert problem in found


@pytest.mark.parametrize(
    ("external_id", "problem"),
    [
        ("7.70205E+12", '("7.70205E+12"): column external_id is in scientific notation: a spreadsheet has made a number'),
        ("7,70205E+12", '("7,70205E+12"): column external_id is in scientific notation: a spreadsheet has made a number'),
        ('="00123"', "column external_id is a formula by which a spreadsheet keeps a text. Write 00123 alone."),
        ("'00124", "column external_id begins with the apostrophe by which a spreadsheet marks a text. Write 00124 alone."),
        ("#N/A", "column external_id is the error of a formula in a spreadsheet."),
        ("NULL", "column external_id stands for a value that is missing."),
        ("caf\ufffd1", "column external_id holds U+FFFD, which stands for a character that was lost in a wrong encoding"),
        ("SKU123 ", '("SKU123 "): column external_id has a blank at its end (U+0020).'),
        (" SKU9", '(" SKU9"): column external_id has a blank at its start (U+0020).'),
        ("SKU\u00a07", '("SKU<U+00A0>7"): column external_id holds the blank U+00A0.'),
        ("SKU\u200b7", '("SKU<U+200B>7"): column external_id holds the invisible character U+200B.'),
    ],
)
def test_an_id_that_a_spreadsheet_has_damaged_is_refused_with_the_likely_cause(external_id: str, problem: str) -> None:
    (found,) = problems_of(items=with_id(external_id))

    assert found.startswith("items.csv, line 2 (")
    assert problem in found


def test_a_damaged_reference_is_shown_where_it_stands() -> None:
    damaged = "7.70205E+12"

    found = problems_of(suppliers=SUPPLIERS.replace("s1", damaged), items=GOOD.replace("s1", damaged))

    assert ["suppliers.csv, line 2", "items.csv, line 2"] == [problem[: problem.index(" (")] for problem in found]
    assert 'supplier_external_id "7.70205E+12" is in scientific notation' in found[1]


def test_the_lines_are_counted_with_the_one_that_names_the_separator() -> None:
    (found,) = problems_of(suppliers='sep=;\r\nexternal_id;name\r\n"s1";"Farm"\r\ns2;\r\n')

    assert 'suppliers.csv, line 4 ("s2"): column name must not be blank.' == found


def test_every_fault_of_all_files_is_named_at_once() -> None:
    items = f"{ITEMS}\ni1,Tomato,u1,u1,s1,x,y\ni2,,u9,u1,s1,1,1\nshort\n"

    found = problems_of(items=items, units="name\n", suppliers="external_id,name\ns1,\n")

    assert [
        "items.csv, line 4: has 1 cells, and the header has 7. A text that holds the separator must be in quotes.",
        "units.csv, line 1: the column external_id is missing.",
        "units.csv, line 1: the column short_name is missing.",
        'suppliers.csv, line 2 ("s1"): column name must not be blank.',
        'items.csv, line 2 ("i1"): column cost must be a number such as "1.25".',
        'items.csv, line 2 ("i1"): column stock must be a number such as "1.25".',
        'items.csv, line 3 ("i2"): column name must not be blank.',
    ] == found  # and not that u9 is no unit: of the units nothing could be read


def test_a_row_of_several_lines_is_named_by_its_first() -> None:
    (found,) = problems_of(suppliers='external_id,name\ns1,"Farm"\n\n"s2","a\nb"\ns3,Market\n')

    assert found.startswith('suppliers.csv, line 4 ("s2"): column name holds the control character U+000A.')


def test_the_options_are_held_against_the_rules_too() -> None:
    with pytest.raises(CatalogRefused, match=r"The options --system and --user: user_id_tps must not be blank\."):
        read_tables(
            {"items": GOOD.encode(), "units": UNITS.encode(), "suppliers": SUPPLIERS.encode()},
            inventory_system_id="system",
            user_id_tps=" ",
        )


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "'=x", "\uff1d1"])
def test_no_text_is_written_so_that_a_spreadsheet_runs_it(name: str) -> None:
    catalog = Catalog("s", "30", (), (), (Supplier("-id", name),))

    written = to_tables(catalog)["suppliers"]

    assert f"\r\n'-id,'{name}\r\n" in written


# Without what is refused anyway, so that little has to be filtered out.
letters = st.characters(exclude_categories=["Cc", "Cs", "Cn", "Co", "Zl", "Zp"])
texts = st.text(letters, min_size=1, max_size=12).filter(lambda text: fault_in(text, max_length=255) is None)
formulas = st.builds("{}{}".format, st.sampled_from(["'", "''", "", "=", "-", "'=", "''+", '",;', "\u202e", "<U+202E>"]), texts)
words = st.one_of(texts, formulas)
visible = st.text(st.characters(categories=["L", "M", "N", "P", "S"]), min_size=1, max_size=12)
ids = st.one_of(visible, visible, words).filter(lambda text: fault_in_id(text) is None and damage_in(text) is None)
numbers = st.decimals(min_value=0, max_value=10**14, places=5, allow_nan=False)


@st.composite
def catalogs(draw: st.DrawFn) -> Catalog:
    unit_ids = draw(st.lists(ids, min_size=1, max_size=3, unique=True))
    supplier_ids = draw(st.lists(ids, min_size=1, max_size=3, unique=True))
    items = tuple(
        Item(
            item_id,
            draw(words),
            draw(st.sampled_from(unit_ids)),
            draw(st.sampled_from(unit_ids)),
            draw(st.sampled_from(supplier_ids)),
            draw(numbers),
            draw(st.sampled_from([1, -1])) * draw(numbers),
        )
        for item_id in draw(st.lists(ids, max_size=3, unique=True))
    )
    units = tuple(Unit(unit_id, draw(words), draw(words)) for unit_id in unit_ids)
    return Catalog("system", "30", items, units, tuple(Supplier(it, draw(words)) for it in supplier_ids))


@given(catalogs())
@settings(deadline=None)
def test_what_is_exported_comes_back_exactly(catalog: Catalog) -> None:
    files = {name: table.encode() for name, table in to_tables(catalog).items()}
    back = read_tables(files, inventory_system_id="system", user_id_tps="30")

    assert ([], to_document(read_catalog_again(catalog))) == (back.ignored, to_document(back.catalog))


def read_catalog_again(catalog: Catalog) -> Catalog:
    """With numbers as any import reads them: -0 is 0."""
    return read_catalog(json.dumps(to_document(catalog)))


@pytest.mark.parametrize("sample", ["store-1.json", "store-2.json"])
def test_the_samples_come_back_and_can_be_sent(sample: str) -> None:
    catalog = read_catalog((SAMPLES / sample).read_text())
    files = {name: table.encode() for name, table in to_tables(catalog).items()}

    back = read_tables(files, inventory_system_id=catalog.inventory_system_id, user_id_tps=catalog.user_id_tps).catalog

    assert catalog == back
    assert to_document(catalog) == check_for_sync(back)
