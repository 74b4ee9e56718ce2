"""How commands that apply something after all say what they did."""

import sys
from collections import Counter
from collections.abc import Sequence

import click

from app.mending.verdict import Mended, Verdict

MOST_SHOWN = 20


def show_mended(mended: Sequence[Mended], *, lead: str = "") -> None:
    """Print counts after `lead`, and why each was not applied; ends the command, with status 1 where one was not."""
    counts = Counter(one.verdict for one in mended)
    click.echo(lead + ", ".join(f"{verdict.value}: {counts[verdict]}" for verdict in Verdict if counts[verdict]))
    failures = [one for one in mended if not one.verdict.is_good]
    for one in failures[:MOST_SHOWN]:
        click.echo(f"  {one.number}{f' ({one.about})' if one.about else ''}, {one.verdict.value}: {one.message}")
    if len(failures) > MOST_SHOWN:
        click.echo(f"  ... and {len(failures) - MOST_SHOWN} more")
    sys.exit(1 if failures else 0)
