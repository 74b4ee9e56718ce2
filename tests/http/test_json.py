"""`--json`: every command has it, and says by it what it did, in names and ISO times that a program can read."""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import pytest

from app.cli.program import commands
from app.main import create_app
from tests.conftest import running, settings_for
from tests.support.commands import Run
from tests.support.mipos import listening, mipos
from tests.support.sender import PATH, SECRET, body_of, signed
from tests.support.service import free_port
from tests.support.watched import ALERT_SECRET, receiving
from tests.support.world import World

WITHOUT = {
    "catalog export": "prints a catalog, which is JSON unless CSV is asked for",
    "dev": "runs until Ctrl-C",
    "sandbox": "runs until Ctrl-C",
    "seal export": "prints JSON unless it is for paper",
    "serve": "runs until Ctrl-C, and has a log in JSON",
}


def leaves(command: click.Command, path: tuple[str, ...], context: click.Context) -> Iterator[tuple[str, click.Command]]:
    """Each command that does something, by its name."""
    if not isinstance(command, click.Group) or command.invoke_without_command:
        yield " ".join(path), command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from leaves(child, (*path, name), context)


def test_every_command_takes_json_but_those_that_stand_here_with_a_reason() -> None:
    found = [*leaves(commands, (), click.Context(commands))]
    lacking = {name for name, command in found if not any("--json" in parameter.opts for parameter in command.params)}

    assert len(found) > len(WITHOUT)
    assert set(WITHOUT) == lacking


async def told(run: Run, *arguments: str, status: int = 0) -> Any:
    result = await run(*arguments, "--json")
    assert status == result.exit_code, result.output
    return json.loads(result.stdout)


def is_iso(text: str) -> bool:
    return datetime.fromisoformat(text).tzinfo is not None


PROSE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d|\b(valid|expired) ")
SENTENCES = {"words", "message", "body", "fields", "date", "mipos_says", "as_of", "remedy", "reason", "notes"}
"""What is a sentence for a person, or text of a sender, as it came"""


def prose_in(value: Any, path: str = "") -> Iterator[str]:
    """Where a time is told as a person reads it."""
    match value:
        case dict():
            for name, part in value.items():
                if name not in SENTENCES:
                    yield from prose_in(part, f"{path}.{name}")
        case list():
            for part in value:
                yield from prose_in(part, path)
        case str() if PROSE.search(value):
            yield f"{path}: {value}"


async def test_no_time_and_no_state_is_told_in_prose(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIPOS_CLIENT_SECRET", SECRET)
    monkeypatch.setenv("MIPOS_CLIENT_ID", "sandbox-client")
    monkeypatch.setenv("MIPOS_EMAIL", "pos@example.com")
    monkeypatch.setenv("MIPOS_PASSWORD", "open sesame")
    monkeypatch.setenv("OPERATOR_PASSWORD", "a-long-password-of-operators")
    monkeypatch.setenv("PUBLIC_URL", "https://pos.example.com")
    await run("capture", "--for", "10m")
    async with mipos() as remote, running(settings_for(world)) as (_, client):
        monkeypatch.setenv("MIPOS_BASE_URL", remote.url)
        for body in (body_of(), body_of(external_id="nobody's")):
            await client.post(PATH, content=body, headers=signed(body))
        await client.post(PATH, content=body_of(), headers=signed(body_of(), secret="another-secret-of-another-account"))
        registered = await told(run, "register")
        status = await told(run, "status", status=3)
    await run("movement", "--store", "1", "--item", "tom001", "--sale", "1")
    reading = ("stock", "drift", "ledger --store 1", "item list --store 1", "store list", "outbox list --all", "outbox show 1")
    keeping = ("refused list", "refused show 1", "duplicates list --state all", "capture list", "capture show 1", "alerts list")
    other = ("rules", "migrate --current", "prune --dry-run", "page link --name Bea", "stock --at 2030-01-01T00:00:00Z")
    told_of = {line: await told(run, *line.split()) for line in (*reading, *keeping, *other)}

    assert not [
        line for line, found in told_of.items() if not found and line not in {"duplicates list --state all", "alerts list"}
    ]
    assert [] == [*prose_in({"register": registered, "status": status, **told_of})]
    assert ("valid", True) == (status["token"]["state"], is_iso(status["token"]["expires_at"]))


async def test_what_is_set_is_told(run: Run) -> None:
    item = await told(run, "item", "set", "--store", "1", "tom001", "--name", "Tomato")
    retired = await told(run, "item", "retire", "--store", "1", "tom001", "tom001")
    again = await told(run, "item", "retire", "--store", "1", "tom001", "avcc123")
    restored = await told(run, "item", "restore", "--store", "1", "tom001")
    store = await told(run, "store", "set", "1", "--name", "Centro", "--closed-until", "2999-01-02")
    refused = await run("item", "set", "--store", "1", "typo", "--name", "x", "--json")

    assert {"store_id": "1", "item_id": "tom001", "is_held": False} == item
    assert [{"item_id": "tom001", "is_retired": True, "is_changed": True}] == retired
    assert [("tom001", False), ("avcc123", True)] == [(one["item_id"], one["is_changed"]) for one in again]
    assert [{"item_id": "tom001", "is_retired": False, "is_changed": True}] == restored
    assert ("1", "Centro", True) == (store["store_id"], store["name"], is_iso(store["closed_until"]))
    assert [store] == [one for one in await told(run, "store", "list") if one["store_id"] == "1"]
    assert (1, "") == (refused.exit_code, refused.stdout)


async def test_a_capture_is_told_from_its_start_to_its_end(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIPOS_CLIENT_SECRET", SECRET)

    started = await told(run, "capture", "--for", "10m", "--max", "3", "--actor", "ana")
    stopped = [await told(run, "capture", "stop") for _ in range(2)]
    misplaced = await run("capture", "--json", "list")

    assert (3, "ana", True) == (started["max_kept"], started["actor"], started["is_on"])
    assert is_iso(started["ends_at"])
    assert [{"was_on": True}, {"was_on": False}] == stopped
    assert (2, True) == (misplaced.exit_code, "pos-sync capture list --json" in misplaced.output)


async def test_alerts_are_acknowledged_and_tried(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.execute(
        "INSERT INTO pos_sync.problem (name, subject, severity, words, since, looked_at) "
        "VALUES ('outbox_late', '', 'warning', 'w', now(), now())"
    )
    monkeypatch.setenv("MIPOS_CLIENT_SECRET", SECRET)
    monkeypatch.setenv("ALERT_WEBHOOK_SECRET", ALERT_SECRET)

    acknowledged = await told(run, "alerts", "ack", "outbox_late", "--actor", "ana")
    monkeypatch.setenv("ALERT_WEBHOOK_URL", f"http://127.0.0.1:{free_port()}/secret-path")
    lost = await told(run, "alerts", "test", status=1)
    async with receiving() as receiver:
        monkeypatch.setenv("ALERT_WEBHOOK_URL", f"http://127.0.0.1:{receiver.port}")
        receiver.answers = [500]
        refused, taken = [await told(run, "alerts", "test", status=status) for status in (1, 0)]

    assert {"name": "outbox_late", "actor": "ana", "acknowledged": 1} == acknowledged
    assert (False, "cannot be reached (connection refused)") == (lost["is_taken"], lost["fault"])
    assert "secret-path" not in str(lost)
    assert [(False, "answers 500"), (True, None)] == [(one["is_taken"], one["fault"]) for one in (refused, taken)]


async def test_seals_and_their_keys_are_told(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIPOS_CLIENT_SECRET", SECRET)
    rows = await world.scalar("SELECT count(*) FROM pos_sync.stock_movement")

    sealed = [await told(run, "seal", "now") for _ in range(2)]
    key = await told(run, "seal", "key")

    assert [{"rows": rows}, {"rows": 0}] == sealed
    assert rows > 0
    assert {"seal_signing_key", "public_key"} == set(key)


async def test_the_answer_of_a_webhook_is_told(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIPOS_CLIENT_SECRET", SECRET)
    async with listening(create_app(settings_for(world))) as port:
        url = f"http://127.0.0.1:{port}/webhooks/stock"
        sending = ("send", "--url", url, "--remove", "1", "--current-stock", "3", "--item")
        taken = await told(run, *sending, "avcc123")
        refused = await told(run, *sending, "typo", status=1)

    assert {"status": 204, "message": None} == taken
    assert (409, True) == (refused["status"], '"typo"' in refused["message"])


async def test_what_the_sandbox_did_is_told(run: Run) -> None:
    async with mipos() as remote:
        mapped = await told(run, "sandbox", "map", "--url", remote.url, "--store", "1", "--mipos-id", "17")
        refused = await told(run, "sandbox", "move", "--url", remote.url, "--store", "17", "--remove", "1", status=1)
    away = await run("sandbox", "move", "--url", remote.url, "--remove", "1", "--json")

    assert {"status": 204, "message": None} == mapped
    assert "1" == remote.platform.stores["17"]
    assert (409, "The POS has not registered a webhook of this type.") == (refused["status"], refused["message"])
    assert (1, "") == (away.exit_code, away.stdout)


@pytest.mark.parametrize("shell", ["bash", "fish"])
async def test_a_completion_is_told_with_what_was_written(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)

    printed = await told(run, "completion", shell)
    first, again = [await told(run, "completion", shell, "--install") for _ in range(2)]

    written = Path(first["path"]).read_text()  # noqa: ASYNC240 - a small file
    assert printed["script"].strip() == written.strip()
    assert shell == first["shell"]
    assert (str(tmp_path / ".bashrc") if shell == "bash" else None) == first["start_file"]
    assert (shell == "bash", False) == (first["is_line_added"], again["is_line_added"])
