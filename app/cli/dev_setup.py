"""The surroundings of `pos-sync dev`: a Postgres with the sample stores, settings with secrets of their own, and their files."""

import hashlib
import secrets
import shlex
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource
from sqlalchemy import URL, make_url, text

import app
from app.catalog_body import read_catalog
from app.database_address import read_address
from app.operator.catalog import import_catalog
from app.settings import ENV_FILE_VARIABLE, Settings
from app.storage.catalog import change_store
from app.storage.embedded_postgres import EmbeddedPostgres
from app.storage.engine import Database
from app.storage.migrations import migrate

SAMPLES = {"1": "store-1.json", "2": "store-2.json"}
"""The sample stores. The second is the documented sync body, to the letter."""
SAMPLE_FOLDER = Path(app.__file__).parent / "samples"
NAME = "pos_sync_dev"
"""Of the database and of the role; on a server of one's own with a suffix for each folder, so that no two share them."""
SANDBOX_URL_VARIABLE = "POS_SYNC_SANDBOX_URL"


class _NothingElse(Settings):
    """Settings that read neither the environment nor any file: a demonstration must not meet a real database or account."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is passed."""
        return (init_settings,)


class OwnPostgres:
    """A running server, named by its address as a superuser: started and stopped by others."""

    def __init__(self, address: str, data: Path) -> None:
        self._address = make_url(address)
        self.name = f"{NAME}_{hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:8]}"

    def url(self, database: str) -> str:
        """The address of `database`, as the superuser."""
        return self._address.set(drivername="postgresql", database=database).render_as_string(hide_password=False)

    def start(self) -> None:
        """It runs already."""

    def stop(self) -> None:
        """It runs on."""


Postgres = EmbeddedPostgres | OwnPostgres


def name_of(postgres: Postgres) -> str:
    """The name of the database and of the role on `postgres`."""
    return postgres.name if isinstance(postgres, OwnPostgres) else NAME


def database_of(postgres: Postgres, database: str | None = None) -> Database:
    """The `database` of the demonstration, as its owner."""
    return Database(read_address(postgres.url(database or name_of(postgres))))


async def prepare(postgres: Postgres, password: str) -> None:
    """Make the database, the least-rights role, the schema and the samples, each only where it is missing."""
    name = name_of(postgres)
    cluster = database_of(postgres, "postgres").create_engine()
    async with cluster.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        for role, rights in ((name, "LOGIN"), (f"{name}_owner", "NOLOGIN")):
            if not await connection.scalar(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role}):
                await connection.execute(text(f"CREATE ROLE {role} {rights}"))
        # Of hexadecimal digits, so it needs no quoting.
        await connection.execute(text(f"ALTER ROLE {name} PASSWORD '{password}'"))
        if not await connection.scalar(text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": name}):
            await connection.execute(text(f"CREATE DATABASE {name}"))
    await cluster.dispose()
    engine = database_of(postgres).create_engine()
    # As in production: neither the service nor a superuser owns the schema.
    await migrate(engine, grant_to=name, owner=f"{name}_owner")
    for store_id, sample in SAMPLES.items():
        catalog = read_catalog((SAMPLE_FOLDER / sample).read_text(encoding="utf-8"))
        # Counted a day ago, so that what is tried has a past to happen in.
        await import_catalog(engine, store_id, catalog, as_of=datetime.now(UTC) - timedelta(days=1))
        async with engine.begin() as connection:
            await change_store(connection, store_id, {"mipos_store_id": store_id})
    await engine.dispose()


def make_settings(postgres: Postgres, data: Path, *, port: int, sandbox_port: int) -> Settings:
    """The development settings, with secrets of the folder's own."""
    owner: URL = make_url(postgres.url(name_of(postgres)))
    service = owner.set(username=name_of(postgres), password=secret(data / "database-password"))
    return _NothingElse.model_validate(
        {
            "database_url": service.render_as_string(hide_password=False),
            "mipos_client_secret": client_secret(data),
            "pos_api_key": secret(data / "pos-api-key"),
            "operator_password": secret(data / "page-password"),
            "mipos_base_url": f"http://127.0.0.1:{sandbox_port}",
            "mipos_client_id": "sandbox-client",
            "mipos_email": "pos@example.com",
            "mipos_password": "sandbox",
            "public_url": f"http://127.0.0.1:{port}",
            "port": port,
            "log_format": "console",
        }
    )


def client_secret(data: Path) -> str:
    """What the sandbox signs with, and the service verifies by."""
    return secret(data / "client-secret")


def secret(file: Path) -> str:
    """The secret in `file`, made once."""
    if not file.exists():
        _write(file, secrets.token_hex(20))
    return file.read_text()


def _write(file: Path, content: str) -> None:
    """Only for its owner, and whole or not at all."""
    new = file.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_text(content)
    new.replace(file)


def write_files(data: Path, settings: Settings) -> tuple[Path, Path]:
    """Write the env file of the commands, and what a second terminal reads with `. FILE` before it runs them; return both."""
    env_file, activate = data / "dev.env", data / "activate"
    values = _in_the_clear(settings)
    lines = [f"{name.upper()}='{getattr(value, 'value', value)}'\n" for name, value in values.items()]
    exported = {
        ENV_FILE_VARIABLE: str(env_file.resolve()),
        SANDBOX_URL_VARIABLE: settings.mipos_base_url,
        "POS_SYNC_URL": str(settings.public_url),
        "POS_API_KEY": str(values["pos_api_key"]),
        "MIPOS_CLIENT_SECRET": str(values["mipos_client_secret"]),
    }
    _write(env_file, "".join(lines))
    search_path = f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"\n'
    _write(activate, search_path + "".join(f"export {name}={shlex.quote(value)}\n" for name, value in exported.items()))
    return env_file, activate


def _in_the_clear(settings: Settings) -> dict[str, Any]:
    """Every setting with its value, secrets too: only for handing on."""
    return {
        name: value.get_secret_value() if hasattr(value, "get_secret_value") else value
        for name, value in settings.model_dump().items()
        if value is not None
    }
