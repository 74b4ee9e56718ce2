"""The POS side of mipOS inventory synchronisation."""


def version() -> str:
    """The installed version; "development" where the code runs without being installed."""
    # Here and not above: Ctrl-C in an import of this package would be a traceback (app.cli).
    from importlib.metadata import PackageNotFoundError  # noqa: PLC0415
    from importlib.metadata import version as installed_version  # noqa: PLC0415

    try:
        return installed_version("mipos-pos-sync")
    except PackageNotFoundError:
        return "development"
