"""`pos-sync doctor`."""

import sys

import click
from sqlalchemy.ext.asyncio import AsyncEngine

from app.cli.database import with_database
from app.cli.output import show_json
from app.doctor import Check, Verdict, examine
from app.settings import load_settings

_COLOURS = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAILED: "red", Verdict.SKIPPED: None}


@click.command()
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="How many workers the service has.")
@click.option("--json", "as_json", is_flag=True, help="One JSON list.")
def command(workers: int, *, as_json: bool) -> None:
    """Check everything that has to be right: settings, database, invariants, mipOS, registration, the public URL, clocks.

    One line a check; where something is wrong, the reason and what to do. Ends with status 1 if a check failed. It changes
    nothing, and sends nothing but a token call and one delivery with a wrong signature to the public URL.

    \b
    Example:  pos-sync doctor --workers 2
    """
    settings = load_settings()

    async def work(engine: AsyncEngine) -> list[Check]:
        checks = []
        async for check in examine(settings, engine, workers=workers):
            checks.append(check)
            if not as_json:
                _show(check)
        return checks

    checks = with_database(settings, work)
    if as_json:
        fields = [{"name": c.name, "verdict": c.verdict, "reason": c.reason, "remedy": c.remedy} for c in checks]
        show_json(fields)
    sys.exit(1 if any(check.verdict is Verdict.FAILED for check in checks) else 0)


def _show(check: Check) -> None:
    verdict = click.style(f"{check.verdict.value:<8}", fg=_COLOURS[check.verdict])
    click.echo(f"{verdict} {check.name:<13} {check.reason}{f'. {check.remedy}' if check.remedy else ''}")
