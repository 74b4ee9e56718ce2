"""What single settings may be: each refuses what can never work, with what to write."""

import base64
import ipaddress
import os
import re
import zoneinfo
from functools import cache
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, SecretStr

from app.database_address import read_address
from app.extras import lack_of
from app.setting_url import any_url, mipos_url, public_url
from app.tracing import ENDPOINTS

MIN_SECRET_LENGTH = 16
MIN_API_KEY_LENGTH = 16
MIN_PASSWORD_LENGTH, MIN_PASSWORD_VARIETY = 12, 5
"""Of the page, which people type"""
MIN_ALERT_KEY_BYTES, MAX_ALERT_KEY_BYTES = 24, 64
"""As Standard Webhooks has it"""
_QUOTES = "\"'`"
_HEADERS_OF_ALL = re.compile(
    "host|cookie|authorization|forwarded|x-forwarded-(for|proto|host|port)|x-real-ip|origin|referer|user-agent|date|via|te|upgrade"
    "|connection|expect|range|trailer|x-request-id|x-signature-request|(content|accept|transfer|sec|if|cache|keep)(-.*)?"
)
"""What every client sends, or a proxy for every client"""
SEED_BYTES = 32
"""Of an Ed25519 key"""
MIN_API_KEY_VARIETY = 8
"""Different characters in a key. Of 20 random bytes in hexadecimal, hardly one in a million has fewer."""


def _database_url(value: SecretStr) -> SecretStr:
    """Refuse what would fail only when it is first used; says nothing of the address itself, which holds a password."""
    read_address(value.get_secret_value())
    return value


def _read_url(value: SecretStr) -> SecretStr:
    read_address(value.get_secret_value(), of_standby=True)
    return value


def _client_secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value().strip()
    if len(text) < MIN_SECRET_LENGTH:
        raise ValueError(f"is shorter than {MIN_SECRET_LENGTH} characters; copy the client secret that mipOS gave you")
    if not text.isascii():
        raise ValueError("holds characters that are not ASCII; copy the client secret that mipOS gave you")
    if not text.isprintable() or text[0] in _QUOTES or text[-1] in _QUOTES:
        raise ValueError("holds a quote or a line break that is no part of it; copy the client secret that mipOS gave you")
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


def _listen_address(value: str) -> str:
    try:
        is_one = ":" in value and ipaddress.IPv6Address(value) is not None
    except ValueError:
        is_one = False
    if not is_one and not re.fullmatch("[A-Za-z0-9_.-]+", value):
        raise ValueError("must be an address of this machine such as 0.0.0.0 or ::, without a port, which is PORT")
    return value


def _schema(value: str) -> str:
    if not re.fullmatch("[a-z_][a-z0-9_]{0,62}", value):
        raise ValueError("must be a name of up to 63 lower-case letters, digits and _, such as pos_sync")
    if value in {"public", "information_schema"} or value.startswith("pg_"):
        raise ValueError("must be a schema of our own: others may create functions and tables in that one")
    return value


def _alert_secret(value: SecretStr) -> SecretStr:
    if alert_key(value) is None:
        raise ValueError("must be whsec_ and 24 to 64 bytes in base64. Make one: echo whsec_$(openssl rand -base64 32)")
    return value


def _seal_key(value: SecretStr) -> SecretStr:
    if seal_seed(value) is None:
        raise ValueError("must be 32 bytes in base64. Make one: pos-sync seal key")
    _need("signing")
    return value


def _trace_sample(value: float) -> float:
    if value:
        _need("tracing")
        for name in ENDPOINTS:
            try:
                any_url(os.environ.get(name) or "http://localhost:4318")
            except ValueError:
                raise ValueError(f"needs {name} to look like http://collector:4318, without quotes") from None
    return value


def _need(extra: str) -> None:
    if (lack := lack_of(extra)) is not None:
        raise ValueError(lack)


def seal_seed(secret: SecretStr) -> bytes | None:
    """The bytes of a signing key in base64; None where it is none."""
    try:
        seed = base64.b64decode(secret.get_secret_value(), validate=True)
    except ValueError:
        return None
    return seed if len(seed) == SEED_BYTES else None


def alert_key(secret: SecretStr) -> bytes | None:
    """The bytes of a secret in Standard Webhooks' form; None where it has not that form."""
    prefix, _, encoded = secret.get_secret_value().partition("_")
    try:
        key = base64.b64decode(encoded, validate=True)
    except ValueError:
        return None
    return key if prefix == "whsec" and MIN_ALERT_KEY_BYTES <= len(key) <= MAX_ALERT_KEY_BYTES else None


@cache
def known_timezones() -> set[str]:
    """Their names. It takes a look into six hundred files."""
    return zoneinfo.available_timezones()


def _timezone(value: str) -> str:
    if value not in known_timezones():
        raise ValueError("is not a timezone name such as UTC or America/Guayaquil")
    return value


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _fault_in_key(key: str) -> str | None:
    if len(key) < MIN_API_KEY_LENGTH or not key.isascii() or not key.isprintable() or " " in key:
        return f"must be {MIN_API_KEY_LENGTH} or more visible ASCII characters, without spaces"
    if len(set(key)) < MIN_API_KEY_VARIETY:
        return "is too simple to be secret. Make one with: openssl rand -hex 20"
    return None


def _api_key(value: SecretStr) -> SecretStr:
    if fault := _fault_in_key(value.get_secret_value()):
        raise ValueError(fault)
    return value


def _password(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if len(text) < MIN_PASSWORD_LENGTH or len(set(text)) < MIN_PASSWORD_VARIETY:
        raise ValueError(
            f"is too short or too simple: {MIN_PASSWORD_LENGTH} characters or more. Make one: openssl rand -base64 15"
        )
    return value


def _header_name(value: str) -> str:
    if not re.fullmatch("[A-Za-z0-9-]{1,64}", value):
        raise ValueError("must be the name of an HTTP header, such as X-Forwarded-User")
    if _HEADERS_OF_ALL.fullmatch(value.lower()):
        raise ValueError(
            "is a header that every client sends: it names no user. Write the one that your proxy sets, such as X-Forwarded-User"
        )
    return value.lower()


def _day_time(value: str) -> str:
    if not re.fullmatch("([01][0-9]|2[0-3]):[0-5][0-9]", value):
        raise ValueError("must be a time of the day such as 04:00")
    return value


def _store_keys(value: SecretStr) -> SecretStr:
    keys = read_store_keys(value.get_secret_value())
    for store_id, key in keys:
        if not store_id or not key:
            raise ValueError("must be STORE=KEY pairs, comma separated")
        if ";" in key:
            raise ValueError(f"must be STORE=KEY pairs with commas between, and no semicolons (the key of store {store_id})")
        if fault := _fault_in_key(key):
            raise ValueError(f"{fault} (the key of store {store_id})")
    if len({key for _, key in keys}) < len(keys):
        raise ValueError("gives one key to two stores. POS_API_KEY is the key for all stores")
    return value


def read_store_keys(text: str) -> list[tuple[str, str]]:
    """Stores and their keys, of `STORE=KEY` pairs with commas between; a store may have two keys while one is replaced."""
    pairs = [pair.strip().partition("=") for pair in text.split(",") if pair.strip()]
    return [(store_id.strip(), key.strip()) for store_id, _, key in pairs]


Timezone = Annotated[str, AfterValidator(_timezone)]
ClientSecret = Annotated[SecretStr, AfterValidator(_client_secret)]
ApiKeyText = Annotated[SecretStr, AfterValidator(_api_key)]
PagePassword = Annotated[SecretStr, AfterValidator(_password)]
DayTime = Annotated[str, AfterValidator(_day_time)]
HeaderName = Annotated[str, AfterValidator(_header_name)]
StoreKeys = Annotated[SecretStr, AfterValidator(_store_keys)]
DatabaseSchema = Annotated[str, AfterValidator(_schema)]
DatabaseUrl = Annotated[SecretStr, AfterValidator(_database_url)]
DatabaseReadUrl = Annotated[SecretStr, AfterValidator(_read_url)]
Token = Annotated[SecretStr, AfterValidator(_token)]
AlertSecret = Annotated[SecretStr, AfterValidator(_alert_secret)]
TraceSample = Annotated[float, AfterValidator(_trace_sample)]
SealKeyText = Annotated[SecretStr, AfterValidator(_seal_key)]
HttpUrl = Annotated[str, AfterValidator(any_url)]
PublicUrl = Annotated[str, AfterValidator(public_url)]
MiposUrl = Annotated[str, AfterValidator(mipos_url)]
ListenAddress = Annotated[str, AfterValidator(_listen_address)]
Addresses = Annotated[str, AfterValidator(_addresses)]
LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)]
