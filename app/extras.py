"""The extras of the package: what brings a library that an installation may be without."""

from importlib import import_module

MODULES = {"signing": "cryptography", "tracing": "opentelemetry.exporter.otlp.proto.http"}


class ExtraNotInstalled(Exception):
    """The message says what needs which extra, and how it is installed."""


def lack_of(extra: str) -> str | None:
    """Words to follow the name of what needs `extra`; None where it is installed."""
    try:
        import_module(MODULES[extra])
    except ImportError:
        return f"needs the extra '{extra}': pip install 'mipos-pos-sync[{extra}]'"
    return None


def require(extra: str, *, needed_by: str) -> None:
    """Do nothing where `extra` is installed.

    Raises:
        ExtraNotInstalled: it is not.
    """
    if (lack := lack_of(extra)) is not None:
        raise ExtraNotInstalled(f"{needed_by} {lack}")
