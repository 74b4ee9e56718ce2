"""What the listing commands show, filter and refuse; each of them as JSON too."""

import csv
import io
import json
from typing import Any

import pytest

from tests.conftest import running, settings_for
from tests.support.commands import Run
from tests.support.mipos import SYSTEM
from tests.support.sender import PATH, SECRET, body_of, signed
from tests.support.world import World


async def listed(run: Run, *arguments: str) -> Any:
    result = await run(*arguments, "--json")
    assert 0 == result.exit_code, result.output
    return json.loads(result.output)


async def names(run: Run, *arguments: str) -> list[str]:
    return [row["item_id"] for row in await listed(run, "stock", "--store", "1", *arguments)]


async def test_stock_is_filtered_and_shown_with_its_unit(world: World, run: Run) -> None:
    await run("item", "set", "--store", "1", "avcc123", "--name", "100% Pollo_ASADO")
    await run("item", "set", "--store", "1", "tom001", "--low-stock", "30")
    await run("item", "set", "--store", "1", "saf001", "--low-stock", "0.001")
    await run("movement", "--store", "1", "--item", "avcc123", "--sale", "100")

    assert ["avcc123"] == await names(run, "--below-zero")
    assert ["tom001"] == await names(run, "--low")
    assert ["avcc123"] == await names(run, "--name", "% pollo_a")
    assert [] == await names(run, "--name", "x%")
    assert [] == await names(run, "--low", "--below-zero")
    shown = await run("stock", "--store", "1")
    assert "low: below 30" in shown.output
    assert "kg" in shown.output
    table = list(csv.DictReader(io.StringIO((await run("stock", "--store", "1", "--low", "--csv")).output)))
    assert [("tom001", "22.5", "kg", "30")] == [(row["item_id"], row["quantity"], row["unit"], row["low_stock"]) for row in table]
    assert "No such stock.\n" == (await run("stock", "--name", "nothing is called so")).output
    assert await world.broken_invariants() == {}


async def test_a_spreadsheet_runs_no_name_as_a_formula(world: World, run: Run) -> None:
    await world.execute("UPDATE pos_sync.item SET name = '=1+1' WHERE item_id = 'tom001'")

    assert ",'=1+1," in (await run("stock", "--store", "1", "--csv")).output


async def test_items_and_stores_show_what_can_be_set(run: Run) -> None:
    await run("item", "set", "--store", "1", "avcc123", "--low-stock", "2.5")
    await run("store", "set", "1", "--closed-until", "2999-01-02")

    (item,) = [row for row in await listed(run, "item", "list", "--store", "1") if row["item_id"] == "avcc123"]
    store = (await listed(run, "store", "list"))[0]

    assert "2.5" == item["low_stock"]
    assert "low below" in (await run("item", "list", "--store", "1")).output
    assert store["closed_until"].startswith("2999-01-02T00:00:00")
    assert SYSTEM in [one["inventory_system_id"] for one in store["integrations"]]
    assert "2999-01-02" in (await run("store", "list")).output
    await run("store", "set", "1", "--closed-until", "open")
    assert "2999-01-02" not in (await run("store", "list")).output


@pytest.mark.parametrize(
    "arguments",
    [
        ("stock",),
        ("drift",),
        ("outbox", "list"),
        ("refused", "list"),
        ("refused", "replay", "--all", "--yes"),
        ("duplicates", "list"),
        ("ledger", "--store", "1"),
        ("ledger", "--store", "1", "--follow"),
        ("reverse", "--store", "1", "--row", "1", "--note", "x"),
        ("reconcile", "--store", "1", "--to", "1", "--note", "x"),
        ("movement", "--store", "1", "--sale", "1"),
    ],
    ids=" ".join,
)
async def test_what_there_is_not_is_an_error_that_names_the_list(run: Run, arguments: tuple[str, ...]) -> None:
    no_item = await run(*arguments, "--item", "typo")
    no_store = await run(
        *arguments,
        "--store",
        "99",
        *(("--item", "avcc123") if "--row" in arguments or "--sale" in arguments or "--to" in arguments else ()),
    )

    assert (1, 1) == (no_item.exit_code, no_store.exit_code), no_item.output + no_store.output
    assert 'item "typo"' in no_item.output
    assert "`pos-sync item list --store" in no_item.output
    assert 'There is no store "99". `pos-sync store list` shows all.' in no_store.output


async def test_a_system_that_there_is_not_is_an_error_too(run: Run) -> None:
    for command in (("drift",), ("outbox", "list")):
        result = await run(*command, "--system", "typo")
        assert (1, "pos-sync store list" in result.output) == (result.exit_code, True)


async def test_what_was_refused_is_listed_though_nobody_has_such_an_item(world: World, run: Run) -> None:
    body = body_of(external_id="nobody's")
    async with running(settings_for(world)) as (_, client):
        await client.post(PATH, content=body, headers=signed(body))

    (kept,) = await listed(run, "refused", "list", "--item", "nobody's")
    await run("refused", "dismiss", str(kept["number"]), "--note", "x")

    assert "+00:00" in kept["last_seen_at"]
    assert "No such refused deliveries.\n" == (await run("refused", "list", "--item", "nobody's")).output
    unknown = await run("refused", "list", "--reason", "unknown_itme")
    assert 2 == unknown.exit_code
    assert "unknown_item" in unknown.output


async def test_messages_say_when_they_were_made_and_are_tried_next(run: Run) -> None:
    await run("movement", "--store", "1", "--item", "avcc123", "--sale", "1")
    await run("movement", "--store", "1", "--item", "tom001", "--sale", "1")

    shown = (await run("outbox", "list", "--item", "tom001")).output.splitlines()
    (message,) = await listed(run, "outbox", "list", "--item", "tom001")
    number = str(message["outbox_message_id"])

    assert "created" in shown[0]
    assert "next try" in shown[0]
    assert 2 == shown[1].count("UTC")
    assert message == await listed(run, "outbox", "show", number)
    assert [{"number": int(number), "outcome": "dismissed"}] == await listed(run, "outbox", "dismiss", number, "--note", "x")
    again = await run("outbox", "dismiss", number, "999", "--note", "x")
    assert (1, f"dismissed: 0\n  {number}: dismissed before\n  999: there is no such message\n") == (
        again.exit_code,
        again.output,
    )


async def test_drift_ends_with_1_where_it_was_asked_to(world: World, run: Run) -> None:
    await world.execute("DELETE FROM pos_sync.integration WHERE store_id <> '1'")
    assert 0 == (await run("drift", "--exit-code")).exit_code
    body = body_of(current_stock="3")
    async with running(settings_for(world)) as (_, client):
        await client.post(PATH, content=body, headers=signed(body))
        body = body_of(current_stock="2", date="2026-05-30 13:45:03", quantity="0.25")
        await client.post(PATH, content=body, headers=signed(body))

    assert 0 == (await run("drift")).exit_code
    assert 1 == (await run("drift", "--exit-code")).exit_code


async def test_what_was_done_is_told_as_json(run: Run) -> None:
    sale = await listed(run, "movement", "--store", "1", "--item", "tom001", "--sale", "2", "--key", "k1")
    counted = await listed(run, "reconcile", "--store", "1", "--item", "tom001", "--to", "7", "--note", "counted")
    (reversed_,) = await listed(run, "reverse", "--store", "1", "--item", "tom001", "--row", "2", "--note", "x")

    assert ("k1", "20.5", True, None) == (sale["key"], sale["stock"], sale["is_new"], sale["correction"])
    assert ("20.5", "7", False) == (counted["before"], counted["after"], counted["is_dry"])
    assert ("7.0", "-2") == (reversed_["stock"], reversed_["correction"]["amount"])
    assert {"recorded", "here"} == set(await listed(run, "rules"))
    assert {"revision", "needed", "fault"} <= set(await listed(run, "migrate", "--current"))


async def test_current_shows_the_revision_and_changes_nothing(
    run: Run, empty_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_head = await run("migrate", "--current")
    monkeypatch.setenv("DATABASE_URL", empty_world.owner_url)

    nowhere = await run("migrate", "--current")

    assert (0, True) == (at_head.exit_code, "(the newest)" in at_head.output)
    assert (1, True) == (nowhere.exit_code, "Run: pos-sync migrate" in nowhere.output)
    assert await empty_world.scalar("SELECT to_regclass('pos_sync.alembic_version')") is None


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_completion_is_printed_and_installed_once(
    run: Run, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "ZDOTDIR"):
        monkeypatch.delenv(name, raising=False)

    printed = await run("completion", shell)
    first = await run("completion", shell, "--install")
    again = await run("completion", shell, "--install")

    assert "_POS_SYNC_COMPLETE" in printed.output
    assert (0, 0) == (first.exit_code, again.exit_code)
    written = next(file for file in tmp_path.rglob("*") if file.is_file() and f"{shell}_complete" in file.read_text())
    assert printed.output.strip() == written.read_text().strip()
    if shell != "fish":
        start = (tmp_path / f".{shell}rc").read_text()
        assert 1 == start.count(str(written))


async def test_a_misspelt_command_or_option_is_named(run: Run) -> None:
    assert "Did you mean 'status'?" in (await run("stauts")).output
    assert "Did you mean 'list'?" in (await run("outbox", "lst")).output
    assert "--store" in (await run("stock", "--stroe", "1")).output


NOBODY = "99999999999999999999"
"""More than any row's number can be"""


@pytest.mark.parametrize(
    "line",
    [
        "refused show NUMBER",
        "refused replay NUMBER",
        "refused dismiss NUMBER --note x",
        "refused reopen NUMBER --note x",
        "duplicates show NUMBER",
        "duplicates apply NUMBER",
        "duplicates dismiss NUMBER --note x",
        "outbox show NUMBER",
        "outbox retry NUMBER",
        "outbox dismiss NUMBER --note x",
        "capture show NUMBER",
        "capture deliver NUMBER",
        "explain-signature --capture NUMBER",
        "reverse --store 1 --item avcc123 --row NUMBER --note x",
    ],
)
async def test_a_number_that_no_row_can_have_is_answered_like_one_that_none_has(
    run: Run, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setenv("MIPOS_CLIENT_SECRET", SECRET)
    usual = await run(*line.replace("NUMBER", "99").split())
    beyond = await run(*line.replace("NUMBER", NOBODY).split())

    assert 1 == usual.exit_code
    assert (1, usual.output.replace("99", NOBODY)) == (beyond.exit_code, beyond.output)


@pytest.mark.parametrize("line", ["refused list", "outbox list", "ledger --store 1"])
async def test_a_limit_beyond_all_rows_is_a_mistake_in_typing(run: Run, line: str) -> None:
    ended = await run(*line.split(), "--limit", NOBODY)

    assert 2 == ended.exit_code
    assert "--limit" in ended.output
