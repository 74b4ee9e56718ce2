"""The files that settings come from: who may write them, and whether their names are settings."""

import difflib
import os
import stat
import sys
from collections.abc import Collection
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from app.database_address import VARIABLES
from app.tracing import VARIABLES_PREFIX as TRACING_PREFIX

ENV_FILE_VARIABLE = "POS_SYNC_ENV_FILE"
CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"
"""In which systemd names the folder of a service's credentials"""
COMPOSE_NAMES = frozenset(
    {"DB_SUPERUSER_PASSWORD", "DB_OWNER_PASSWORD", "DB_SERVICE_PASSWORD", "PROXY_PORT", "POS_API_PORT", "EDGE_PREFIX"}
)
"""What docker-compose.yml reads from the same env file beside the settings"""
TRACING_NAMES = frozenset(
    {"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"}
)
"""Of OpenTelemetry's variables those that docker-compose.yml hands on"""
OTHER_NAMES = {ENV_FILE_VARIABLE, *COMPOSE_NAMES}
OWN_PREFIXES = ("MIPOS_", "POS_", "DATABASE_", "OUTBOX_")
NEAR = 0.8
"""How alike a name must be to be a misspelt one"""
NEAR_OF_TRACING = 0.9


class UnusableFile(Exception):
    """The message says what is wrong with which file, and what to do."""


def secret_folders(shared: Path, names: Collection[str]) -> list[Path]:
    """The folders with a file for each secret: systemd's, and `shared`, which goes before it. `names` are those of all settings.

    Raises:
        UnusableFile: one of them, or a file in it, cannot be read.
    """
    named = [os.environ.get(CREDENTIALS_VARIABLE), shared]
    folders = [Path(folder) for folder in named if folder and Path(folder).is_dir()]
    for folder in folders:
        if not os.access(folder, os.R_OK | os.X_OK):
            raise UnusableFile(
                f"The folder of secrets {folder} of user {folder.stat().st_uid} cannot be read by user {os.geteuid()}, "
                "which runs this."
            )
        for file in sorted(folder.iterdir()):
            if file.name.upper() in names:
                _require_usable(file)
    return folders


def _require_usable(file: Path) -> None:
    if file.is_symlink() and not file.exists():
        raise UnusableFile(f"The secret file {file} leads to {file.readlink()}, which does not exist.")
    if not file.is_file():
        raise UnusableFile(
            f"The secret file {file} is no file. Docker makes a folder where the file is missing that it is told to mount: "
            "remove the folder, and write the file."
        )
    if not os.access(file, os.R_OK):
        raise UnusableFile(
            f"The secret file {file} of user {file.stat().st_uid} cannot be read by user {os.geteuid()}, which runs this."
        )
    try:
        file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UnusableFile(f"The secret file {file} is not UTF-8 text.") from None


def check_env_file(file: Path, names: Collection[str]) -> None:
    """Look at who may write `file` and at the names in it, and hand on those of libpq and OpenTelemetry.

    The driver and the SDK read theirs from the environment.

    A name that is nobody's is said on standard error. Without the file there is nothing to do.

    Raises:
        UnusableFile: another user may write it, a line cannot be read, or a name in it is a misspelt one.
    """
    if not file.is_file():
        return
    status = file.stat()
    may_group_write = status.st_mode & stat.S_IWGRP and status.st_gid != os.getegid()
    if status.st_mode & stat.S_IWOTH or may_group_write or status.st_uid not in {0, os.geteuid()}:
        raise UnusableFile(
            f"The settings file {file} can be written by another user, who could send the secrets elsewhere. Run: "
            f"chmod go-w {file}, and let it belong to the user that runs this, or to root."
        )
    _require_lines(file)
    values = dotenv_values(file, interpolate=False)
    for name in values:
        if name.startswith(TRACING_PREFIX) and name not in TRACING_NAMES:
            # The SDK has many, and theirs are as alike as TRACES_ENDPOINT and ENDPOINT.
            _refuse_near(name, file, TRACING_NAMES, cutoff=NEAR_OF_TRACING)
        if name.upper() not in names and name not in OTHER_NAMES and not name.startswith(("PG", "COMPOSE_", TRACING_PREFIX)):
            _refuse_misspelt(name, file, names)
            sys.stderr.write(f"{name} in {file} is not a setting of this service.\n")
    for name, value in values.items():
        if value and (name in VARIABLES or name.startswith(TRACING_PREFIX)):
            os.environ.setdefault(name, value)


def _require_lines(file: Path) -> None:
    """Every line gives a value: one that cannot be read would be left out, and its setting with it."""
    with file.open(encoding="utf-8") as stream:
        for binding in parse_stream(stream):
            if binding.error or (binding.key is not None and binding.value is None):
                raise UnusableFile(
                    f"Line {binding.original.line} of {file} cannot be read. Write NAME=value, with quotes around the value or "
                    "none, and a # before a comment."
                )


def _refuse_near(name: str, file: Path, names: Collection[str], *, cutoff: float) -> None:
    near = difflib.get_close_matches(name.upper(), names, n=1, cutoff=cutoff)
    if near:
        raise UnusableFile(f"{name} in {file} is not a setting. Did you mean {near[0]}?")


def _refuse_misspelt(name: str, file: Path, names: Collection[str]) -> None:
    _refuse_near(name, file, names, cutoff=NEAR)
    if name.upper().startswith(OWN_PREFIXES):
        raise UnusableFile(f"{name} in {file} is not a setting. docs/configuration.md lists all.")
