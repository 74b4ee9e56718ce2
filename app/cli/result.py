"""Output shared by `refused replay`, `duplicates apply` and their `dismiss`."""

import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import click
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.cli.database import with_database
from app.operator.result import OperatorResult, Verdict
from app.settings import load_database_settings

MAX_SHOWN = 20


def show_results(results: Sequence[OperatorResult], *, lead: str = "") -> None:
    """Print counts after `lead`, and why each was not applied; ends the command, with status 1 where one was not."""
    counts = Counter(one.verdict for one in results)
    click.echo(lead + ", ".join(f"{verdict.value}: {counts[verdict]}" for verdict in Verdict if counts[verdict]))
    failures = [one for one in results if not one.verdict.is_good]
    for one in failures[:MAX_SHOWN]:
        click.echo(f"  {one.number}{f' ({one.about})' if one.about else ''}, {one.verdict.value}: {one.message}")
    if len(failures) > MAX_SHOWN:
        click.echo(f"  ... and {len(failures) - MAX_SHOWN} more")
    sys.exit(1 if failures else 0)


def dismiss(numbers: Sequence[int], close: Callable[[AsyncConnection, int], Awaitable[bool]]) -> None:
    """Put each aside by `close`, which says whether it was open; ends with an error where one was not."""
    # In order, so that two people cannot deadlock.
    chosen = sorted(set(numbers))

    async def work(engine: AsyncEngine) -> list[int]:
        async with engine.begin() as connection:
            return [number for number in chosen if not await close(connection, number)]

    not_open = with_database(load_database_settings(), work)
    click.echo(f"Dismissed: {len(chosen) - len(not_open)}")
    if not_open:
        raise click.ClickException(f"Not open, so left as they are: {', '.join(map(str, not_open))}")
