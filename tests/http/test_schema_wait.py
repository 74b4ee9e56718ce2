"""`pos-sync migrate --wait`, for an init container: it waits for what another one migrates."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import click
import pytest
from sqlalchemy import text

from app.storage.migrations import head, migrate
from tests.support.commands import Run, runner_for
from tests.support.outbox import PATIENCE_SECONDS
from tests.support.postgres import rename_database
from tests.support.world import World


@pytest.fixture
def run_in_empty(empty_world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Commands with the rights of the service's role, which has none yet."""
    return runner_for(empty_world.service_url, monkeypatch, tmp_path)


@pytest.fixture
def has_said(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once the command has said that it waits."""
    event = threading.Event()
    echo = click.echo

    def say(*arguments: Any, **options: Any) -> None:
        echo(*arguments, **options)
        event.set()

    monkeypatch.setattr("app.cli.readiness.click.echo", say)
    return event


async def test_a_schema_that_is_ready_is_not_waited_for(run: Run) -> None:
    result = await run("migrate", "--wait", "--timeout", "0")

    assert (0, f"The schema is at revision {head()}.\n") == (result.exit_code, result.output)


async def test_it_waits_until_another_one_has_migrated(empty_world: World, run_in_empty: Run, has_said: threading.Event) -> None:
    waiting = asyncio.ensure_future(run_in_empty("migrate", "--wait", "--timeout", "60"))
    await asyncio.to_thread(has_said.wait, PATIENCE_SECONDS)
    assert not waiting.done()
    await migrate(empty_world.engine, grant_to="pos_sync")
    result = await waiting

    assert 0 == result.exit_code
    assert result.output.startswith("Waiting. The database schema is at revision none")


async def test_it_changes_nothing_and_ends_with_the_reason(empty_world: World, run_in_empty: Run) -> None:
    result = await run_in_empty("migrate", "--wait", "--timeout", "0.5")

    assert 1 == result.exit_code
    assert "After 0.5 seconds: The database schema is at revision none" in result.output
    async with empty_world.engine.connect() as connection:
        assert [] == list(
            await connection.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname IN ('public', 'pos_sync')"))
        )


async def test_a_schema_of_a_newer_version_is_no_schema_to_run_with(world: World, run: Run) -> None:
    await world.execute("UPDATE alembic_version SET version_num = '9999', compatible_from = '9999'")
    result = await run("migrate", "--wait", "--timeout", "0")

    assert 1 == result.exit_code
    assert "9999" in result.output


async def test_a_database_that_is_away_is_waited_for(world: World, run: Run, has_said: threading.Event) -> None:
    away = f"{world.database}_away"
    await rename_database(world.database, away)
    try:
        waiting = asyncio.ensure_future(run("migrate", "--wait", "--timeout", "60"))
        await asyncio.to_thread(has_said.wait, PATIENCE_SECONDS)
        assert not waiting.done()
    finally:
        await rename_database(away, world.database)
    result = await waiting

    assert 0 == result.exit_code
    assert result.output.startswith("Waiting. The database ")


async def test_it_does_not_go_with_a_grant(run: Run) -> None:
    assert 2 == (await run("migrate", "--wait", "--grant-to", "pos_sync")).exit_code
