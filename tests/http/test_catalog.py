"""A store's catalog over its life: each store its own, items that come, change, go and come back, a second inventory system."""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from click.testing import Result
from sqlalchemy import text

from tests.support.catalogs import UNITS, catalog, item
from tests.support.commands import Run
from tests.support.mipos import SYSTEM
from tests.support.sender import PATH, body_of, signed
from tests.support.world import World

SYSTEM_2 = "3d40a24e-d570-4598-ae68-e20687edd1f9"
Import = Callable[..., Awaitable[Result]]


@pytest.fixture
def imports(run: Run) -> Import:
    """Imports a file into a store, and expects that it is taken."""

    async def work(store_id: str, content: bytes, *options: str, status: int = 0) -> Result:
        result = await run("catalog", "import", "--store", store_id, "-", *options, input=content)
        assert status == result.exit_code, result.output
        return result

    return work


async def exported(run: Run, store_id: str) -> dict[str, Any]:
    result = await run("catalog", "export", "--store", store_id)
    assert 0 == result.exit_code, result.output
    document: dict[str, Any] = json.loads(result.output)
    return document


async def items_of(run: Run, store_id: str, *options: str) -> dict[str, dict[str, Any]]:
    result = await run("item", "list", "--store", store_id, "--json", *options)
    return {one["item_id"]: one for one in json.loads(result.output)}


async def deliver(client: httpx2.AsyncClient, **changes: Any) -> httpx2.Response:
    body = body_of(**changes)
    return await client.post(PATH, content=body, headers=signed(body))


FLOUR = catalog(
    item("SKU7", stock="100", unit="u1", bought_in="u1", name="Flour", cost="2.50"),
    units={"u1": ("Kilogram", "kg")},
    suppliers={"s1": "Mill North"},
)
OIL = catalog(
    item("SKU7", stock="5", unit="u1", bought_in="u1", name="Olive oil", cost="9.90"),
    system="other-system",
    units={"u1": ("Litre", "l")},
    suppliers={"s1": "Oil South"},
)


async def test_two_stores_use_one_id_for_two_things_and_each_keeps_its_own(run: Run, imports: Import) -> None:
    await imports("a", FLOUR)
    await imports("b", OIL)
    again = await imports("a", FLOUR)

    assert json.loads(FLOUR) == await exported(run, "a")
    assert json.loads(OIL) == await exported(run, "b")
    assert "added 0, changed 0 (name 0, cost 0, unit 0, supplier 0), kept 1," in again.output


async def test_a_change_in_one_store_reaches_no_other(run: Run, imports: Import) -> None:
    await imports("a", FLOUR)
    await imports("b", FLOUR)
    renamed = FLOUR.replace(b"Mill North", b"Mill East").replace(b"Flour", b"Wheat flour").replace(b"2.50", b"2.60")
    result = await imports("b", renamed)
    await run("item", "set", "--store", "b", "SKU7", "--cost", "3")

    assert "changed 1 (name 1, cost 1, unit 0, supplier 1), kept 0" in result.output
    assert json.loads(FLOUR) == await exported(run, "a")
    assert {"name": "Mill East", "external_id": "s1"} in (await exported(run, "b"))["suppliers"]


async def test_an_item_that_only_other_stores_have_is_copied_by_its_first_delivery_and_starts_at_0(
    world: World, run: Run, client: httpx2.AsyncClient
) -> None:
    answer = await deliver(client, store_id="2", inventory_system_id=SYSTEM_2)

    assert 204 == answer.status_code, answer.text
    assert Decimal("-1.25") == await world.level("avcc123", "2")
    assert "never imported here: definition of store 1" in (await run("stock", "--store", "2")).output
    copied, original = (await items_of(run, "2"))["avcc123"], (await items_of(run, "1"))["avcc123"]
    assert {**original, "copied_from": "1"} == copied
    assert {} == await world.broken_invariants()


async def test_a_sale_copies_an_item_too_and_both_stores_go_on_by_themselves(world: World, run: Run) -> None:
    sold = await run("movement", "--store", "2", "--item", "tom001", "--sale", "2")

    assert 0 == sold.exit_code, sold.output
    assert (Decimal(-2), Decimal("22.5")) == (await world.level("tom001", "2"), await world.level("tom001"))
    await run("item", "set", "--store", "1", "tom001", "--name", "Tomatoes, ripe")
    assert "Tomatoes, ripe" not in {one["name"] for one in (await items_of(run, "2")).values()}


async def test_the_import_after_a_first_delivery_opens_the_level(
    world: World, run: Run, client: httpx2.AsyncClient, imports: Import
) -> None:
    await deliver(client, store_id="2", inventory_system_id=SYSTEM_2)
    document = await exported(run, "1")
    document["items"] = [{**one, "stock": "12.5"} for one in document["items"] if one["external_id"] == "avcc123"]
    result = await imports("2", json.dumps({**document, "inventory_system_id": SYSTEM_2}).encode())
    again = await imports("2", json.dumps({**document, "inventory_system_id": SYSTEM_2}).encode())

    assert "Opened with the file's stock: 1;" in result.output
    assert "Opened with the file's stock: 0;" in again.output
    assert Decimal("12.5") == await world.level("avcc123", "2")
    assert (await items_of(run, "2"))["avcc123"]["copied_from"] is None
    assert {} == await world.broken_invariants()


async def test_stock_that_was_counted_before_a_sale_is_less_by_the_sale(world: World, run: Run, imports: Import) -> None:
    now = datetime.now(UTC)
    for number, (hours, sold) in enumerate([(3, "1"), (1, "2")]):
        at = (now - timedelta(hours=hours)).isoformat()
        await run("movement", "--store", "2", "--item", "avcc123", "--sale", sold, "--at", at, "--key", f"k{number}")
    document = await exported(run, "1")
    document["inventory_system_id"] = SYSTEM_2
    counted_at = (now - timedelta(hours=2)).isoformat()

    await imports("2", json.dumps(document).encode(), "--as-of", counted_at)
    tomorrow = await imports("9", json.dumps(document).encode(), "--as-of", (now + timedelta(days=1)).isoformat(), status=2)

    assert Decimal("11.69") == await world.level("avcc123", "2")
    assert "lies in the future" in tomorrow.output
    assert "has no item" not in (await run("item", "list", "--store", "9")).output


async def test_a_refused_first_movement_leaves_neither_level_nor_item(world: World, run: Run, client: httpx2.AsyncClient) -> None:
    await run("store", "set", "2", "--negative-stock", "refuse")
    await world.execute("INSERT INTO pos_sync.unit VALUES ('1', 'box', 'Box', 'bx'), ('2', 'crate', 'Crate', 'cr')")
    await world.execute("INSERT INTO pos_sync.supplier VALUES ('1', 'mill', 'Mill')")
    await world.execute("UPDATE pos_sync.item SET purchase_unit_id = 'box', supplier_id = 'mill' WHERE store_id = '1'")
    before = await world.units_and_suppliers("2")
    delivered = await deliver(client, store_id="2", inventory_system_id=SYSTEM_2)
    sold = await run("movement", "--store", "2", "--item", "tom001", "--sale", "2")

    assert (409, 1) == (delivered.status_code, sold.exit_code)
    assert await world.level("avcc123", "2") is None
    assert {"item_abc123", "item_abc456"} == (await items_of(run, "2")).keys()
    assert before == await world.units_and_suppliers("2")


async def test_an_item_on_whose_unit_the_other_stores_do_not_agree_is_not_copied(
    world: World, run: Run, client: httpx2.AsyncClient, imports: Import
) -> None:
    await imports("a", FLOUR)
    await imports("b", OIL)

    answer = await deliver(client, external_id="SKU7")
    sold = await run("movement", "--store", "1", "--item", "SKU7", "--sale", "1")

    assert 409 == answer.status_code
    assert "do not agree on its unit" in answer.text
    assert (1, True) == (sold.exit_code, "do not agree on its unit" in sold.output)
    assert ["unit_unclear"] == [row.reason for row in await world.refused()]
    assert "SKU7" not in await items_of(run, "1")


@pytest.mark.parametrize(
    ("names", "is_copied"),
    [(("Kilogram", "kg"), True), (("KILOGRAM", "Kg"), True), (("Litre", "l"), False), (("Kilogram", "kilo"), False)],
    ids=["same", "case", "another", "short name"],
)
async def test_a_unit_that_is_something_else_in_the_store_keeps_an_item_from_being_copied(
    run: Run, imports: Import, names: tuple[str, str], *, is_copied: bool
) -> None:
    await imports("a", FLOUR)
    await imports("c", catalog(item("x", unit="u1", bought_in="u1"), units={"u1": names}))

    sold = await run("movement", "--store", "c", "--item", "SKU7", "--sale", "1")

    assert is_copied == (sold.exit_code == 0), sold.output
    assert is_copied == ("SKU7" in await items_of(run, "c"))


async def test_an_item_that_the_file_lacks_is_retired_only_where_that_is_asked(
    world: World, run: Run, client: httpx2.AsyncClient, imports: Import
) -> None:
    await imports("9", catalog(item("keep"), item("gone")))
    one_left = catalog(item("keep"))
    unasked = await imports("9", one_left)
    tried = await imports("9", one_left, "--retire-missing", "--dry-run")
    before = (await items_of(run, "9", "--retired")).keys()
    done = await imports("9", one_left, "--retire-missing")

    changes = "added 0, changed 0 (name 0, cost 0, unit 0, supplier 0), kept 1, brought back 0, retired"
    assert f"{changes} 0." in unasked.output
    assert f"Nothing was changed. It would be: Store 9: {changes} 1. Opened" in tried.output
    assert set() == before
    assert f"Store 9: {changes} 1. Opened" in done.output
    assert ["keep"] == [one["external_id"] for one in (await exported(run, "9"))["items"]]
    assert {"gone"} == (await items_of(run, "9", "--retired")).keys()

    taken = await deliver(client, store_id="9", external_id="gone")
    sold = await run("movement", "--store", "9", "--item", "gone", "--sale", "1")
    assert (204, 0) == (taken.status_code, sold.exit_code)
    assert Decimal("7.75") == await world.level("gone", "9")
    assert "retired" in (await run("stock", "--store", "9", "--item", "gone")).output


async def test_an_item_comes_back_by_the_next_file_that_has_it_with_its_own_stock(
    world: World, run: Run, imports: Import
) -> None:
    both = catalog(item("keep"), item("gone", stock="99"))
    await imports("9", catalog(item("keep"), item("gone")))
    await imports("9", catalog(item("keep")), "--retire-missing")
    result = await imports("9", both)

    assert "kept 1, brought back 1, retired 0. Opened with the file's stock: 0;" in result.output
    assert Decimal(10) == await world.level("gone", "9")
    assert {} == await items_of(run, "9", "--retired")


async def test_a_dry_run_of_a_new_store_makes_none(run: Run, imports: Import) -> None:
    result = await imports("9", FLOUR, "--dry-run")

    assert result.output.startswith("Nothing was changed. It would be: New store 9: added 1, ")
    assert 'There is no store "9"' in (await run("item", "list", "--store", "9")).output


async def test_items_are_retired_and_restored_by_name_all_or_none(world: World, run: Run) -> None:
    unknown = await run("item", "retire", "--store", "1", "avcc123", "nope")
    kept = await items_of(run, "1", "--retired")
    first = await run("item", "retire", "--store", "1", "avcc123", "tom001")
    again = await run("item", "retire", "--store", "1", "avcc123", "saf001")
    back = await run("item", "restore", "--store", "1", "avcc123", "saf001", "tom001")
    nowhere = await run("item", "restore", "--store", "99", "avcc123")

    assert (1, {}) == (unknown.exit_code, kept)
    assert 'Store 1 has no item "nope"; nothing was changed. `pos-sync item list --store 1` shows all.' in unknown.output
    assert "Retired: 2.\n" == first.output
    assert "Retired: 1. 1 were retired already.\n" == again.output
    assert "Brought back: 3.\n" == back.output
    assert 'There is no store "99"' in nowhere.output
    assert Decimal("13.69") == await world.level()


async def test_one_item_is_changed_without_a_file(run: Run) -> None:
    before = await items_of(run, "1")
    result = await run(
        "item", "set", "--store", "1", "avcc123", "--name", "Chicken", "--cost", "7.10", "--supplier", "pos_sup_market",
        "--purchase-unit", "pos_kg",
    )  # fmt: skip
    after = await items_of(run, "1")

    assert "Item avcc123 of store 1 is set.\n" == result.output
    changed = {"name": "Chicken", "cost": "7.10", "supplier_id": "pos_sup_market", "purchase_unit_id": "pos_kg"}
    assert {**before, "avcc123": {**before["avcc123"], **changed}} == after


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("avcc123",), "Nothing to set"),
        (("nope", "--name", "x"), 'Store 1 has no item "nope"; nothing was changed. `pos-sync item list --store 1` shows all.'),
        (("avcc123", "--supplier", "s9"), 'no supplier "s9"; nothing was changed. It has: pos_sup_market, pos_sup_poultry.'),
        (("avcc123", "--purchase-unit", "t"), 'no unit "t"; nothing was changed. It has: pos_box, pos_kg.'),
        (("avcc123", "--cost", "-1"), "must not be negative"),
        (("avcc123", "--name", " "), "must not be blank"),
        (
            ("avcc123", "--unit", "pos_box"),
            "unit changed from pos_kg (Kilogram, kg) to pos_box (Box, box), and the store has 13.69",
        ),
    ],
)
async def test_what_is_wrong_with_a_change_is_said_and_nothing_is_changed(
    run: Run, arguments: tuple[str, ...], said: str
) -> None:
    before = await items_of(run, "1")
    result = await run("item", "set", "--store", "1", *arguments)

    assert 0 != result.exit_code
    assert said in result.output
    assert before == await items_of(run, "1")


async def test_a_second_inventory_system_is_connected_only_where_that_is_said(world: World, run: Run, imports: Import) -> None:
    await imports("9", catalog(item("keep")))
    new = catalog(item("keep"), item("more"), system="brand-new-system")
    refused = await imports("9", new, status=2)
    mistaken = await imports("9", new, "--connect", "brand-new", status=2)
    before = await items_of(run, "9")
    done = await imports("9", new, "--connect", "brand-new-system")
    again = await imports("9", new)

    assert (
        f'  The file belongs to the inventory system "brand-new-system", and store "9" is connected to "{SYSTEM}" only. '
        "If it has both, add --connect brand-new-system."
    ) in refused.output
    assert '--connect names "brand-new", and the file belongs to "brand-new-system".' in mistaken.output
    assert {"keep"} == before.keys()
    assert "Connected to brand-new-system, with user_id_tps 30.\n" in done.output
    assert "Connected" not in again.output
    assert "brand-new-system (user 30, enabled)" in (await run("store", "list")).output
    assert {} == await world.broken_invariants()


async def test_a_folder_names_its_second_system_twice(run: Run, imports: Import, tmp_path: Any) -> None:
    await imports("9", catalog(item("keep")))
    await run("catalog", "export", "--store", "9", "--format", "csv", "--output", str(tmp_path))
    folder = ("catalog", "import", "--store", "9", str(tmp_path), "--system", "typo", "--user", "30")

    refused, done = await run(*folder), await run(*folder, "--connect", "typo")

    assert (2, 0) == (refused.exit_code, done.exit_code)
    assert "correct the file, or --system" in refused.output


async def test_a_new_user_of_a_known_system_is_taken_and_told(run: Run, imports: Import) -> None:
    await imports("9", catalog(item("keep")))
    tried = await imports("9", catalog(item("keep"), user="31"), "--dry-run")
    done = await imports("9", catalog(item("keep"), user="31"))
    again = await imports("9", catalog(item("keep"), user="31"))

    assert f"The user_id_tps of {SYSTEM}: 30 before, 31 after.\n" in tried.output
    assert f"The user_id_tps of {SYSTEM}: 30 before, 31 after.\n" in done.output
    assert "user_id_tps" not in again.output
    assert f"{SYSTEM} (user 31, enabled)" in (await run("store", "list")).output


async def test_a_store_follows_the_rule_for_its_time_zone_until_it_has_its_own(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMEZONE", "America/Lima")
    default = (await run("store", "list")).output
    await run("store", "set", "1", "--timezone", "America/Guayaquil")
    own = (await run("store", "list")).output
    await run("store", "set", "1", "--timezone", "default")

    assert 2 == default.count("America/Lima (default)")
    assert (1, 1) == (own.count("America/Lima (default)"), own.count("America/Guayaquil"))
    assert default == (await run("store", "list")).output


async def test_a_time_zone_that_postgres_does_not_know_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.cli.store.known_timezones", lambda: {"UTC", "Mars/Olympus"})
    result = await run("store", "set", "1", "--timezone", "Mars/Olympus")

    assert 1 == result.exit_code
    assert "Postgres does not know the time zone Mars/Olympus; nothing was set." in result.output


async def test_what_becomes_of_repeated_dates_is_set_for_each_system(world: World, run: Run) -> None:
    await run("store", "set", "1", "--repeated-dates", SYSTEM, "apply")
    listed = (await run("store", "list")).output
    await run("store", "set", "1", "--repeated-dates", SYSTEM, "suspect")
    async with world.engine.connect() as connection:
        kept = set(await connection.scalars(text("SELECT repeated_dates FROM pos_sync.integration")))

    assert f"{SYSTEM} (user 30, enabled, repeated dates: apply)" in listed
    assert {"suspect"} == kept
    assert "repeated dates" not in (await run("store", "list")).output


async def test_a_purchase_unit_may_change_while_there_is_stock(run: Run, imports: Import) -> None:
    await imports("9", catalog(item("saff")))
    result = await imports("9", catalog(item("saff", bought_in="box"), units=UNITS))

    assert "changed 1 (name 0, cost 0, unit 1, supplier 0)" in result.output
    assert "wait" not in result.output
    assert "box" == (await items_of(run, "9"))["saff"]["purchase_unit_id"]
