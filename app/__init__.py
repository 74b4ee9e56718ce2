"""The POS side of mipOS inventory synchronisation."""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version


def version() -> str:
    """The installed version; "development" where the code runs without being installed."""
    try:
        return installed_version("mipos-pos-sync")
    except PackageNotFoundError:
        return "development"
