"""A unit changes under stock: refused, or a count in the new unit, which only the next full synchronisation tells."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from click.testing import Result
from sqlalchemy import text

from app.mipos.client import MiposClient
from app.mipos.sync import Order, synchronise
from app.mipos.wiring import tokens_of
from app.storage import items, syncs
from app.storage.catalog import Integration
from app.storage.syncs import SyncPair
from tests.conftest import running, settings_for
from tests.support.catalogs import UNITS, catalog, item
from tests.support.commands import Run
from tests.support.mipos import SYSTEM, Remote, mipos
from tests.support.outbox import OTHER, messages, settled, until, updates
from tests.support.world import World

Import = Callable[..., Awaitable[Result]]
KG = catalog(item("saff", stock="12.5"), item("salt"))
G = catalog(item("saff", stock="12500", unit="g"), item("salt"))
TONNE = {**UNITS, "kg": ("Tonne", "t")}


@pytest.fixture
async def imports(run: Run) -> Import:
    """Imports a file into store 1, and expects this exit status."""

    async def work(content: bytes, *options: str, status: int = 0) -> Result:
        result = await run("catalog", "import", "--store", "1", "-", "--actor", "ana", *options, input=content)
        assert status == result.exit_code, result.output
        return result

    return work


async def held(world: World) -> list[tuple[str, str]]:
    async with world.engine.connect() as connection:
        query = text("SELECT inventory_system_id, item_id FROM pos_sync.system_level WHERE is_held ORDER BY 1, 2")
        return [(system, item) for system, item in await connection.execute(query)]


async def unit_of(run: Run, item_id: str) -> str:
    listed = json.loads((await run("item", "list", "--store", "1", "--json")).output)
    return next(one["unit_id"] for one in listed if one["item_id"] == item_id)


async def sell(run: Run, item_id: str, quantity: str, *options: str) -> None:
    result = await run("movement", "--store", "1", "--item", item_id, "--sale", quantity, *options)
    assert 0 == result.exit_code, result.output


@pytest.fixture
async def remote(world: World) -> AsyncIterator[Remote]:
    await world.execute("UPDATE pos_sync.store SET mipos_store_id = store_id")
    async with mipos() as it:
        it.platform.systems[SYSTEM].stock["saff"] = "12.5"
        yield it


async def synchronise_store(world: World, remote: Remote) -> str:
    settings = settings_for(world, **remote.settings())
    async with MiposClient(remote.url, sync_seconds=5) as client:
        done = await synchronise(world.engine, client, tokens_of(settings, world.engine, client), Order("1", actor="ana"))
    return done.state.value


async def test_a_file_in_another_unit_is_refused_by_item_while_there_is_stock(world: World, run: Run, imports: Import) -> None:
    await imports(KG)
    result = await imports(G, status=2)

    assert (
        'Item "saff": unit changed from kg (Kilogram, kg) to g (Gram, g), and the store has 12.5 in the old one. '
        "If the file's stock is what there is now, in the new unit, add --accept-unit-change."
    ) in result.output
    assert "--same-unit" not in result.output
    assert "salt" not in result.output
    assert ("kg", Decimal("12.5")) == (await unit_of(run, "saff"), await world.level("saff"))
    assert [] == await held(world)


async def test_accepted_the_stock_of_the_file_is_a_count_in_the_new_unit_that_is_told_nowhere(
    world: World, run: Run, imports: Import
) -> None:
    await imports(KG)
    result = await imports(G, "--accept-unit-change")

    assert "changed 1 (name 0, cost 0, unit 1, supplier 0), kept 1," in result.output
    assert "Opened with the file's stock: 0, counted in a new unit: 1; all others keep their stock.\n" in result.output
    assert "Items whose unit changed: 1. Stock updates about them wait for a full synchronisation: pos-sync sync --store 1\n" in (
        result.output
    )
    assert ("g", Decimal(12500)) == (await unit_of(run, "saff"), await world.level("saff"))
    (row,) = await world.ledger("saff")
    assert ("unit_change", "ana", "unit changed from kg (Kilogram, kg) to g (Gram, g)", Decimal(12500), None) == (
        row.source,
        row.actor,
        row.note,
        row.counted,
        row.dedupe_key,
    )
    assert [] == await messages(world)
    assert [(SYSTEM, "saff")] == await held(world)
    assert {} == await world.broken_invariants()


async def test_a_dry_run_says_the_same_and_changes_nothing(world: World, run: Run, imports: Import) -> None:
    await imports(KG)
    refused = await imports(G, "--dry-run", status=2)
    accepted = await imports(G, "--dry-run", "--accept-unit-change")

    assert "add --accept-unit-change" in refused.output
    assert "counted in a new unit: 1" in accepted.output
    assert ("kg", Decimal("12.5"), []) == (await unit_of(run, "saff"), await world.level("saff"), await held(world))


async def test_without_stock_the_unit_may_change_and_the_item_waits_all_the_same(world: World, run: Run, imports: Import) -> None:
    await imports(catalog(item("saff", stock="0")))
    result = await imports(catalog(item("saff", stock="0", unit="g")))

    assert "Opened with the file's stock: 0; all others" in result.output
    assert "Items whose unit changed: 1." in result.output
    assert "g" == await unit_of(run, "saff")
    assert [(SYSTEM, "saff")] == await held(world)
    # The boundary in time: what happened before it is in the old unit.
    assert [("unit_change", Decimal(0))] == [(row.source, row.counted) for row in await world.ledger("saff")]


async def test_a_level_below_zero_is_stock_too(world: World, run: Run, imports: Import) -> None:
    await imports(catalog(item("saff", stock="0")))
    await sell(run, "saff", "1")
    await imports(catalog(item("saff", stock="0", unit="g")), status=2)
    await imports(catalog(item("saff", stock="0", unit="g")), "--accept-unit-change")

    assert Decimal(0) == await world.level("saff")


async def test_an_item_that_was_never_stocked_is_opened_in_its_new_unit(world: World, run: Run, imports: Import) -> None:
    await imports(KG)
    await world.execute(
        "INSERT INTO pos_sync.item (store_id, item_id, name, purchase_unit_id, consumption_unit_id, supplier_id, cost)"
        " VALUES ('1', 'new', 'New', 'kg', 'kg', 's1', 1)"
    )
    result = await imports(catalog(item("new", stock="5", unit="g")))

    assert "Opened with the file's stock: 1; all others" in result.output
    assert ([], "g", Decimal(5)) == (await held(world), await unit_of(run, "new"), await world.level("new"))


async def test_a_unit_that_is_renamed_under_its_id_is_another_unit_of_every_item_that_uses_it(
    world: World, imports: Import
) -> None:
    await imports(catalog(item("saff", stock="12.5"), item("salt"), item("gone", stock="1"), item("empty", stock="0")))
    renamed = catalog(item("saff", stock="0.0125"), item("salt", stock="0.01"), units=TONNE)
    refused = await imports(renamed, status=2)
    accepted = await imports(renamed, "--accept-unit-change", "--retire-missing", status=2)

    changed = "unit changed from kg (Kilogram, kg) to kg (Tonne, t), and the store has"
    assert f'Item "saff": {changed} 12.5 in the old one. If the file\'s stock is' in refused.output
    assert f'Item "salt": {changed} 10 in the old one.' in refused.output
    assert f'Item "gone": {changed} 1 in the old one. The file lacks this item' in refused.output
    assert "If the unit was only renamed, add --same-unit kg." in refused.output
    assert "empty" not in refused.output
    # Nobody says its stock in the new unit, whatever is accepted.
    assert ('Item "gone"' in accepted.output, "saff" in accepted.output) == (True, False)
    assert Decimal("12.5") == await world.level("saff")


async def test_a_renamed_unit_counts_the_items_of_the_file_and_holds_those_without_stock(world: World, imports: Import) -> None:
    await imports(catalog(item("saff", stock="12.5"), item("empty", stock="0")))
    await imports(catalog(item("saff", stock="0.0125"), units=TONNE), "--accept-unit-change")

    assert (Decimal("0.0125"), Decimal(0)) == (await world.level("saff"), await world.level("empty"))
    assert [(SYSTEM, "empty"), (SYSTEM, "saff")] == await held(world)


@pytest.mark.parametrize(
    ("names", "options"),
    [(("KILOGRAM", "Kg"), ()), (("Kilo", "kg"), ("--same-unit", "kg")), (("Kilogram", "kilo"), ("--same-unit", "kg"))],
    ids=["case", "name", "short name"],
)
async def test_a_unit_that_is_only_written_differently_changes_no_stock_and_holds_nothing(
    world: World, imports: Import, names: tuple[str, str], options: tuple[str, ...]
) -> None:
    await imports(KG)
    result = await imports(catalog(item("saff"), units={**UNITS, "kg": names}), *options)

    assert "changed 1 (name 0, cost 0, unit 1, supplier 0)" in result.output
    assert Decimal("12.5") == await world.level("saff")
    assert [] == await held(world)


async def test_the_option_for_a_renamed_unit_is_for_that_unit_alone(world: World, imports: Import) -> None:
    await imports(KG)
    unknown = await imports(KG, "--same-unit", "kilo", status=2)
    other = await imports(catalog(item("saff"), units=TONNE), "--same-unit", "g", status=2)
    moved = await imports(G, "--same-unit", "g", "--same-unit", "kg", status=2)

    assert '--same-unit names "kilo", which is no unit of the file.' in unknown.output
    assert 'Item "saff"' in other.output
    assert 'Item "saff"' in moved.output
    assert Decimal("12.5") == await world.level("saff")


async def test_messages_wait_for_a_full_synchronisation_and_go_on_after_it(
    world: World, run: Run, imports: Import, remote: Remote
) -> None:
    await imports(KG)
    await sell(run, "saff", "0.5")
    await imports(G, "--accept-unit-change")
    await sell(run, "saff", "100")
    await sell(run, "salt", "1")
    async with running(settings_for(world, **remote.settings())):

        async def is_other_item_told() -> bool:
            return bool(updates(remote))

        await until(is_other_item_told)
    waiting = await run("outbox", "list")
    before = [one["external_id"] for one in updates(remote)]
    remote.fail("sync", status=409, body='{"message": ["Not now."], "data": null}')
    refused = await synchronise_store(world, remote)
    still = await held(world)
    done = await synchronise_store(world, remote)
    await sell(run, "saff", "150")
    async with running(settings_for(world, **remote.settings())):
        await settled(world)

    assert ["salt"] == before
    assert 2 == waiting.output.count("the unit was changed: run pos-sync sync first")
    assert ("refused", [(SYSTEM, "saff")], "done") == (refused, still, done)
    assert [] == await held(world)
    assert [(Decimal(150), Decimal(12250))] == [
        (Decimal(one["quantity"]), Decimal(one["current_stock"])) for one in updates(remote) if one["external_id"] == "saff"
    ]
    assert Decimal(12250) == Decimal(remote.platform.systems[SYSTEM].stock["saff"])


async def test_drift_is_not_known_until_a_full_synchronisation_has_told_the_new_unit(
    world: World, run: Run, imports: Import, remote: Remote
) -> None:
    async def drift() -> Any:
        result = await run("drift", "--store", "1", "--item", "saff", "--all", "--json")
        return [one["drift"] for one in json.loads(result.output)]

    await imports(KG)
    await synchronise_store(world, remote)
    before = await drift()
    await imports(G, "--accept-unit-change")
    meanwhile = await drift()
    await synchronise_store(world, remote)

    assert (["0"], [None], ["0"]) == (before, meanwhile, await drift())


async def test_every_system_of_the_store_waits_and_each_for_its_own_synchronisation(
    world: World, run: Run, imports: Import, remote: Remote
) -> None:
    await imports(KG)
    await run("store", "set", "1", "--connect", OTHER, "31", "--disable", OTHER)
    await imports(G, "--accept-unit-change")
    await synchronise_store(world, remote)

    assert [(OTHER, "saff")] == await held(world)


async def test_a_synchronisation_that_began_before_the_change_does_not_end_the_waiting(world: World, imports: Import) -> None:
    pair = SyncPair("1", SYSTEM)
    await imports(KG)
    in_kilograms = await syncs.read_snapshot(world.engine, "1", Integration(SYSTEM, "30", enabled=True))
    await imports(G, "--accept-unit-change")
    in_grams = await syncs.read_snapshot(world.engine, "1", Integration(SYSTEM, "30", enabled=True))
    found = []
    for snapshot in (in_kilograms, in_grams):
        async with world.engine.begin() as connection:
            await syncs.anchor(connection, pair, snapshot)
        found.append(await held(world))
    await imports(KG, "--accept-unit-change")
    await imports(G, "--accept-unit-change")
    async with world.engine.begin() as connection:
        # The unit is that of the snapshot again, and the count since then is not in it.
        await syncs.anchor(connection, pair, in_grams)

    assert [[(SYSTEM, "saff")], []] == found
    assert [(SYSTEM, "saff")] == await held(world)


async def test_a_sale_of_before_the_change_that_arrives_after_it_does_not_move_the_level(
    world: World, run: Run, imports: Import
) -> None:
    await imports(KG, "--as-of", (datetime.now(UTC) - timedelta(hours=2)).isoformat())
    await imports(G, "--accept-unit-change")
    await sell(run, "saff", "0.5", "--at", (datetime.now(UTC) - timedelta(hours=1)).isoformat())

    assert Decimal(12500) == await world.level("saff")
    assert {} == await world.broken_invariants()


async def test_a_retired_item_keeps_its_unit_while_it_has_stock(world: World, run: Run, imports: Import) -> None:
    await imports(KG)
    await run("item", "retire", "--store", "1", "saff")
    refused = await imports(G, status=2)
    renamed = await imports(catalog(item("salt", stock="0.01"), units=TONNE), "--accept-unit-change", status=2)

    assert 'Item "saff"' in refused.output
    assert 'Item "saff"' in renamed.output
    assert Decimal("12.5") == await world.level("saff")


async def test_one_item_gets_another_unit_by_command_only_while_it_has_no_stock(world: World, run: Run, imports: Import) -> None:
    await imports(catalog(item("saff", stock="12.5"), item("empty", stock="0")))
    refused = await run("item", "set", "--store", "1", "saff", "--unit", "g")
    done = await run("item", "set", "--store", "1", "empty", "--unit", "g")

    assert (1, 0) == (refused.exit_code, done.exit_code), done.output
    assert "pos-sync catalog import --store 1 FILE --accept-unit-change" in refused.output
    assert "Stock updates about it wait for a full synchronisation: pos-sync sync --store 1" in done.output
    assert ("kg", "g") == (await unit_of(run, "saff"), await unit_of(run, "empty"))
    assert [(SYSTEM, "empty")] == await held(world)


@pytest.mark.parametrize("by_command", [True, False])
async def test_what_happened_before_a_change_of_unit_without_stock_does_not_come_back_in_the_new_unit(
    world: World, run: Run, imports: Import, *, by_command: bool
) -> None:
    before = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
    await imports(catalog(item("saff", stock="2"), item("salt")))
    await sell(run, "saff", "2")
    if by_command:
        assert 0 == (await run("item", "set", "--store", "1", "saff", "--unit", "g", "--actor", "ana")).exit_code
    else:
        await imports(catalog(item("saff", stock="0", unit="g"), item("salt")))
    await sell(run, "saff", "1", "--at", before)
    reversed_row = await run("reverse", "--store", "1", "--item", "saff", "--row", "2", "--note", "never sold")
    of_unit = await run("reverse", "--store", "1", "--item", "saff", "--row", "3", "--note", "wrong unit")

    assert 0 == reversed_row.exit_code, reversed_row.output
    assert Decimal(0) == await world.level("saff")
    assert "a change of unit, which cannot be reversed" in of_unit.output


async def test_two_imports_of_one_store_come_one_after_the_other(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.storage.transactions.BUSY_SECONDS", 0.5)
    async with world.engine.begin() as connection:
        await items.lock_store(connection, "1")
        busy = await run("catalog", "import", "--store", "1", "-", input=KG)
        sold = await run("movement", "--store", "1", "--item", "avcc123", "--sale", "1")
        first = await run("movement", "--store", "1", "--item", "item_abc123", "--sale", "1")

    assert "Another session has held a row" in busy.output
    assert (0, 0) == (sold.exit_code, first.exit_code)
