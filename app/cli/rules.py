"""`pos-sync rules`."""

import click
from sqlalchemy.ext.asyncio import AsyncEngine

from app.cli.database import with_database
from app.cli.output import show_table
from app.settings import load_database_settings
from app.stock.rules import Rules, differing
from app.storage.rules import read_rules, replace_rules


@click.command()
@click.option("--record", "is_recorded", is_flag=True, help="Record the rules of this command's settings; they count at once.")
def command(*, is_recorded: bool) -> None:
    """Show the rules that decide what becomes of a movement: POS_ID, NEGATIVE_STOCK, REPORTED_STOCK and TIMEZONE.

    The service records them in the database when it first runs. From then on the recorded ones count for every replica, every
    command and the SQL function. So to change one, change the setting, and run this with --record and the same settings.

    \b
    Example:  NEGATIVE_STOCK=refuse pos-sync rules --record
    """
    settings = load_database_settings()

    async def work(engine: AsyncEngine) -> Rules | None:
        async with engine.begin() as connection:
            if is_recorded:
                await replace_rules(connection, settings.rules)
            return await read_rules(connection)

    recorded = with_database(settings, work, warns=False)
    names = list(Rules.__dataclass_fields__)
    rows = [[name.upper(), _text(recorded, name), _text(settings.rules, name)] for name in names]
    show_table(["rule", "recorded", "here"], rows)
    if recorded is None:
        click.echo("None are recorded yet: the service records its own when it first runs.")
    elif differing(settings.rules, recorded):
        click.echo("They differ, and the recorded ones count. To record those from here: pos-sync rules --record")


def _text(rules: Rules | None, name: str) -> str:
    value = None if rules is None else getattr(rules, name)
    return "-" if value is None else str(value)
