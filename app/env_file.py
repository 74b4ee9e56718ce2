"""The files that settings come from: who may write them, and whether their names are settings."""

import difflib
import logging
import os
import stat
import sys
from collections.abc import Collection
from pathlib import Path

from dotenv import dotenv_values

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


class _Once(logging.Filter):
    """Lets each message pass once: every reader of a file says what it cannot read in it, and there are two."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is new."""
        text = record.getMessage()
        is_new = text not in self._said
        self._said.add(text)
        return is_new


logging.getLogger("dotenv.main").addFilter(_Once())


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
            if file.name.upper() in names and file.is_file() and not os.access(file, os.R_OK):
                raise UnusableFile(
                    f"The secret file {file} of user {file.stat().st_uid} cannot be read by user {os.geteuid()}, which runs this."
                )
    return folders


def check_env_file(file: Path, names: Collection[str]) -> None:
    """Look at who may write `file` and at the names in it, and hand on those of libpq and OpenTelemetry.

    The driver and the SDK read theirs from the environment.

    A name that is nobody's is said on standard error. Without the file there is nothing to do.

    Raises:
        UnusableFile: another user may write it, or a name in it is a misspelt one.
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
    values = dotenv_values(file, interpolate=False)
    for name in values:
        if name.upper() not in names and name not in OTHER_NAMES and not name.startswith(("PG", "COMPOSE_", TRACING_PREFIX)):
            _refuse_misspelt(name, file, names)
            sys.stderr.write(f"{name} in {file} is not a setting of this service.\n")
    for name, value in values.items():
        if value and (name in VARIABLES or name.startswith(TRACING_PREFIX)):
            os.environ.setdefault(name, value)


def _refuse_misspelt(name: str, file: Path, names: Collection[str]) -> None:
    near = difflib.get_close_matches(name.upper(), names, n=1, cutoff=NEAR)
    if near:
        raise UnusableFile(f"{name} in {file} is not a setting. Did you mean {near[0]}?")
    if name.upper().startswith(OWN_PREFIXES):
        raise UnusableFile(f"{name} in {file} is not a setting. docs/configuration.md lists all.")
