"""`pos-sync sandbox`, `sandbox move` and `send`: what mipOS does, on this machine."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import httpx2

from app.cli.group import CommandGroup
from app.cli.options import json_option
from app.cli.output import end_with_answer
from app.cli.progress import progress
from app.failure import reason_of_call
from app.receiving.mipos_sender import DOCUMENTED_MOVEMENT, now_text, php_json, signed_headers
from app.scope import WEBHOOK_PATH
from app.settings import load_settings

DEFAULT_PORT = 8090
SYSTEM = DOCUMENTED_MOVEMENT["inventory_system_id"]
CLIENT_SECRET = "MIPOS_CLIENT_SECRET"  # noqa: S105 - the name of a variable
ANSWER_SECONDS = 60
NO_DATABASE = "postgresql://nobody@localhost/none"
"""What stands for the one that `send` never asks"""
_RECEIVED = (
    "received. The movement is applied, now or before. If it may be one of its own, it is kept instead: pos-sync duplicates list"
)
RUN_ID = "POS_SYNC_SANDBOX_RUN"
"""The variable with which `pos-sync dev` knows its own sandbox again, whatever else may listen on the port"""


@click.group(cls=CommandGroup, invoke_without_command=True)
@click.option("--port", type=click.IntRange(1, 65535), default=DEFAULT_PORT, show_default=True, help="On this machine only.")
@click.option("--client-id", default="sandbox-client", show_default=True, envvar="MIPOS_CLIENT_ID")
@click.option("--email", default="pos@example.com", show_default=True, envvar="MIPOS_EMAIL")
@click.option("--token-seconds", type=click.IntRange(1), default=3600, show_default=True, help="How long a token lives.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--catalog",
    "catalogs",
    metavar="STORE FILE",
    nargs=2,
    type=(str, click.Path(exists=True, dir_okay=False, path_type=Path)),
    multiple=True,
    help="A JSON catalog: the sandbox gets its inventory system with the same stock. Repeatable.",
)
@click.option(
    "--state", type=click.Path(dir_okay=False, path_type=Path), help="A file that keeps the state of the sandbox between runs."
)
@click.pass_context
def command(  # noqa: PLR0913 - one parameter per option
    context: click.Context,
    *,
    port: int,
    client_id: str,
    email: str,
    token_seconds: int,
    host: str,
    catalogs: tuple[tuple[str, Path], ...],
    state: Path | None,
) -> None:
    """Run a stand-in mipOS with the documented calls: token, refresh, manage-webhook, sync and stock update.

    It signs and relays the movements of its inventory systems (`pos-sync sandbox move`). POST /sandbox/faults makes it fail.
    GET /openapi.json describes all of it. It signs with MIPOS_CLIENT_SECRET, and takes the password MIPOS_PASSWORD (or sandbox).
    Both come from the environment, since others see arguments. Never give it the secret of your mipOS account.

    \b
    Example:  MIPOS_CLIENT_SECRET=a-secret-of-16-or-more pos-sync sandbox --port 8090
    """
    if context.invoked_subcommand is not None:
        return
    client_secret, password = os.environ.get(CLIENT_SECRET), os.environ.get("MIPOS_PASSWORD") or "sandbox"
    if not client_secret or not client_secret.isascii():
        raise click.UsageError(f"Set the variable {CLIENT_SECRET}: the key with which the sandbox signs.")
    import uvicorn  # noqa: PLC0415 - `sandbox move` needs no web server

    from app.catalog_body import read_catalog  # noqa: PLC0415
    from app.operations.logs import configure_logging  # noqa: PLC0415
    from app.sandbox.platform import Account, InventorySystem, Platform  # noqa: PLC0415
    from app.sandbox.server import Sandbox  # noqa: PLC0415
    from app.stock.quantity import to_plain  # noqa: PLC0415

    platform = Platform(Account(client_id, client_secret, email, password), token_seconds=token_seconds)
    for store_id, file in catalogs:
        catalog = read_catalog(file.read_bytes())
        stock = {item.item_id: to_plain(item.stock) for item in catalog.items}
        platform.stores.setdefault(store_id, store_id)
        system = platform.systems.setdefault(catalog.inventory_system_id, InventorySystem(catalog.user_id_tps, set()))
        system.stores.add(store_id)
        system.stock.update(stock)
    configure_logging(log_format="console", log_level="INFO")
    sandbox = Sandbox(platform, state_file=state, run_id=os.environ.get(RUN_ID))
    uvicorn.run(sandbox, host=host, port=port, log_config=None, access_log=False, server_header=False)


_url_option = click.option(
    "--url", default=f"http://127.0.0.1:{DEFAULT_PORT}", show_default=True, envvar="POS_SYNC_SANDBOX_URL", help="The sandbox."
)


@command.command("map")
@_url_option
@click.option("--store", "store_id", required=True, help="The store, by its id in the POS.")
@click.option("--mipos-id", required=True, help="The id that mipOS gives it.")
@json_option
def map_command(url: str, store_id: str, mipos_id: str, *, as_json: bool) -> None:
    """Give a store an id at the sandbox, as the real mipOS does. Set the same id in the POS with `store set --mipos-id`.

    \b
    Example:  pos-sync sandbox map --store 1 --mipos-id 17
    """
    answer = _ask("PUT", f"{url}/sandbox/stores/{quote(mipos_id, safe='')}", {"store_id": store_id})
    end_with_answer(answer, done=f"mipOS knows store {store_id} as {mipos_id}.", as_json=as_json)


@command.command("move")
@_url_option
@click.option("--store", "store_id", default="1", show_default=True, help="mipOS's id of the store.")
@click.option("--item", "item_id", default=DOCUMENTED_MOVEMENT["external_id"], show_default=True)
@click.option("--system", default=SYSTEM, show_default=True, help="The inventory system that reports it.")
@click.option("--add", metavar="QUANTITY", help="A movement that adds.")
@click.option("--remove", metavar="QUANTITY", help="A movement that removes.")
@click.option("--current-stock", metavar="QUANTITY", help="The system's stock after it. [default: as the sandbox counts it]")
@click.option("--date", help="When it happened. [default: now]")
@json_option
def move_command(  # noqa: PLR0913 - one parameter per option
    *,
    url: str,
    store_id: str,
    item_id: str,
    system: str,
    add: str | None,
    remove: str | None,
    current_stock: str | None,
    date: str | None,
    as_json: bool,
) -> None:
    """Let an inventory system report a movement: the sandbox signs it, calls the registered webhook, and prints the answer.

    \b
    Example:  pos-sync sandbox move --item avcc123 --remove 0.5
    """
    if (add is None) == (remove is None):
        raise click.UsageError("Name --add or --remove.")
    movement = {
        "store_id": store_id,
        "inventory_system_id": system,
        "external_id": item_id,
        "quantity": add if remove is None else remove,
        "movement_type": 1 if remove is None else 2,
        "current_stock": current_stock,
        "date": date,
    }
    answer = _ask("POST", f"{url}/sandbox/movements", movement)
    end_with_answer(answer, done="the POS has applied the movement.", as_json=as_json)


def _ask(method: str, url: str, body: dict[str, Any]) -> httpx2.Response:
    try:
        with progress("Waiting for the answer"):
            return httpx2.request(method, url, json=body, timeout=ANSWER_SECONDS, trust_env=False)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise click.ClickException(f"{url} does not answer ({reason_of_call(error)}). Is the sandbox running there?") from error


SEND_SECONDS = 30


@click.command()
@click.option("--url", help="The webhook. [default: this machine, at the setting PORT]")
@click.option("--store", "store_id", default="1", show_default=True, help="The store, by its id in the POS.")
@click.option("--item", "item_id", default="avcc123", show_default=True, help="The item, by its id in the POS.")
@click.option("--add", metavar="QUANTITY", help="A movement that adds.")
@click.option("--remove", metavar="QUANTITY", help="A movement that removes.")
@click.option(
    "--current-stock",
    metavar="QUANTITY",
    help="The inventory system's own stock after the movement; goes with --add and --remove.",
)
@click.option(
    "--system",
    default=DOCUMENTED_MOVEMENT["inventory_system_id"],
    show_default=True,
    help="The inventory system that reports it.",
)
@click.option("--pos-id", default=DOCUMENTED_MOVEMENT["pos_id"], show_default=True, help="The POS that it is meant for.")
@click.option("--date", help='The movement\'s date, such as "2020-05-30 12:45:03". [default: now]')
@click.option(
    "--file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Send these bytes instead, signed as they are."
)
@json_option
def send_command(  # noqa: PLR0913 - one parameter per option
    *,
    url: str | None,
    store_id: str,
    item_id: str,
    add: str | None,
    remove: str | None,
    current_stock: str | None,
    system: str,
    pos_id: str,
    date: str | None,
    file: Path | None,
    as_json: bool,
) -> None:
    """Sign a movement with MIPOS_CLIENT_SECRET and send it to a webhook, as mipOS does.

    Ends with status 0 if the answer is 204. Sending the same movement (same date, quantity and current stock) again changes
    nothing: it is applied once.

    \b
    Example:  pos-sync send --store 1 --item avcc123 --remove 0.5 --current-stock 11.94
    """
    # It works on no database, so none has to be set.
    settings = load_settings(database_url=NO_DATABASE)
    if file is not None:
        body = file.read_bytes()
    elif (add is None) == (remove is None) or current_stock is None:
        raise click.UsageError("Name --add or --remove, and --current-stock; or a --file.")
    else:
        sent = now_text()
        movement = {
            "pos_id": pos_id,
            "inventory_system_id": system,
            "current_stock": current_stock,
            "quantity": add if remove is None else remove,
            "date": date or sent,
            "movement_type": 1 if remove is None else 2,
            "external_id": item_id,
            "now": sent,
            "store_id": store_id,
        }
        body = php_json(movement)
    url = url or f"http://127.0.0.1:{settings.port}{WEBHOOK_PATH}"
    headers = signed_headers(body, settings.mipos_client_secret.get_secret_value().encode("ascii"))
    try:
        with progress("Waiting for the answer"):
            answer = httpx2.post(url, content=body, headers=headers, timeout=SEND_SECONDS)
    except (httpx2.UnsupportedProtocol, httpx2.InvalidURL) as error:
        raise click.BadParameter("is not an address such as http://127.0.0.1:8080/webhooks/stock.", param_hint="--url") from error
    except httpx2.HTTPError as error:
        raise click.ClickException(f"{url} does not answer ({reason_of_call(error)}). Is the service running there?") from error
    end_with_answer(answer, done=_RECEIVED, as_json=as_json)
