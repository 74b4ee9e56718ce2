"""Fixtures of every kind of test."""

import gc
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import hypothesis
import pytest
from fastapi import FastAPI

from app.main import create_app
from app.settings import Settings
from app.storage.embedded_postgres import EmbeddedPostgres
from tests.support import postgres
from tests.support.commands import Run, runner_for
from tests.support.sender import SECRET
from tests.support.world import World

# The same examples in every run, so that a change is judged by what it changed. New ones are looked for on purpose:
# pytest --hypothesis-profile=explore --timeout=0
# A busy machine makes them slowly, which is no fault of a test.
_PATIENT = hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.register_profile("repeatable", _PATIENT, derandomize=True)
# `make test`: `make check` tries all of them.
hypothesis.settings.register_profile("quick", _PATIENT, derandomize=True, max_examples=30)
hypothesis.settings.register_profile("explore", _PATIENT, max_examples=20_000)
hypothesis.settings.load_profile("repeatable")

_server = pytest.StashKey[EmbeddedPostgres | None]()


def pytest_configure(config: pytest.Config) -> None:
    """One server for the whole run: xdist's workers are given its address in the environment."""
    if not hasattr(config, "workerinput") and not config.option.collectonly:
        config.stash[_server] = postgres.start()


def pytest_collection_finish() -> None:
    """What is imported by now stays: without it, the collector looks at less."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure(config: pytest.Config) -> None:
    server = config.stash.get(_server, None)
    if server is not None:
        server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """Say last of all what was skipped and why; on xdist's controller too, which holds the reports of all workers."""
    yield
    reasons = Counter(str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", []))
    terminalreporter.section("skipped")
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"{count} x {reason.removeprefix('Skipped: ')}")
    if not reasons:
        terminalreporter.write_line("Nothing was skipped.")


@pytest.fixture(autouse=True)
def patient_readiness(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take more than a second to connect, and for its first answer."""
    monkeypatch.setattr("app.operations.readiness.CHECK_SECONDS", 10.0)
    monkeypatch.setattr("app.applying.batch_writer.CONNECT_SECONDS", 10.0)
    monkeypatch.setattr("app.storage.engine.CONNECT_SECONDS", 10.0)


@pytest.fixture
def shipped_connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connecting takes no longer than it may in production, where a test waits for just that to be over."""
    monkeypatch.setattr("app.applying.batch_writer.CONNECT_SECONDS", 1.0)
    monkeypatch.setattr("app.storage.engine.CONNECT_SECONDS", 2.0)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@asynccontextmanager
async def new_world(*, template: str = postgres.TEMPLATE) -> AsyncIterator[World]:
    name = await postgres.create_database(template=template)
    engine = postgres.looking_engine(postgres.url(name))
    try:
        yield World(name, engine)
    finally:
        await engine.dispose()
        await postgres.drop_database(name)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A database with the sample stores: 13.69 of avcc123 in store 1."""
    async with new_world() as it:
        yield it


@pytest.fixture
async def empty_world() -> AsyncIterator[World]:
    """A database in which nothing was migrated yet."""
    async with new_world(template="template0") as it:
        yield it


def settings_for(world: World, **changes: Any) -> Settings:
    """The settings of a service in `world`, as its least-rights role."""
    values = {"database_url": world.service_url, "mipos_client_secret": SECRET, **changes}
    return Settings(_env_file=None, **values)  # type: ignore[call-arg]


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[tuple[FastAPI, httpx2.AsyncClient]]:
    """The app that production runs, with its lifespan, and a client that calls it in this process."""
    app = create_app(settings)
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url="http://pos") as client:
        yield app, client


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx2.AsyncClient]:
    async with running(settings_for(world)) as (_, it):
        yield it


@pytest.fixture
def run(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Commands in `world`, with the service's own rights."""
    return runner_for(world.service_url, monkeypatch, tmp_path)
