"""The folder of the socket, where the path of the data is too long for one: it is ours, or it is not used."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from app.storage.embedded_postgres import _AS_ANOTHER, EmbeddedPostgres, EmbeddedPostgresError, _can_be_another


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EmbeddedPostgres:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    return EmbeddedPostgres(folder, {})


def open_to_all(path: Path) -> None:
    path.mkdir()
    path.chmod(0o777)


def link(path: Path) -> None:
    victim = path.parent / "victim"
    victim.mkdir(mode=0o755)
    path.symlink_to(victim)


@pytest.mark.parametrize("make", [open_to_all, link, Path.touch])
def test_a_folder_that_another_one_made_is_not_taken_over(far: EmbeddedPostgres, make: Callable[[Path], None]) -> None:
    make(far.socket_folder)
    before = far.socket_folder.stat()
    with pytest.raises(EmbeddedPostgresError, match="was not made by this program"):
        far._make_socket_folder()  # noqa: SLF001 - without making a database

    after = far.socket_folder.stat()
    assert (before.st_uid, before.st_mode) == (after.st_uid, after.st_mode)


def test_its_own_is_used_again(far: EmbeddedPostgres) -> None:
    for _ in range(2):
        far._make_socket_folder()  # noqa: SLF001

    assert 0o40700 == os.lstat(far.socket_folder).st_mode


@pytest.mark.skipif(os.geteuid() != 0, reason="not root: Postgres runs as who starts it")
def test_as_root_it_opens_no_folder_to_anyone(tmp_path: Path) -> None:
    """Pytest's folders are private, as the home of root is."""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    modes = [parent.stat().st_mode for parent in (private, *private.parents)]
    server = EmbeddedPostgres(private / "data", {"fsync": "off"})
    if not _can_be_another(_AS_ANOTHER):
        with pytest.raises(EmbeddedPostgresError, match="Run this as another user"):
            server.start()
    else:
        server.start()
        # Another one finds it, and stops it.
        EmbeddedPostgres(private / "data").stop()
        assert not server._is_running()  # noqa: SLF001 - what a command would print
    assert modes == [parent.stat().st_mode for parent in (private, *private.parents)]
