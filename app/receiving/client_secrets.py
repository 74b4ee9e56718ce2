"""The secrets with which this service verifies, as bytes: the one place where they leave the settings."""

from app.receiving.signature import Key
from app.settings import Settings


def client_secrets(settings: Settings) -> list[tuple[Key, bytes]]:
    """The current one first."""
    given = [(Key.CURRENT, settings.mipos_client_secret), (Key.PREVIOUS, settings.mipos_client_secret_previous)]
    return [(key, secret.get_secret_value().encode("ascii")) for key, secret in given if secret is not None]
