"""`pos-sync page link`: a link that logs in once at the operator page."""

import secrets
from datetime import timedelta
from typing import Any

import click

from app.cli.database import in_transaction
from app.cli.group import CommandGroup
from app.cli.options import json_option
from app.cli.output import show_json
from app.page.visitor import MAX_NAME_LENGTH, Role, link_hash
from app.scope import LINK_PATH
from app.settings import Settings, load_settings
from app.stock.text import fault_in
from app.storage.engine import Database
from app.storage.page_access import Grant, put_link

LINK_LASTS = timedelta(minutes=15)
_LINK_BYTES = 24


@click.group(cls=CommandGroup)
def command() -> None:
    """Let people into the operator page.

    \b
    Example:  pos-sync page link --name Ana
    """


@command.command("link")
@click.option("--name", required=True, help="Who it is for: the name that is written beside what they change.")
@click.option("--viewer", "is_viewer", is_flag=True, help="For somebody who may see all and change nothing.")
@json_option
def link_command(*, name: str, is_viewer: bool, as_json: bool) -> None:
    """Make a link that logs in once, within 15 minutes.

    Who opens it sees a button, and the button logs in: a chat that previews the link does not spend it. The page has to be
    switched on (OPERATOR_PASSWORD, or VIEWER_PASSWORD for viewers).

    \b
    Example:  pos-sync page link --name Ana
    """
    settings = load_settings()
    if fault := fault_in(name, max_length=MAX_NAME_LENGTH):
        raise click.BadParameter(f"{fault}.", param_hint="--name")
    role = Role.VIEWER if is_viewer else Role.OPERATOR
    if (settings.viewer_password if is_viewer else settings.operator_password) is None:
        missing = "VIEWER_PASSWORD" if is_viewer else "OPERATOR_PASSWORD"
        raise click.ClickException(f"Nobody can log in as {role}: {missing} is not set. Set it, and start the service again.")
    url, link = _new(settings)
    in_transaction(lambda connection: put_link(connection, link, Grant(name, role), lasts=LINK_LASTS))
    if as_json:
        document: dict[str, Any] = {
            "url": url,
            "name": name,
            "role": role.value,
            "minutes": int(LINK_LASTS.total_seconds() // 60),
        }
        show_json(document)
        return
    click.echo(url)
    click.echo(f"It logs {name} in once, as {role}, within 15 minutes.", err=True)


async def new_link(database: Database, settings: Settings, grant: Grant) -> str:
    """A link for somebody, as `pos-sync page link` makes it."""
    url, link = _new(settings)
    async with database.engine() as engine, engine.begin() as connection:
        await put_link(connection, link, grant, lasts=LINK_LASTS)
    return url


def _new(settings: Settings) -> tuple[str, bytes]:
    link = secrets.token_urlsafe(_LINK_BYTES)
    return f"{_base_of(settings)}{LINK_PATH}{link}", link_hash(link)


def _base_of(settings: Settings) -> str:
    """Where the page is: on this machine, since the proxy lets nobody in unless it was told to."""
    host = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host  # noqa: S104 - what is listened on
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
