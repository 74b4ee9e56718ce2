"""`pos-sync capture`: keep unverified bodies for a while; list, show, deliver and stop."""

import re
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import click
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.cli.database import database_of, in_transaction, with_database
from app.cli.group import CommandGroup
from app.cli.options import actor_option, json_option
from app.cli.output import document_of, show_json, show_table, shown_body, to_iso, to_shown
from app.errors import PosSyncError
from app.operator.captures import Delivered, NotVerified, UnknownCaptured, deliver, verifies
from app.receiving.body import read_subject
from app.receiving.client_secrets import client_secrets
from app.receiving.signature import HEADER, Key
from app.settings import SettingsRefused, load_settings
from app.stock.text import number_of
from app.storage import captures
from app.storage.captures import MAX_CAPTURE_TIME, MAX_KEPT, Capture, CapturedDelivery
from app.visible_text import as_seen

UNVERIFIED = "UNVERIFIED: anybody may have sent this."
MAX_CELL_LENGTH = 40
_UNITS = {"s": 1, "m": 60, "h": 3600}


class _TimeSpan(click.ParamType):
    """A time span such as 10m."""

    name = "time span"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read it, or say what is wrong with it."""
        found = re.fullmatch(r"([0-9]{1,5})([smh])", str(value))
        length = timedelta(seconds=int(found[1]) * _UNITS[found[2]]) if found else timedelta(0)
        if not timedelta(0) < length <= MAX_CAPTURE_TIME:
            self.fail("must be a time span such as 90s, 10m or 2h, of at most 24h.", param, ctx)
        return length


@click.group(cls=CommandGroup, invoke_without_command=True)
@click.option("--for", "length", type=_TimeSpan(), help="How long, such as 90s, 10m or 2h; at most 24h.")
@click.option(
    "--max", "max_kept", type=click.IntRange(1, MAX_KEPT), default=20, show_default=True, help="How many different ones to keep."
)
@actor_option
@json_option
@click.pass_context
def command(context: click.Context, *, length: timedelta | None, max_kept: int, actor: str, as_json: bool) -> None:
    """Keep bodies whose signature does not match, for a limited time, so that `pos-sync explain-signature` can say why.

    Nothing unverified is kept at any other time. The answer stays 401. Kept are the body (at most 64 KiB), the header of the
    signature, the content type and the address of the client, each for 24 hours. Anybody may have sent them: bodies that name a
    store and an inventory system that this POS knows take the place of others.

    \b
    Example:  pos-sync capture --for 10m --max 20
    """
    if context.invoked_subcommand is not None:
        if length is not None:
            raise click.UsageError("--for starts a capture: use it without another command.")
        if as_json:
            raise click.UsageError(f"--json stands after the command: pos-sync capture {context.invoked_subcommand} --json")
        return
    if length is None:
        raise click.UsageError("Say for how long: pos-sync capture --for 10m. What was captured: pos-sync capture list")
    started = in_transaction(lambda connection: captures.start(connection, length=length, max_kept=max_kept, actor=actor))
    if as_json:
        show_json(document_of(started))
        return
    click.echo(
        f"Until {to_shown(started.ends_at)}, up to {number_of(max_kept, 'body', 'bodies')} without a valid signature "
        "can be kept, and none for longer than 24 hours.\nLet mipOS send a movement now. Then: pos-sync capture list"
    )


@command.command("stop")
@json_option
def stop_command(*, as_json: bool) -> None:
    """End the capture. What was kept stays for its 24 hours.

    \b
    Example:  pos-sync capture stop
    """
    was_on = in_transaction(captures.stop)
    if as_json:
        show_json({"was_on": was_on})
    else:
        click.echo("The capture has ended." if was_on else "No capture was on.")


@command.command("list")
@json_option
def list_command(*, as_json: bool) -> None:
    """List what was captured, bodies that name a known store and system first.

    \b
    Example:  pos-sync capture list
    """

    async def work(connection: AsyncConnection) -> tuple[Capture | None, list[CapturedDelivery]]:
        return await captures.newest(connection), await captures.list_kept(connection)

    capture, kept = in_transaction(work)
    if as_json:
        show_json([_document(one) for one in kept])
        return
    documents = [_document(one, as_time=to_shown) for one in kept]
    is_on = capture is not None and capture.is_on
    click.echo(f"A capture is on until {to_shown(capture.ends_at)}." if capture and is_on else "No capture is on.")
    if not documents:
        click.echo("Nothing was captured." + ("" if is_on else " Start with: pos-sync capture --for 10m --max 20"))
        return
    click.echo(UNVERIFIED.replace("this", "these"))
    names = ["number", "last_seen", "times", "bytes", "client", "store", "system", "known", "verifies", "signature"]
    show_table(
        [name.replace("_", " ") for name in names],
        [[_short(one[name]) for name in names] for one in documents],
        right=(0, 2, 3),
    )
    click.echo("Why does it not match: pos-sync explain-signature --capture NUMBER")


@command.command("show")
@click.argument("number", type=int)
@json_option
def show_command(number: int, *, as_json: bool) -> None:
    """Show one captured delivery whole.

    \b
    Example:  pos-sync capture show 3
    """
    captured = read_captured(number)
    body = shown_body(captured.raw_body)
    if as_json:
        show_json({**_document(captured), "body": body})
        return
    click.echo(UNVERIFIED)
    document = _document(captured, as_time=to_shown)
    width = max(map(len, document))
    for name, value in document.items():
        click.echo(f"{name.replace('_', ' '):<{width}}  {'-' if value is None else as_seen(str(value))}")
    click.echo(f"body:\n{body}")


@command.command("deliver")
@click.argument("number", type=int)
@actor_option
@json_option
def deliver_command(number: int, actor: str, *, as_json: bool) -> None:
    """Apply a captured delivery that verifies by now, such as after MIPOS_CLIENT_SECRET was corrected.

    Its signature is verified again with the client secrets that are set. If it does not match, nothing is done, and nothing can
    force it. It is applied once, however often this is run and mipOS sends it. Ends with status 1 if it was not applied.

    \b
    Example:  pos-sync capture deliver 3
    """
    settings = load_settings()

    async def work(engine: AsyncEngine) -> Delivered:
        return await deliver(database_of(settings), engine, number, secrets=client_secrets(settings), actor=actor)

    try:
        delivered = with_database(settings, work)
    except UnknownCaptured:
        raise _unknown(number) from None
    except NotVerified:
        raise click.ClickException(
            f"The signature of {number} does not match with the client secrets that are set. Nothing was done. "
            f"Why: pos-sync explain-signature --capture {number}"
        ) from None
    except PosSyncError as error:
        raise click.ClickException(error.message) from None
    if as_json:
        show_json({"number": number, **document_of(delivered)})
    else:
        click.echo(f"{number}, verified with the {delivered.key} client secret: {as_seen(delivered.outcome)}")
    sys.exit(0 if delivered.is_good else 1)


def read_captured(number: int) -> CapturedDelivery:
    """The captured delivery with this number.

    Raises:
        ClickException: there is none.
    """
    captured = in_transaction(lambda connection: captures.read(connection, number))
    if captured is None:
        raise _unknown(number)
    return captured


def _unknown(number: int) -> click.ClickException:
    return click.ClickException(
        f"There is no captured delivery {number}; each is gone after 24 hours. `pos-sync capture list` shows what there is."
    )


def _document(captured: CapturedDelivery, *, as_time: Callable[[datetime | None], Any] = to_iso) -> dict[str, Any]:
    subject = read_subject(captured.raw_body)
    return {
        "number": captured.captured_delivery_id,
        "is_verified": False,
        "first_seen": as_time(captured.first_seen_at),
        "last_seen": as_time(captured.last_seen_at),
        "times": captured.attempts,
        "bytes": len(captured.raw_body),
        "client": captured.client,
        "content_type": captured.content_type,
        "store": subject.store_id,
        "item": subject.item_id,
        "system": subject.inventory_system_id,
        "known": "yes" if captured.names_known_pair else "no",
        "verifies": _verifies_now(captured),
        "signature": _signature(captured),
        "delivered": as_time(captured.delivered_at),
        "outcome": captured.outcome,
        "actor": captured.actor,
    }


def _verifies_now(captured: CapturedDelivery) -> str | None:
    """Under today's secrets: no, or the key that does it; None where no secret is set here."""
    context = click.get_current_context()
    if "secrets" not in context.meta:
        try:
            context.meta["secrets"] = client_secrets(load_settings())
        except SettingsRefused:
            context.meta["secrets"] = None
    secrets: list[tuple[Key, bytes]] | None = context.meta["secrets"]
    if secrets is None:
        return None
    return verifies(captured, secrets) or "no"


def _signature(captured: CapturedDelivery) -> str:
    if not captured.signatures:
        return "missing"
    return ", ".join(value if name.lower() == HEADER.lower() else f"{name}: {value}" for name, value in captured.signatures)


def _short(value: object) -> str:
    text = "-" if value is None else str(value)
    return text if len(text) <= MAX_CELL_LENGTH else text[: MAX_CELL_LENGTH - 1] + "…"
