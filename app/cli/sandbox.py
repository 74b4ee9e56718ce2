"""`pos-sync sandbox` and `sandbox move`."""

from pathlib import Path

import click
import httpx2

from app.cli.output import end_with_answer
from app.receiving.sender import DOCUMENTED_MOVEMENT

DEFAULT_PORT = 8090
SYSTEM = DOCUMENTED_MOVEMENT["inventory_system_id"]
CLIENT_SECRET = "MIPOS_CLIENT_SECRET"  # noqa: S105 - the name of a variable
ANSWER_SECONDS = 60


@click.group(invoke_without_command=True)
@click.option("--port", type=click.IntRange(1, 65535), default=DEFAULT_PORT, show_default=True, help="On this machine only.")
@click.option("--client-id", default="sandbox-client", show_default=True, envvar="MIPOS_CLIENT_ID")
@click.option("--client-secret", envvar=CLIENT_SECRET, show_envvar=True, help="The key with which it signs deliveries.")
@click.option("--email", default="pos@example.com", show_default=True, envvar="MIPOS_EMAIL")
@click.option("--password", default="sandbox", envvar="MIPOS_PASSWORD", help="[default: sandbox]")
@click.option("--token-seconds", type=click.IntRange(1), default=3600, show_default=True, help="How long a token lives.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--catalog",
    "catalogs",
    metavar="STORE FILE",
    nargs=2,
    type=(str, click.Path(exists=True, dir_okay=False, path_type=Path)),
    multiple=True,
    help="A catalogue as `catalog import` takes it: its inventory system is known to the sandbox, with the same stock.",
)
@click.option("--state", type=click.Path(dir_okay=False, path_type=Path), help="A file in which it remembers what it was told.")
@click.pass_context
def command(  # noqa: PLR0913 - one parameter per option
    context: click.Context,
    *,
    port: int,
    client_id: str,
    client_secret: str | None,
    email: str,
    password: str,
    token_seconds: int,
    host: str,
    catalogs: tuple[tuple[str, Path], ...],
    state: Path | None,
) -> None:
    """Run a stand-in mipOS: token, refresh, manage-webhook, sync and stock update, as the documents say.

    It signs and relays what its inventory systems report (`pos-sync sandbox move`), and can be made to fail:
    POST /sandbox/faults; GET /openapi.json describes all of it. Nothing in it is real.

    \b
    Example:  MIPOS_CLIENT_SECRET=a-secret-of-16-or-more pos-sync sandbox --port 8090
    """
    if context.invoked_subcommand is not None:
        return
    if not client_secret or not client_secret.isascii():
        raise click.UsageError(f"Set {CLIENT_SECRET} (or --client-secret): the key with which the sandbox signs.")
    import uvicorn  # noqa: PLC0415 - `sandbox move` needs no web server

    from app.catalog_body import read_catalog  # noqa: PLC0415
    from app.operations.logs import configure_logging  # noqa: PLC0415
    from app.sandbox.platform import Account, InventorySystem, Platform  # noqa: PLC0415
    from app.sandbox.server import Sandbox  # noqa: PLC0415
    from app.stock.quantity import to_plain  # noqa: PLC0415

    platform = Platform(Account(client_id, client_secret, email, password), token_seconds=token_seconds)
    for store_id, file in catalogs:
        catalog = read_catalog(file.read_text(encoding="utf-8"))
        stock = {item.item_id: to_plain(item.stock) for item in catalog.items}
        platform.stores.setdefault(store_id, store_id)
        system = platform.systems.setdefault(catalog.inventory_system_id, InventorySystem(catalog.user_id_tps, set()))
        system.stores.add(store_id)
        system.stock.update(stock)
    configure_logging(log_format="console", log_level="INFO")
    uvicorn.run(Sandbox(platform, state_file=state), host=host, port=port, log_config=None, access_log=False, server_header=False)


@command.command("move")
@click.option("--url", default=f"http://127.0.0.1:{DEFAULT_PORT}", show_default=True, help="The sandbox.")
@click.option("--store", "store_id", default="1", show_default=True, help="mipOS's id of the store.")
@click.option("--item", "item_id", default=DOCUMENTED_MOVEMENT["external_id"], show_default=True)
@click.option("--system", default=SYSTEM, show_default=True, help="The inventory system that reports it.")
@click.option("--add", metavar="QUANTITY", help="A movement that adds.")
@click.option("--remove", metavar="QUANTITY", help="A movement that removes.")
@click.option("--current-stock", metavar="QUANTITY", help="The system's stock after it. [default: as the sandbox counts it]")
@click.option("--date", help="When it happened. [default: now]")
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
) -> None:
    """Let an inventory system report a movement: the sandbox signs it, calls the registered webhook, and tells the answer.

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
    try:
        answer = httpx2.post(f"{url}/sandbox/movements", json=movement, timeout=ANSWER_SECONDS, trust_env=False)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise click.ClickException(f"{url} does not answer ({type(error).__name__}). Is the sandbox running there?") from error
    end_with_answer(answer, done="the POS has applied the movement.")
