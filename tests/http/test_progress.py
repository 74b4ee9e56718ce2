"""Commands that may take long say what they do, on a terminal's standard error and nowhere else."""

from pathlib import Path
from typing import Any

import pytest

from app.cli import progress
from tests.support.commands import Run
from tests.support.mipos import mipos
from tests.support.sender import SECRET
from tests.support.service import free_port
from tests.support.watched import ALERT_SECRET


class Recorded(progress.Progress):
    """A line that is shown nowhere, and remembers what it was asked to show."""

    labels: list[str]
    counts: list[tuple[str, int, int]]

    def __init__(self, label: str, *, is_shown: bool) -> None:
        super().__init__(label, is_shown=is_shown)
        self.labels.append(label)

    def count(self, done: int, total: int) -> None:
        """Remember it."""
        self.counts.append((self.labels[-1], done, total))


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> type[Recorded]:
    Recorded.labels, Recorded.counts = [], []
    monkeypatch.setattr(progress, "Progress", Recorded)
    return Recorded


@pytest.mark.parametrize(
    ("line", "label"),
    [
        ("catalog export --store 1", "Reading the store"),
        ("catalog export --store 1 --format csv --output exported", "Reading the store"),
        ("stock --store 1 --at 2030-01-01T00:00:00Z", "Reading the stock"),
        ("ledger --store 1 --csv", "Writing"),
        ("ledger --store 1", "Reading the ledger"),
        ("seal verify", "Verifying"),
        ("prune --dry-run", "Counting"),
        ("drift", "Comparing"),
        ("migrate", "Migrating"),
    ],
)
async def test_a_long_command_says_what_it_does_and_not_among_its_output(
    run: Run, lines: type[Recorded], line: str, label: str
) -> None:
    result = await run(*line.split())

    assert label in lines.labels, result.output
    assert "" == result.stderr or "migrate" in line
    assert label not in result.stdout


async def test_a_csv_of_the_ledger_counts_its_rows(run: Run, lines: type[Recorded]) -> None:
    await run("movement", "--store", "1", "--item", "tom001", "--sale", "1")

    result = await run("ledger", "--store", "1", "--csv")

    rows = len(result.stdout.splitlines()) - 1
    assert rows > 0
    assert [("Writing", number, rows) for number in range(rows)] == lines.counts


async def test_calls_to_others_are_waited_for_in_sight(run: Run, lines: type[Recorded], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIPOS_CLIENT_SECRET", SECRET)
    monkeypatch.setenv("ALERT_WEBHOOK_SECRET", ALERT_SECRET)
    monkeypatch.setenv("ALERT_WEBHOOK_URL", nowhere := f"http://127.0.0.1:{free_port()}")
    async with mipos() as remote:
        await run("sandbox", "map", "--url", remote.url, "--store", "1", "--mipos-id", "17")
    await run("send", "--url", nowhere, "--remove", "1", "--current-stock", "1")
    await run("alerts", "test")

    assert ["Waiting for the answer"] * 3 == lines.labels


async def test_an_explanation_counts_the_keys_that_it_has_tried(
    run: Run, lines: type[Recorded], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MIPOS_CLIENT_SECRET", SECRET)
    body = tmp_path / "body"
    body.write_bytes(b'{"store_id": "1"}')

    result = await run("explain-signature", "--body", str(body), "--signature", "0" * 64)

    assert (1, {"Trying keys, bodies and hashes"}) == (result.exit_code, {label for label, _, _ in lines.counts})
    done: list[Any] = [at for _, at, _ in lines.counts]
    (total,) = {total for _, _, total in lines.counts}
    assert done == [*range(total)]


async def test_a_restored_database_is_made_safe_in_sight(run: Run, lines: type[Recorded]) -> None:
    await run("restored", "--yes")

    assert ["Holding messages, and setting the guards"] == lines.labels
