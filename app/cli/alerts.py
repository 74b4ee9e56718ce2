"""`pos-sync alerts list`, `ack` and `test`; `pos-sync ping`."""

import asyncio
import sys
from datetime import UTC, datetime
from urllib.parse import urlsplit

import click
import httpx2
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.cli.database import in_transaction, with_database
from app.cli.group import CommandGroup
from app.cli.options import actor_option, json_option
from app.cli.output import document_of, show_json, show_table, to_iso, to_shown
from app.cli.progress import progress
from app.cli.status import COLOURS
from app.operations.alert_message import test_message
from app.operations.alerts import CALL_SECONDS, alert_target, post
from app.operator.ping import PingResult, PingState, send_ping
from app.problems.kinds import BY_NAME
from app.settings import load_settings
from app.storage import problems
from app.storage.problems import Known
from app.visible_text import as_seen


@click.group(cls=CommandGroup)
def command() -> None:
    """Show the problems that the service found last, acknowledge them, and send a test to ALERT_WEBHOOK_URL.

    \b
    Example:  pos-sync alerts list
    """


@command.command("list")
@json_option
def list_command(*, as_json: bool) -> None:
    """Show each problem, what the alert webhook was told of it, and who knows of it.

    \b
    Example:  pos-sync alerts list
    """
    found = in_transaction(problems.read_all)
    if as_json:
        show_json([_document(one) for one in found])
    elif not found:
        click.echo("No problems.")
    else:
        show_table(
            ["severity", "name", "about", "since", "told", "acknowledged by"],
            [
                [
                    one.severity.value if one.is_present else "over",
                    one.kind.name,
                    one.subject,
                    to_shown(one.since) or "",
                    one.told_severity.value if one.told_severity else "",
                    one.acknowledged_by or "",
                ]
                for one in found
            ],
            colours={(row, 0): COLOURS[one.severity] for row, one in enumerate(found) if one.is_present},
        )


def _document(one: Known) -> dict[str, object]:
    return {
        "name": one.kind.name,
        "subject": one.subject,
        "severity": one.severity.value,
        "is_present": one.is_present,
        "words": one.words,
        "since": to_iso(one.since),
        "told_severity": one.told_severity.value if one.told_severity else None,
        "told_at": to_iso(one.told_at),
        "acknowledged_at": to_iso(one.acknowledged_at),
        "acknowledged_by": one.acknowledged_by,
    }


@command.command("ack")
@click.argument("name", required=False, metavar="[NAME]", type=click.Choice(sorted(BY_NAME)))
@actor_option
@json_option
def ack_command(name: str | None, *, actor: str, as_json: bool) -> None:
    """Say that you know of the present problems, of one NAME or of all: what is critical is not repeated each day any more.

    \b
    Example:  pos-sync alerts ack outbox_late
    """

    async def work(connection: AsyncConnection) -> int:
        return await problems.acknowledge(connection, name=name, actor=actor)

    number = in_transaction(work)
    if not number:
        raise click.ClickException("There is no such problem now. `pos-sync alerts list` shows all.")
    if as_json:
        show_json({"name": name, "actor": actor, "acknowledged": number})
    else:
        click.echo(f"Acknowledged by {actor}: {number}.")


@command.command("test")
@json_option
def test_command(*, as_json: bool) -> None:
    """Send one signed message to ALERT_WEBHOOK_URL that says that it is a test.

    \b
    Example:  pos-sync alerts test
    """
    target = alert_target(load_settings())
    if target is None:
        raise click.UsageError("ALERT_WEBHOOK_URL is not set.")

    async def send() -> str | None:
        async with httpx2.AsyncClient(timeout=CALL_SECONDS) as client:
            return await post(client, target, test_message(target, now=datetime.now(UTC)))

    with progress("Waiting for the answer"):
        fault = asyncio.run(send())
    # The path may be the secret of a chat tool.
    parts = urlsplit(target.url)
    receiver = f"{parts.scheme}://{parts.hostname}"
    if as_json:
        show_json({"receiver": receiver, "is_taken": fault is None, "fault": fault})
        sys.exit(0 if fault is None else 1)
    if fault is not None:
        raise click.ClickException(f"{receiver} {fault}.")
    click.echo(f"{receiver} has taken the test.")


@click.command()
@json_option
def ping_command(*, as_json: bool) -> None:
    """Send a signed request that changes nothing through PUBLIC_URL, the way that mipOS comes.

    It proves name, TLS, proxy, signature and database: it is answered by a service that has this database, and by no other.
    Ends with status 0 where it came back, and with 1 where not.

    \b
    Example:  pos-sync ping
    """
    settings = load_settings()
    if settings.public_url is None:
        raise click.UsageError("PUBLIC_URL is not set.")

    async def work(engine: AsyncEngine) -> PingResult:
        return await send_ping(settings, engine)

    with progress("Waiting for the answer"):
        result = with_database(settings, work)
    if as_json:
        show_json(document_of(result))
    else:
        click.echo(f"{as_seen(result.words)}.", err=result.state is not PingState.RETURNED)
    sys.exit(0 if result.state is PingState.RETURNED else 1)
