"""`pos-sync send`."""

from pathlib import Path

import click
import httpx2

from app.cli.output import end_with_answer
from app.receiving.middleware import WEBHOOK_PATH
from app.receiving.sender import DOCUMENTED_MOVEMENT, now_text, php_json, signed_headers
from app.settings import load_settings

ANSWER_SECONDS = 30


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
def command(  # noqa: PLR0913 - one parameter per option
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
) -> None:
    """Sign a movement with MIPOS_CLIENT_SECRET and send it to a webhook, as mipOS does.

    Ends with status 0 if the answer is 204. Sending the same movement (same date, quantity and current stock) again changes
    nothing: it is applied once.

    \b
    Example:  pos-sync send --store 1 --item avcc123 --remove 0.5 --current-stock 11.94
    """
    settings = load_settings()
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
        answer = httpx2.post(url, content=body, headers=headers, timeout=ANSWER_SECONDS)
    except (httpx2.UnsupportedProtocol, httpx2.InvalidURL) as error:
        raise click.BadParameter("is not an address such as http://127.0.0.1:8080/webhooks/stock.", param_hint="--url") from error
    except httpx2.HTTPError as error:
        raise click.ClickException(f"{url} does not answer ({type(error).__name__}). Is the service running there?") from error
    end_with_answer(answer, done="the movement is applied, now or before.")
