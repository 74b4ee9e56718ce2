"""The secrets with which this service verifies, as bytes: the one place where they leave the settings."""

from app.receiving.explanation import Deviation, NamedKey, Place
from app.receiving.signature import Key
from app.settings import Settings

_NAMES = {Key.CURRENT: "MIPOS_CLIENT_SECRET", Key.PREVIOUS: "MIPOS_CLIENT_SECRET_PREVIOUS"}


def client_secrets(settings: Settings) -> list[tuple[Key, bytes]]:
    """The current one first."""
    given = [(Key.CURRENT, settings.mipos_client_secret), (Key.PREVIOUS, settings.mipos_client_secret_previous)]
    return [(key, secret.get_secret_value().encode("ascii")) for key, secret in given if secret is not None]


def own_keys(settings: Settings) -> list[NamedKey]:
    """Those secrets, to explain a signature with."""
    return [NamedKey(_NAMES[key], secret) for key, secret in client_secrets(settings)]


def exchanged_keys(settings: Settings) -> list[NamedKey]:
    """What is taken for the client secret by mistake."""
    password = settings.mipos_password.get_secret_value() if settings.mipos_password else None
    keys = []
    for name, value in (("MIPOS_CLIENT_ID", settings.mipos_client_id), ("MIPOS_PASSWORD", password)):
        if value:
            remedy = f"Look whether {name} and MIPOS_CLIENT_SECRET were exchanged: the client secret belongs in the latter."
            keys.append(NamedKey(name, value.encode(), Deviation(f"the key is {name}", Place.HERE, remedy)))
    return keys
