"""The settings that every command needs: the database, the time zone, and the rules. `app.settings` adds those of the service."""

from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from app.database_address import Address, read_address
from app.setting_values import DatabaseSchema, DatabaseUrl, Timezone
from app.stock.rules import NegativeStock, ReportedStock, Rules


class DatabaseSettings(BaseSettings):
    """What every command needs: where the database is, how dates are shown, and by which rules movements are decided."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, str_strip_whitespace=True, hide_input_in_errors=True
    )

    database_url: DatabaseUrl = Field(
        description="The POS database: postgresql://user:password@host:5432/database. Several hosts: h1,h2."
    )
    database_pooler: Literal["none", "transaction"] = Field(
        default="none", description="Set it to 'transaction' if PgBouncer in transaction mode stands before Postgres."
    )
    database_schema: DatabaseSchema = Field(
        default="pos_sync",
        description="The schema of our tables and functions. For Citus: one for each chain of stores.",
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

    retention_days: int = Field(
        default=30,
        ge=0,
        le=36500,
        description="Days for which bodies of closed refusals and duplicates, and ended synchronisations, are kept. 0: all stay.",
    )
    outbox_retention_days: int = Field(
        default=100, ge=7, le=36500, description="Days for which stock updates are kept that were sent, covered or dismissed."
    )

    @field_validator("*", mode="before")
    @classmethod
    def _without_quotes(cls, value: object) -> object:
        if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            raise ValueError("stands in quotes, which are a part of it: `docker --env-file` keeps them. Write it without")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is nearest counts: the arguments, the environment, the secret files, and last the env file."""
        del settings_cls
        return init_settings, env_settings, file_secret_settings, dotenv_settings

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
    def database_address(self) -> Address:
        """`DATABASE_URL`, and what libpq's variables add to it."""
        return read_address(self.database_url.get_secret_value())

    @property
    def is_pooled(self) -> bool:
        """Whether PgBouncer in transaction mode stands before Postgres."""
        return self.database_pooler == "transaction"
