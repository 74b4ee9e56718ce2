"""One frozen settings object, from the environment, an env file and secret files; no other module reads the environment.

`.env.example` and the table of docs/configuration.md are generated from it (`python -m tests.support.configuration`).
"""

import os
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import Field, SecretStr, ValidationError, model_validator

from app.database_address import Address, read_address
from app.database_settings import DatabaseSettings
from app.env_file import ENV_FILE_VARIABLE, UnusableFile, check_env_file, secret_folders
from app.setting_faults import problem_of
from app.setting_values import (
    Addresses,
    AlertSecret,
    ApiKeyText,
    ClientSecret,
    DatabaseReadUrl,
    DayTime,
    HeaderName,
    HttpUrl,
    ListenAddress,
    LogLevel,
    MiposUrl,
    PagePassword,
    PublicUrl,
    SealKeyText,
    StoreKeys,
    Token,
    TraceSample,
    read_store_keys,
)

SECRETS_DIRECTORY = Path("/run/secrets")


class SettingsRefused(Exception):
    """The settings cannot be used; the message names every fault, and no value of a secret."""


class Settings(DatabaseSettings):
    """What an operator can set. Each is an environment variable, a line of the env file, or a file in /run/secrets."""

    mipos_client_secret: ClientSecret = Field(
        description="The client secret of your mipOS account: the key with which mipOS signs what it sends."
    )
    mipos_client_secret_previous: ClientSecret | None = Field(
        default=None,
        description="A second client secret while the first is being replaced. A delivery may be signed with either.",
    )
    public_url: PublicUrl | None = Field(
        default=None,
        description="Where mipOS reaches this service, such as https://pos.example.com. The webhook is at /webhooks/stock.",
    )
    mipos_register_on_startup: bool = Field(
        default=True, description="Register the webhook at mipOS when the service starts. Needs PUBLIC_URL and a mipOS account."
    )
    mipos_base_url: MiposUrl = Field(
        default="https://integrations.mipos.shop",
        description="The address of mipOS, or of the sandbox.",
    )
    mipos_client_id: str | None = Field(default=None, description="The client id of your mipOS account, for the token call.")
    mipos_email: str | None = Field(default=None, description="The e-mail address of your mipOS account, for the token call.")
    mipos_password: SecretStr | None = Field(default=None, description="The password of your mipOS account, for the token call.")
    mipos_access_token: Token | None = Field(
        default=None, description="A token that you were given, instead of client id, e-mail and password."
    )
    sync_every: float | None = Field(
        default=None,
        gt=0,
        le=8760,
        description="Hours between full synchronisations of each store that has a mipOS id. Not set: only by command.",
    )
    host: ListenAddress = Field(default="127.0.0.1", description="The address to listen on. In a container: 0.0.0.0.")
    port: int = Field(default=8080, ge=0, le=65535, description="The port to listen on.")
    forwarded_allow_ips: Addresses = Field(
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
        description="The key with which the POS records and reads over HTTP (/pos/...). Without a key these routes do not exist.",
    )
    pos_api_key_previous: ApiKeyText | None = Field(
        default=None, description="A second key for all stores, while the first is being replaced."
    )
    pos_store_keys: StoreKeys | None = Field(
        default=None,
        description="Keys that are good for one store each: STORE=KEY pairs, comma separated.",
    )
    database_read_url: DatabaseReadUrl | None = Field(
        default=None,
        description="A standby of the same database, for what the POS lists (/pos/...) and the page. Written as DATABASE_URL.",
    )
    seal_every: float = Field(
        default=60, ge=0, le=10080, description="Minutes between two seals of new ledger rows (docs/seals.md). 0: none."
    )
    seal_signing_key: SealKeyText | None = Field(
        default=None, description="A key that signs checkpoints (pos-sync seal key). Needs the extra 'signing'."
    )
    ping_every: float = Field(
        default=5,
        ge=0,
        le=1440,
        description="Minutes between two signed requests through PUBLIC_URL that prove that it leads here. 0: none.",
    )
    database_disk_bytes: int | None = Field(
        default=None,
        ge=1,
        description="Bytes of the disk that the database has. Above 80 % a warning begins, above 90 % an alarm.",
    )
    alert_webhook_url: HttpUrl | None = Field(
        default=None,
        description="Where one JSON message goes when a problem begins, gets worse or ends (docs/runbook.md).",
    )
    alert_webhook_secret: AlertSecret | None = Field(
        default=None, description="The key that signs these messages (Standard Webhooks): whsec_ and 24 or more bytes in base64."
    )
    heartbeat_url: HttpUrl | None = Field(
        default=None,
        description="Called each minute while the service looks for problems: for a monitor that rings when the calls stop.",
    )
    trace_sample: TraceSample = Field(
        default=0,
        ge=0,
        le=1,
        description="Share of deliveries and stock updates that are traced (docs/operating.md). Needs the extra 'tracing'.",
    )
    operator_password: PagePassword | None = Field(
        default=None, description="The password of the operator page, /ui (docs/page.md). Not set: there is no page."
    )
    viewer_password: PagePassword | None = Field(
        default=None, description="A second password for the page, for people who may see all and change nothing."
    )
    operator_user_header: HeaderName | None = Field(
        default=None,
        description="A header in which a proxy names the person, such as X-Forwarded-User. Taken from FORWARDED_ALLOW_IPS only.",
    )
    operator_users: str = Field(
        default="",
        description="Names of that header that are operators, separated by commas. All others are viewers.",
    )
    business_day_starts: DayTime = Field(
        default="04:00",
        description="When a business day begins at the page, by the store's clock: a sale after midnight is of the day before.",
    )
    operator_read_only: bool = Field(default=False, description="The page shows, and changes nothing.")
    operator_plain_http: bool = Field(
        default=False, description="The page may be used over http from other machines: passwords are readable on the way."
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
    keep_alive: int = Field(
        default=75,
        ge=5,
        le=86400,
        description="Seconds for which an idle connection stays open. Longer than the proxy keeps it (Google Cloud: 600).",
    )
    drain_delay: float = Field(
        default=0.0,
        ge=0,
        le=300,
        description="Seconds for which a stopping service still takes deliveries, while /readyz answers 503.",
    )
    log_format: Literal["json", "console"] = Field(default="json", description="The form of log lines.")
    log_level: LogLevel = Field(default="INFO", description="DEBUG, INFO, WARNING or ERROR.")

    @model_validator(mode="after")
    def _whole_credentials(self) -> Self:
        """Part of the credentials is a mistake that should not wait for the first call to be found."""
        parts = {"MIPOS_CLIENT_ID": self.mipos_client_id, "MIPOS_EMAIL": self.mipos_email, "MIPOS_PASSWORD": self.mipos_password}
        if self.alert_webhook_url is not None and self.alert_webhook_secret is None:
            raise ValueError("ALERT_WEBHOOK_URL needs ALERT_WEBHOOK_SECRET: else anybody could send its receiver such messages")
        passwords = [one.get_secret_value() for one in (self.operator_password, self.viewer_password) if one is not None]
        if len(set(passwords)) < len(passwords):
            raise ValueError("VIEWER_PASSWORD is OPERATOR_PASSWORD: a viewer would be an operator")
        everywhere = {key.get_secret_value() for key in (self.pos_api_key, self.pos_api_key_previous) if key is not None}
        stores = read_store_keys(self.pos_store_keys.get_secret_value()) if self.pos_store_keys else []
        if any(key in everywhere for _, key in stores):
            raise ValueError(
                "POS_STORE_KEYS has a key that is POS_API_KEY, or its previous one: it would be good for every store"
            )
        missing = [name for name, value in parts.items() if value is None]
        if 0 < len(missing) < len(parts):
            raise ValueError(f"{' and '.join(missing)} not set: the token call needs client id, e-mail and password together")
        return self

    @property
    def pos_keys(self) -> dict[str, str | None]:
        """Every key of the POS, and the store that it is good for; None is all stores."""
        stores = read_store_keys(self.pos_store_keys.get_secret_value()) if self.pos_store_keys else []
        everywhere = [key.get_secret_value() for key in (self.pos_api_key_previous, self.pos_api_key) if key is not None]
        return {**{key: store_id for store_id, key in stores}, **dict.fromkeys(everywhere)}

    @property
    def has_page(self) -> bool:
        """Whether there is an operator page: only where somebody can log in."""
        return any((self.operator_password, self.viewer_password, self.operator_user_header))

    @property
    def standby_address(self) -> Address | None:
        """`DATABASE_READ_URL`, and what libpq's variables add to it."""
        given = self.database_read_url
        return None if given is None else read_address(given.get_secret_value(), of_standby=True)

    @property
    def has_mipos_account(self) -> bool:
        """Whether there is anything to call mipOS with."""
        return self.mipos_access_token is not None or self.mipos_client_id is not None


NAMES = frozenset(name.upper() for name in Settings.model_fields)
"""The variables of all settings"""

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
    env_file = Path(os.environ.get(ENV_FILE_VARIABLE, ".env"))
    if ENV_FILE_VARIABLE in os.environ and not env_file.exists():
        raise SettingsRefused(f"{ENV_FILE_VARIABLE} names {env_file}, and there is no such file.")
    try:
        check_env_file(env_file, NAMES)
        return kind(_env_file=env_file, _secrets_dir=secret_folders(SECRETS_DIRECTORY, NAMES), **overrides)
    except UnusableFile as error:
        raise SettingsRefused(str(error)) from None
    except ValidationError as error:
        raise SettingsRefused(_faults(error)) from None
    except UnicodeDecodeError:
        raise SettingsRefused(f"The settings file {env_file} is not UTF-8.") from None


def _faults(error: ValidationError) -> str:
    lines = ["These settings cannot be used (.env.example explains each):"]
    for fault in error.errors(include_input=False, include_url=False):
        name = str(fault["loc"][0]) if fault["loc"] else ""
        problem = problem_of(fault, Settings.model_fields.get(name))
        # What several settings have together says itself which they are.
        lines.append(f"  {name.upper()}: {problem}" if name else f"  {fault['msg'].removeprefix('Value error, ')}")
    return "\n".join(lines)
