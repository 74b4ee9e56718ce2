"""What others wrote is seen in every form that a command prints: as a table, whole, as JSON, and as CSV."""

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.cli.program import commands
from app.cli.program import run as run_program
from app.stock.csv_catalog import FILES
from app.stock.csv_cells import from_cell
from app.visible_text import as_seen
from tests.support.commands import Run
from tests.support.mipos import listening
from tests.support.outbox import connect_stores
from tests.support.page import person_at
from tests.support.page_world import enliven
from tests.support.sender import SECRET
from tests.support.world import World

HIDDEN = "=\u202e\u200b\x1b[31m\x07\u2066\ue000\U000e0041"
"""A formula for a spreadsheet; and a turn of direction, no width, colour, bell, isolation, private use, a tag"""
TEXTS = """
    item name, store name, unit name, unit short_name, supplier name,
    stock_movement note, stock_movement actor, stock_movement reason, stock_movement reference,
    refused_delivery message, refused_delivery replay_message, refused_delivery note, refused_delivery actor,
    refused_delivery store_id, refused_delivery item_id, refused_delivery inventory_system_id, refused_delivery request_id,
    suspected_duplicate note, suspected_duplicate actor, suspected_duplicate request_id,
    outbox_message words, outbox_message note, outbox_message actor,
    sync_run words, sync_run actor, capture actor, captured_delivery client, captured_delivery content_type,
    webhook_registration words, webhook_registration url, problem words, problem subject, problem acknowledged_by,
    ping words, alert_message words, prune_state actor, replica host, replica version, captured_delivery outcome
"""


async def plant(world: World) -> None:
    """`HIDDEN` in every text that somebody else may have written, and in the bodies of deliveries."""
    await world.execute("ALTER TABLE pos_sync.stock_movement DISABLE TRIGGER ALL")
    for one in TEXTS.replace("\n", " ").split(","):
        table, column = one.split()
        await world.execute(f"UPDATE pos_sync.{table} SET {column} = 'a {HIDDEN}'")
    for table in ("refused_delivery", "captured_delivery"):
        await world.execute(f"UPDATE pos_sync.{table} SET raw_body = convert_to('{{\"item\": \"{HIDDEN}', 'UTF8')")


LINES = (
    "stock", "stock --name a", "stock --at 2999-01-01T00:00:00Z", "ledger --store 1 --from 2020-01-01T00:00:00Z", "drift",
    "item list --store 1", "store list", "rules", "status", "outbox list --all", "outbox show 1", "refused list --state all",
    "refused show 1", "refused replay 1 --dry-run", "refused replay 1", "duplicates list --state all", "duplicates show 1",
    "duplicates apply 1", "capture list", "capture show 1", "alerts list", "doctor",
)  # fmt: skip
WITHOUT_THEM = {"rules", "drift", "duplicates apply 1"}
"""Tell nothing that others wrote"""


def hidden_in(text: str) -> str:
    return "".join(f"<U+{ord(one):04X}>" for one in text if not one.isprintable() and one not in "\r\n")


def texts_in(document: Any) -> Iterator[str]:
    match document:
        case dict():
            for part in document.values():
                yield from texts_in(part)
        case list():
            for part in document:
                yield from texts_in(part)
        case _:
            yield str(document)


async def test_nothing_that_a_command_prints_is_hidden(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIPOS_CLIENT_SECRET", SECRET)
    await enliven(world)
    await plant(world)
    exported = await run("catalog", "export", "--store", "1")
    hidden, unchanged = {"catalog export": hidden_in(exported.output)}, {}
    for line in LINES:
        for form in ("", " --json"):
            result = await run(*(line + form).split())
            assert result.exit_code in {0, 1, 3, 4}, (line, result.output)
            hidden[line + form] = hidden_in(result.output)
            if form:
                unchanged[line] = any(HIDDEN in one for one in texts_in(json.loads(result.stdout)))

    assert {} == {line: characters for line, characters in hidden.items() if characters}
    assert WITHOUT_THEM == {line for line, is_there in unchanged.items() if not is_there}


async def test_no_cell_of_a_csv_is_hidden_or_runs(world: World, run: Run, tmp_path: Path) -> None:
    await enliven(world)
    await plant(world)
    stock = await run("stock", "--csv")
    ledger = await run("ledger", "--store", "1", "--from", "2020-01-01T00:00:00Z", "--csv")
    await run("catalog", "export", "--store", "1", "--format", "csv", "--output", str(tmp_path))
    tables = {name: (tmp_path / name).read_text("utf-8-sig") for name in FILES.values()}
    async with person_at(world) as person:
        await person.open("/ui/stock.csv?store=1")
        tables["page"] = person.html

    for name, text in {"stock": stock.stdout, "ledger": ledger.stdout, **tables}.items():
        rows = [*csv.reader(io.StringIO(text))]
        cells = [cell for row in rows[1:] for cell in row]
        assert "" == hidden_in(text), name
        assert f"a {HIDDEN}" in map(from_cell, cells), name
        assert [] == [cell for cell in cells if cell[:1] in set("=+@\t\r") or re.match("-[^0-9]", cell)], name


@pytest.mark.parametrize(
    "body", [HIDDEN, json.dumps({"message": HIDDEN}), json.dumps({"message": [HIDDEN, 7]})], ids=("text", "message", "list")
)
async def test_the_words_of_another_server_are_seen(world: World, run: Run, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    async def answer(_request: Request) -> Response:
        return Response(body, 418, media_type="text/plain")

    await connect_stores(world)
    for name, value in {"client_secret": SECRET, "access_token": "a-token", "register_on_startup": "true"}.items():
        monkeypatch.setenv(f"MIPOS_{name.upper()}", value)
    async with listening(Starlette(routes=[Route("/{any:path}", answer, methods=["POST", "GET"])]), lifespan="off") as port:
        url = f"http://127.0.0.1:{port}"
        monkeypatch.setenv("MIPOS_BASE_URL", url)
        monkeypatch.setenv("PUBLIC_URL", url)
        lines = (f"send --url {url}/ --remove 1 --current-stock 3", "register", "sync --store 1", "ping", "doctor")
        told = {line: (await run(*line.split())).output for line in lines}
        told |= {f"{line} --json": (await run(*line.split(), "--json")).stdout for line in lines}

    assert {} == {line: hidden for line, text in told.items() if (hidden := hidden_in(text))}
    assert any("<U+202E>" in text for line, text in told.items() if line.startswith("send"))


def test_an_error_that_quotes_is_seen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(**_: object) -> None:
        raise click.ClickException(f"Of two\nlines {HIDDEN}")

    monkeypatch.setattr(commands, "main", fail)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(SystemExit) as end:
        run_program()

    words = capsys.readouterr().err
    assert (1, f"Error: Of two\nlines {as_seen(HIDDEN)}\n") == (end.value.code, words)
