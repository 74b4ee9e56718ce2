"""`pos-sync serve`."""

import os
import sys

import click

from app.settings import load_settings


@click.command()
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Worker processes.")
@click.option("--host", help="The address to listen on, instead of the setting HOST.")
@click.option("--port", type=click.IntRange(0, 65535), help="The port to listen on, instead of the setting PORT.")
def command(workers: int, host: str | None, port: int | None) -> None:
    """Run the service for production.

    Needs DATABASE_URL and MIPOS_CLIENT_SECRET, and a schema that `pos-sync migrate` has brought to head. SIGTERM lets what
    has been received be committed and answered, then ends with status 0.

    \b
    Example:  pos-sync serve --workers 2
    """
    # Through the environment, since each worker reads the settings anew.
    if host is not None:
        os.environ["HOST"] = host
    if port is not None:
        os.environ["PORT"] = str(port)
    settings = load_settings()
    # Here and not above: the other commands need no web server.
    from app.serving import CannotListen, SchemaNotAtHead, serve  # noqa: PLC0415

    try:
        sys.exit(serve(settings, workers=workers))
    except (SchemaNotAtHead, CannotListen) as error:
        raise click.ClickException(str(error)) from error
