"""One frozen settings object, from the environment, an env file and secret files; no other module reads the environment.

`.env.example` and the table of docs/configuration.md are generated from it (`python -m tests.support.configuration`).
"""

import ipaddress
import os
import zoneinfo
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from app.stock.rules import NegativeStock, ReportedStock, Rules

SECRETS_DIRECTORY = Path("/run/secrets")
MIN_SECRET_LENGTH = 16
ENV_FILE_VARIABLE = "POS_SYNC_ENV_FILE"

_MAX_PORT = 65535
_SSL_MODES = {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}
_URL_OPTIONS = {"host", "port", "sslmode", "target_session_attrs"}
_IGNORED_URL_OPTIONS = {"application_name", "connect_timeout", "channel_binding", "gssencmode"}
"""What addresses of other programs may carry, and what this one decides by itself."""


MIN_API_KEY_LENGTH = 16


class SettingsRefused(Exception):
    """The settings cannot be used; the message names every fault, and no value of a secret."""


def _database_url(value: SecretStr) -> SecretStr:
    """Refuse what would fail only when it is first used; says nothing of the address itself, which holds a password."""
    try:
        url = make_url(value.get_secret_value())
    except (ArgumentError, ValueError):
        raise ValueError("must look like postgresql://user:password@host:5432/database (special characters as %XX)") from None
    if url.get_backend_name() not in {"postgresql", "postgres"}:
        raise ValueError("must be a Postgres address: postgresql://user:password@host:5432/database")
    if not url.database:
        raise ValueError("names no database: postgresql://user:password@host:5432/database")
    if url.port is not None and not 0 < url.port <= _MAX_PORT:
        raise ValueError("names a port that is not one (1 to 65535)")
    unknown = sorted(set(url.query) - _URL_OPTIONS - _IGNORED_URL_OPTIONS)
    if unknown:
        raise ValueError(f"has options that are not known here: {', '.join(unknown)}")
    if url.query.get("sslmode", "prefer") not in _SSL_MODES:
        raise ValueError(f"has an unknown sslmode; known are {', '.join(sorted(_SSL_MODES))}")
    return value


def _client_secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value().strip()
    if len(text) < MIN_SECRET_LENGTH:
        raise ValueError(f"is shorter than {MIN_SECRET_LENGTH} characters; copy the client secret that mipOS gave you")
    if not text.isascii():
        raise ValueError("holds characters that are not ASCII; copy the client secret that mipOS gave you")
    return SecretStr(text)


def _token(value: SecretStr) -> SecretStr:
    text = value.get_secret_value().strip()
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("holds characters that no token has; copy it again")
    return SecretStr(text)


def _addresses(value: str) -> str:
    for address in value.split(","):
        try:
            ipaddress.ip_network(address.strip(), strict=False)
        except ValueError:
            raise ValueError("must be addresses or networks, comma separated, such as 10.0.0.5,172.31.77.0/24") from None
    return value


def _http_url(value: str) -> str:
    """A base address without the slash at its end; nothing in it that a path could not follow."""
    try:
        parts = urlsplit(value)
        is_base = bool(parts.scheme in {"https", "http"} and parts.hostname and parts.port != 0 and parts.username is None)
    except ValueError:
        is_base = False
    if not is_base or not value.isprintable() or any(character in value for character in "?# "):
        raise ValueError("must look like https://pos.example.com")
    return value.rstrip("/")


def _timezone(value: str) -> str:
    if value not in zoneinfo.available_timezones():
        raise ValueError("is not a timezone name such as UTC or America/Guayaquil")
    return value


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _api_key(value: SecretStr) -> SecretStr:
    key = value.get_secret_value()
    if len(key) < MIN_API_KEY_LENGTH or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError(f"must be {MIN_API_KEY_LENGTH} or more visible ASCII characters, without spaces")
    return value


Timezone = Annotated[str, AfterValidator(_timezone)]
ClientSecret = Annotated[SecretStr, AfterValidator(_client_secret)]
ApiKeyText = Annotated[SecretStr, AfterValidator(_api_key)]
Level = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)]


def to_sqlalchemy(address: str) -> URL:
    """`address` for SQLAlchemy with asyncpg, whatever driver it names; libpq's sslmode becomes asyncpg's ssl."""
    url = make_url(address).set(drivername="postgresql+asyncpg").difference_update_query(_IGNORED_URL_OPTIONS)
    sslmode = url.query.get("sslmode")
    return url if sslmode is None else url.difference_update_query(["sslmode"]).update_query_dict({"ssl": sslmode})


class DatabaseSettings(BaseSettings):
    """What every command needs: where the database is, how dates are shown, and by which rules movements are decided."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, str_strip_whitespace=True, hide_input_in_errors=True
    )

    database_url: Annotated[SecretStr, AfterValidator(_database_url)] = Field(
        description="The POS database: postgresql://user:password@host:5432/database. sslmode=require may follow a '?'."
    )
    database_pooler: Literal["none", "transaction"] = Field(
        default="none", description="Set it to 'transaction' if PgBouncer in transaction mode stands before Postgres."
    )
    timezone: Timezone = Field(
        default="UTC",
        description="Time zone (IANA name) of every store that has none of its own. It dates what is sent and what is shown.",
    )

    pos_id: str | None = Field(
        default=None, description="Your pos_id at mipOS. If it is set, a movement for another POS is refused with 409."
    )
    negative_stock: NegativeStock = Field(
        default=NegativeStock.ALLOW,
        description="A movement below zero: 'allow' applies and flags it, 'refuse' answers 409. Per store: store set.",
    )
    reported_stock: ReportedStock = Field(
        default=ReportedStock.AFTER,
        description="Whether current_stock is the inventory system's stock 'after' or 'before' its movement. Used by drift only.",
    )

    max_count_age_days: int = Field(
        default=7, ge=1, le=3650, description="A count that is older than this many days is refused with 409."
    )

    @property
    def rules(self) -> Rules:
        """Return the rules as this process was started; those that the database has recorded count."""
        return Rules(
            pos_id=self.pos_id,
            negative_stock=self.negative_stock,
            reported_stock=self.reported_stock,
            timezone=self.timezone,
            max_count_age_days=self.max_count_age_days,
        )

    @property
    def sqlalchemy_url(self) -> URL:
        """`DATABASE_URL` for SQLAlchemy."""
        return to_sqlalchemy(self.database_url.get_secret_value())


class Settings(DatabaseSettings):
    """What an operator can set. Each is an environment variable, a line of the env file, or a file in /run/secrets."""

    mipos_client_secret: ClientSecret = Field(
        description="The client secret of your mipOS account: the key with which mipOS signs what it sends."
    )
    mipos_client_secret_previous: ClientSecret | None = Field(
        default=None,
        description="A second client secret while the first is being replaced. A delivery may be signed with either.",
    )
    public_url: Annotated[str, AfterValidator(_http_url)] | None = Field(
        default=None,
        description="Where mipOS reaches this service, such as https://pos.example.com. The webhook is at /webhooks/stock.",
    )
    mipos_register_on_startup: bool = Field(
        default=True, description="Register the webhook at mipOS when the service starts. Needs PUBLIC_URL and a mipOS account."
    )
    mipos_base_url: Annotated[str, AfterValidator(_http_url)] = Field(
        default="https://integrations.mipos.shop", description="The address of mipOS, or of the sandbox."
    )
    mipos_client_id: str | None = Field(default=None, description="The client id of your mipOS account, for the token call.")
    mipos_email: str | None = Field(default=None, description="The e-mail address of your mipOS account, for the token call.")
    mipos_password: SecretStr | None = Field(default=None, description="The password of your mipOS account, for the token call.")
    mipos_access_token: Annotated[SecretStr, AfterValidator(_token)] | None = Field(
        default=None, description="A token that you were given, instead of client id, e-mail and password."
    )
    sync_every: float | None = Field(
        default=None,
        gt=0,
        le=8760,
        description="Hours between full synchronisations of each store that has a mipOS id. Not set: only by command.",
    )
    host: str = Field(default="127.0.0.1", description="The address to listen on. In a container: 0.0.0.0.")
    port: int = Field(default=8080, ge=0, le=65535, description="The port to listen on.")
    forwarded_allow_ips: Annotated[str, AfterValidator(_addresses)] = Field(
        default="127.0.0.1",
        description="Addresses or networks of proxies, separated by commas. Their X-Forwarded-For and -Proto are trusted.",
    )
    max_body_bytes: int = Field(
        default=65536, ge=1024, le=1048576, description="Limit of a delivery's body, in bytes. A call of the POS may have 2 MiB."
    )
    response_deadline: float = Field(
        default=4.0, ge=0.5, le=60, description="Seconds within which every delivery is answered, if necessary with 503."
    )
    pos_api_key: ApiKeyText | None = Field(
        default=None,
        description="The key with which the POS records and reads over HTTP (/pos/...). Not set: these routes do not exist.",
    )
    docs_enabled: bool = Field(
        default=True, description="Serve /docs, a page that describes the HTTP API. /openapi.json is always served."
    )
    outbox_parallel: int = Field(default=8, ge=1, le=64, description="Stock updates that a worker sends at a time.")
    waiting_line: int = Field(
        default=2000,
        ge=1,
        le=100000,
        description="Deliveries that may wait in a worker. Further ones are answered 503.",
    )
    drain_delay: float = Field(
        default=0.0,
        ge=0,
        le=300,
        description="Seconds for which a stopping service still takes deliveries, while /readyz answers 503.",
    )
    log_format: Literal["json", "console"] = Field(default="json", description="The form of log lines.")
    log_level: Level = Field(default="INFO", description="DEBUG, INFO, WARNING or ERROR.")

    @model_validator(mode="after")
    def _whole_credentials(self) -> Self:
        """Part of the credentials is a mistake that should not wait for the first call to be found."""
        parts = {"MIPOS_CLIENT_ID": self.mipos_client_id, "MIPOS_EMAIL": self.mipos_email, "MIPOS_PASSWORD": self.mipos_password}
        missing = [name for name, value in parts.items() if value is None]
        if 0 < len(missing) < len(parts):
            raise ValueError(f"{' and '.join(missing)} not set: the token call needs client id, e-mail and password together")
        return self

    @property
    def has_mipos_account(self) -> bool:
        """Whether there is anything to call mipOS with."""
        return self.mipos_access_token is not None or self.mipos_client_id is not None


Kind = TypeVar("Kind", bound=DatabaseSettings)


def load_settings(**overrides: Any) -> Settings:  # noqa: ANN401 - any field's value
    """The settings of this process; `overrides` go before all else, then the environment, the env file, secret files.

    The env file is `.env`, or the one that the variable POS_SYNC_ENV_FILE names (`pos-sync --env-file`).

    Raises:
        SettingsRefused: one message that names every fault.
    """
    return _load(Settings, overrides)


def load_database_settings() -> DatabaseSettings:
    """The settings that a command needs which only works on the database: it asks for no client secret.

    Raises:
        SettingsRefused: one message that names every fault.
    """
    return _load(DatabaseSettings, {})


def _load(kind: type[Kind], overrides: dict[str, Any]) -> Kind:
    secrets_directory = SECRETS_DIRECTORY if SECRETS_DIRECTORY.is_dir() else None
    env_file = os.environ.get(ENV_FILE_VARIABLE, ".env")
    try:
        return kind(_env_file=env_file, _secrets_dir=secrets_directory, **overrides)
    except ValidationError as error:
        raise SettingsRefused(_faults(error)) from None
    except UnicodeDecodeError:
        raise SettingsRefused(f"The settings file {env_file} is not UTF-8.") from None


def _faults(error: ValidationError) -> str:
    lines = ["These settings cannot be used (.env.example explains each):"]
    for fault in error.errors(include_input=False, include_url=False, include_context=False):
        name = str(fault["loc"][0]).upper() if fault["loc"] else "MIPOS credentials"
        problem = "is not set" if fault["type"] == "missing" else fault["msg"].removeprefix("Value error, ")
        lines.append(f"  {name}: {problem[0].lower()}{problem[1:]}")
    return "\n".join(lines)
