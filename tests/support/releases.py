"""The code of earlier releases, out of this repository's history."""

import subprocess
import sys
from pathlib import Path

import pytest

from app.storage.embedded_postgres import SERVICE_ROLE
from tests.support.postgres import SAMPLES
from tests.support.service import environment
from tests.support.world import World

TREE = Path(__file__).parents[2]


def take_code(commit: str, folder: Path) -> Path:
    """The code at `commit`, in `folder`; the test is skipped where the history is not there."""
    archive = subprocess.run(["git", "-C", TREE, "archive", commit, "app", "migrations"], capture_output=True, check=False)
    if archive.returncode != 0:
        pytest.skip(f"revision {commit} is not in this checkout (a shallow clone, or no git)")
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
    return folder


def use_code(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let processes run the code in `folder` from now on; `forget_code` takes it back."""
    # They look there first, and not in the folder where they are started.
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("PYTHONSAFEPATH", "1")


def forget_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let processes run this code again."""
    monkeypatch.delenv("PYTHONPATH")


def fill_by(code: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A database that `code` has migrated and filled, and where processes run that code from now on."""
    use_code(code, monkeypatch)
    run_code(world.owner_url, "migrate", "--grant-to", SERVICE_ROLE)
    run_code(world.owner_url, "catalog", "import", "--store", "1", str(SAMPLES / "store-1.json"))
    return world


def run_code(database_url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of the code in use, to its good end."""
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        env=environment(DATABASE_URL=database_url),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
