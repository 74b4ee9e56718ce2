"""The folders of secrets: what cannot be read is said, and never a traceback."""

import os
from pathlib import Path

import pytest

from app import env_file
from app.env_file import CREDENTIALS_VARIABLE, UnusableFile, secret_folders


@pytest.mark.parametrize("is_credentials", [True, False], ids=["of systemd", "shared"])
def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_credentials: bool) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    monkeypatch.setenv(CREDENTIALS_VARIABLE, str(folder if is_credentials else tmp_path / "none"))
    # As root every folder can be read.
    monkeypatch.setattr(env_file.os, "access", lambda path, _: Path(path) != folder)

    with pytest.raises(UnusableFile, match=f"folder of secrets {folder} of user {os.geteuid()} cannot be read"):
        secret_folders(tmp_path / "none" if is_credentials else folder, {"DATABASE_URL"})
