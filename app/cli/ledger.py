"""`pos-sync ledger`: the rows of a period by time, and what they come to; or new rows as they come."""

import asyncio
import csv
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import click
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.cli.database import in_transaction, with_database
from app.cli.options import MomentType, json_option, limit_option
from app.cli.output import document_of, json_text, show_json, show_table
from app.cli.progress import Progress, progress
from app.cli.subjects import require_known
from app.settings import load_database_settings
from app.stock.csv_cells import row_of
from app.stock.quantity import to_canonical, to_signed
from app.stock.text import DATE_FORMAT, number_of, zone_of
from app.storage import change_feed
from app.storage.catalog import find_store
from app.storage.ledger_rows import Account, LedgerRow, Period, account, list_newest
from app.storage.rules import read_rules
from app.visible_text import as_seen

FOLLOW_SECONDS = 1.0
PAGE = 500
_HEADINGS = ("when", "item", "row", "what", "change", "counted", "by", "reason")
_CSV = (
    "happened_at", "received_at", "item_id", "level_version", "source", "inventory_system_id", "delta", "counted", "refers_to",
    "other_store_id", "reason", "reference", "actor", "note",
)  # fmt: skip
_NUMBERS = {"level_version", "delta", "counted", "refers_to"}


@click.command()
@click.option("--store", "store_id", required=True, help="The store.")
@click.option("--item", "item_id", help="Only of this item.")
@click.option("--from", "since", type=MomentType(), help="From this time on. [default: a day before --to]")
@click.option("--to", "until", type=MomentType(), help="Before this time. [default: now]")
@click.option("--csv", "as_csv", is_flag=True, help="As CSV, every row of the period.")
@click.option("--follow", "is_following", is_flag=True, help="Show new rows as they are committed, each once, until Ctrl-C.")
@limit_option
@json_option
def command(  # noqa: PLR0913 - one parameter per option
    *,
    store_id: str,
    item_id: str | None,
    since: datetime | None,
    until: datetime | None,
    as_csv: bool,
    is_following: bool,
    limit: int,
    as_json: bool,
) -> None:
    """Show the movements of a period, newest first by when they happened, and opening + added - removed = closing.

    Times are those of the store's time zone. With --follow, new rows are shown in the order in which they were committed, and
    --json is one object on each line. A row's number is its place in the item's ledger, in the order of recording.

    \b
    Example:  pos-sync ledger --store 1 --item avcc123 --from 2026-05-30T00:00:00-05:00
              pos-sync ledger --store 1 --follow
    """
    if is_following:
        if since is not None or until is not None or as_csv:
            raise click.UsageError("--follow shows what is new, so it does not go with --from, --to or --csv.")
        _follow(store_id, item_id, as_json=as_json)
        return
    until = until or datetime.now(UTC)
    since = since or until - timedelta(days=1)
    if since >= until:
        raise click.UsageError("--from must be before --to.")
    period = Period(store_id, since, until, item_id)

    async def work(connection: AsyncConnection) -> tuple[ZoneInfo, list[LedgerRow], list[Account]]:
        zone = await _zone_of(connection, store_id, item_id)
        rows = await list_newest(connection, period, limit=10**9 if as_csv else limit + 1)
        return zone, rows, await account(connection, period)

    with progress("Reading the ledger"):
        zone, rows, accounts = in_transaction(work)
    if as_csv:
        # On a terminal the rows themselves are what is seen.
        with progress("Writing", is_wanted=not sys.stdout.isatty()) as line:
            _write_csv(rows, line)
    elif as_json:
        show_json({"movements": [_document(row) for row in rows[:limit]], "accounts": [document_of(one) for one in accounts]})
    else:
        _show(rows, accounts, period, zone, limit)


def _show(rows: Sequence[LedgerRow], accounts: Sequence[Account], period: Period, zone: ZoneInfo, limit: int) -> None:
    span = f"from {_local(period.since, zone)} to {_local(period.until, zone)} ({zone.key})"
    if not rows:
        click.echo(f"Nothing moved {span}.")
        return
    show_table(_HEADINGS, [_line(row, zone) for row in rows[:limit]], right=(2, 4, 5))
    if len(rows) > limit:
        click.echo(
            f"... and older ones: --limit, or --csv for all of them. The sums below are those of the whole period, {span}."
        )
    else:
        click.echo(f"{number_of(len(rows), 'row')} {span}.")
    click.echo()
    show_table(
        ["item", "opening", "added", "removed", "closing"],
        [
            [a.item_id, to_canonical(a.opening), to_canonical(a.added), to_canonical(a.removed), to_canonical(a.closing)]
            for a in accounts
        ],
        right=(1, 2, 3, 4),
    )


def _line(row: LedgerRow, zone: ZoneInfo) -> list[str]:
    what = row.source.removeprefix("pos_").replace("_", " ")
    if row.refers_to is not None:
        what += f" of row {row.refers_to}" if row.source == "reversal" else f" at count {row.refers_to}"
    if row.other_store_id is not None:
        what += f" {'to' if row.delta < 0 else 'from'} {row.other_store_id}"
    return [
        _local(row.happened_at, zone),
        row.item_id,
        str(row.level_version),
        what,
        to_signed(row.delta),
        "" if row.counted is None else to_canonical(row.counted),
        row.actor or row.inventory_system_id or "POS",
        " / ".join(text for text in (row.reason, row.reference, row.note) if text),
    ]


def _document(row: LedgerRow) -> dict[str, object]:
    document = document_of(row)
    # In the order of time, the balance of the order of recording has no meaning.
    del document["balance_after"]
    return {**document, "delta": to_canonical(row.delta)}


def _write_csv(rows: Sequence[LedgerRow], line: Progress) -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow(_CSV)
    for number, row in enumerate(rows):
        line.count(number, len(rows))
        writer.writerow(row_of(_document(row), _CSV, numbers=_NUMBERS))


def _follow(store_id: str, item_id: str | None, *, as_json: bool) -> None:
    async def work(engine: AsyncEngine) -> None:
        async with engine.begin() as connection:
            zone = await _zone_of(connection, store_id, item_id)
            await change_feed.switch_on(connection)
        await _number(engine)
        async with engine.connect() as connection:
            after = await change_feed.last_position(connection, store_id)
        click.echo(f"New rows of store {store_id}, until Ctrl-C:", err=True)
        while True:
            await _number(engine)
            async with engine.connect() as connection:
                found = await change_feed.read_changes(connection, store_id, after=after, limit=PAGE)
            for position, row in found:
                after = position
                if item_id in (None, row.item_id):
                    _show_new(row, zone, as_json=as_json)
            if len(found) < PAGE:
                await asyncio.sleep(FOLLOW_SECONDS)

    with_database(load_database_settings(), work)


def _show_new(row: LedgerRow, zone: ZoneInfo, *, as_json: bool) -> None:
    """One line, at once: a pipe would else keep it back."""
    if as_json:
        click.echo(json_text(_document(row), indent=None))
    else:
        click.echo("  ".join(map(as_seen, _line(row, zone))).rstrip())


async def _number(engine: AsyncEngine) -> None:
    has_more = True
    while has_more:
        async with engine.begin() as connection:
            has_more = await change_feed.number(connection)


async def _zone_of(connection: AsyncConnection, store_id: str, item_id: str | None) -> ZoneInfo:
    """The time zone of the store, which there has to be, as the item where one is named."""
    await require_known(connection, store_id=store_id, item_id=item_id)
    store = await find_store(connection, store_id)
    rules = await read_rules(connection)
    own = None if store is None else store.timezone
    name = own or (load_database_settings().timezone if rules is None else rules.timezone)
    return zone_of(name)


def _local(moment: datetime, zone: ZoneInfo) -> str:
    return moment.astimezone(zone).strftime(DATE_FORMAT)
