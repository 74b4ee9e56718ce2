"""The commands that work on the database, as an operator would type them."""

import json
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from app.cli.program import COMMANDS
from app.stock.csv_catalog import COLUMNS
from app.storage.migrations import head
from tests.conftest import new_world, running, settings_for
from tests.support.commands import Run, runner_for
from tests.support.mipos import SYSTEM
from tests.support.postgres import SAMPLES
from tests.support.sender import PATH, body_of, signed
from tests.support.world import World

DOCUMENTED = json.loads((SAMPLES / "store-2.json").read_text())


def added_to(store_id: str, count: int) -> str:
    """What the import into a new store says."""
    changes = f"added {count}, changed 0 (name 0, cost 0, unit 0, supplier 0), kept 0, brought back 0, retired 0."
    return f"New store {store_id}: {changes} Opened with the file's stock: {count}; all others keep their stock.\n"


def write(folder: Path, document: Any) -> str:
    path = folder / "catalog.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        *((name,) for name in COMMANDS),
        ("catalog", "import"),
        ("catalog", "export"),
        ("item", "list"),
        ("item", "set"),
        ("item", "retire"),
        ("item", "restore"),
        ("store", "list"),
        ("store", "set"),
        ("sandbox", "move"),
        ("duplicates", "list"),
        ("duplicates", "apply"),
        ("duplicates", "dismiss"),
        ("refused", "list"),
        ("refused", "show"),
        ("refused", "replay"),
        ("refused", "dismiss"),
    ],
    ids=" ".join,
)
async def test_every_command_has_help_with_an_example(run: Run, arguments: tuple[str, ...]) -> None:
    result = await run(*arguments, "--help")

    assert 0 == result.exit_code
    assert "\\b" not in result.output
    assert not arguments or "Example:" in result.output
    assert "..." not in result.output.partition("\nCommands:")[2]


async def test_an_import_makes_store_integration_items_and_opening_stock(world: World, run: Run, tmp_path: Path) -> None:
    result = await run("catalog", "import", "--store", "77", write(tmp_path, DOCUMENTED))

    assert added_to("77", 2) == result.output
    assert Decimal("11.22") == await world.level("item_abc123", "77")
    assert {} == await world.broken_invariants()
    listed = json.loads((await run("stock", "--store", "77", "--json")).output)
    assert [("item_abc123", "11.22", 1), ("item_abc456", "5.50", 1)] == [
        (row["item_id"], row["quantity"], row["version"]) for row in listed
    ]


async def test_csv_goes_out_and_comes_back(world: World, run: Run, tmp_path: Path) -> None:
    await world.execute("UPDATE pos_sync.item SET name = '=cmd|''calc''!A1' WHERE item_id = 'tom001'")
    folder = str(tmp_path / "exported")

    exported = await run("catalog", "export", "--store", "1", "--format", "csv", "--output", folder)
    (_, _, command) = exported.output.partition("pos-sync ")
    imported = await run(*command.replace("ID", "88", 1).split())

    assert added_to("88", 3) == imported.output
    assert "'=cmd" in (tmp_path / "exported" / "items.csv").read_text(encoding="utf-8")
    documents = [json.loads((await run("catalog", "export", "--store", store)).output) for store in ("1", "88")]
    assert documents[0] == documents[1]


async def test_csv_that_is_bad_is_named_and_imports_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("name\nx\n")
    (tmp_path / "units.csv").write_text("external_id;name;short_name;colour\nu1;;kg;red\n")
    arguments = ("catalog", "import", "--store", "88", str(tmp_path))
    lacking = await run(*arguments, "--system", "s", "--user", "30")
    (tmp_path / "suppliers.csv").write_text("external_id,name\n")

    result = await run(*arguments, "--system", "s", "--user", "30")

    assert 2 == lacking.exit_code
    assert "has no suppliers.csv" in lacking.output
    assert 2 == result.exit_code
    assert "and nothing was imported:\n  items.csv, line 1: the column external_id is missing.\n" in result.output
    assert 'units.csv, line 2 ("u1"): column name must not be blank.' in result.output
    assert 2 == (await run(*arguments)).exit_code
    assert 'There is no store "88".' in (await run("catalog", "export", "--store", "88")).output


async def test_columns_that_are_not_ours_are_said(run: Run, tmp_path: Path) -> None:
    await run("catalog", "export", "--store", "1", "--format", "csv", "--output", str(tmp_path))
    (tmp_path / "units.csv").write_text(
        "colour;external_id;name;short_name\nred;pos_kg;Kilogram;kg\nred;pos_box;Box;box\n", encoding="utf-8-sig"
    )

    result = await run("catalog", "import", "--store", "1", str(tmp_path), "--system", SYSTEM, "--user", "30")

    assert 0 == result.exit_code, result.output
    assert result.output.endswith("all others keep their stock.\nIgnored columns: units.csv: colour.\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("export", "--store", "1", "--format", "csv"),
        ("export", "--store", "1", "--output", "."),
        ("import", "--store", "1", "file.json", "--system", "s"),
        ("import", "--store", "1", "file.json", "--decimal-comma"),
        ("import", "--store", "1", "."),
        ("import", "--store", "1", "file.json", "--accept-unit-change", "--as-of", "2026-05-30T12:00:00Z"),
    ],
    ids=" ".join,
)
async def test_options_that_do_not_go_together_are_refused(run: Run, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "file.json").write_text("{}")

    assert 2 == (await run("catalog", *arguments)).exit_code


def tables(folder: Path, items: str, **changes: str) -> tuple[str, ...]:
    """A folder of tables, and the options of its import."""
    for name, table in {
        "items": f"{';'.join(COLUMNS['items'])}\n{items}",
        "units": "external_id,name,short_name\nu1,Unit,u\n",
        "suppliers": "external_id,name\ns1,Farm\n",
        **changes,
    }.items():
        (folder / f"{name}.csv").write_text(table, encoding="utf-8")
    return "catalog", "import", "--store", "88", str(folder), "--system", "s", "--user", "30"


async def test_a_price_list_with_decimal_commas_is_imported_once_the_option_is_given(
    world: World, run: Run, tmp_path: Path
) -> None:
    arguments = tables(tmp_path, "x3;X;u1;u1;s1;1250,50;11,22\n")

    refused, imported = await run(*arguments), await run(*arguments, "--decimal-comma")

    assert (2, 0) == (refused.exit_code, imported.exit_code)
    assert 'column cost is "1250,50", with a decimal comma. Write 1250.50, or import with --decimal-comma.' in refused.output
    assert Decimal("11.22") == await world.level("x3", "88")
    (item,) = json.loads((await run("catalog", "export", "--store", "88")).output)["items"]
    assert ("1250.50", "11.22") == (item["cost"], item["stock"])


async def test_of_a_file_full_of_faults_the_first_20_are_printed(world: World, run: Run, tmp_path: Path) -> None:
    items = [{**DOCUMENTED["items"][0], "external_id": f"i{number}", "cost": "?"} for number in range(1000)]

    result = await run("catalog", "import", "--store", "88", write(tmp_path, {**DOCUMENTED, "items": items}))

    assert 2 == result.exit_code
    assert 1 + 20 + 1 == len(result.output.splitlines())
    assert 'Item 20 ("i19")' in result.output
    assert result.output.endswith("\n  ... and 980 more.\n")
    assert await world.level("i0", "88") is None


async def test_two_ids_that_look_alike_are_imported_with_a_warning(world: World, run: Run, tmp_path: Path) -> None:
    result = await run(*tables(tmp_path, "Abc1;X;u1;u1;s1;1;5\nabc1;Y;u1;u1;s1;1;6\n"))

    assert 0 == result.exit_code, result.output
    assert added_to("88", 2) == result.stdout
    assert 'Check these:\n  The items "Abc1" and "abc1" look alike, and are 2 items.\n' == result.stderr
    assert (Decimal(5), Decimal(6)) == (await world.level("Abc1", "88"), await world.level("abc1", "88"))


async def test_a_till_that_exports_floats_numbers_and_a_byte_order_mark_is_imported(
    world: World, run: Run, tmp_path: Path
) -> None:
    items = [{**DOCUMENTED["items"][0], "external_id": 12345, "cost": 12.5, "stock": 12.139999999999999}]
    path = tmp_path / "catalog.json"
    path.write_text(json.dumps({**DOCUMENTED, "items": items}), encoding="utf-8-sig")

    result = await run("catalog", "import", "--store", "88", str(path))

    assert 0 == result.exit_code, result.output
    assert Decimal("12.14") == await world.level("12345", "88")


async def test_the_longest_ids_fit_into_every_index(world: World, run: Run, tmp_path: Path) -> None:
    # Random, since Postgres compresses what repeats itself.
    shuffled = random.Random(7)
    item_id, system_id, store_id = ("".join(chr(shuffled.randrange(0x1F300, 0x1F5FF)) for _ in range(128)) for _ in range(3))
    document = {
        **DOCUMENTED,
        "inventory_system_id": system_id,
        "items": [{**DOCUMENTED["items"][0], "external_id": item_id}],
    }
    await run("catalog", "import", "--store", store_id, write(tmp_path, document))
    await run("store", "set", store_id, "--connect", system_id[::-1], "31")

    sold = await run("movement", "--store", store_id, "--item", item_id, "--sale", "+.5")

    assert 0 == sold.exit_code, sold.output
    assert Decimal("10.72") == await world.level(item_id, store_id)
    assert {} == await world.broken_invariants()


async def test_a_second_import_changes_names_and_no_stock_that_has_moved(world: World, run: Run, tmp_path: Path) -> None:
    sample = json.loads((SAMPLES / "store-1.json").read_text())
    async with running(settings_for(world)) as (_, client):
        body = body_of()
        await client.post(PATH, content=body, headers=signed(body))
    sample["items"][0] |= {"name": "Chicken, free range", "stock": "99", "cost": "7.10"}
    sample["items"].append({**sample["items"][1], "external_id": "new", "stock": "-1.5"})

    result = await run("catalog", "import", "--store", "1", write(tmp_path, sample))

    changes = "added 1, changed 1 (name 1, cost 1, unit 0, supplier 0), kept 2, brought back 0, retired 0."
    assert f"Store 1: {changes} Opened with the file's stock: 1; all others keep their stock.\n" == result.output
    assert Decimal("12.44") == await world.level()
    assert Decimal("-1.5") == await world.level("new")
    assert "Chicken, free range" in (await run("stock", "--item", "avcc123")).output
    assert {} == await world.broken_invariants()


async def test_a_bad_file_is_refused_whole_with_each_bad_item_named(world: World, run: Run, tmp_path: Path) -> None:
    bad = {**DOCUMENTED, "items": [*DOCUMENTED["items"], {**DOCUMENTED["items"][0], "cost": "x"}, {"name": "?"}]}

    result = await run("catalog", "import", "--store", "78", write(tmp_path, bad))

    assert 2 == result.exit_code
    assert 'Item 3 ("item_abc123"): cost must be a number such as "1.25".' in result.output
    assert 'Item 3 ("item_abc123"): external_id occurs more than once, first in item 1.' in result.output
    assert "Item 4: external_id must be a string, and is missing." in result.output
    assert "nothing was imported" in result.output
    assert await world.level("item_abc123", "78") is None


async def test_a_negative_opening_that_the_store_refuses_is_named(world: World, run: Run, tmp_path: Path) -> None:
    await run("store", "set", "1", "--negative-stock", "refuse")
    document = json.loads((SAMPLES / "store-1.json").read_text())
    document["items"].append({**document["items"][0], "external_id": "new", "stock": "-1.5"})

    result = await run("catalog", "import", "--store", "1", write(tmp_path, document))

    assert 2 == result.exit_code
    assert "below zero" in result.output
    assert await world.level("new") is None


async def test_a_catalogue_from_a_pipe_may_begin_with_a_byte_order_mark(world: World, run: Run) -> None:
    piped = await run("catalog", "import", "--store", "88", "-", input=json.dumps(DOCUMENTED).encode("utf-8-sig"))

    assert 0 == piped.exit_code, piped.output
    assert Decimal("11.22") == await world.level("item_abc123", "88")


@pytest.mark.parametrize("store_id", ["", " ", "a\x00b", "x" * 256, "1 ", "\u00a01", "1\u200b", "🍅" * 129])
async def test_a_store_id_has_to_be_usable(run: Run, tmp_path: Path, store_id: str) -> None:
    result = await run("catalog", "import", "--store", store_id, write(tmp_path, DOCUMENTED))

    assert 2 == result.exit_code
    assert "--store" in result.output


async def test_a_file_that_is_not_text_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_bytes(b"\xff\xfe")

    result = await run("catalog", "import", "--store", "1", str(tmp_path / "bad.json"))

    assert 2 == result.exit_code
    assert "is not UTF-8 (it looks like UTF-16). Save it as UTF-8: " in result.output


async def test_an_export_is_what_an_import_takes(run: Run, tmp_path: Path) -> None:
    exported = await run("catalog", "export", "--store", "2")
    assert DOCUMENTED == json.loads(exported.output)

    written = await run("catalog", "export", "--store", "1", "--output", str(tmp_path / "out.json"))
    assert "Wrote 3 items" in written.output
    again = await run("catalog", "import", "--store", "1", str(tmp_path / "out.json"))
    assert "added 0, changed 0 (name 0, cost 0, unit 0, supplier 0), kept 3," in again.output


async def test_an_export_names_what_has_to_be_said(run: Run) -> None:
    unknown = await run("catalog", "export", "--store", "99")
    await run("store", "set", "1", "--connect", "another-system", "31")
    which = await run("catalog", "export", "--store", "1")
    named = await run("catalog", "export", "--store", "1", "--system", "another-system")

    assert (1, 1, 0) == (unknown.exit_code, which.exit_code, named.exit_code)
    assert 'There is no store "99". `pos-sync store list` shows all.' in unknown.output
    assert "another-system" in which.output
    assert ("another-system", "31") == tuple(json.loads(named.output)[k] for k in ("inventory_system_id", "user_id_tps"))


async def test_store_set_changes_what_is_named_and_nothing_else(run: Run) -> None:
    system = "4344be8c-c6b9-4c51-88a6-d620144ab406"
    await run("store", "set", "1", "--name", "Centro", "--mipos-id", "m-17", "--timezone", "America/Guayaquil")
    result = await run("store", "set", "1", "--negative-stock", "refuse", "--disable", system)

    listed = (await run("store", "list")).output
    assert "Store 1 is set.\n" == result.output
    assert all(part in listed for part in ("Centro", "m-17", "America/Guayaquil", "refuse", f"{system} (user 30, disabled)"))

    await run("store", "set", "1", "--negative-stock", "default", "--enable", system)
    listed = (await run("store", "list")).output
    assert "default" in listed
    assert "America/Guayaquil" in listed
    assert f"{system} (user 30, enabled)" in listed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("1",), "Nothing to set"),
        (("99", "--name", "x"), 'There is no store "99"'),
        (("1", "--timezone", "Mars"), "not a timezone"),
        (("1", "--repeated-dates", "nobody", "apply"), 'not connected to "nobody"'),
        (("1", "--repeated-dates", SYSTEM, "perhaps"), "suspect"),
        (("1", "--negative-stock", "perhaps"), "refuse"),
        (("1", "--enable", "nobody"), 'not connected to "nobody"'),
        (("1", "--name", " "), "must not be blank"),
        (("1", "--name", "Caf\ufffd"), "holds U+FFFD"),
        (("1", "--mipos-id", "17 "), "has a blank at its end (U+0020)"),
        (("1", "--connect", "s", " 30"), "has a blank at its start (U+0020)"),
        (("1", "--connect", "s\u200b", "30"), "holds the invisible character U+200B"),
    ],
)
async def test_store_set_says_what_is_wrong(run: Run, arguments: tuple[str, ...], said: str) -> None:
    result = await run("store", "set", *arguments)

    assert 0 != result.exit_code
    assert said in result.output


async def test_stock_shows_what_is_below_zero(world: World, run: Run) -> None:
    async with running(settings_for(world)) as (_, client):
        body = body_of(quantity="20")
        await client.post(PATH, content=body, headers=signed(body))

    line = next(line for line in (await run("stock")).output.splitlines() if "avcc123" in line)
    assert "-6.31" in line
    assert "below zero" in line
    assert 1 == (await run("stock", "--store", "99")).exit_code


async def test_migrate_brings_the_schema_to_head_and_grants(
    empty_world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = runner_for(empty_world.owner_url, monkeypatch, tmp_path)

    first = await run("migrate", "--grant-to", "pos_sync")
    second = await run("migrate")
    nobody = await run("migrate", "--grant-to", "no-such-role")

    assert f"The schema is at revision {head()}.\n" == first.output == second.output
    assert 1 == nobody.exit_code
    assert 'role "no-such-role" does not exist' in nobody.output
    assert "No stores yet" in (await run("store", "list")).output


async def test_migrate_says_what_it_does_not_know(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    await world.execute("UPDATE alembic_version SET version_num = '9999', compatible_from = '9998'")
    newer = await runner_for(world.owner_url, monkeypatch, tmp_path)("migrate")

    assert 1 == newer.exit_code
    assert "9999" in newer.output


async def test_migrate_refuses_a_database_that_cannot_hold_every_character(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with new_world(template="template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'") as latin:
        result = await runner_for(latin.owner_url, monkeypatch, tmp_path)("migrate")

    assert 1 == result.exit_code
    assert "encoded as LATIN1" in result.output


async def test_without_a_schema_a_command_says_what_to_run(
    empty_world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result = await runner_for(empty_world.owner_url, monkeypatch, tmp_path)("stock")

    assert 1 == result.exit_code
    assert "Run: pos-sync migrate" in result.output


async def test_without_a_database_a_command_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    result = await runner_for("postgresql://me:hunter2@127.0.0.1:1/nothing", monkeypatch, tmp_path)("stock")

    assert 1 == result.exit_code
    assert "The database cannot be reached (127.0.0.1:1: connection refused). Check DATABASE_URL." in result.output
    assert "hunter2" not in result.output


async def test_an_import_does_not_wait_for_ever_for_a_level_that_is_held(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.storage.transactions.BUSY_SECONDS", 0.5)
    async with world.engine.connect() as holder:
        await holder.execute(text("SELECT FROM pos_sync.stock_level WHERE store_id = '1' AND item_id = 'avcc123' FOR UPDATE"))
        result = await run("catalog", "import", "--store", "1", str(SAMPLES / "store-1.json"))

    assert 1 == result.exit_code
    assert "Another session has held a row" in result.output
